"""Fitting a calibration: five physical factors of a board and engine and a residual, from a few runs of one's own.

Invariant: a prior holds every factor near 1, so that few runs move it little, and what the fit is worth is judged on
runs that it did not see. A fit that does clear harm there is not used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmco2.calibration.runs import (
    N_ENERGIES,
    CalibrationRuns,
    calibration_runs,
    log_ratios,
    primary,
)
from llmco2.errors import InputError, explain
from llmco2.predictor.calibration import FORMAT, FORMAT_VERSION
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.predictor.residual import Residual, fit_residual
from llmco2.records.run import MeasuredRun

Array = NDArray[np.float64]
# What each factor multiplies. Energies of switching and times of working are apart, as they are in the readout.
FACTORS: Final[Mapping[str, tuple[str, ...]]] = {
    "compute time": ("compute",),
    "memory time": ("weight", "activation", "kv"),
    "overhead": ("launch_s", "host_step_s", "host_launch_s", "host_sequence_s", "network"),
    "static power": ("idle_power", "active_power"),
    "dynamic power": ("compute_power", "memory_power", "network_power"),
}
LEAST_RUNS: Final = 3
# Of factors' logarithms. Boards differ in speed as a whole and in power as a whole more than in one resource, so times
# share a level, and so do powers. These and ENERGY_SIGMA were chosen on boards of the A100 kind, left out of the fit.
OWN_SIGMA: Final = 0.2
LEVEL_SIGMA: Final = 0.6
_IS_TIME: Final = np.array([1.0, 1.0, 1.0, 0.0, 0.0])  # of FACTORS
ENERGY_SIGMA: Final = 0.15  # of a log energy about the calibrated formula, model by model
TIME_SIGMA: Final = 0.4  # of a log time: what is asked for is joules
HARM: Final = 1.25  # times the error before: a fit that does worse on held-back runs is not used
OUTLIER: Final = 2.5  # noise sigmas past which an error counts linearly
NARROWEST: Final = 0.5
WIDEST: Final = 2.0
_NARROWING_PER_RUN: Final = 0.05  # five runs of one afternoon say little about the next model
_LARGEST_LOG: Final = 2.0  # e**2 = 7.4: past it the runs and the model do not speak of the same thing
_STEPS: Final = 40
_DIFFERENCE: Final = 1e-4
_PRECISION: Final[Array] = np.asarray(
    np.linalg.inv(
        OWN_SIGMA**2 * np.eye(len(FACTORS))
        + LEVEL_SIGMA**2 * (np.outer(_IS_TIME, _IS_TIME) + np.outer(1.0 - _IS_TIME, 1.0 - _IS_TIME))
    ),
    dtype=np.float64,
)
_Z: Final = 1.6449  # 95th percentile of the normal distribution: the upper end of a 90 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Errors on held-back runs; mean absolute percentage errors, NaN where no run knows the label."""

    energy_before_percent: float
    energy_after_percent: float
    time_before_percent: float
    time_after_percent: float

    @property
    def is_used(self) -> bool:
        """Whether the fit is used: no clear harm to the energy of held-back runs, or to their time without any.

        The prior holds the fit back already, and errors of a few held-back runs are a noisy judge: asking for a gain on
        each small table cost more than it saved.
        """
        if np.isfinite(self.energy_before_percent):
            return self.energy_after_percent < HARM * self.energy_before_percent
        return self.time_after_percent < HARM * self.time_before_percent


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCalibration:
    """The factors of one board and engine, and how they fared."""

    gpu_id: str
    engine: str
    n_runs: int
    n_simulated: int  # of them, drawn by no real GPU
    factors: dict[str, float]  # by the names of FACTORS; 1 where the fit is not used
    residual: Residual | None  # none where the fit is not used
    width_scale: float
    held_out: HeldOut

    @property
    def scales(self) -> dict[str, float]:
        """Factors by the coefficient they multiply."""
        return {name: self.factors[factor] for factor, names in FACTORS.items() for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationResult:
    """What was fitted, and the boards and engines with too few runs (name → number)."""

    fitted: tuple[FittedCalibration, ...]
    too_few: dict[tuple[str, str], int]
    unusable: int  # runs without sizes or labels


def fit_calibrations(runs: Sequence[MeasuredRun], checkpoint: Checkpoint) -> CalibrationResult:
    """Fit every (board, engine) that has at least three usable runs.

    Raises InputError for a run that cannot be (its name is in the text), or where no board has enough runs.
    """
    groups, unusable = calibration_runs(runs, checkpoint)
    enough = {key: group for key, group in groups.items() if len(group) >= LEAST_RUNS}
    too_few = {key: len(group) for key, group in groups.items() if key not in enough}
    if not enough:
        counts = ", ".join(f"{n} of {gpu} under {engine}" for (gpu, engine), n in too_few.items())
        raise InputError(
            explain(
                "too few runs to calibrate with",
                got=counts or f"none with sizes and labels among {len(runs)}",
                expected=f"at least {LEAST_RUNS} of one board and engine",
                remedy="measure more with llmco2 measure",
            )
        )
    fitted = tuple(calibrate_group(gpu_id, engine, group) for (gpu_id, engine), group in enough.items())
    return CalibrationResult(fitted=fitted, too_few=too_few, unusable=unusable)


def fit_log_factors(runs: CalibrationRuns) -> Array:
    """Return the logarithms of the factors, in the order of FACTORS, ``(n_factors,)``.

    Minimises ``Σ huber(log(predicted / label) / noise) + ½ logs · precision · logs`` by damped Gauss-Newton
    steps (Levenberg 1944, Marquardt 1963) with numerical derivatives.
    """
    point = np.zeros(len(FACTORS))
    damping = 1e-2
    error = _errors(runs, point)
    for _ in range(_STEPS):
        slope = np.column_stack([(_errors(runs, point + move) - error) / _DIFFERENCE
                                 for move in _DIFFERENCE * np.eye(len(point))])  # fmt: skip
        weight = np.minimum(1.0, OUTLIER / np.maximum(np.abs(error), 1e-12))
        gradient = slope.T @ (weight * error) + _PRECISION @ point
        curvature = slope.T @ (weight[:, None] * slope) + _PRECISION
        step = -np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), gradient)
        candidate = np.clip(point + step, -_LARGEST_LOG, _LARGEST_LOG)
        found = _errors(runs, candidate)
        if _cost(found, candidate) >= _cost(error, point):
            damping *= 8.0
            if damping > 1e8:
                break
            continue
        moved = float(np.abs(candidate - point).max())
        point, error, damping = candidate, found, max(damping / 8.0, 1e-9)
        if moved < 1e-5:
            break
    return point


