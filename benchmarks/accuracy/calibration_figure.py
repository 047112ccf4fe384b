"""The picture of the calibration curve: error against the number of one's own runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from benchmarks.accuracy.mean_interval import MeanInterval

_COLOURS: Final = {"none": "#7f7f7f", "median scale": "#d1820a", "calibrate": "#1f6fb4"}
_GOAL_PERCENT: Final = 6.0
_TITLES: Final = {
    "random rows": "evaluated: other runs, any model",
    "other models": "evaluated: models that did not calibrate",
}


def draw_calibration(
    means: pd.DataFrame, overall: Mapping[tuple[str, str, int], MeanInterval], path: Path
) -> None:
    """Write the picture (PNG): one panel a way of drawing, thin lines for boards, thick ones for their mean."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and an extra

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    counts = sorted(set(means["n_runs"]))
    figure, axes = plt.subplots(1, len(_TITLES), figsize=(10.0, 4.4), sharey=True, layout="constrained")
    for axis, (drawing, title) in zip(axes, _TITLES.items(), strict=True):
        mine = means[(means["drawing"] == drawing) & (means["method"] == "calibrate")]
        for _, group in mine.groupby(["gpu", "engine"]):
            places = [counts.index(n) for n in group["n_runs"]]
            axis.plot(places, group["mape_percent"], color=_COLOURS["calibrate"], alpha=0.22, linewidth=0.9)
        for method, colour in _COLOURS.items():
            line = [overall.get((drawing, method, n)) for n in counts]
            _mean_line(axis, line, method, colour)
        axis.axhline(_GOAL_PERCENT, color="#2a8a3e", linewidth=1.0, linestyle=":")
        axis.annotate(
            f"goal after ten runs: {_GOAL_PERCENT:.0f} %", (0.0, _GOAL_PERCENT), xytext=(0, 3),
            textcoords="offset points", color="#2a8a3e", fontsize=8,
        )  # fmt: skip
        axis.set_xticks(range(len(counts)), [str(n) for n in counts])
        axis.set(title=title, xlabel="runs of one's own on the unseen board")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
    axes[0].set_ylabel("energy error, MAPE %")
    axes[0].set_ylim(0.0, min(60.0, 1.05 * float(means["mape_percent"].max())))
    axes[-1].legend(
        frameon=False,
        title="mean of boards and engines\n(thin: each, calibrated)",
        fontsize=8,
        title_fontsize=8,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _mean_line(axis: Any, line: Sequence[MeanInterval | None], method: str, colour: str) -> None:
    known = [(i, found) for i, found in enumerate(line) if found is not None]
    places = [i for i, _ in known]
    mean = [found.mean for _, found in known]
    low = [found.mean - found.half_width for _, found in known]
    high = [found.mean + found.half_width for _, found in known]
    axis.plot(places, mean, color=colour, marker="o", markersize=4, linewidth=2.0, label=method)
    if method == "calibrate":
        axis.fill_between(places, low, high, color=colour, alpha=0.10, linewidth=0)
