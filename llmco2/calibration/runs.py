"""Measured runs as columns to calibrate with: what they need at peak rates, what they should cost, what they did.

Invariant: all that does not depend on the factors is worked out once, so that trying other factors is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import request_deployment
from llmco2.errors import InputError, explain
from llmco2.operators.columns import Column
from llmco2.operators.names import PHASES, Phase
from llmco2.physics.basis import phase_basis
from llmco2.physics.readout import PhaseBasis, phase_readout
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.predictor.intervals import LogQuantiles, log_quantiles
from llmco2.predictor.network import PhaseCoefficients, coefficients
from llmco2.predictor.residual import Residual, residual_features
from llmco2.records.run import MeasuredRun

Array = NDArray[np.float64]
LABELS: Final = ("energy_j", "prefill_energy_j", "decode_energy_j", "latency_s", "tpot_s", "ttft_s")
N_ENERGIES: Final = 3  # of LABELS, at its front; of energies and of times, what says most comes first
GROSS: Final = "gpu_gross"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRuns:
    """Runs of one board and engine, ``(n_runs, …)`` each."""

    learned: dict[Phase, PhaseCoefficients]
    bases: dict[Phase, PhaseBasis]
    continuous: Column
    labels: Array  # (n_runs, 6) in the order of LABELS, NaN where not measured
    ends: LogQuantiles  # of the interval before calibration
    simulated: NDArray[np.bool_]  # (n_runs,), drawn by no real GPU

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def features(self) -> Array:
        """Where the runs lie for a residual, ``(n_runs, n_features)``."""
        return residual_features(self.bases["prefill"], self.bases["decode"])

    def take(self, index: NDArray[np.intp]) -> CalibrationRuns:
        """Return the runs ``index``."""
        return CalibrationRuns(
            learned={phase: values.take(index) for phase, values in self.learned.items()},
            bases={phase: _take_basis(basis, index) for phase, basis in self.bases.items()},
            continuous=self.continuous[index],
            labels=self.labels[index],
            ends=LogQuantiles(low=self.ends.low[index], high=self.ends.high[index]),
            simulated=self.simulated[index],
        )


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


def log_ratios(runs: CalibrationRuns, scales: Mapping[str, float], residual: Residual | None = None) -> Array:
    """Return ``log(measured / predicted)`` of every label, ``(n_runs, 6)``, NaN where not measured.

    A residual corrects energies; where the corrected energy is beyond physics, a prediction stops at the bound.
    """
    answers = {
        phase: phase_readout(np, runs.bases[phase], learned.slot, learned.phase)
        for phase, learned in ((phase, runs.learned[phase].scaled(scales)) for phase in PHASES)
    }
    prefill, decode = answers["prefill"], answers["decode"]
    steps = runs.bases["decode"].steps
    tpot = np.divide(decode.time_s, steps, out=np.full_like(steps, np.nan), where=steps > 0.0)
    waiting = np.where(runs.continuous > 0.0, tpot, 0.0)  # an arriving prompt waits for the step that runs
    predicted = np.column_stack(
        [
            prefill.energy_j + decode.energy_j,
            prefill.energy_j,
            decode.energy_j,
            prefill.time_s + decode.time_s,
            tpot,
            prefill.time_s / runs.bases["prefill"].steps + waiting,
        ]
    )
    ratios: Array = np.log(runs.labels / np.where(predicted > 0.0, predicted, np.nan))
    if residual is not None:
        ratios[:, :N_ENERGIES] -= residual.log_correction(runs.features)[:, None]
    return ratios


def primary(ratios: Array) -> Array:
    """Return of each run the first label that is known, ``(n_runs,)``: the whole before its parts."""
    first = np.isfinite(ratios).argmax(axis=1)
    chosen: Array = ratios[np.arange(len(ratios)), first]
    return chosen


def is_usable(run: MeasuredRun) -> bool:
    """Return whether a run can calibrate: it succeeded, knows its sizes and a label, and is one batch."""
    whole = run.status == "ok" and run.data_parallel == 1 and run.shape_mix is None
    sized = bool(run.prompt_tokens) and bool(run.output_tokens)
    return whole and sized and bool(np.isfinite(_labels(run)).any())


def _labels(run: MeasuredRun) -> list[float]:
    """Return the labels of a run in the order of LABELS, NaN where not measured."""
    values = {name: getattr(run, name) or np.nan for name in LABELS}
    if np.isnan(values["energy_j"]) and run.energy_per_output_token_j and run.output_tokens:
        values["energy_j"] = run.energy_per_output_token_j * run.batch_size * run.output_tokens
    if run.energy_includes != GROSS:  # without idle, or with the host: no energy that is predicted
        values |= dict.fromkeys(LABELS[:N_ENERGIES], np.nan)
    return [value if value > 0.0 else np.nan for value in values.values()]


def _deployment(run: MeasuredRun) -> Deployment:
    try:
        request = run.request()
        return request_deployment(request)
    except InputError as error:
        remedy = "correct or drop the run"
        raise InputError(explain(f"run {run.run_id} cannot be", got=str(error), remedy=remedy)) from error


def _columns(
    runs: list[MeasuredRun], deployments: list[Deployment], checkpoint: Checkpoint
) -> CalibrationRuns:
    rows = deployment_columns(deployments)
    learned = coefficients(checkpoint, deployments, rows)

    def column(values: list[float | None]) -> Column:
        return np.array(values, dtype=np.float64)

    continuous = column([float(run.serving == "continuous") for run in runs])
    work = rows.workload(
        column([run.batch_size for run in runs]),
        column([run.prompt_tokens for run in runs]),
        column([run.output_tokens for run in runs]),
        continuous,
    )
    limit = column([run.power_limit_w for run in runs])
    limit = np.where(np.isnan(limit), rows.device.tdp_w, limit)
    return CalibrationRuns(
        learned=learned,
        bases={phase: phase_basis(phase, rows, work, limit)[0] for phase in PHASES},
        continuous=continuous,
        labels=np.array([_labels(run) for run in runs]),
        ends=log_quantiles(checkpoint.intervals, checkpoint.domain, deployments, np.arange(len(runs))),
        simulated=np.array([run.simulated for run in runs]),
    )


def _take_basis(basis: PhaseBasis, index: NDArray[np.intp]) -> PhaseBasis:
    return PhaseBasis(**{field.name: getattr(basis, field.name)[index] for field in fields(PhaseBasis)})
