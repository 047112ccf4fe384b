"""``accuracy.md``: the result tables to read, with the pictures.

Invariant: every figure of the text is one of a table's, rounded; nothing is worked out here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from benchmarks.accuracy.markdown import markdown_table
from benchmarks.accuracy.methods import PRODUCT, PRODUCT_NOTE, Method
from benchmarks.accuracy.tables import BY_SOURCE, RANKING, SUMMARY
from benchmarks.accuracy.workload import (
    ASSUMED_ELSEWHERE,
    ASSUMED_OF_SOURCE,
    ASSUMED_PROMPT_TOKENS,
    QUANTITIES,
)

REPORT_FILE: Final = "accuracy.md"
_FIGURES: Final = {
    "MAPE": "mape_percent",
    "median": "median_percent",
    "EBA10": "eba10_percent",
    "bias": "bias_percent",
    "coverage": "coverage_percent",
}


def report(
    tables: Mapping[str, pd.DataFrame],
    methods: Sequence[Method],
    pictures: Mapping[str, str],
    facts: Mapping[str, str],
    kernels: pd.DataFrame | None = None,
) -> str:
    """Return the text of ``accuracy.md``.

    Args:
        tables: the result tables by file name.
        methods: which were scored.
        pictures: file name by title.
        facts: what was scored with what, a line each.
        kernels: the table of :mod:`benchmarks.accuracy.kernels`, where there is one.
    """
    parts = [
        "# Accuracy on measured runs\n",
        "Written by `python -m benchmarks.accuracy`.\n",
        "".join(f"- {name}: {value}\n" for name, value in facts.items()),
        _reading(),
        "## Methods\n",
        "".join(f"- **{method.name}**: {method.about}\n" for method in methods),
        f"{PRODUCT_NOTE}\n",
        "## All trusted runs\n",
        *(_summary(tables[SUMMARY], quantity) for quantity in QUANTITIES),
        f"## {PRODUCT} by source and engine\n",
        *(_by_source(tables[BY_SOURCE], quantity) for quantity in QUANTITIES),
        "## Choosing a deployment by energy per token\n",
        _ranking(tables[RANKING]),
        *([] if kernels is None else ["## Kernels held out\n", _kernels(kernels)]),
        "## Pictures\n" if pictures else "",
        *(f"![{title}]({name})\n" for title, name in pictures.items()),
    ]
    return "\n".join(part for part in parts if part)


def write_report(text: str, output: Path) -> Path:
    """Write the report into a folder and return its path."""
    path = output / REPORT_FILE
    path.write_text(text, encoding="utf-8")
    return path


def _reading() -> str:
    tasks = ", ".join(f"{task} {tokens:,.0f}" for task, tokens in ASSUMED_PROMPT_TOKENS.items())
    sources = ", ".join(f"{name} {tokens:,.0f}" for name, tokens in ASSUMED_OF_SOURCE.items())
    return (
        "Energy is that of the whole batch over all GPUs, or of one output token at a steady batch; time is that of "
        "the whole request, of one output token, or of one decode step, as each source measured it. Errors are percent "
        "of the measured value: MAPE with its 95 % interval (whole board-and-model groups drawn), median, EBA10 (share "
        "within ±10 %), bias (median signed error), coverage of the 90 % interval. Prompt tokens that a source does "
        f"not publish are assumed: {tasks}; {sources}; else {ASSUMED_ELSEWHERE:.0f}.\n"
    )


def _summary(table: pd.DataFrame, quantity: str) -> str:
    own = table[table["quantity"] == quantity].sort_values("mape_percent")
    if own.empty:
        return ""
    header = [
        f"{quantity}: method",
        "labels",
        "MAPE, % [95 %]",
        *list(_FIGURES)[1:],
        f"{PRODUCT} on the same labels",
    ]
    rows = [
        [str(row["method"]), f"{row['labels']:,}", _interval(row),
         *(_number(row[name]) for name in list(_FIGURES.values())[1:]), _number(row["product_mape_percent"])]
        for _, row in own.iterrows()
    ]  # fmt: skip
    return markdown_table(header, rows)


def _by_source(table: pd.DataFrame, quantity: str) -> str:
    own = table[(table["quantity"] == quantity) & (table["method"] == PRODUCT)]
    if own.empty:
        return ""
    header = [f"{quantity}: source", "engine", "labels", "groups", *_FIGURES]
    rows = [
        [_source(row), str(row["engine"]), f"{row['labels']:,}", str(row["groups"]),
         *(_number(row[name]) for name in _FIGURES.values())]
        for _, row in own.iterrows()
    ]  # fmt: skip
    return markdown_table(header, rows, n_text=2)


def _source(row: pd.Series) -> str:
    remarks = [str(row["part"])] if row["part"] else []
    remarks += [] if row["trusted"] else ["trusted less"]
    return str(row["source"]) + (f" ({', '.join(remarks)})" if remarks else "")


def _ranking(table: pd.DataFrame) -> str:
    if table.empty:
        return "No run has an alternative that was measured.\n"
    own = table[(table["source"] == "all") | (table["method"] == PRODUCT)]
    header = ["method", "source", "decisions", "best found, %", "regret, %", "Kendall τ", "pairs right, %", "of pairs",
              "tied pairs", "other board right, %", "of pairs"]  # fmt: skip
    rows = [
        [str(row["method"]), str(row["source"]), str(row["decisions"]), _number(row["top1_percent"]),
         _number(row["mean_regret_percent"]), _number(row["kendall_tau"], 2), _number(row["right_pairs_percent"]),
         f"{row['pairs']:,}", f"{row['tied_pairs']:,}", _number(row["right_board_pairs_percent"]),
         f"{row['board_pairs']:,}"]
        for _, row in own.iterrows()
    ]  # fmt: skip
    note = (
        "\nChoices of one source, model, precision and workload: board, parallelism, engine, batch size. Best found "
        "counts a choice within 10 % of the least measured energy. Pairs within 10 % of each other are ties, counted "
        "apart.\n"
    )
    return markdown_table(header, rows, n_text=2) + note


def _kernels(table: pd.DataFrame) -> str:
    header = ["kind", "held out", "method", "rows", "median, %", "mean, %", "90th percentile, %", "bias, %"]
    names = ("median_percent", "mean_percent", "p90_percent", "bias_percent")
    rows = [
        [str(row["kind"]), str(row["held_out"]), str(row["method"]), f"{row['rows']:,}",
         *(_number(row[name]) for name in names)]
        for _, row in table.iterrows()
    ]  # fmt: skip
    return markdown_table(header, rows, n_text=3)


def _interval(row: pd.Series) -> str:
    low, high = _number(row["mape_low_percent"]), _number(row["mape_high_percent"])
    return f"{_number(row['mape_percent'])} [{low}, {high}]"


def _number(value: float, digits: int = 1) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"
