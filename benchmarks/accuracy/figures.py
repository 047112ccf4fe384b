"""How far predictions are off, over rows, seeds and groups, and how sure that is.

Invariant: errors are ``log(predicted / measured)``; figures leave NaN out. An interval is a 95 % percentile bootstrap
with a fixed seed, so the same errors give the same interval. Groups are what is drawn for a case and rows for one
group; seeds are drawn beside either. A difference to another method is paired: both lose or keep the same rows
and groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.data.tensors import IS_ENERGY, LABELS

Array = NDArray[np.float64]
ENERGY: Final = "energy"
TIME: Final = "time"
LABEL_GROUPS: Final[dict[str, tuple[int, ...]]] = {
    ENERGY: tuple(i for i, energy in enumerate(IS_ENERGY) if energy),
    "prefill energy": (LABELS.index("prefill_energy_j"),),
    "decode energy": (LABELS.index("decode_energy_j"),),
    TIME: tuple(i for i, energy in enumerate(IS_ENERGY) if not energy),
}
N_DRAWS: Final = 1000
_TAILS: Final = (0.025, 0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFigures:
    """Errors over some rows, percent."""

    mape_percent: float
    median_percent: float  # of the absolute percentage errors
    eba5_percent: float  # share of predictions within 5 % of the measurement
    eba10_percent: float
    eba30_percent: float
    bias_percent: float  # median of predicted over measured, less one


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval, NaN at both ends where there is nothing to draw from."""

    low: float
    high: float


UNKNOWN_INTERVAL: Final = Interval(low=float("nan"), high=float("nan"))


def group_errors(errors: Array, group: str = ENERGY) -> Array:
    """Return each row's mean log error over the labels of a group that it knows, NaN where it knows none.

    ``errors`` is ``(…, N_LABELS)``, the answer ``(…)``.
    """
    chosen = errors[..., list(LABEL_GROUPS[group])]
    known = ~np.isnan(chosen)
    total = np.where(known, chosen, 0.0).sum(axis=-1)
    return np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)


def absolute_percent(errors: Array) -> Array:
    """Return ``100 · |predicted / measured − 1|`` of log errors."""
    result: Array = 100.0 * np.abs(np.expm1(errors))
    return result


def error_figures(errors: Array) -> ErrorFigures:
    """Return the figures of log errors ``(n_rows,)``; all NaN where no error is known."""
    known = errors[~np.isnan(errors)]
    if not len(known):
        return ErrorFigures(**dict.fromkeys(ErrorFigures.__dataclass_fields__, float("nan")))
    loss = absolute_percent(known)
    within = {bound: 100.0 * float(np.mean(loss <= bound)) for bound in (5, 10, 30)}
    return ErrorFigures(
        mape_percent=float(loss.mean()),
        median_percent=float(np.median(loss)),
        eba5_percent=within[5],
        eba10_percent=within[10],
        eba30_percent=within[30],
        bias_percent=100.0 * float(np.expm1(np.median(known))),
    )


def mean_figures(parts: Sequence[ErrorFigures]) -> ErrorFigures:
    """Return the mean of each figure: over seeds, or over groups that weigh the same."""
    values = np.array([astuple(part) for part in parts]).mean(axis=0)
    return ErrorFigures(**dict(zip(ErrorFigures.__dataclass_fields__, values.tolist(), strict=True)))


def seed_mean_figures(errors: Array) -> ErrorFigures:
    """Return the mean over seeds of the figures of log errors ``(n_seeds, n_rows)``."""
    return mean_figures([error_figures(one) for one in errors])


def seed_mapes(errors: Array) -> Array:
    """Return the MAPE (%) of each seed, ``(n_seeds,)``, over the rows that every seed answers."""
    loss = absolute_percent(errors)
    values: Array = loss[:, np.isfinite(loss).all(axis=0)].mean(axis=1)
    return values


def rows_interval(errors: Array, baseline: Array | None = None) -> Interval:
    """Return the interval of one group's MAPE (%), or of how much it exceeds a baseline's; rows and seeds are drawn.

    Args:
        errors: ``(n_seeds, n_rows)``.
        baseline: ``(n_baseline_seeds, n_rows)`` of the same rows.
    """
    losses = [absolute_percent(one) for one in (errors, baseline) if one is not None]
    answered = np.logical_and.reduce([np.isfinite(loss).all(axis=0) for loss in losses])
    n_rows = int(answered.sum())
    if not n_rows:
        return UNKNOWN_INTERVAL
    rng = np.random.default_rng(0)
    row_share = _shares(rng, n_rows)
    means = [((_shares(rng, len(loss)) @ loss[:, answered]) * row_share).sum(axis=1) for loss in losses]
    return _interval(means)


def groups_interval(values: Sequence[Array], baseline: Sequence[Array] | None = None) -> Interval:
    """Return the interval of a mean over groups, or of how much it exceeds a baseline's; groups and seeds are drawn.

    Args:
        values: one figure per seed for each group, each ``(n_seeds,)``.
        baseline: the same of another method, for the same groups.
    """
    if len(values) < 2:
        return UNKNOWN_INTERVAL
    rng = np.random.default_rng(0)
    group_share = _shares(rng, len(values))
    means = []
    for method in (values, baseline):
        if method is not None:
            drawn = np.stack([_shares(rng, len(own)) @ own for own in method], axis=1)  # (n_draws, n_groups)
            means.append((drawn * group_share).sum(axis=1))
    return _interval(means)


def _shares(rng: np.random.Generator, n: int) -> Array:
    """Return how large a share each of ``n`` things has in each bootstrap sample, ``(N_DRAWS, n)``."""
    return rng.multinomial(n, np.full(n, 1.0 / n), size=N_DRAWS) / n


def _interval(means: list[Array]) -> Interval:
    statistic = means[0] if len(means) == 1 else means[0] - means[1]
    low, high = np.quantile(statistic, _TAILS)
    return Interval(low=float(low), high=float(high))
