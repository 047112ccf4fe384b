"""Pictures of the errors: predicted beside measured, by what binds decode, by how rare a request is.

Invariant: pictures show what the tables hold, drawn without a display; size and resolution are fixed, so two runs on
the same results give pictures of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.accuracy.breakdowns import energy_errors
from benchmarks.accuracy.evidence import CASE_TITLES, FoldEvidence, by_case
from benchmarks.accuracy.figures import seed_mean_figures
from benchmarks.accuracy.row_facts import N_DECILES, REGIMES, RowFacts
from benchmarks.accuracy.shipped import FORMULA, SHIPPED

DOTS_PER_INCH: Final = 110
PICTURE_INCHES: Final = (11.0, 7.0)
_N_COLUMNS: Final = 3
_FEWEST_ROWS: Final = 8  # fewer are told by the table, and would only be noise in a picture
_BLUE, _ORANGE, _GREY = "#0b5fa5", "#c8500a", "#6b6b6b"
_STYLE: Final = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9a9a9a",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


def draw_pictures(
    output: Path, evidence: Sequence[FoldEvidence], tables: Mapping[str, pd.DataFrame], facts: RowFacts
) -> dict[str, str]:
    """Write the pictures into a folder and return their file names by title."""
    method = main_method(evidence)
    files = {
        f"Predicted versus measured energy: {method}": "predicted_versus_measured.png",
        "Error by what decode waits for": "error_by_regime.png",
        "Error by how rare the request is": "error_by_decile.png",
    }
    scatter, regime, decile = (output / name for name in files.values())
    draw_scatter(scatter, evidence, facts, method)
    draw_regimes(regime, tables["by_regime"])
    draw_deciles(decile, tables["by_decile"])
    return files


def main_method(evidence: Sequence[FoldEvidence]) -> str:
    """Return the method that pictures are about: what ships where it was evaluated, or else the first."""
    evaluated = [name for one in evidence for name in one.errors]
    return next((name for name in (SHIPPED, FORMULA) if name in evaluated), evaluated[0])


def draw_scatter(path: Path, evidence: Sequence[FoldEvidence], facts: RowFacts, method: str) -> None:
    """Draw predicted over measured energy, a panel for each case, every held-out run a dot."""
    cases = {
        case: own
        for case, members in by_case(evidence).items()
        if (own := [one for one in members if method in one.errors])
    }
    title = f"Predicted versus measured energy of {method}, joules; every dot a run left out of the fit, band ±30 %"
    with _panels(path, title, list(cases)) as panels:
        ends = _range(cases, facts, method)
        for case, axes in panels.items():
            _scatter_panel(axes, cases[case], facts, method, ends)


def draw_regimes(path: Path, table: pd.DataFrame) -> None:
    """Draw MAPE by what decode waits for, a panel for each case."""
    title = f"Mean absolute energy error (%) by what decode waits for; parts of {_FEWEST_ROWS} runs or more"
    methods = _shown_methods(table)
    table = table[table["rows"] >= _FEWEST_ROWS]
    longest = table.loc[table["method"].isin(list(methods)), "mape_percent"].max()
    with _panels(path, title, _cases(table)) as panels:
        for case, axes in panels.items():
            own = table[table["case"] == case]
            counts = own.drop_duplicates("regime").set_index("regime")["rows"]
            names = [name for name in REGIMES if name in counts.index][::-1]
            for method, style in methods.items():
                values = own[own["method"] == method].set_index("regime")["mape_percent"].reindex(names)
                axes.plot(values, range(len(names)), label=method, linestyle="none", **_dot(style))
                if style == "main":
                    for place, value in enumerate(values):
                        axes.annotate(
                            f"{value:.0f}",
                            (value, place),
                            (0, 9),
                            textcoords="offset points",
                            ha="center",
                            color=_BLUE,
                        )
            axes.set_yticks(range(len(names)), [f"{name}\n{counts[name]:,} runs" for name in names])
            axes.set_ylim(-0.6, len(names) - 0.4)
            axes.set_xlim(0, 1.12 * longest)
            axes.grid(axis="x")


def draw_deciles(path: Path, table: pd.DataFrame) -> None:
    """Draw MAPE by decile of the workload prior, a panel for each case."""
    title = "Mean absolute energy error (%) by how rare the request's sizes are (tenths of the runs by workload prior)"
    methods = _shown_methods(table)
    highest = table.loc[table["method"].isin(list(methods)), "mape_percent"].max()
    with _panels(path, title, _cases(table)) as panels:
        for case, axes in panels.items():
            own = table[table["case"] == case]
            for method, style in methods.items():
                values = own[own["method"] == method].set_index("decile")["mape_percent"]
                axes.plot(values.index, values, label=method, **_dot(style), **_line(style))
            labels = {
                1: "1\nrarest",
                N_DECILES // 2: str(N_DECILES // 2),
                N_DECILES: f"{N_DECILES}\ncommonest",
            }
            axes.set_xticks(range(1, N_DECILES + 1), [labels.get(i, "") for i in range(1, N_DECILES + 1)])
            axes.set_xlim(0.6, N_DECILES + 0.4)
            axes.set_ylim(0, 1.06 * highest)
            axes.grid(axis="y")


def _scatter_panel(
    axes: Any, members: Sequence[FoldEvidence], facts: RowFacts, method: str, ends: tuple[float, float]
) -> None:
    errors = np.concatenate([energy_errors(one)[method].mean(axis=0) for one in members])
    measured = np.concatenate([facts.measured_j[one.rows] for one in members])
    line = np.array(ends)
    axes.fill_between(line, 0.7 * line, 1.3 * line, color="#d6e2ec", linewidth=0)
    axes.plot(line, line, color=_GREY, linewidth=0.8)
    axes.scatter(measured, measured * np.exp(errors), s=4, alpha=0.35, color=_BLUE, linewidths=0)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axes.set(xlabel="measured, J", ylabel="predicted, J")
    mape = np.mean([seed_mean_figures(energy_errors(one)[method]).mape_percent for one in members])
    text = f"{len(measured):,} runs, {len(members)} groups\nmean error of the groups {mape:.0f} %"
    axes.text(0.04, 0.97, text, transform=axes.transAxes, va="top", color="#333333", fontsize=8.5)


def _range(cases: Mapping[str, Sequence[FoldEvidence]], facts: RowFacts, method: str) -> tuple[float, float]:
    """Return the joules that all dots lie between, with a little room."""
    lowest, highest = np.inf, 0.0
    for one in (one for members in cases.values() for one in members):
        measured = facts.measured_j[one.rows]
        predicted = measured * np.exp(energy_errors(one)[method].mean(axis=0))
        both = np.concatenate([measured, predicted])
        lowest, highest = min(lowest, float(np.nanmin(both))), max(highest, float(np.nanmax(both)))
    return lowest / 1.6, highest * 1.6


@contextmanager
def _panels(path: Path, title: str, cases: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a panel for each case; afterwards legend and title are added and the picture is written."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=PICTURE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        n_columns = min(_N_COLUMNS, len(cases))
        n_rows = -(-len(cases) // n_columns)
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        panels = dict(zip(cases, grid, strict=False))
        for case, axes in panels.items():
            axes.set_title(f"left out: {CASE_TITLES[case]}")
        yield panels
        for axes in grid[len(cases) :]:
            axes.remove()
        handles, labels = grid[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower right", frameon=False, ncols=len(labels))
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        canvas.print_png(str(path), metadata={"Software": None})


def _cases(table: pd.DataFrame) -> list[str]:
    return [str(case) for case in table["case"].unique()]


def _shown_methods(table: pd.DataFrame) -> dict[str, str]:
    """Return the methods that are drawn and their style: the formula behind, what ships in front."""
    evaluated = table["method"].unique().tolist()
    shown = {name: style for name, style in ((FORMULA, "baseline"), (SHIPPED, "main")) if name in evaluated}
    return shown or {evaluated[0]: "main"}


def _dot(style: str) -> dict[str, Any]:
    if style == "main":
        return {"marker": "o", "markersize": 5.5, "color": _BLUE}
    return {
        "marker": "o",
        "markersize": 9,
        "color": _ORANGE,
        "markerfacecolor": "none",
        "markeredgewidth": 1.2,
    }


def _line(style: str) -> dict[str, Any]:
    return {"linewidth": 1.6 if style == "main" else 1.0}
