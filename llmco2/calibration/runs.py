"""Measured runs as columns to calibrate with: the requests, counted once, and what was measured of them.

Invariant: what a run is compared with is what ``predict`` answers for its request, under the power limit it ran at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import request_deployment
from llmco2.errors import InputError, explain
from llmco2.operators.columns import Column
from llmco2.predictor.answer import interval_ends
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.predictor.columns import PreparedRequests, SizeColumns, predict_prepared, prepare_requests
from llmco2.predictor.intervals import LogQuantiles
from llmco2.records.run import MeasuredRun

Array = NDArray[np.float64]
# Of energies and of times, what says most comes first.
ENERGY_LABELS: Final = ("energy_j", "decode_energy_j", "prefill_energy_j", "average_power_w")
TIME_LABELS: Final = ("latency_s", "tpot_s", "ttft_s")
LABELS: Final = ENERGY_LABELS + TIME_LABELS
N_ENERGIES: Final = len(ENERGY_LABELS)
GROSS: Final = "gpu_gross"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationRuns:
    """Runs of one GPU and engine."""

    checkpoint: Checkpoint
    prepared: PreparedRequests
    labels: Array  # (n_runs, n_labels) in the order of LABELS, NaN where not measured
    energy_ends: LogQuantiles  # of the intervals before calibration
    time_ends: LogQuantiles
    simulated: bool  # whether any of the runs was

    def __len__(self) -> int:
        return len(self.labels)


def calibration_runs(
    runs: Sequence[MeasuredRun], checkpoint: Checkpoint
) -> tuple[dict[tuple[str, str], CalibrationRuns], int]:
    """Return the usable runs by GPU and engine, in order of appearance, and the number of the others.

    A run is usable if it succeeded, knows its sizes and a label, and is one batch on one replica. Raises
    InputError, with the run's name, for one that cannot be.
    """
    usable = [run for run in runs if is_usable(run)]
    groups: dict[tuple[str, str], list[tuple[MeasuredRun, Deployment]]] = {}
    for run in usable:
        deployment = _deployment(run)
        groups.setdefault((deployment.gpu_id, deployment.engine), []).append((run, deployment))
    columns = {
        key: _columns([r for r, _ in group], [d for _, d in group], checkpoint)
        for key, group in groups.items()
    }
    return columns, len(runs) - len(usable)


def log_ratios(runs: CalibrationRuns, scales: Mapping[str, float] | None = None) -> Array:
    """Return ``log(measured / predicted)`` of every label, ``(n_runs, n_labels)``, NaN where not measured.

    ``scales`` multiplies the predictor's FACTORS by name.
    """
    answer = predict_prepared(runs.checkpoint, runs.prepared, scales)
    predicted = np.column_stack(
        [
            answer.energy_j,
            answer.decode.energy_j,
            answer.prefill.energy_j,
            answer.energy_j / answer.latency_s,
            answer.latency_s,
            answer.tpot_s,
            answer.ttft_s,
        ]
    )
    ratios: Array = np.log(runs.labels / np.where(predicted > 0.0, predicted, np.nan))
    return ratios


def primary(ratios: Array) -> Array:
    """Return of each run the first label that is known, ``(n_runs,)``: the whole before its parts."""
    first = np.isfinite(ratios).argmax(axis=1)
    chosen: Array = ratios[np.arange(len(ratios)), first]
    return chosen


def energies(ratios: Array) -> Array:
    """Return the energies among the labels, ``(n_runs, n_energies)``."""
    return ratios[:, :N_ENERGIES]


def times(ratios: Array) -> Array:
    """Return the times among the labels, ``(n_runs, n_times)``."""
    return ratios[:, N_ENERGIES:]


def is_usable(run: MeasuredRun) -> bool:
    """Return whether a run can calibrate: it succeeded, knows its sizes and a label, and is one batch."""
    whole = run.status == "ok" and run.data_parallel == 1 and run.shape_mix is None
    sized = bool(run.prompt_tokens) and bool(run.output_tokens)
    return whole and sized and bool(np.isfinite(_labels(run)).any())


def _labels(run: MeasuredRun) -> list[float]:
    """Return the labels of a run in the order of LABELS, NaN where not measured."""
    values = {name: float(getattr(run, name) or np.nan) for name in LABELS}
    if np.isnan(values["energy_j"]) and run.energy_per_output_token_j and run.output_tokens:
        values["energy_j"] = run.energy_per_output_token_j * run.batch_size * run.output_tokens
    if run.energy_includes != GROSS:  # without idle, or with the host: no energy that is predicted
        values |= dict.fromkeys(ENERGY_LABELS, np.nan)
    if np.isfinite([values[name] for name in ENERGY_LABELS[:3]]).any():
        values["average_power_w"] = np.nan  # says nothing new, and of which phase is not known
    return [value if value > 0.0 else np.nan for value in values.values()]


def _deployment(run: MeasuredRun) -> Deployment:
    try:
        deployment = request_deployment(run.request())
    except InputError as error:
        remedy = "correct or drop the run"
        raise InputError(explain(f"run {run.run_id} cannot be", got=str(error), remedy=remedy)) from error
    limit, gpu = run.power_limit_w, deployment.gpu
    if limit is None or not 0.0 < limit < gpu.tdp_w:
        return deployment
    return replace(deployment, datasheet=replace(gpu, tdp_w=limit))


def _columns(
    runs: list[MeasuredRun], deployments: list[Deployment], checkpoint: Checkpoint
) -> CalibrationRuns:
    def column(name: str) -> Column:
        return np.array([getattr(run, name) for run in runs], dtype=np.float64)

    distinct = list(dict.fromkeys(deployments))
    place = {deployment: i for i, deployment in enumerate(distinct)}
    sizes = SizeColumns(
        deployment=np.array([place[deployment] for deployment in deployments], dtype=np.intp),
        batch_size=column("batch_size"),
        prompt_tokens=column("prompt_tokens"),
        output_tokens=column("output_tokens"),
        continuous=np.array([float(run.serving == "continuous") for run in runs]),
    )
    prepared = prepare_requests(checkpoint.nodes, checkpoint.lanes, distinct, sizes)
    plain = predict_prepared(checkpoint, prepared)
    energy_ends, time_ends = interval_ends(checkpoint, distinct, sizes, plain)
    return CalibrationRuns(
        checkpoint=checkpoint,
        prepared=prepared,
        labels=np.array([_labels(run) for run in runs]),
        energy_ends=energy_ends,
        time_ends=time_ends,
        simulated=any(run.simulated for run in runs),
    )
