"""Fitting log factors to runs: a robust least-squares fit with a prior, and the same fit without some of the runs.

Invariant: a prior holds every factor near 1, so that few runs move it little, and one absurd run counts linearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.calibration.runs import CalibrationRuns, log_ratios
from llmco2.predictor.columns import FACTORS

Array = NDArray[np.float64]
NOISE: Final = 0.15  # of a log label about a calibrated prediction, model by model
OUTLIER: Final = 2.5  # noise sigmas past which an error counts linearly
LARGEST_LOG: Final = 2.9  # a factor of 18: past it the runs and the predictor do not speak of the same thing
_STEPS: Final = 25
_CLOSE: Final = 2e-3  # of a log factor: steps that are not worth making
_LONG: Final = 0.1  # of a log factor: steps after which slopes differ
_DIFFERENCE: Final = 1e-3
_REWEIGHTINGS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One number to fit: the factors that it multiplies together, and how far they may be from 1."""

    factors: tuple[str, ...]
    sigma: float  # of its logarithm, before any run is seen


# Boards and stacks differ in speed as a whole first; then in what the host takes, in prefill, and in power.
MOVES: Final[Mapping[str, Move]] = {
    "time": Move(factors=("kernel time", "host time"), sigma=0.6),
    "kernel time": Move(factors=("kernel time",), sigma=0.4),
    "host time": Move(factors=("host time",), sigma=0.6),
    "prefill time": Move(factors=("prefill time",), sigma=0.4),
    "dynamic power": Move(factors=("dynamic power",), sigma=0.2),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Moves fitted to runs, with what the runs say in their neighbourhood."""

    moves: tuple[str, ...]
    logs: Array  # (n_moves,)
    ratios: Array  # (n_runs, n_labels): log(measured / predicted) with the moves made
    slopes: Array  # (n_runs, n_labels, n_moves): of the ratios

    @property
    def scales(self) -> dict[str, float]:
        """Factors by the names of FACTORS; 1 where no move touches one."""
        return scales_of(self.moves, self.logs)

    def without(self, rows: NDArray[np.intp]) -> Array:
        """Return the ratios of ``rows`` under the fit to all other runs, ``(n_rows, n_labels)``.

        The other fit is found on the tangent at this one: leaving a few runs out moves it little.
        """
        kept = np.setdiff1d(np.arange(len(self.ratios)), rows)
        known = np.isfinite(self.ratios[kept])
        error, slope = self.ratios[kept][known], self.slopes[kept][known]
        step = np.zeros(len(self.moves))
        for _ in range(_REWEIGHTINGS):
            step = step + _newton_step(error + slope @ step, slope, self.logs + step, _precision(self.moves))
        moved: Array = self.ratios[rows] + self.slopes[rows] @ step
        return moved


def scales_of(moves: tuple[str, ...], logs: Array) -> dict[str, float]:
    """Return the factors that ``moves`` by ``logs`` make, by the names of FACTORS."""
    total = dict.fromkeys(FACTORS, 0.0)
    for name, log in zip(moves, logs.tolist(), strict=True):
        for factor in MOVES[name].factors:
            total[factor] += log
    return {name: float(np.exp(np.clip(log, -LARGEST_LOG, LARGEST_LOG))) for name, log in total.items()}


def no_fit(runs: CalibrationRuns) -> Fit:
    """Return the fit without any move: what the predictor says by itself."""
    ratios = log_ratios(runs)
    return Fit(moves=(), logs=np.zeros(0), ratios=ratios, slopes=np.zeros((*ratios.shape, 0)))


def fit_moves(runs: CalibrationRuns, moves: tuple[str, ...]) -> Fit:
    """Return the moves that minimise ``Σ huber(log ratio / NOISE) + ½ Σ (log / sigma)²``."""
    return one_more(runs, no_fit(runs), moves)


def one_more(runs: CalibrationRuns, fit: Fit, names: tuple[str, ...]) -> Fit:
    """Return a fit with the moves ``names`` beside its own, all fitted anew.

    Damped Gauss-Newton steps (Levenberg 1944, Marquardt 1963) with numerical slopes, taken again after long steps.
    """
    moves = (*fit.moves, *names)
    point, ratios = np.append(fit.logs, np.zeros(len(names))), fit.ratios
    precision, damping = _precision(moves), 1e-3
    slopes = _slopes(runs, moves, point, ratios)
    for _ in range(_STEPS):
        known = np.isfinite(ratios)
        step = _newton_step(ratios[known], slopes[known], point, precision, damping)
        longest = float(np.abs(step).max(initial=0.0))
        if longest < _CLOSE:
            break
        candidate: Array = np.clip(point + step, -LARGEST_LOG, LARGEST_LOG)
        found = log_ratios(runs, scales_of(moves, candidate))
        if _cost(found, candidate, precision) >= _cost(ratios, point, precision):
            damping *= 8.0
            continue
        point, ratios, damping = candidate, found, damping / 8.0
        if longest > _LONG:
            slopes = _slopes(runs, moves, point, ratios)
    return Fit(moves=moves, logs=point, ratios=ratios, slopes=slopes)


def _newton_step(error: Array, slope: Array, point: Array, precision: Array, damping: float = 0.0) -> Array:
    """Return the step of one reweighted least-squares solution: errors ``(n,)``, slopes ``(n, n_moves)``."""
    scaled, slope = error / NOISE, slope / NOISE
    weight = np.minimum(1.0, OUTLIER / np.maximum(np.abs(scaled), 1e-12))
    gradient = slope.T @ (weight * scaled) + precision * point
    curvature = slope.T @ (weight[:, None] * slope) + np.diag(precision)
    damped = curvature + damping * np.diag(np.diag(curvature))
    return np.asarray(-np.linalg.solve(damped, gradient), dtype=np.float64)


def _slopes(runs: CalibrationRuns, moves: tuple[str, ...], point: Array, ratios: Array) -> Array:
    """Return the slopes of the ratios, ``(n_runs, n_labels, n_moves)``."""
    columns = [
        (log_ratios(runs, scales_of(moves, point + move)) - ratios) / _DIFFERENCE
        for move in _DIFFERENCE * np.eye(len(moves))
    ]
    return np.stack(columns, axis=-1)


def _precision(moves: tuple[str, ...]) -> Array:
    return np.array([MOVES[name].sigma ** -2.0 for name in moves])


def _cost(ratios: Array, logs: Array, precision: Array) -> float:
    size = np.abs(ratios[np.isfinite(ratios)]) / NOISE
    huber = np.where(size <= OUTLIER, 0.5 * size**2, OUTLIER * (size - 0.5 * OUTLIER))
    return float(huber.sum() + 0.5 * np.sum(precision * logs**2))
