"""The choice: candidates answered in one table, held against targets, ranked, and what of it is certain.

Invariant: where nothing meets the targets there is no best option; the closest one and the targets that bind are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from llmco2.bounded import shown
from llmco2.catalog.gpus import counted_gpus
from llmco2.decision.candidates import check_values, combinations
from llmco2.decision.figures import with_figures, with_year
from llmco2.decision.load import needed_replicas, running_requests
from llmco2.decision.pareto import non_dominated
from llmco2.decision.ranking import OBJECTIVE_COLUMNS, Objective, equal_to_first, objective_interval, ranked
from llmco2.decision.targets import VERDICTS, Shortfall, Targets, excess, meets, shortfall, surely_meets
from llmco2.errors import InputError, RequestError, UnknownNameError, explain
from llmco2.predictor.frame import answer_frame
from llmco2.predictor.memory_check import IN_TURNS
from llmco2.records.columns import ZONE_COLUMN
from llmco2.records.request import REQUEST_COLUMNS

DEFAULT_TENSOR_PARALLEL: Final = (1, 2, 4, 8)
DEFAULT_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
Answer = Callable[[pd.DataFrame], pd.DataFrame]
_HTML_ROWS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """Options ranked by an objective, within targets.

    ``frame`` has a row an option: what was asked, every column of ``llmco2.predict_frame``, the figures of
    :mod:`llmco2.decision.figures`, and ``verdict`` (one of VERDICTS), ``surely_meets`` (also at the slow end of the
    90 % interval of its times), ``equal_to_best`` (differs by less than the error band) and ``on_front``. Those that
    meet the targets come first, the least objective first, then those that miss, the closest first.
    """

    frame: pd.DataFrame
    objective: Objective
    targets: Targets
    requests_per_s: float | None
    varied: tuple[str, ...]  # the columns that differ
    shortfall: Shortfall | None  # None where an option meets the targets
    front_columns: tuple[str, str, str]  # what the Pareto front is of: CO2e, time, GPUs

    @property
    def best(self) -> pd.Series[Any] | None:
        """The option that leads; None where none meets the targets."""
        return None if self.shortfall else self.frame.iloc[0]

    @property
    def equal(self) -> pd.DataFrame:
        """The best option and those that differ from it by less than the error band."""
        return self.frame[self.frame["equal_to_best"]]

    @property
    def pareto(self) -> pd.DataFrame:
        """The options within the targets that none beats in CO2e, time and GPUs at once, least CO2e first."""
        return self.frame[self.frame["on_front"]].sort_values(list(self.front_columns), kind="stable")

    @property
    def closest(self) -> pd.Series[Any]:
        """The best option; where none meets the targets, the one that comes closest."""
        return self.frame.iloc[0]

    def _repr_html_(self) -> str:
        """Return the verdict and the first rows as HTML, for notebooks."""
        from html import escape  # noqa: PLC0415 - notebooks only

        from llmco2.decision.describing import verdict_lines  # noqa: PLC0415 - which reads this class

        lines = "".join(f"<p>{escape(line)}</p>" for line in verdict_lines(self))
        names = [*self.varied, *shown_columns(self)]
        return lines + str(self.frame.head(_HTML_ROWS)[names].to_html(index=False))


def shown_columns(choice: Choice) -> tuple[str, ...]:
    """Return the columns that a short table of ``choice`` has beside those that differ."""
    load = () if choice.requests_per_s is None else ("running_requests", "replicas")
    units = ("energy_per_request_wh", "energy_per_million_output_tokens_wh", "gco2e_per_request",
             "gco2e_per_million_output_tokens")  # fmt: skip
    return (*load, "gpus_needed", *units, "ttft_s", "tpot_s", "latency_s", "verdict", "equal_to_best")


def choose(
    *,
    model: Any,
    gpu: Any,
    tensor_parallel: Any = None,
    batch_size: Any = DEFAULT_BATCH_SIZES,
    objective: str = Objective.ENERGY,
    max_ttft_s: float | None = None,
    max_tpot_s: float | None = None,
    max_latency_s: float | None = None,
    max_gpus: float | None = None,
    requests_per_s: float | None = None,
    zone: Any = None,
    carbon_intensity_gco2e_per_kwh: float | None = None,
    pue: float | None = None,
    lifetime_years: float | None = None,
    utilization: float | None = None,
    calibration: str | None = None,
    checkpoint: str | None = None,
    **request: Any,
) -> Choice:
    """Return which combination of the options' values takes least, within the targets.

    Args:
        model: as in :func:`llmco2.predict`; this, ``gpu``, ``zone`` and every argument of the request take one value
            or a list, tuple, range or array of them, and all combinations are compared.
        gpu: as in :func:`llmco2.predict`.
        tensor_parallel: None is 1, 2, 4 and 8, or all GPUs where ``gpu`` names several.
        batch_size: requests that run at once in a replica, served continuously; with a rate, the most that may.
        objective: ``energy`` (of the GPUs, per output token), ``carbon`` (operational and embodied, per output token),
            ``latency`` or ``gpus``: what is to be least.
        max_ttft_s: seconds to the first token, its prefill included, a wait in a queue not.
        max_tpot_s: seconds between tokens after the first.
        max_latency_s: seconds to the last token, a wait in a queue not included.
        max_gpus: GPUs of all replicas.
        requests_per_s: rate of all replicas; adds their number, the requests that run in each, and a year with idle.
        zone: country or cloud region.
        carbon_intensity_gco2e_per_kwh: in place of the zone's.
        pue: power usage effectiveness, at least 1.
        lifetime_years: years over which hardware is written off.
        utilization: share of its life in which hardware works; not with a rate, which says it.
        calibration: file that ``llmco2 calibrate`` wrote.
        checkpoint: ``.json`` of a checkpoint in place of the one that ships.
        request: ``pipeline_parallel``, ``expert_parallel``, ``engine``, ``precision``, ``kv_precision``,
            ``prompt_tokens``, ``output_tokens``, as in :func:`llmco2.predict`.

    Raises:
        InputError: a name, number, target or combination of them that cannot be, or not one option has an answer.
    """
    targets = Targets(
        max_ttft_s=max_ttft_s, max_tpot_s=max_tpot_s, max_latency_s=max_latency_s, max_gpus=max_gpus
    )
    least = _objective(objective)
    _check_rate(requests_per_s, utilization)
    asked = _asked(request | {"model": model, "gpu": gpu, "batch_size": batch_size}, tensor_parallel)
    carbon: dict[str, Any] = {
        "zone": None,
        "carbon_intensity": carbon_intensity_gco2e_per_kwh,
        "pue": pue,
        "lifetime_years": lifetime_years,
        "utilization": utilization,
    }
    if isinstance(values := _values(zone), tuple):
        asked[ZONE_COLUMN] = values
    else:
        carbon["zone"] = values
    check_values(asked)

    def answer(table: pd.DataFrame) -> pd.DataFrame:
        return answer_frame(table, calibration=calibration, checkpoint=checkpoint, **carbon)

    options, left_out = _answered(combinations(asked | {"serving": "continuous"}), answer)
    options = options.assign(most_running_requests=options["batch_size"])
    if requests_per_s is None:
        options = with_figures(options.assign(running_requests=options["batch_size"]))
    else:
        options = _at_rate(options, requests_per_s, answer, carbon)
    varied = tuple(name for name, value in asked.items() if isinstance(value, tuple))
    if (
        "tensor_parallel" not in asked and options["tensor_parallel"].nunique() > 1
    ):  # names of 4 and of 8 GPUs
        varied += ("tensor_parallel",)
    return _judged(
        options, left_out, objective=least, targets=targets, rate_per_s=requests_per_s, varied=varied
    )


def _objective(name: str) -> Objective:
    try:
        return Objective(name)
    except ValueError:
        raise UnknownNameError(
            "objective", str(name), list(Objective), remedy=f"one of {', '.join(Objective)}"
        ) from None


def _check_rate(requests_per_s: float | None, utilization: float | None) -> None:
    if requests_per_s is None:
        return
    usable = isinstance(requests_per_s, int | float) and not isinstance(requests_per_s, bool)
    if not (usable and 0.0 < requests_per_s < math.inf):
        raise RequestError(
            explain("requests_per_s is out of range", got=shown(requests_per_s), expected="a number above 0")
        )
    if utilization is not None:
        raise RequestError(
            explain(
                "utilization is given beside a rate of requests",
                got=shown(utilization),
                remedy="leave one out: the rate says how long GPUs work, and held hardware is charged all year",
            )
        )


def _asked(request: Mapping[str, Any], tensor_parallel: Any) -> dict[str, Any]:
    """Return the values of every option, a tuple being several, in the order of a request's columns."""
    known = [name for name in REQUEST_COLUMNS if name not in {"serving", "tensor_parallel"}]
    for name in request:
        if name not in known:
            raise UnknownNameError("option of a choice", name, known)
    asked = {name: _values(request[name]) for name in known if name in request}
    gpus = asked["gpu"] if isinstance(asked["gpu"], tuple) else (asked["gpu"],)
    if tensor_parallel is not None:
        asked["tensor_parallel"] = _values(tensor_parallel)
    elif not any(isinstance(name, str) and counted_gpus(name) for name in gpus):
        asked["tensor_parallel"] = DEFAULT_TENSOR_PARALLEL
    return {name: asked[name] for name in REQUEST_COLUMNS if name in asked}


