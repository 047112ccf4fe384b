"""Where an error sits: what would be left of it if a level were known that was not measured.

A level is one factor on all energies of a group of rows, such as an engine on a board. It is set here by looking at the
answers, so these figures are no predictions: they say how much knowing the level would be worth, and what no level
mends.

Invariant: levels are nested, each group of one lies within a group of the one before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.breakdowns import energy_errors, methods_of
from benchmarks.accuracy.evidence import FoldEvidence, by_case
from benchmarks.accuracy.figures import absolute_percent
from benchmarks.accuracy.row_facts import RowFacts

AS_IS: Final = "as predicted"
OF_GROUP: Final = "one level a group"
OF_ENGINE: Final = "one an engine in it"
OF_DEPLOYMENT: Final = "one a deployment"
LEVELS: Final = (AS_IS, OF_GROUP, OF_ENGINE, OF_DEPLOYMENT)

Array = NDArray[np.float64]


def level_table(evidence: Iterable[FoldEvidence], facts: RowFacts) -> pd.DataFrame:
    """Return one row per case, method and level: MAPE with that level known, mean over folds and seeds, percent."""
    rows: list[dict[str, Any]] = []
    for case, members in by_case(evidence).items():
        energies = [energy_errors(one) for one in members]
        for method in methods_of(members):
            own = [
                (one.rows, errors[method])
                for one, errors in zip(members, energies, strict=True)
                if method in errors
            ]
            for level in LEVELS:
                mapes = [_mape(errors, _codes(level, positions, facts)) for positions, errors in own]
                known = [mape for mape in mapes if np.isfinite(mape)]
                if known:
                    rows.append(
                        {
                            "case": case,
                            "method": method,
                            "level": level,
                            "folds": len(known),
                            "mape_percent": float(np.mean(known)),
                        }
                    )
    return pd.DataFrame(rows)


def without_level(errors: Array, codes: NDArray[np.intp]) -> Array:
    """Return log errors ``(n_rows,)`` less the median of each group of rows; ``codes`` ``(n_rows,)`` name groups."""
    left = errors.copy()
    for code in np.unique(codes):
        mine = codes == code
        if np.isfinite(errors[mine]).any():
            left[mine] -= np.nanmedian(errors[mine])
    return left


def _mape(errors: Array, codes: NDArray[np.intp] | None) -> float:
    """Return the mean over seeds of ``(n_seeds, n_rows)`` log errors; NaN where nothing was predicted."""
    tables = [one if codes is None else without_level(one, codes) for one in errors]
    means = [float(np.nanmean(absolute_percent(one))) for one in tables if np.isfinite(one).any()]
    return float(np.mean(means)) if means else float("nan")


def _codes(level: str, positions: NDArray[np.intp], facts: RowFacts) -> NDArray[np.intp] | None:
    if level == AS_IS:
        return None
    if level == OF_GROUP:
        return np.zeros(len(positions), dtype=np.intp)
    names: NDArray[Any] = facts.engine if level == OF_ENGINE else facts.deployment
    codes: NDArray[np.intp] = pd.factorize(names[positions])[0].astype(np.intp)
    return codes
