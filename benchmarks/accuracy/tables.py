"""Result tables of scored labels: over all, by source and engine, by board and model, and the rankings.

Invariant: headline figures count trusted runs alone; runs trusted less have lines of their own by source, marked so.
"""

from __future__ import annotations

from typing import Final

import pandas as pd

from benchmarks.accuracy.methods import PRODUCT
from benchmarks.accuracy.ranking import decisions, ranking_table
from benchmarks.accuracy.scores import figures, score_table

SUMMARY: Final = "summary.csv"
BY_SOURCE: Final = "by_source.csv"
BY_GROUP: Final = "by_group.csv"
RANKING: Final = "ranking.csv"
DECISIONS: Final = "decisions.csv"
KERNELS: Final = "kernels.csv"  # written by benchmarks.accuracy.kernels
_SOURCE: Final = ["method", "quantity", "source", "engine", "part", "trusted"]


def result_tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return every result table by its file name."""
    found = decisions(table[table["trusted"]])
    return {
        SUMMARY: summary(table[table["trusted"]]),
        BY_SOURCE: score_table(table, _SOURCE),
        BY_GROUP: score_table(table, [*_SOURCE[:4], "gpu", "model", "part", "trusted"]).drop(
            columns=["groups", "mape_low_percent", "mape_high_percent"]
        ),
        RANKING: ranking_table(found),
        DECISIONS: found,
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return each method's figures by quantity, and the product's MAPE on the labels that the method answers."""
    keys = ["run", "label"]
    product = table[table["method"] == PRODUCT].set_index(keys)["error_percent"].abs()
    rows = []
    for (quantity, method), part in table.groupby(["quantity", "method"], sort=True):
        same = product.reindex(pd.MultiIndex.from_frame(part[keys])).dropna()
        rows.append(
            {"quantity": quantity, "method": method}
            | figures(part)
            | {"product_mape_percent": float(same.mean()) if len(same) else float("nan")}
        )
    return pd.DataFrame(rows)
