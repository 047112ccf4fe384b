"""Points on logarithmic axes as text, for a terminal.

Invariant: every point lands in exactly one cell; where several share one, the last that is given is seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llmco2.report.quantities import three_digits

_HEIGHT: Final = 14
_LABEL: Final = 10  # columns left of the vertical axis


@dataclass(frozen=True, slots=True)
class Point:
    """A point above zero on both axes, and the one character that shows it."""

    x: float
    y: float
    mark: str


def scatter_lines(
    points: Sequence[Point], *, x_title: str, y_title: str, width: int, height: int = _HEIGHT
) -> list[str]:
    """Return ``points`` as ``height`` lines of at most ``width`` columns between the axes' titles and ends."""
    n_columns = width - _LABEL - 2
    columns = _places([point.x for point in points], n_columns)
    rows = _places([point.y for point in points], height)
    cells = [[" "] * n_columns for _ in range(height)]
    for point, column, row in zip(points, columns, rows, strict=True):
        cells[height - 1 - row][column] = point.mark
    top, bottom = (three_digits(end(point.y for point in points)) for end in (max, min))
    labels = {0: top, height - 1: bottom}
    left, right = (three_digits(end(point.x for point in points)) for end in (min, max))
    lines = [y_title]
    lines += [f"{labels.get(i, ''):>{_LABEL}} |{''.join(row)}".rstrip() for i, row in enumerate(cells)]
    lines.append(f"{'':>{_LABEL}} +{'-' * n_columns}")
    title = f"{x_title}".center(max(n_columns - len(left) - len(right), len(x_title) + 2))
    lines.append(f"{'':>{_LABEL}}  {left}{title}{right}")
    return lines


def _places(values: Sequence[float], cells: int) -> list[int]:
    """Return the cell of each value, 0 to ``cells`` - 1, evenly in its logarithm."""
    logs = [math.log(value) for value in values]
    low, span = min(logs), max(logs) - min(logs)
    return [round((value - low) / span * (cells - 1)) if span > 0.0 else cells // 2 for value in logs]
