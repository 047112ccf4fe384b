"""Tables of figures: by fold, by case, by label and by part of the rows.

Invariant: every row counts once in a fold, every fold once in a case's mean; the parts of a case pool its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.evidence import FoldEvidence, by_case
from benchmarks.accuracy.figures import (
    LABEL_GROUPS,
    Interval,
    group_errors,
    groups_interval,
    mean_figures,
    rows_interval,
    seed_mapes,
    seed_mean_figures,
)
from benchmarks.accuracy.shipped import FORMULA

Array = NDArray[np.float64]
Row = dict[str, Any]


def fold_table(evidence: Iterable[FoldEvidence]) -> pd.DataFrame:
    """Return one row per fold and method: energy figures with intervals, and the difference to the formula's MAPE."""
    rows: list[Row] = []
    for one in evidence:
        energies = energy_errors(one)
        rows += [
            {
                "case": one.case,
                "fold": one.fold.name,
                "method": method,
                "seeds": len(errors),
                "rows": len(one.rows),
                "answered": answered_rows(errors),
                **asdict(seed_mean_figures(errors)),
                **_ends("mape", rows_interval(errors)),
                **_fold_difference(method, energies),
            }
            for method, errors in energies.items()
        ]
    return pd.DataFrame(rows)


def case_table(evidence: Iterable[FoldEvidence]) -> pd.DataFrame:
    """Return one row per case and method: means over folds with intervals, and the difference to the formula's."""
    rows: list[Row] = []
    for case, members in by_case(evidence).items():
        energies = [energy_errors(one) for one in members]
        for method in methods_of(members):
            own = [
                errors[method] for errors in energies if method in errors and answered_rows(errors[method])
            ]
            if not own:
                continue
            rows.append(
                {
                    "case": case,
                    "method": method,
                    "folds": len(own),
                    "seeds": max(len(errors) for errors in own),
                    "rows": sum(errors.shape[1] for errors in own),
                    "answered": sum(answered_rows(errors) for errors in own),
                    **asdict(mean_figures([seed_mean_figures(errors) for errors in own])),
                    "pooled_mape_percent": seed_mean_figures(_pooled(own)).mape_percent,
                    **_ends("mape", groups_interval([seed_mapes(errors) for errors in own])),
                    **_case_difference(method, energies),
                }
            )
    return pd.DataFrame(rows)


def label_table(evidence: Iterable[FoldEvidence]) -> pd.DataFrame:
    """Return one row per case, method and kind of label that was measured: means over the folds that know it."""
    rows: list[Row] = []
    for case, members in by_case(evidence).items():
        for method in methods_of(members):
            for group in LABEL_GROUPS:
                tables = [group_errors(one.errors[method], group) for one in members if method in one.errors]
                known = [errors for errors in tables if answered_rows(errors)]
                if known:
                    rows.append(
                        {
                            "case": case,
                            "method": method,
                            "label": group,
                            "folds": len(known),
                            "answered": sum(answered_rows(errors) for errors in known),
                            **asdict(mean_figures([seed_mean_figures(errors) for errors in known])),
                        }
                    )
    return pd.DataFrame(rows)


def part_table(evidence: Iterable[FoldEvidence], parts: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """Return one row per case, part and method, over the part's rows of all folds together.

    Args:
        evidence: the folds.
        parts: column name → the value of every row of the table; rows with equal values are one part.
    """
    rows: list[Row] = []
    for case, members in by_case(evidence).items():
        for method in methods_of(members):
            own = [one for one in members if method in one.errors]
            pooled = _pooled([energy_errors(one)[method] for one in own])
            positions = np.concatenate([one.rows for one in own])
            keys = pd.MultiIndex.from_arrays([values[positions] for values in parts.values()])
            codes, found = pd.factorize(keys, sort=True)
            for place, key in enumerate(found):
                errors = pooled[:, codes == place]
                rows.append(
                    {
                        "case": case,
                        **dict(zip(parts, key, strict=True)),
                        "method": method,
                        "rows": errors.shape[1],
                        "answered": answered_rows(errors),
                        **asdict(seed_mean_figures(errors)),
                    }
                )
    return pd.DataFrame(rows)


def energy_errors(one: FoldEvidence) -> dict[str, Array]:
    """Return the energy's log errors of every method, ``(n_seeds, n_rows)``."""
    return {method: group_errors(errors) for method, errors in one.errors.items()}


def answered_rows(errors: Array) -> int:
    """Return for how many rows every seed has an error, of ``(n_seeds, n_rows)``."""
    return int(np.isfinite(errors).all(axis=0).sum())


def methods_of(evidence: Iterable[FoldEvidence]) -> list[str]:
    """Return the names of the methods that have an error anywhere, in order."""
    return list(dict.fromkeys(method for one in evidence for method in one.errors))


def _pooled(tables: Sequence[Array]) -> Array:
    """Return ``(n_seeds, all rows)``; a fold with fewer seeds limits the others."""
    n_seeds = min(len(table) for table in tables)
    return np.concatenate([table[:n_seeds] for table in tables], axis=1)


def _ends(name: str, interval: Interval) -> Row:
    return {f"{name}_low_percent": interval.low, f"{name}_high_percent": interval.high}


def _fold_difference(method: str, energies: dict[str, Array]) -> Row:
    if FORMULA not in energies or method == FORMULA:
        return _no_difference()
    own, baseline = energies[method], energies[FORMULA]
    shared = np.isfinite(own).all(axis=0) & np.isfinite(baseline).all(axis=0)
    if not shared.any():
        return _no_difference()
    difference = seed_mapes(own[:, shared]).mean() - seed_mapes(baseline[:, shared]).mean()
    return {"to_formula_points": float(difference), **_points(rows_interval(own, baseline))}


def _case_difference(method: str, energies: Sequence[dict[str, Array]]) -> Row:
    """Return the mean difference over folds that both answered, over the rows that both answered."""
    own, baseline = [], []
    for fold in energies:
        if method == FORMULA or method not in fold or FORMULA not in fold:
            continue
        shared = np.isfinite(fold[method]).all(axis=0) & np.isfinite(fold[FORMULA]).all(axis=0)
        if shared.any():
            own.append(seed_mapes(fold[method][:, shared]))
            baseline.append(seed_mapes(fold[FORMULA][:, shared]))
    if not own:
        return _no_difference()
    difference = np.mean([a.mean() - b.mean() for a, b in zip(own, baseline, strict=True)])
    return {"to_formula_points": float(difference), **_points(groups_interval(own, baseline))}


def _points(interval: Interval) -> Row:
    return {"to_formula_low_points": interval.low, "to_formula_high_points": interval.high}


def _no_difference() -> Row:
    nan = float("nan")
    return {"to_formula_points": nan, "to_formula_low_points": nan, "to_formula_high_points": nan}
