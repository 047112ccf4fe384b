"""The picture of kernel transfer: median latency error on each GPU left out, by method and kind."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

_COLOURS: Final = ("#9a9a9a", "#d1820a", "#1f6fb4", "#2a8a3e")
_GOAL_PERCENT: Final = 12.0
_CEILING_PERCENT: Final = 100.0  # taller bars are cut and say how tall they are


def draw_kernels(figures: pd.DataFrame, path: Path) -> None:
    """Write the picture (PNG): one panel a kind of kernel, one group of bars a GPU, one bar a method."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and an extra

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    kinds = ["all", *sorted(set(figures["kind"]) - {"all"})]
    gpus, methods = sorted(set(figures["gpu"])), sorted(set(figures["method"]))
    rows = -(-len(kinds) // 3)
    figure, grid = plt.subplots(rows, min(3, len(kinds)), figsize=(11.0, 3.1 * rows), sharey=True, squeeze=False,
                                layout="constrained")  # fmt: skip
    places, width = np.arange(len(gpus)), 0.8 / len(methods)
    for axis, kind in zip(grid.flat, kinds, strict=False):
        for i, method in enumerate(methods):
            own = figures[(figures["kind"] == kind) & (figures["method"] == method)].set_index("gpu")
            heights = own["median_percent"].reindex(gpus).to_numpy(dtype=float)
            middles = places + (i - (len(methods) - 1) / 2) * width
            axis.bar(middles, np.nan_to_num(heights), width, color=_COLOURS[i], label=method)
            for place, height in zip(middles, heights, strict=True):
                if height > _CEILING_PERCENT:
                    axis.annotate(f"{height:.0f}", (place, _CEILING_PERCENT), ha="center", va="bottom", fontsize=7,
                                  annotation_clip=False)  # fmt: skip
        axis.axhline(_GOAL_PERCENT, color="#2a8a3e", linewidth=1.2, linestyle=":", label="goal, 12 %")
        axis.set_title("all kinds" if kind == "all" else kind.replace("_", " "), fontsize=10, pad=12)
        axis.set_xticks(places, [gpu.split("-")[0] for gpu in gpus], fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    for axis in grid.flat[len(kinds) :]:
        axis.set_visible(False)
    grid[0, 0].set_ylim(0.0, _CEILING_PERCENT)
    figure.supylabel("median latency error on the GPU left out, %", fontsize=10)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods) + 1,
                  frameon=False, fontsize=9)  # fmt: skip
    figure.savefig(path, dpi=150)
    plt.close(figure)
