"""From node functions and measured runs to the checkpoint that ships."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.workload import SLOW_REGIME, Workload
from benchmarks.release.hosts import FITS, TimedRequests, fit_host, take
from llmco2.catalog.params import parameter_count
from llmco2.deployment.deployment import Deployment, mechanisms
from llmco2.deployment.resolving import resolve_deployment
from llmco2.errors import InputError
from llmco2.kernel_model.lanes import read_lanes
from llmco2.kernel_model.node_functions import node_functions
from llmco2.predictor.checkpoint import save_checkpoint
from llmco2.predictor.columns import PreparedRequests, SizeColumns, prepare_requests
from llmco2.predictor.intervals import COVERAGE, Unmeasured

BOARD_FACTORS: Final = {
    "CDNA3": 1.75
}  # R1 under SGLang on MI300X and MI325X over the same kernels on NVIDIA boards
# Errors of what was never measured, in logs: of a stack asked as another, of a family's kernels left out (KERNELS.md of
# the prototype: composed steps 10 to 13 %, kernels 15 to 40 %), of boards whose watts were left out.
EXTRA: Final[Mapping[Unmeasured, tuple[float, float]]] = {
    Unmeasured.ENGINE: (0.42, 0.42),
    Unmeasured.HOST: (0.30, 0.30),
    Unmeasured.KERNELS: (0.18, 0.18),
    Unmeasured.BOARD: (0.15, 0.03),
    Unmeasured.MECHANISM: (0.15, 0.15),
}
PHASE_FACTOR: Final = 1.3
INFLATION: Final = 1.25  # of in-sample quantiles: constants are few, but their rows were fitted
FEWEST_ROWS: Final = 8
_OUTLIER: Final = np.log(5.0)  # errors beyond are taken for faults of a label
_NARROWEST: Final = 0.08
_RANGES: Final = {
    "batch_size": [1.0, 2048.0],
    "prompt_tokens": [1.0, 131_072.0],
    "output_tokens": [1.0, 16_384.0],
    "n_gpus": [1.0, 8.0],
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReleaseData:
    """What a release is fitted to: requests that are counted, and the runs they are of."""

    prepared: PreparedRequests
    request_row: NDArray[np.intp]  # of the workload's requests, those that resolve
    workload: Workload


def release_data(
    arrays: Mapping[str, NDArray[np.float32]], lanes: Mapping[str, Any], workload: Workload
) -> ReleaseData:
    """Return the workload counted once; requests that the catalog refuses are left out."""
    deployments: list[Deployment] = []
    place: dict[tuple[Any, ...], int] = {}
    rows, which = [], []
    columns = (
        "model",
        "gpu",
        "tensor_parallel",
        "pipeline_parallel",
        "expert_parallel",
        "engine",
        "precision",
    )
    for row, key in enumerate(zip(*(workload.requests[c] for c in columns), strict=True)):
        if key not in place:
            try:
                model, gpu, tp, pp, ep, engine, precision = key
                deployments.append(resolve_deployment(model, gpu, tp, pp, ep, engine, precision, "unknown"))
                place[key] = len(deployments) - 1
            except InputError:
                place[key] = -1
        if place[key] >= 0:
            rows.append(row)
            which.append(place[key])
    table = workload.requests.iloc[rows]
    sizes = SizeColumns(
        deployment=np.array(which, dtype=np.intp),
        batch_size=table["batch_size"].to_numpy(dtype=np.float64).clip(min=1.0),
        prompt_tokens=table["prompt_tokens"].to_numpy(dtype=np.float64).clip(min=1.0),
        output_tokens=table["output_tokens"].to_numpy(dtype=np.float64).clip(min=1.0),
        continuous=np.asarray(table["serving"] == "continuous", dtype=np.float64),
    )
    prepared = prepare_requests(node_functions(arrays), read_lanes(lanes), deployments, sizes)
    return ReleaseData(prepared=prepared, request_row=np.array(rows, dtype=np.intp), workload=workload)


def fitted_hosts(data: ReleaseData) -> dict[str, dict[str, float]]:
    """Return the host constants of every stack that has runs."""
    hosts = {}
    for engine, fit in FITS.items():
        timed = _timed(data, engine, fit.sources, fit.boards)
        if timed is not None:
            hosts[engine] = fit_host(data.prepared.curves, timed, fit)
    return hosts


def _timed(data: ReleaseData, engine: str, sources: tuple[str, ...], boards: str) -> TimedRequests | None:
    runs, labels = data.workload.runs, data.workload.labels
    chosen = (runs["engine"] == engine) & runs["source"].isin(sources) & (runs["part"] != SLOW_REGIME)
    chosen &= runs["gpu"].str.contains(boards) & ~runs["gpu"].str.startswith("MI")
    seconds = {name: np.full(len(runs), np.nan) for name in ("latency_s", "tpot_s", "ttft_s", "power")}
    for name in ("latency_s", "tpot_s", "ttft_s"):
        mine = labels[labels["label"] == name]
        seconds[name][mine["run"].to_numpy()] = mine["measured"].to_numpy()
    joules = _label(labels, "energy_j", len(runs))
    watts = _label(labels, "average_power_w", len(runs))
    latency = np.where(np.isnan(seconds["latency_s"]), joules / watts, seconds["latency_s"])
    of_run = data.workload.run_of_request[data.request_row]
    step = data.workload.is_step[data.request_row]
    single = data.workload.share[data.request_row] == 1.0
    prefill_only = runs["output_tokens"].to_numpy()[of_run] <= 1.0
    measured = np.where(step, seconds["tpot_s"][of_run], latency[of_run])
    static_step = np.isnan(measured) & ~step & (runs["serving"].to_numpy()[of_run] == "static")
    measured = np.where(static_step & ~prefill_only, seconds["tpot_s"][of_run], measured)
    measured = np.where(static_step & prefill_only, seconds["ttft_s"][of_run], measured)
    what = np.select(
        [step | (static_step & ~prefill_only), static_step & prefill_only], ["step", "prefill"], "latency"
    )
    # A steady run that was not timed as a whole knows its mean time per token; a median step is asked for apart.
    steady = (runs["serving"].to_numpy()[of_run] == "continuous") & ~step
    stepping = np.isin(of_run, of_run[step])
    mean_token = steady & np.isnan(seconds["latency_s"][of_run])
    measured = np.where(mean_token, seconds["tpot_s"][of_run], measured)
    what = np.where(mean_token, "tpot", what)
    usable = chosen.to_numpy()[of_run] & np.isfinite(measured) & (measured > 0) & single
    usable &= ~(mean_token & stepping)
    rows = np.flatnonzero(usable)
    if len(rows) < 3:
        return None
    return TimedRequests(
        request=take(data.prepared.request, rows),
        measured_s=measured[rows],
        what=what[rows].astype(object),
        weight=runs["weight"].to_numpy(dtype=np.float64)[of_run[rows]].clip(0.2, 1.0),
        board_factor=np.ones(len(rows)),
    )


def _label(labels: pd.DataFrame, name: str, n_runs: int) -> NDArray[np.float64]:
    values = np.full(n_runs, np.nan)
    mine = labels[labels["label"] == name]
    values[mine["run"].to_numpy()] = mine["measured"].to_numpy()
    return values


def intervals_of(errors: pd.DataFrame) -> dict[str, Any]:
    """Return the intervals of a checkpoint.

    Args:
        errors: rows of (engine, quantity, log_error) with log_error the log of measured over predicted.
    """
    kept = errors[np.isfinite(errors["log_error"]) & (errors["log_error"].abs() < _OUTLIER)]
    engines: dict[str, dict[str, list[float]]] = {}
    pooled = {
        quantity: _ends(kept.loc[kept["quantity"] == quantity, "log_error"], 1.0)
        for quantity in ("energy", "time")
    }
    for engine, mine in kept.groupby("engine"):
        own = {}
        for quantity in ("energy", "time"):
            values = mine.loc[mine["quantity"] == quantity, "log_error"]
            if len(values) >= FEWEST_ROWS:
                own[quantity] = _ends(values, INFLATION)
        if "time" in own and "energy" not in own:  # the power of the boards adds to the error of the time
            own["energy"] = [
                float(round(-np.hypot(own["time"][0], 0.15), 4)),
                float(round(np.hypot(own["time"][1], 0.15), 4)),
            ]
        if {"time", "energy"} <= set(own):
            engines[str(engine)] = own
    extra = {str(item): {"energy": energy, "time": time} for item, (energy, time) in EXTRA.items()}
    return {
        "coverage": COVERAGE,
        "engines": engines,
        "pooled": pooled,
        "extra": extra,
        "phase_factor": PHASE_FACTOR,
    }


def _ends(values: pd.Series, factor: float) -> list[float]:
    low, high = np.quantile(values.to_numpy(dtype=np.float64), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return [float(round(min(low * factor, -_NARROWEST), 4)), float(round(max(high * factor, _NARROWEST), 4))]


def domain_of(data: ReleaseData) -> dict[str, Any]:
    """Return which boards were measured under load, and which mechanisms each engine was seen with."""
    labels, runs = data.workload.labels, data.workload.runs
    powered = labels[labels["quantity"].isin(["energy", "power"])]["run"].unique()
    seen: dict[str, set[str]] = {}
    for deployment in data.prepared.deployments:
        seen.setdefault(deployment.engine, set()).update(mechanisms(deployment))
    counts = [float(parameter_count(d.architecture)) for d in data.prepared.deployments]
    return {
        "gpus": sorted(set(runs["gpu"].iloc[powered])),
        "mechanisms": {engine: sorted(names) for engine, names in sorted(seen.items())},
        "ranges": {**_RANGES, "parameters": [min(counts), max(counts)]},
    }


def write_release(
    output: Path,
    arrays: dict[str, NDArray[np.float32]],
    lanes: Mapping[str, Any],
    *,
    hosts: Mapping[str, Any],
    intervals: Mapping[str, Any],
    data: ReleaseData,
    sources: Mapping[str, Path],
) -> None:
    """Write the checkpoint with hashes of what it was made from."""
    provenance = {
        "recipe": ["llmco2 train fit --config release", "python -m benchmarks.release"],
        "kernels": "PyPI aiconfigurator-core 0.12.0 (Apache-2.0, NVIDIA AIConfigurator)",
        "sha256": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()},
        "hosts_fitted_to": {engine: list(FITS[engine].sources) for engine in hosts},
    }
    metadata = {
        "lanes": json.loads(json.dumps(lanes)),
        "hosts": dict(hosts),
        "boards": BOARD_FACTORS,
        "power": {"busy_factor": 1.0},
        "intervals": dict(intervals),
        "domain": domain_of(data),
        "provenance": provenance,
    }
    save_checkpoint(output, arrays, metadata)
