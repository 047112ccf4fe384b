"""A table of requests in, the same table with answers out, fast.

Invariant: rows are answered independently: a bad row carries its one-line error and leaves the others
alone. Work is done once per distinct deployment and in chunks that fit a cache, so tens of thousands of
rows a second are answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.carbon import CarbonFactors, carbon_columns, resolve_factors
from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.catalog.grids import resolve_zone
from llmco2.catalog.models import resolve_model
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import assemble_deployment, named_precision
from llmco2.errors import InputError
from llmco2.predictor.answer import Answer, answer_requests, deployment_factors
from llmco2.predictor.calibration import Calibration, load_calibration
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint
from llmco2.predictor.columns import SizeColumns
from llmco2.predictor.named_gpus import counted_remark
from llmco2.predictor.request_table import DEFAULTS, PARALLEL, RequestTable, read_request_table
from llmco2.predictor.resolved import kv_name, precision_by_part
from llmco2.records.columns import ANSWER_COLUMNS, RESOLVED_COLUMNS
from llmco2.records.engines import resolve_engine

CHUNK_ROWS: Final = 2048
NAME_RESOLVERS: Final = {
    "model": resolve_model,
    "gpu": resolve_gpu,
    "engine": resolve_engine,
    "precision": named_precision,
    "kv_precision": named_precision,
}
_PARTS: Final = (*NAME_RESOLVERS, "zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """A distinct deployment with what its row's names say beside it."""

    deployment: Deployment
    zone: str  # of its own; "": the call's
    kv_precision: str
    n_gpus: int
    remarks: tuple[str, ...]

    @property
    def resolved(self) -> dict[str, Any]:
        """What the names were taken to mean, by RESOLVED_COLUMNS."""
        return {
            "resolved_model": self.deployment.architecture.name,
            "resolved_gpu": self.deployment.gpu_id,
            "resolved_n_gpus": self.n_gpus,
            "resolved_engine": self.deployment.engine,
            "resolved_precision": self.deployment.precision.name,
            "resolved_kv_precision": self.kv_precision,
            "precision_by_part": precision_by_part(self.deployment, self.kv_precision),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deployed:
    """A distinct deployment with all that does not depend on a request's size."""

    deployment: Deployment
    calibration: Calibration
    factors: CarbonFactors
    remarks: tuple[str, ...]


def answer_frame(
    requests: pd.DataFrame, *, calibration: str | None = None, checkpoint: str | None = None, **carbon: Any
) -> pd.DataFrame:
    """Return the table with the answer's columns; see :func:`llmco2.predictor.api.predict_frame`."""
    numbers = load_checkpoint(checkpoint)
    resolve_factors(next(iter(load_gpus())), **carbon)  # a bad factor is the call's error, not the rows'
    table = read_request_table(requests)
    placed, which = _deployments(table)
    deployed = _deployed(placed, calibration, numbers, carbon)
    answers: dict[str, NDArray[Any]] = {name: np.full(len(requests), np.nan) for name in ANSWER_COLUMNS[:-2]}
    answers["notes"] = np.full(len(requests), "", dtype=object)
    answers["error"] = table.errors
    for rows in _chunks(which, deployed):
        used, local = np.unique(which[rows], return_inverse=True)
        chunk = _answer_chunk(table, rows, [deployed[i] for i in used.tolist()], local, numbers)
        for name, column in chunk.items():
            answers[name][rows] = column
    result = requests.copy()
    for name, default in DEFAULTS.items():
        if name not in result:
            result[name] = _whole(table.numbers[name]) if name in PARALLEL else default
    for name in ANSWER_COLUMNS:
        result[name] = answers[name]
    result["in_domain"] = result["in_domain"].astype("boolean")  # NA where there is no answer
    for name, column in _resolved_columns(placed, which).items():
        result[name] = column
    result["resolved_n_gpus"] = result["resolved_n_gpus"].astype("Int64")
    return result


def _resolved_columns(placed: list[_Placed], which: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """Return what each row's names were taken to mean; empty for a row that has no deployment."""
    absent = {name: pd.NA if name == "resolved_n_gpus" else "" for name in RESOLVED_COLUMNS}
    rows = [*(one.resolved for one in placed), absent]  # the last is that of index -1
    return {name: np.array([row[name] for row in rows], dtype=object)[which] for name in RESOLVED_COLUMNS}


def _whole(column: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a column of degrees that no cell said, so that each is a whole number."""
    return column.astype(np.int64)


def _deployments(table: RequestTable) -> tuple[list[_Placed], NDArray[np.intp]]:
    """Return distinct deployments with their zones, "" where none is said, and each row's index among them.

    The index is -1 for a row whose error is set.
    """
    rows = np.flatnonzero(table.errors == "")
    records = {name: [_outcome(name, text) for text in table.names[name].distinct] for name in _PARTS}
    keys = [table.names[name].codes[rows] for name in _PARTS]
    keys += [table.numbers[name][rows].astype(np.intp) for name in PARALLEL]
    codes = np.zeros(len(rows), dtype=np.intp)
    for key in keys:
        codes = pd.factorize(codes * np.intp(key.max(initial=0) + 2) + key)[0]
    placed: list[_Placed] = []
    place: list[int] = []  # by code; -1: none
    errors: list[str] = []
    for row in rows[np.unique(codes, return_index=True)[1]].tolist():
        *parts, zone = [records[name][table.names[name].codes[row]] for name in _PARTS]
        gpu, kv = (_text(table, name, row) for name in ("gpu", "kv_precision"))
        try:
            deployment = _deployment(parts, *(int(table.numbers[name][row]) for name in PARALLEL))
            if isinstance(zone, InputError):
                raise zone
            n_gpus = deployment.shard_degree * deployment.pipeline_parallel
            placed.append(
                _Placed(
                    deployment=deployment,
                    zone=zone,
                    kv_precision=kv_name(kv, deployment),
                    n_gpus=n_gpus,
                    remarks=counted_remark(gpu, n_gpus),
                )
            )
            place.append(len(placed) - 1)
            errors.append("")
        except InputError as error:
            place.append(-1)
            errors.append(str(error))
    which = np.full(len(table.errors), -1, dtype=np.intp)
    if len(rows):
        which[rows] = np.array(place, dtype=np.intp)[codes]
        table.errors[rows] = np.array(errors, dtype=object)[codes]
    return placed, which


def _text(table: RequestTable, name: str, row: int) -> str:
    column = table.names[name]
    return column.distinct[int(column.codes[row])]


def _outcome(kind: str, name: str) -> Any:
    """Return the record a name means, or the error that says why there is none; a zone stays its name."""
    try:
        if kind == "zone":
            return name and resolve_zone(name).zone_id
        return NAME_RESOLVERS[kind](name)
    except InputError as error:
        return error


def _deployment(
    parts: list[Any], tensor_parallel: int, pipeline_parallel: int, expert_parallel: int
) -> Deployment:
    for part in parts:
        if isinstance(part, InputError):
            raise part
    return assemble_deployment(
        *parts,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        expert_parallel=expert_parallel,
    )


def _deployed(
    placed: list[_Placed], calibration: str | None, checkpoint: Checkpoint, carbon: dict[str, Any]
) -> list[_Deployed]:
    factors: dict[tuple[str, float, float, str], CarbonFactors] = {}
    found = []
    for one in placed:
        deployment, zone = one.deployment, one.zone
        gpu = deployment.gpu
        key = (gpu.gpu_id, gpu.memory_bytes, gpu.tdp_w, zone)
        if key not in factors:
            factors[key] = deployment_factors(deployment, **(carbon | {"zone": zone} if zone else carbon))
        fitted = load_calibration(calibration, deployment.gpu_id, deployment.engine, checkpoint)
        found.append(
            _Deployed(deployment=deployment, calibration=fitted, factors=factors[key], remarks=one.remarks)
        )
    return found


def _chunks(which: NDArray[np.intp], deployed: list[_Deployed]) -> list[NDArray[np.intp]]:
    """Return the rows to answer in chunks that share a calibration and hold few deployments."""
    answered = np.flatnonzero(which >= 0)
    fitted = list({id(one.calibration): None for one in deployed})
    group = np.array([fitted.index(id(one.calibration)) for one in deployed], dtype=np.intp)
    chunks = []
    for number in range(len(fitted)):
        rows = answered[group[which[answered]] == number]
        # Rows of one deployment side by side: its coefficients are worked out once, or twice at a border.
        rows = rows[np.argsort(which[rows], kind="stable")]
        chunks += [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]
    return chunks


def _answer_chunk(
    table: RequestTable,
    rows: NDArray[np.intp],
    deployed: list[_Deployed],
    which: NDArray[np.intp],
    numbers: Checkpoint,
) -> dict[str, NDArray[Any]]:
    """Return the answer's columns for ``rows``, which share a calibration; ``which`` indexes ``deployed``."""
    sizes = SizeColumns(
        deployment=which.astype(np.intp),
        batch_size=table.numbers["batch_size"][rows],
        prompt_tokens=table.numbers["prompt_tokens"][rows],
        output_tokens=table.numbers["output_tokens"][rows],
        continuous=table.continuous[rows],
    )
    fitted = deployed[0].calibration
    deployments = [one.deployment for one in deployed]
    answer = answer_requests(
        numbers,
        deployments,
        sizes,
        scales=fitted.scales,
        width_scale=fitted.width_scale,
    )
    errors = np.array(answer.errors, dtype=object)
    failed = errors != ""
    columns: dict[str, NDArray[Any]] = {
        name: np.where(failed, np.nan, column)
        for name, column in _figures(answer, sizes, [one.factors for one in deployed]).items()
    }
    notes = [
        "" if error else "; ".join((*notes, *deployed[i].remarks, *fitted.notes))
        for i, notes, error in zip(which.tolist(), answer.notes, answer.errors, strict=True)
    ]
    columns["in_domain"] = np.where(failed, np.nan, answer.in_domain.astype(np.float64))
    columns["notes"] = np.array(notes, dtype=object)
    columns["error"] = errors
    return columns


def _time_ends(answer: Answer) -> dict[str, NDArray[np.float64]]:
    """Return the ends of the intervals of times, in seconds."""
    times = {"ttft": answer.ttft_s, "tpot": answer.tpot_s, "latency": answer.total.time_s}
    ends = {"low": np.exp(answer.time_ends.low), "high": np.exp(answer.time_ends.high)}
    return {
        f"{name}_{end}_s": seconds * factor for name, seconds in times.items() for end, factor in ends.items()
    }


def _figures(
    answer: Answer, sizes: SizeColumns, factors: list[CarbonFactors]
) -> dict[str, NDArray[np.float64]]:
    energy, latency = answer.total.energy_j, answer.total.time_s
    tokens_out = sizes.batch_size * sizes.output_tokens
    each = np.array(
        [
            (
                f.carbon_intensity.value,
                f.pue.value,
                f.host_power.value,
                f.embodied_kgco2e_per_gpu,
                f.lifetime.value,
                f.utilization.value,
            )
            for f in factors
        ]
    )
    operational, embodied = carbon_columns(
        energy, latency, answer.prediction.n_gpus, *each[sizes.deployment].T
    )
    return {
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
        **_time_ends(answer),
        "average_power_w": energy / latency,
        "operational_gco2e": operational,
        "embodied_gco2e": embodied,
    }
