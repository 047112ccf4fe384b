"""Errors of predictions: MAPE, median, EBA10, bias and coverage, with intervals over groups of runs.

Invariant: a figure over a part counts every label of that part once; its interval comes from drawing whole (board,
model) groups with replacement, because rows of one group share their error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
GROUP: Final = ("gpu", "model")
N_DRAWS: Final = 1000
_BAND: Final = 0.10
_ENDS: Final = (2.5, 97.5)


def scored(labels: pd.DataFrame, runs: pd.DataFrame, predictions: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return one row a label that was predicted: the run's facts, label, measured, predicted, error and covered.

    ``error_percent`` is signed, ``(predicted / measured − 1) · 100``; ``covered`` is NaN without an interval.
    """
    facts = runs.iloc[labels["run"]].reset_index(drop=True)
    table = pd.concat([facts, labels.reset_index(drop=True), predictions.reset_index(drop=True)], axis=1)
    table = table[np.isfinite(table["predicted"].to_numpy(dtype=np.float64))].reset_index(drop=True)
    inside = (table["low"] <= table["measured"]) & (table["measured"] <= table["high"])
    result: pd.DataFrame = table.assign(
        method=method,
        error_percent=100.0 * (table["predicted"] / table["measured"] - 1.0),
        covered=inside.astype(float).where(table["low"].notna()),
    )
    return result


def score_table(table: pd.DataFrame, by: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Return the figures of each part of scored labels, parts in sorted order.

    Columns: ``by``; labels, groups; mape_percent with mape_low_percent and mape_high_percent (95 % over groups),
    median_percent, eba10_percent, bias_percent (median signed error), coverage_percent (NaN without intervals).
    """
    rows = []
    for key, part in table.groupby(list(by), sort=True):
        named = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        rows.append(named | figures(part, seed=seed))
    return pd.DataFrame(rows)


def figures(part: pd.DataFrame, *, seed: int = 0) -> dict[str, float]:
    """Return the figures of one part, percent; see :func:`score_table`."""
    signed = part["error_percent"].to_numpy(dtype=np.float64)
    size = np.abs(signed)
    group = part.groupby(list(GROUP), sort=True).ngroup().to_numpy().astype(np.intp)
    low, high = group_interval(size, group, seed=seed)
    return {
        "labels": len(part),
        "groups": int(group.max()) + 1,
        "mape_percent": float(size.mean()),
        "mape_low_percent": low,
        "mape_high_percent": high,
        "median_percent": float(np.median(size)),
        "eba10_percent": 100.0 * float(np.mean(size <= 100.0 * _BAND + 1e-9)),
        "bias_percent": float(np.median(signed)),
        "coverage_percent": 100.0 * float(part["covered"].mean()),
    }


def group_interval(
    values: Array, group: NDArray[np.intp], *, draws: int = N_DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of ``values`` when whole groups are drawn; NaN of a single group."""
    total = np.bincount(group, values)
    count = np.bincount(group).astype(np.float64)
    if len(total) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(total), size=(draws, len(total)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.percentile(means, _ENDS)
    return float(low), float(high)