def fit_all(runs: CalibrationRuns) -> tuple[Array, Residual]:
    """Return the logarithms of the factors, and the residual of energies that they leave."""
    logs = fit_log_factors(runs)
    left = primary(log_ratios(runs, _scales(logs))[:, :N_ENERGIES])
    return logs, fit_residual(runs.features, left)


def write_calibration(path: Path, result: CalibrationResult, checkpoint: Checkpoint) -> None:
    """Write what ``llmco2 predict --calibration`` reads; the file appears whole or not at all.

    ``checkpoint`` is the one that the factors were fitted on; its hash goes into the file.

    Raises InputError where it cannot be written.
    """
    text = json.dumps(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": checkpoint.sha256,
            "entries": [_entry(fitted) for fitted in result.fitted],
        },
        indent=1,
    )
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(explain(f"cannot write {path}", got=error.strerror or error)) from error
    finally:
        with suppress(OSError):  # gone already, or its folder never was
            part.unlink()


def width_scale(ratios: Array, low: Array, high: Array) -> float:
    """Return the factor on the interval's width that held-back runs ask for.

    ``ratios`` are ``log(measured / predicted)``, ``low`` and ``high`` the interval's ends for each,
    ``(n_runs,)``. Each error is measured in units of the end on its side. Their root mean square is stretched
    as Student's prediction interval is for few runs; from nine runs on, the order statistic that covers 90 %
    of new ones must fit as well. Few runs narrow little.
    """
    n = len(ratios)
    if not n:
        return 1.0
    end = np.where(ratios > 0.0, np.maximum(high, 1e-3), np.maximum(-low, 1e-3))
    used = np.abs(ratios) / end
    wanted = float(np.sqrt(np.mean(used**2)) * _student_95(n) * np.sqrt(1.0 + 1.0 / n))
    rank = int(np.ceil(0.9 * (n + 1)))
    if rank <= n:
        wanted = max(wanted, float(np.sort(used)[rank - 1]))
    return float(np.clip(wanted, max(NARROWEST, 1.0 - _NARROWING_PER_RUN * n), WIDEST))


