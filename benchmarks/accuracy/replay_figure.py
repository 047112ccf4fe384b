"""The picture of the replay: error against labels bought, by strategy, at head and tail."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.accuracy.mean_interval import mean_interval

_COLOURS: Final = {"uniform": "#7f7f7f", "focused": "#1f6fb4", "half focused": "#7b3fa0", "paper": "#d1820a"}
_GROUPS: Final = {
    "head": "head: dense half of the workload",
    "tail": "tail: rare half",
    "lowest decile": "rarest tenth",
}


def draw_replays(curves: pd.DataFrame, path: Path) -> None:
    """Write the picture (PNG): one row a pool, one panel a group of test rows, means over seeds with 95 % bands."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and an extra

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    pools = list(dict.fromkeys(curves["pool"]))
    figure, grid = plt.subplots(len(pools), len(_GROUPS), figsize=(11.0, 3.4 * len(pools)), squeeze=False,
                                sharex="row", layout="constrained")  # fmt: skip
    for line, pool in zip(grid, pools, strict=True):
        for axis, (group, title) in zip(line, _GROUPS.items(), strict=True):
            mine = curves[(curves["pool"] == pool) & (curves["group"] == group)]
            for strategy, colour in _COLOURS.items():
                own = mine[mine["strategy"] == strategy]
                # Strategies buy slightly different numbers a round, so curves are read off at common budgets.
                budgets = np.linspace(own["n_labels"].min(), own.groupby("seed")["n_labels"].max().min(), 40)
                lines = np.array([np.interp(budgets, one["n_labels"], one["mape_percent"])
                                  for _, one in own.groupby("seed")])  # fmt: skip
                found = [mean_interval(column) for column in lines.T]
                mean, half = (np.array([getattr(f, name) for f in found]) for name in ("mean", "half_width"))
                axis.plot(budgets, mean, color=colour, linewidth=1.8, label=strategy)
                axis.fill_between(budgets, mean - half, mean + half, color=colour, alpha=0.13, linewidth=0)
            axis.set_title(f"{pool}, {title}", fontsize=10)
            axis.set_ylim(bottom=0.0)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(alpha=0.25)
        line[0].set_ylabel("test error, MAPE %")
    for axis in grid[-1]:
        axis.set_xlabel("labels bought")
    grid[0, -1].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)
