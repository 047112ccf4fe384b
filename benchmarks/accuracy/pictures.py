"""Pictures of scored labels: predicted over measured, and errors of methods by source.

Invariant: pictures show what the tables hold, drawn without a display; size and resolution are fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.accuracy.methods import PRODUCT
from benchmarks.accuracy.workload import QUANTITIES
from llmco2.records.engines import ENGINES

METHOD_PICTURE: Final = "methods.png"
_STYLE: Final = {
    "font.size": 9.5, "axes.titlesize": 10.5, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": "#9a9a9a", "axes.labelcolor": "#333333", "xtick.color": "#555555",
    "ytick.color": "#555555", "grid.color": "#e4e4e4", "grid.linewidth": 0.7, "axes.axisbelow": True,
}  # fmt: skip
_BLUE, _GREY = "#0b5fa5", "#6b6b6b"
_COLORS: Final = (
    "#0b5fa5",
    "#c8500a",
    "#3a8f4d",
    "#8a4fa3",
    "#b0a11d",
    "#1f9aa8",
    "#a83246",
    "#6b6b6b",
    "#333333",
)
_UNITS: Final = {
    "energy": "J (a batch, or an output token)",
    "time": "s (a batch, or a step)",
    "ttft": "s",
    "power": "W, all GPUs",
}
_STACKS: Final = ("current servers", "older servers", "eager frameworks")
_CURRENT: Final = ("vllm", "vllm-0.11", "sglang", "tensorrt-llm", "atom")
_EXACT: Final = 0.7  # width of the band, as a share below and its inverse above


def draw_pictures(table: pd.DataFrame, by_source: pd.DataFrame, output: Path) -> dict[str, str]:
    """Write the pictures into a folder and return their file names by title."""
    files = {}
    product = table[(table["method"] == PRODUCT) & table["trusted"]]
    for quantity in QUANTITIES:
        part = product[product["quantity"] == quantity]
        if len(part):
            name = f"predicted_{quantity}.png"
            draw_scatter(output / name, part, quantity)
            files[f"Predicted and measured {quantity}"] = name
    if by_source["method"].nunique() > 1:
        draw_methods(output / METHOD_PICTURE, by_source[by_source["trusted"]])
        files["Errors of methods by source"] = METHOD_PICTURE
    return files


def stack_of(engine: str) -> str:
    """Return the kind of stack that a picture's panel shows."""
    if ENGINES[engine].launches_from_python:
        return _STACKS[2]
    return _STACKS[0] if engine in _CURRENT else _STACKS[1]


def draw_scatter(path: Path, part: pd.DataFrame, quantity: str) -> None:
    """Draw predicted over measured of one quantity, a panel for each kind of stack, a colour for each source."""
    stacks = part["engine"].map({name: stack_of(name) for name in part["engine"].unique()})
    shown = [stack for stack in _STACKS if (stacks == stack).any()]
    both = np.concatenate([part["measured"], part["predicted"]])
    ends = np.array([both.min() / 1.5, both.max() * 1.5])
    title = f"Predicted and measured {quantity}, {_UNITS[quantity]}; band: predicted within ×0.7 and ×1.4"
    with _figure(path, title, (11.0, 4.6), (1, len(shown))) as panels:
        for axes, stack in zip(panels, shown, strict=True):
            own = part[stacks == stack]
            axes.fill_between(ends, _EXACT * ends, ends / _EXACT, color="#e2ebf2", linewidth=0)
            axes.plot(ends, ends, color=_GREY, linewidth=0.8)
            for color, (source, dots) in zip(_COLORS, own.groupby("source", sort=True), strict=False):
                axes.scatter(
                    dots["measured"],
                    dots["predicted"],
                    s=6,
                    alpha=0.5,
                    color=color,
                    linewidths=0,
                    label=source,
                )
            axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=stack)
            axes.set(xlabel="measured", ylabel="predicted")
            figure = f"{len(own):,} labels\nMAPE {own['error_percent'].abs().mean():.1f} %"
            axes.text(0.97, 0.03, figure, transform=axes.transAxes, ha="right", color="#333333", fontsize=8.5)
            axes.legend(frameon=False, fontsize=8, markerscale=2.0, loc="upper left")


def draw_methods(path: Path, table: pd.DataFrame) -> None:
    """Draw MAPE of every method by source, energies and times side by side, on a log axis."""
    with _figure(path, "Mean absolute error of methods by source, %", (11.0, 5.8), (1, 2)) as panels:
        for axes, quantity in zip(panels, ("energy", "time"), strict=True):
            own = table[table["quantity"] == quantity]
            weighed = own.assign(total=own["mape_percent"] * own["labels"])
            sums = weighed.groupby(["method", "source"])[["total", "labels"]].sum()
            mape = (sums["total"] / sums["labels"]).unstack("method")
            methods = [PRODUCT, *sorted(set(mape.columns) - {PRODUCT})]
            for color, method in reversed(
                list(zip(_COLORS, [m for m in methods if m in mape], strict=False))
            ):
                size = 8.0 if method == PRODUCT else 5.5
                axes.plot(
                    mape[method],
                    range(len(mape)),
                    "o",
                    markersize=size,
                    color=color,
                    label=method,
                    alpha=0.85,
                )
            axes.set_yticks(range(len(mape)), list(mape.index))
            axes.set(xscale="log", title=quantity, xlabel="MAPE, %")
            axes.grid(axis="x")
        handles, labels = panels[0].get_legend_handles_labels()
        place = {"loc": "outside lower center", "ncols": 4, "frameon": False, "fontsize": 9}
        panels[0].figure.legend(handles[::-1], labels[::-1], **place)


@contextmanager
def _figure(
    path: Path, title: str, inches: tuple[float, float], shape: tuple[int, int]
) -> Iterator[list[Any]]:
    """Yield the panels of a figure, which is written to ``path`` afterwards."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=inches, dpi=110, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        yield figure.subplots(*shape, squeeze=False).ravel().tolist()
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        canvas.print_png(str(path), metadata={"Software": None})
