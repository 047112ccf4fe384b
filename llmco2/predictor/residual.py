"""What a few runs say beyond factors: a smooth correction near the requests that were measured.

A Gaussian process (Rasmussen & Williams 2006, eq. 2.25) over what a request needs at peak rates, fitted to the errors
that the calibrated formula leaves. It knows no names: two requests are near each other if they ask alike of the board,
whatever their models.

Invariant: far from every measured request the correction is one; nowhere is it outside ``e**±1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.physics.readout import PhaseBasis

Array = NDArray[np.float64]
SIGMA: Final = 0.2  # of the correction's logarithm, before any run
LENGTH: Final = 0.7  # e-folds, root mean square over the features, over which errors are alike
NOISE_SIGMA: Final = 0.08  # of a run's log energy about it
LARGEST_LOG: Final = 1.0
_OUTLIER: Final = 2.0 * SIGMA  # a larger error is more likely the run's than the request's
_TINY_S: Final = 1e-9
N_FEATURES: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Residual:
    """Measured requests and their weights; ``log correction(x) = Σ weight · k(x, point)``."""

    points: Array  # (n_points, N_FEATURES)
    weights: Array  # (n_points,)

    def __len__(self) -> int:
        return len(self.weights)

    def log_correction(self, features: Array) -> Array:
        """Return the logarithm of the factor on each request's energy, ``(n_requests,)``."""
        logs: Array = np.clip(_kernel(features, self.points) @ self.weights, -LARGEST_LOG, LARGEST_LOG)
        return logs


def residual_features(prefill: PhaseBasis, decode: PhaseBasis) -> Array:
    """Return where requests lie: logs of seconds at peak rates, steps and GPUs, ``(n_requests, N_FEATURES)``."""
    steps = np.maximum(decode.steps, 1.0)

    def memory_s(basis: PhaseBasis) -> Array:
        total: Array = (basis.weight_s + basis.activation_s + basis.kv_s).sum(1)
        return total

    columns = (
        memory_s(prefill) + prefill.compute_s.sum(1),
        prefill.compute_s.sum(1),
        memory_s(decode) / steps,
        decode.compute_s.sum(1) / steps,
        decode.kv_s.sum(1) / steps,
        steps,
        decode.n_gpus,
    )
    features: Array = np.log(np.column_stack(columns) + _TINY_S)
    return features


def fit_residual(features: Array, log_ratios: Array) -> Residual:
    """Return the correction of requests whose ``log(measured / predicted)`` is known, ``(n_runs,)``.

    Runs without a known energy (NaN) are left out. What an error has beyond two sigmas counts as that run's own
    noise, so that one absurd run does not drag those near it.
    """
    known = np.isfinite(log_ratios)
    points, errors = features[known], log_ratios[known]
    noise = NOISE_SIGMA**2 + np.maximum(np.abs(errors) - _OUTLIER, 0.0) ** 2
    weights = np.asarray(np.linalg.solve(_kernel(points, points) + np.diag(noise), errors), dtype=np.float64)
    return Residual(points=points, weights=weights)


def _kernel(one: Array, other: Array) -> Array:
    distance = ((one[:, None, :] - other[None, :, :]) / LENGTH) ** 2
    likeness: Array = SIGMA**2 * np.exp(-0.5 * distance.mean(axis=2))
    return likeness