def calibrate_group(gpu_id: str, engine: str, runs: CalibrationRuns) -> FittedCalibration:
    """Fit one board and engine from at least three runs, and judge the factors on runs held back."""
    before, after = log_ratios(runs, {}), _held_back(runs)
    held_out = HeldOut(
        energy_before_percent=_mape(primary(before[:, :N_ENERGIES])),
        energy_after_percent=_mape(primary(after[:, :N_ENERGIES])),
        time_before_percent=_mape(primary(before[:, N_ENERGIES:])),
        time_after_percent=_mape(primary(after[:, N_ENERGIES:])),
    )
    logs, residual = fit_all(runs) if held_out.is_used else (np.zeros(len(FACTORS)), None)
    ratios = primary((after if held_out.is_used else before)[:, :N_ENERGIES])
    known = np.isfinite(ratios)
    return FittedCalibration(
        gpu_id=gpu_id,
        engine=engine,
        n_runs=len(runs),
        n_simulated=int(runs.simulated.sum()),
        factors=dict(zip(FACTORS, np.exp(logs).tolist(), strict=True)),
        residual=residual,
        width_scale=width_scale(ratios[known], runs.ends.low[known], runs.ends.high[known]),
        held_out=held_out,
    )


def _held_back(runs: CalibrationRuns) -> Array:
    """Return ``log(measured / predicted)`` of each run, fitted without it: one by one, or in five parts."""
    n = len(runs)
    n_parts = n if n <= 10 else 5
    part = np.arange(n) % n_parts
    ratios = np.full_like(runs.labels, np.nan)
    for k in range(n_parts):
        logs, residual = fit_all(runs.take(np.flatnonzero(part != k)))
        out = np.flatnonzero(part == k)
        ratios[out] = log_ratios(runs.take(out), _scales(logs), residual)
    return ratios


def _errors(runs: CalibrationRuns, logs: Array) -> Array:
    """Return the known labels' log errors in noise sigmas, ``(n_known,)``."""
    ratios = log_ratios(runs, _scales(logs))
    sigma = np.where(np.arange(ratios.shape[1]) < N_ENERGIES, ENERGY_SIGMA, TIME_SIGMA)
    known: Array = (-ratios / sigma)[np.isfinite(ratios)]
    return known


def _scales(logs: Array) -> dict[str, float]:
    factors = np.exp(logs).tolist()
    return {name: factor for factor, names in zip(factors, FACTORS.values(), strict=True) for name in names}


def _cost(error: Array, logs: Array) -> float:
    size = np.abs(error)
    huber = np.where(size <= OUTLIER, 0.5 * size**2, OUTLIER * (size - 0.5 * OUTLIER))
    return float(huber.sum() + 0.5 * logs @ _PRECISION @ logs)


def _mape(ratios: Array) -> float:
    """Return the mean of ``|predicted / measured − 1|`` in percent; NaN where nothing is known."""
    known = ratios[np.isfinite(ratios)]
    return float(np.mean(np.abs(np.expm1(-known))) * 100.0) if len(known) else float("nan")


def _student_95(n: int) -> float:
    """Return the 95th percentile of Student's t with ``n`` degrees of freedom (Abramowitz & Stegun 26.7.5)."""
    z = _Z
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def _entry(fitted: FittedCalibration) -> dict[str, Any]:
    held_out = fitted.held_out
    percents = {name: getattr(held_out, name) for name in HeldOut.__dataclass_fields__}
    residual = fitted.residual
    return {
        "gpu": fitted.gpu_id,
        "engine": fitted.engine,
        "n_runs": fitted.n_runs,
        "n_simulated": fitted.n_simulated,
        "scales": {name: round(value, 6) for name, value in fitted.scales.items()},
        "residual": None
        if residual is None or not len(residual)
        else {"points": residual.points.round(4).tolist(), "weights": residual.weights.round(5).tolist()},
        "width_scale": round(fitted.width_scale, 4),
        "held_out": {
            name: round(value, 3) if np.isfinite(value) else None for name, value in percents.items()
        },
    }
