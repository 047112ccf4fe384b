"""How often an interval holds what was measured, where it was calibrated on other groups.

Invariant: a fold's interval comes from the other folds of the same newness alone, by the release's own rule, so that
no fold vouches for itself. Requests and deployments left out share one interval, as in what ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.breakdowns import methods_of
from benchmarks.accuracy.evidence import FoldEvidence
from benchmarks.accuracy.figures import Interval, group_errors
from benchmarks.release.heldout import Fold
from benchmarks.release.release import calibrated_intervals
from llmco2.predictor.intervals import Newness

Array = NDArray[np.float64]
_COLUMNS: Final = (
    "case", "method", "folds", "rows", "coverage_percent", "coverage_of_rows_percent", "worst_fold_percent",
    "half_width_percent",
)  # fmt: skip
_NOWHERE: Final = np.zeros(0, dtype=np.intp)


def interval_table(evidence: Sequence[FoldEvidence]) -> pd.DataFrame:
    """Return coverage and half-width of 90 % intervals of energy, per case and method.

    Coverage is a mean over folds, and over rows; the half-width is a share of the predicted energy. Cases with a
    single fold have nothing to be calibrated on and are left out.
    """
    rows: list[dict[str, Any]] = []
    for method in methods_of(evidence):
        own = [one for one in evidence if method in one.errors]
        energies = [group_errors(one.errors[method]) for one in own]
        evaluated = [fold_coverage(place, [one.fold for one in own], energies) for place in range(len(own))]
        for case in dict.fromkeys(one.case for one in own):
            found = [
                (*figures, len(one.rows))
                for one, figures in zip(own, evaluated, strict=True)
                if one.case == case and np.isfinite(figures[0])
            ]
            if found:
                rows.append(dict(zip(_COLUMNS, (case, method, *_case_figures(found)), strict=True)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def fold_coverage(place: int, folds: Sequence[Fold], energies: Sequence[Array]) -> tuple[float, float]:
    """Return the share of a fold's rows inside the others' interval, and its half-width over the prediction.

    Both are means over seeds, NaN where no other fold has the same newness or nothing was predicted.

    Args:
        place: of the fold among ``folds``.
        folds: of any newness.
        energies: log errors of each fold's energies, ``(n_seeds, n_rows)`` each.
    """
    others = [i for i, fold in enumerate(folds) if fold.case is folds[place].case and i != place]
    shares, widths = [], []
    for seed, errors in enumerate(energies[place]):
        known = errors[np.isfinite(errors)]
        ends = _calibrated_ends([(folds[i], _of_seed(energies[i], seed)) for i in others])
        if ends is None or not len(known):
            return float("nan"), float("nan")
        shares.append(np.mean((-known >= ends.low) & (-known <= ends.high)))
        widths.append((np.exp(ends.high) - np.exp(ends.low)) / 2.0)
    return float(np.mean(shares)), float(np.mean(widths))


def _case_figures(found: Sequence[tuple[float, float, int]]) -> tuple[float, ...]:
    """Return folds, rows, coverage of folds, of rows and of the worst fold, and half-width; the last four percent."""
    inside, width, count = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    of_rows = float((inside * count).sum() / count.sum())
    shares = (float(inside.mean()), of_rows, float(inside.min()), float(width.mean()))
    return len(found), int(count.sum()), *(100.0 * share for share in shares)


def _of_seed(energies: Array, seed: int) -> Array:
    errors = energies[min(seed, len(energies) - 1)]
    known: Array = errors[np.isfinite(errors)]
    return known


def _calibrated_ends(evaluated: Sequence[tuple[Fold, Array]]) -> Interval | None:
    """Return the ends of ``log(measured / predicted)`` by the release's rule, from folds of one newness."""
    known = [(fold, errors, errors) for fold, errors in evaluated if len(errors)]
    if not known:
        return None
    case = known[0][0].case
    for absent in Newness:  # the rule calibrates every newness at once
        if absent is not case:
            empty = Fold(name=absent.value, case=absent, train=_NOWHERE, test=_NOWHERE)
            known.append((empty, np.zeros(1), np.zeros(1)))
    ends = calibrated_intervals(known)["cases"][case.value]
    return Interval(low=float(ends["low"]), high=float(ends["high"]))
