"""The figures as files: CSV for machines, one Markdown page for people.

Invariant: every figure of the page is in a CSV beside it; the page says which data, seeds and selection it is of, and
which folds have other rows than the committed list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from benchmarks.accuracy.evidence import CASE_TITLES
from benchmarks.accuracy.levels import LEVELS
from benchmarks.accuracy.markdown import markdown_table
from benchmarks.accuracy.shipped import FORMULA, SHIPPED
from benchmarks.accuracy.splits_file import SAME

MARKDOWN_FILE: Final = "accuracy.md"
_DIGITS: Final = 3
_DASH: Final = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is written."""

    tables: Mapping[str, pd.DataFrame]  # file name without ending → table
    splits: Mapping[str, str]  # fold → whether its rows are the committed ones
    splits_file: str  # name of the committed list; empty where there is none
    about: Mapping[str, str]  # what was evaluated: name → text, shown at the head
    methods: Mapping[str, str]  # method's names → one sentence with its source
    pictures: Mapping[str, str]  # title → file name


def write_report(output: Path, report: Report) -> None:
    """Write ``accuracy.md`` and a CSV for every table into the folder."""
    for name, table in report.tables.items():
        table.round(_DIGITS).to_csv(output / f"{name}.csv", index=False, lineterminator="\n")
    (output / MARKDOWN_FILE).write_text(markdown(report), encoding="utf-8")


def markdown(report: Report) -> str:
    """Return the page."""
    parts = [
        "# Accuracy where nothing was fitted\n",
        "Written by `make evaluate`; do not edit. Each group is left out by a fit of its own. Errors are of a run's "
        "energy, percent: MAPE is the mean absolute error, EBA5 the share of runs within 5 %, bias the median of "
        "predicted over measured less one. Figures are means over groups and seeds. Brackets are 95 % bootstrap "
        "intervals over groups and seeds; with three groups they are rough. *To the formula* is the difference in "
        "MAPE on the same rows: below zero is better, and only an interval without zero says so.\n",
        _facts(report),
        _splits_warning(report),
        *(f"![{title}]({file})\n" for title, file in report.pictures.items()),
        _cases(report.tables["cases"]),
        _folds(report.tables["accuracy"], report.splits),
        _labels(report.tables["by_label"]),
        _levels(report.tables["levels"]),
        _intervals(report.tables["intervals"]),
        _parts("What decode waits for", report.tables["by_regime"], ("regime",)),
        _parts("Rare and common requests", report.tables["by_decile"], ("decile",)),
        _parts("By source and engine", report.tables["by_source"], ("source", "engine")),
        _methods(report.methods),
    ]
    return "\n".join(part for part in parts if part)


def figure(value: float, digits: int = 1) -> str:
    """Return a number for a table; a dash where it is unknown."""
    return _DASH if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def with_interval(value: float, low: float, high: float) -> str:
    """Return ``value [low, high]``; the value alone where the interval is unknown."""
    return figure(value) if math.isnan(low) else f"{figure(value)} [{figure(low)}, {figure(high)}]"


def difference(row: pd.Series) -> str:
    """Return a row's difference to the formula, and the word that its interval allows."""
    value, low, high = (float(row[f"to_formula_{end}points"]) for end in ("", "low_", "high_"))
    return f"{with_interval(value, low, high)} {verdict(row)}".rstrip()


def verdict(row: pd.Series) -> str:
    """Return whether a row is better or worse than the formula; empty where its interval holds zero."""
    if row["to_formula_high_points"] < 0.0:
        return "better"
    return "worse" if row["to_formula_low_points"] > 0.0 else ""


def _facts(report: Report) -> str:
    return "".join(f"- {name}: {text}\n" for name, text in report.about.items())


def _splits_warning(report: Report) -> str:
    if not report.splits_file:
        return ""
    other = [fold for fold, state in report.splits.items() if state != SAME]
    if not other:
        return f"Every group has the rows that `{report.splits_file}` lists.\n"
    return (
        f"**{len(other)} of {len(report.splits)} groups have other rows than `{report.splits_file}` lists, so their "
        "figures are not comparable with published ones** (see the column *rows as* of the groups).\n"
    )


def _cases(table: pd.DataFrame) -> str:
    parts = []
    for case in table["case"].unique().tolist():
        own = table[table["case"] == case].sort_values("mape_percent")
        parts.append(f"## Left out: {CASE_TITLES[case]} ({_counted(own)})\n")
        header = [
            "method",
            "MAPE [95 %]",
            "median",
            "EBA5",
            "EBA10",
            "EBA30",
            "bias",
            "to the formula [95 %]",
            "runs",
        ]
        parts.append(
            markdown_table(
                header,
                [
                    [
                        _emphasis(str(row["method"])),
                        with_interval(row["mape_percent"], row["mape_low_percent"], row["mape_high_percent"]),
                        *(
                            figure(row[f"{name}_percent"])
                            for name in ("median", "eba5", "eba10", "eba30", "bias")
                        ),
                        difference(row),
                        str(row["answered"]),
                    ]
                    for _, row in own.iterrows()
                ],
            )
        )
    return "\n".join(parts)


