"""Which factors to keep: one more at a time, as long as runs held back from the fit get better.

Invariant: a factor is kept only if held-back runs get better by more than their own scatter explains and neither
energies nor times get worse; all others stay 1.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.calibration.fitting import MOVES, Fit, no_fit, one_more
from llmco2.calibration.runs import CalibrationRuns, energies, primary, times

Array = NDArray[np.float64]
_ONE_BY_ONE: Final = 12  # runs up to which each is held back by itself
_PARTS: Final = 5
_LEAST_GAIN: Final = 0.05  # of the held-back error, for one more factor
_Z: Final = 1.96  # the normal distribution's 97.5th percentile
_WORSE: Final = 0.01  # of a log: how much worse energies or times may get
_LARGEST_ERROR: Final = 2.0  # of a log: past it an error says nothing about factors
_SMALL: Final = 0.005  # of a log: a gain that is not worth a factor


def select(runs: CalibrationRuns) -> tuple[Fit, Array]:
    """Return the fit that held-back runs bear out, and its held-back log ratios, ``(n_runs, n_labels)``.

    Without a factor that helps it is the fit of no move, and the ratios are the predictor's own.
    """
    fit = no_fit(runs)
    held_back = fit.ratios
    while True:
        fits = [one_more(runs, fit, (name,)) for name in MOVES if allowed(fit.moves, name)]
        found = [(one, held_back_ratios(one)) for one in fits]
        better = [one for one in found if is_better(held_back, one[1])]
        if not better:
            return fit, held_back
        fit, held_back = max(better, key=lambda one: sure_gain(held_back, one[1]))


def held_back_ratios(fit: Fit) -> Array:
    """Return the log ratios of each run under a fit without it: one by one, or in five parts."""
    n = len(fit.ratios)
    n_parts = n if n <= _ONE_BY_ONE else _PARTS
    part = np.arange(n) % n_parts
    ratios = np.full_like(fit.ratios, np.nan)
    for k in range(n_parts):
        rows = np.flatnonzero(part == k)
        ratios[rows] = fit.without(rows)
    return ratios


def allowed(moves: tuple[str, ...], name: str) -> bool:
    """Return whether a move adds one: it is not among ``moves``, nor made up of those that are."""
    parts = {factor for move in (*moves, name) for factor in MOVES[move].factors}
    return name not in moves and len(parts) > len(moves)


def run_errors(ratios: Array) -> Array:
    """Return each run's mean absolute log error, energies and times alike, ``(n_runs,)``."""
    sizes = np.minimum(np.abs(ratios), _LARGEST_ERROR)
    both = np.column_stack([_row_means(energies(sizes)), _row_means(times(sizes))])
    return _row_means(both)


def is_better(before: Array, after: Array) -> bool:
    """Return whether held-back ratios ``after`` are better than ``before``, both ``(n_runs, n_labels)``.

    The gain must be sure, and neither energies nor times may get worse.
    """
    gain = float(np.mean(run_errors(before) - run_errors(after)))
    least = max(_LEAST_GAIN * float(run_errors(before).mean()), _SMALL)
    return (
        sure_gain(before, after) > 0.0
        and gain > least
        and all(
            _mean(np.abs(primary(pick(after)))) <= _mean(np.abs(primary(pick(before)))) + _WORSE
            for pick in (energies, times)
        )
    )


def sure_gain(before: Array, after: Array) -> float:
    """Return how much smaller runs' log errors are at least, with 97.5 % confidence by Student's t test of pairs."""
    gain = run_errors(before) - run_errors(after)
    scatter = student_97(len(gain) - 1) * float(gain.std(ddof=1)) / float(np.sqrt(len(gain)))
    return float(gain.mean()) - scatter


def student_97(freedom: int) -> float:
    """Return the 97.5th percentile of Student's t (Abramowitz & Stegun 26.7.5)."""
    z, n = _Z, freedom
    first = (z**3 + z) / 4.0
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    third = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + first / n + second / n**2 + third / n**3


def _row_means(values: Array) -> Array:
    """Return the means of what is known in each row; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    means: Array = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means


def _mean(values: Array) -> float:
    """Return the mean of what is known, each at most the largest error; 0 where nothing is."""
    known = np.minimum(values[np.isfinite(values)], _LARGEST_ERROR)
    return float(known.mean()) if len(known) else 0.0