def _values(given: Any) -> Any:
    """Return one value bare and several as a tuple without repeats."""
    if not isinstance(given, list | tuple | range | np.ndarray | pd.Series | pd.Index):
        return given
    values = tuple(dict.fromkeys(x.item() if isinstance(x, np.generic) else x for x in given))
    if not values:
        raise InputError(
            explain("an option without values", got="an empty list", expected="at least one value")
        )
    return values[0] if len(values) == 1 else values


def _answered(table: pd.DataFrame, answer: Answer) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the options that can run, and the others with their verdict; raise InputError where none can."""
    answers = answer(table)
    errors = answers["error"].fillna("").astype(str)
    waits = answers["notes"].astype(str).str.contains(IN_TURNS, regex=False)
    verdict = np.where(errors != "", VERDICTS[3], np.where(waits, VERDICTS[2], VERDICTS[0]))
    answers = answers.assign(verdict=verdict)
    options = answers[answers["verdict"] == VERDICTS[0]].reset_index(drop=True)
    if options.empty:
        reason = next((error for error in errors if error), None)
        raise InputError(reason or f"no option holds its requests at once: {answers['notes'].iloc[0]}")
    left_out = answers[answers["verdict"] != VERDICTS[0]]
    return options, left_out.sort_values("verdict", kind="stable").reset_index(
        drop=True
    )  # memory before no answer


def _at_rate(
    options: pd.DataFrame, rate_per_s: float, answer: Answer, carbon: Mapping[str, Any]
) -> pd.DataFrame:
    """Return the options with the replicas that ``rate_per_s`` needs, answered at the requests that run in each.

    Limits of running requests that lead to the same replicas of the same deployment are one option; the largest stays.
    """
    asked = [name for name in (*REQUEST_COLUMNS, ZONE_COLUMN) if name in options and name != "batch_size"]
    most = options["most_running_requests"].to_numpy(np.float64)
    needed = needed_replicas(rate_per_s, most, options["latency_s"].to_numpy(np.float64)).replicas
    order = np.argsort(-most, kind="stable")
    firsts = ~options[asked].assign(replicas=needed).iloc[order].duplicated()
    kept = options.iloc[np.sort(order[firsts.to_numpy()])].reset_index(drop=True)
    most = kept["most_running_requests"].to_numpy(np.float64)
    load = needed_replicas(rate_per_s, most, kept["latency_s"].to_numpy(np.float64))
    table = kept[[*asked, "most_running_requests"]]

    def latency_s(
        rows: np.ndarray[Any, np.dtype[np.intp]], running: np.ndarray[Any, np.dtype[np.float64]]
    ) -> Any:
        return answer(table.iloc[rows].assign(batch_size=running))["latency_s"].to_numpy(np.float64)

    running = running_requests(load.requests_per_s, most, latency_s)
    steady = answer(table.assign(batch_size=np.maximum(running, 1.0)))
    return with_year(steady, load, running, rate_per_s, **carbon)


def _judged(
    options: pd.DataFrame,
    left_out: pd.DataFrame,
    *,
    objective: Objective,
    targets: Targets,
    rate_per_s: float | None,
    varied: tuple[str, ...],
) -> Choice:
    good = meets(options, targets)
    options = options.assign(
        verdict=np.where(good, VERDICTS[0], VERDICTS[1]),
        surely_meets=surely_meets(options, targets),
        equal_to_best=False,
        on_front=False,
    )
    options = options.iloc[ranked(options, objective)].reset_index(drop=True)
    met = (options["verdict"] == VERDICTS[0]).to_numpy()
    front = _front_columns(objective, targets, options)
    missing = None
    if met.any():
        middle, low, high = objective_interval(options[met], objective)
        options.loc[met, "equal_to_best"] = equal_to_first(middle, low, high)
        options.loc[met, "on_front"] = non_dominated(options.loc[met, list(front)].to_numpy(np.float64))
        over = np.where(met, 0.0, excess(options, targets).max(axis=1, initial=0.0))
        options = options.iloc[np.argsort(over, kind="stable")]
    else:
        missing = shortfall(options, targets, options[OBJECTIVE_COLUMNS[objective]].to_numpy(np.float64))
        over = excess(options, targets).max(axis=1)
        over[missing.closest] = 0.0
        options = options.iloc[np.argsort(over, kind="stable")]
    frame = pd.concat([options, left_out], ignore_index=True) if len(left_out) else options
    for name in ("surely_meets", "equal_to_best", "on_front"):
        frame[name] = frame[name].eq(True)
    return Choice(
        frame=frame.reset_index(drop=True),
        objective=objective,
        targets=targets,
        requests_per_s=rate_per_s,
        varied=varied,
        shortfall=missing,
        front_columns=front,
    )


def _front_columns(objective: Objective, targets: Targets, options: pd.DataFrame) -> tuple[str, str, str]:
    """Return what the front is of; the time is TPOT unless the question is about latency or no token comes later."""
    whole = objective is Objective.LATENCY or (
        targets.max_latency_s is not None and targets.max_tpot_s is None
    )
    time = "latency_s" if whole or not (options["tpot_s"] > 0.0).all() else "tpot_s"
    return "gco2e_per_million_output_tokens", time, "gpus_needed"