def _counted(own: pd.DataFrame) -> str:
    n_folds, n_rows = int(own["folds"].max()), int(own["rows"].max())
    return f"{n_folds} group{'s' * (n_folds > 1)}, {n_rows:,} runs"


def _folds(table: pd.DataFrame, splits: Mapping[str, str]) -> str:
    """Return MAPE on every group of what ships, of the formula and of the best method; all others are in the CSV."""
    shown = [name for name in (SHIPPED, FORMULA) if name in set(table["method"])]
    rows = []
    for fold, own in table.groupby("fold", sort=False):
        errors = {
            row["method"]: with_interval(
                row["mape_percent"], row["mape_low_percent"], row["mape_high_percent"]
            )
            for _, row in own.iterrows()
        }
        cells = [errors.get(name, _DASH) for name in shown]
        best = own.sort_values("mape_percent").iloc[0]
        state = splits.get(str(fold), _DASH)
        rows.append(
            [str(fold), str(best["method"]), state, str(best["rows"]), figure(best["mape_percent"]), *cells]
        )
    header = ["left out", "best method", "rows as", "runs", "its MAPE", *(f"{name} [95 %]" for name in shown)]
    return "## Every group\n\nMAPE with the interval of its runs and seeds.\n\n" + markdown_table(
        header, rows, n_text=3
    )


def _labels(table: pd.DataFrame) -> str:
    labels = table["label"].unique().tolist()
    wide = table.pivot(index=["case", "method"], columns="label", values="mape_percent")
    rows = [
        [case, method, *(figure(wide.loc[(case, method), name]) for name in labels)]
        for case, method in table[["case", "method"]].drop_duplicates().itertuples(index=False)
    ]
    return "## Phases and times where they were measured, MAPE\n\n" + markdown_table(
        ["left out", "method", *labels], rows, n_text=2
    )


def _levels(table: pd.DataFrame) -> str:
    """Return what ships with each level known."""
    own = table[table["method"] == SHIPPED]
    if own.empty:
        return ""
    wide = own.pivot(index="case", columns="level", values="mape_percent")
    cases = own["case"].unique().tolist()
    rows = [[case, *(figure(wide.loc[case, level]) for level in LEVELS)] for case in cases]
    return (
        "## Where the error of what ships sits\n\nMAPE if one factor on all energies of a group, of an engine in it or "
        "of a deployment were known. The factors are set by the answers, so these are no predictions: they say what "
        "measuring a level would be worth, and what no level mends.\n\n"
        + markdown_table(["left out", *LEVELS], rows, n_text=1)
    )


def _intervals(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    names = ("coverage_percent", "coverage_of_rows_percent", "worst_fold_percent", "half_width_percent")
    rows = [
        [row["case"], row["method"], *(figure(row[name]) for name in names)]
        for _, row in table[table["method"].isin((SHIPPED, FORMULA))].iterrows()
    ]
    return (
        "## 90 % intervals\n\nEach group's interval is calibrated on the other groups of its kind. Percent.\n\n"
        + markdown_table(
            ["left out", "method", "coverage, mean of groups", "of runs", "worst group", "half-width"],
            rows,
            n_text=2,
        )
    )


def _parts(title: str, table: pd.DataFrame, parts: tuple[str, ...]) -> str:
    """Return MAPE (bias) of what ships and of the formula, all runs of a case's part together."""
    shown = table[table["method"].isin((SHIPPED, FORMULA))]
    if shown.empty:
        return ""
    methods = shown["method"].unique().tolist()
    rows = []
    for key, own in shown.groupby(["case", *parts], sort=False):
        by_method = own.set_index("method")
        cells = [
            f"{figure(by_method.loc[name, 'mape_percent'])} ({figure(by_method.loc[name, 'bias_percent'])})"
            if name in by_method.index
            else _DASH
            for name in methods
        ]
        rows.append([*map(str, key), str(own["rows"].max()), *cells])
    header = ["left out", *parts, "runs", *(f"{name}: MAPE (bias)" for name in methods)]
    return f"## {title}\n\n" + markdown_table(header, rows, n_text=1 + len(parts))


def _methods(about: Mapping[str, str]) -> str:
    return "## Methods\n\n" + "".join(f"- **{names}**: {text}\n" for names, text in about.items())


def _emphasis(method: str) -> str:
    return f"**{method}**" if method == SHIPPED else method
