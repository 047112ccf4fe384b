"""A table of requests in, the same table with answers out, fast.

Invariant: rows are answered independently: a bad row carries its one-line error and leaves the others alone. Work is
done once per distinct deployment and in chunks that fit a cache, so tens of thousands of rows a second are answered.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.carbon import CarbonFactors, carbon_columns, resolve_factors
from llmco2.errors import InputError, explain, nearest_names
from llmco2.features.deployment import Deployment, resolve_deployment
from llmco2.predictor.answer import Answer, answer_requests
from llmco2.predictor.calibration import load_calibration
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint
from llmco2.predictor.columns import SizeColumns
from llmco2.records.columns import ANSWER_COLUMNS, REQUIRED_COLUMNS
from llmco2.records.request import REQUEST_COLUMNS, InferenceRequest

CHUNK_ROWS: Final = 8192
_DEFAULTS: Final = {
    name: field.default
    for name, field in InferenceRequest.__dataclass_fields__.items()
    if name not in REQUIRED_COLUMNS
}
_SIZES: Final = ("batch_size", "prompt_tokens", "output_tokens")
_PARALLEL: Final = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
_NAMES: Final = ("model", "gpu", "engine", "precision", "kv_precision")
_NUMBERS: Final = tuple(name for name in ANSWER_COLUMNS if name not in ("in_domain", "notes", "error"))


def answer_frame(requests: pd.DataFrame, *, calibration: str | None = None, checkpoint: str | None = None,
                 **carbon: Any) -> pd.DataFrame:  # fmt: skip
    """Return the table with the answer's columns; see :func:`llmco2.predictor.api.predict_frame`."""
    _check_columns(requests)
    numbers = load_checkpoint(checkpoint)
    table = _with_defaults(requests)
    errors = _row_errors(table)
    answered = np.flatnonzero(errors == "")
    deployments, which, failures = _deployments(table.iloc[answered])
    errors[answered[which < 0]] = failures
    keep = which >= 0
    rows, which = answered[keep], which[keep]
    answers = _empty_answers(len(table))
    factors = _factors({d.gpu_id for d in deployments}, carbon)
    for start in range(0, len(rows), CHUNK_ROWS):
        here = slice(start, start + CHUNK_ROWS)
        _answer_chunk(answers, errors, table, rows[here], which[here], deployments, numbers, calibration, factors)
    result = requests.copy()
    for name in REQUEST_COLUMNS:
        if name not in result:
            result[name] = table[name].to_numpy()
    for name in ANSWER_COLUMNS[:-1]:
        result[name] = answers[name]
    result["error"] = errors
    return result


def _check_columns(requests: pd.DataFrame) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in requests]
    if missing:
        raise InputError(explain("the table of requests lacks a column", got=", ".join(map(str, requests.columns)),
                                 expected=" and ".join(missing)))  # fmt: skip
    for column in map(str, requests.columns):
        if column in REQUEST_COLUMNS or column in ANSWER_COLUMNS:
            continue
        near = nearest_names(column, REQUEST_COLUMNS, limit=1)
        folded = {"".join(c for c in name.casefold() if c.isalnum()) for name in near}
        if "".join(c for c in column.casefold() if c.isalnum()) in folded:
            raise InputError(explain("unknown column", got=repr(column), remedy=f"did you mean {near[0]}?"))


def _with_defaults(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the request columns alone, gaps filled with the defaults, names as stripped text."""
    table = pd.DataFrame(index=range(len(requests)))
    for name in REQUEST_COLUMNS:
        values = requests[name].reset_index(drop=True) if name in requests else pd.Series(np.nan, index=table.index)
        if name in _DEFAULTS:
            default = _DEFAULTS[name]
            # An empty cell means "not said"; what is not a number stays, and becomes that row's error.
            blank = values.isna() | (values.astype(str).str.strip() == "") if values.dtype == object else values.isna()
            values = values.astype(object).where(~blank, default) if isinstance(default, str) else values.where(~blank, default)
        if name in _NAMES or name == "serving":
            values = values.map(lambda v: "" if v is None or v != v else str(v).strip())  # noqa: PLR0124 - NaN
        table[name] = values
    return table


def _row_errors(table: pd.DataFrame) -> NDArray[np.object_]:
    """Return one error line per row, empty where the row is well formed."""
    good = np.ones(len(table), dtype=bool)
    for name in (*_SIZES, *_PARALLEL):
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        good &= np.isfinite(values) & (values >= 1.0) & (values <= 1e4)
        if name in _PARALLEL:
            good &= values == np.floor(values)
        else:
            table[name] = table[name] if table[name].dtype == object and not good.all() else table[name]
    good &= table["serving"].isin(("static", "continuous")).to_numpy()
    good &= (table["model"] != "").to_numpy() & (table["gpu"] != "").to_numpy()
    errors = np.full(len(table), "", dtype=object)
    for row in np.flatnonzero(~good):
        errors[row] = _error_of(table.iloc[row])
    return errors


def _error_of(row: pd.Series) -> str:
    for name in REQUIRED_COLUMNS:
        if row[name] == "":
            return explain(f"{name} is missing", expected=f"a name (llmco2 {name}s lists them)")
    try:
        InferenceRequest(**{name: _number(row[name]) if name in (*_SIZES, *_PARALLEL) else row[name]
                            for name in REQUEST_COLUMNS})  # fmt: skip
    except InputError as error:
        return str(error)
    return ""


def _number(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value.item() if isinstance(value, np.generic) else value


def _deployments(table: pd.DataFrame) -> tuple[list[Deployment], NDArray[np.intp], list[str]]:
    """Return distinct deployments, each row's index among them (-1: none), and the errors of the rows without."""
    keys = [table[name].to_numpy() for name in (*_NAMES, *_PARALLEL)]
    codes = np.zeros(len(table), dtype=np.int64)
    uniques = []
    for values in keys:
        code, unique = pd.factorize(values)
        uniques.append((code, unique))
        codes = pd.factorize(codes * (len(unique) + 1) + code)[0]
    _, first = np.unique(codes, return_index=True)
    deployments: list[Deployment] = []
    place = np.full(len(first), -1, dtype=np.intp)
    errors: dict[int, str] = {}
    for code, row in enumerate(first):
        model, gpu, engine, precision, kv, tp, pp, ep = (unique[c[row]] for c, unique in uniques)
        try:
            deployment = resolve_deployment(model, gpu, int(tp), int(pp), int(ep), engine, precision, kv)
        except InputError as error:
            errors[code] = str(error)
            continue
        place[code] = len(deployments)
        deployments.append(deployment)
    which = place[codes] if len(codes) else np.empty(0, dtype=np.intp)
    return deployments, which, [errors[int(code)] for code in codes[which < 0]]


def _factors(gpu_ids: set[str], carbon: dict[str, Any]) -> dict[str, CarbonFactors]:
    return {gpu_id: resolve_factors(gpu_id, **carbon) for gpu_id in sorted(gpu_ids)}


def _empty_answers(n_rows: int) -> dict[str, NDArray[Any]]:
    answers: dict[str, NDArray[Any]] = {name: np.full(n_rows, np.nan) for name in _NUMBERS}
    answers["in_domain"] = np.full(n_rows, None, dtype=object)
    answers["notes"] = np.full(n_rows, "", dtype=object)
    return answers


def _answer_chunk(answers: dict[str, NDArray[Any]], errors: NDArray[np.object_], table: pd.DataFrame,
                  rows: NDArray[np.intp], which: NDArray[np.intp], deployments: list[Deployment],
                  numbers: Checkpoint, calibration: str | None, factors: dict[str, CarbonFactors]) -> None:  # fmt: skip
    used, local = np.unique(which, return_inverse=True)
    mine = [deployments[i] for i in used]
    size = {name: table[name].to_numpy()[rows].astype(np.float64) for name in _SIZES}
    sizes = SizeColumns(
        deployment=local.astype(np.intp),
        continuous=(table["serving"].to_numpy()[rows] == "continuous").astype(np.float64),
        **size,
    )
    for group, scales, width_scale, extra in _calibrated(mine, local, calibration):
        part = SizeColumns(deployment=sizes.deployment[group], continuous=sizes.continuous[group],
                           **{name: values[group] for name, values in size.items()})  # fmt: skip
        answer = answer_requests(numbers, mine, part, scales=scales, width_scale=width_scale)
        _write(answers, errors, rows[group], answer, part, mine, factors, extra)


def _calibrated(deployments: list[Deployment], local: NDArray[np.intp],
                calibration: str | None) -> list[tuple[NDArray[np.intp], dict[str, float], float, tuple[str, ...]]]:  # fmt: skip
    """Return groups of rows that share a calibration: positions, scales, width scale, notes."""
    if calibration is None:
        return [(np.arange(len(local)), {}, 1.0, ())]
    fitted = [load_calibration(calibration, d.gpu_id, d.engine) for d in deployments]
    groups = []
    for chosen in {id(f): f for f in fitted}.values():
        belongs = np.array([f is chosen for f in fitted])
        groups.append((np.flatnonzero(belongs[local]), chosen.scales, chosen.width_scale, chosen.notes))
    return groups


def _write(answers: dict[str, NDArray[Any]], errors: NDArray[np.object_], rows: NDArray[np.intp], answer: Answer,
           sizes: SizeColumns, deployments: list[Deployment], factors: dict[str, CarbonFactors],
           extra: tuple[str, ...]) -> None:  # fmt: skip
    failed = np.array([bool(error) for error in answer.errors], dtype=bool)
    energy, latency = answer.total.energy_j, answer.total.time_s
    tokens_out = sizes.batch_size * sizes.output_tokens
    operational, embodied = _carbon(answer, sizes, deployments, factors)
    values = {
        "prefill_energy_j": answer.prefill.energy_j,
        "decode_energy_j": answer.decode.energy_j,
        "energy_j": energy,
        "energy_low_j": answer.total.low_j,
        "energy_high_j": answer.total.high_j,
        "energy_lower_bound_j": answer.total.lower_bound_j,
        "energy_upper_bound_j": answer.total.upper_bound_j,
        "energy_per_output_token_j": energy / tokens_out,
        "energy_per_total_token_j": energy / (tokens_out + sizes.batch_size * sizes.prompt_tokens),
        "ttft_s": answer.ttft_s,
        "tpot_s": answer.tpot_s,
        "latency_s": latency,
        "average_power_w": energy / latency,
        "operational_gco2e": operational,
        "embodied_gco2e": embodied,
    }
    for name, column in values.items():
        answers[name][rows] = np.where(failed, np.nan, column)
    answers["in_domain"][rows[~failed]] = answer.in_domain[~failed]
    noted = [i for i, notes in enumerate(answer.notes) if (notes or extra) and not failed[i]]
    answers["notes"][rows[noted]] = ["; ".join((*answer.notes[i], *extra)) for i in noted]
    errors[rows[failed]] = [answer.errors[i] for i in np.flatnonzero(failed)]


def _carbon(answer: Answer, sizes: SizeColumns, deployments: list[Deployment],
            factors: dict[str, CarbonFactors]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    by_deployment = np.array(
        [
            (f.carbon_intensity.value, f.pue.value, f.host_power.value, f.embodied_kgco2e_per_gpu,
             f.lifetime.value, f.utilization.value)
            for f in (factors[d.gpu_id] for d in deployments)
        ]
    )  # fmt: skip
    intensity, pue, host_w, embodied_kg, lifetime, utilization = by_deployment[sizes.deployment].T
    return carbon_columns(
        answer.total.energy_j, answer.total.time_s, answer.prediction.n_gpus,
        intensity, pue, host_w, embodied_kg, lifetime, utilization,
    )  # fmt: skip
