"""Bars of eighth blocks: one line for a spark, several for a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def spark(values: Sequence[float | None], top: float) -> str:
    """Return one character a value, from nothing to full at ``top``; a gap is a blank."""
    return "".join(bar_rows([value], top, 1)[0] for value in values)


def bar_rows(values: Sequence[float | None], top: float, n_rows: int) -> list[str]:
    """Return ``n_rows`` strings, top first, with one column a value; a value that is not zero is seen."""
    eighths = [
        None if value is None or top <= 0 else max(0, min(n_rows * 8, round(value / top * n_rows * 8)))
        for value in values
    ]
    seen = [
        1 if level == 0 and value is not None and value > 0 else level
        for level, value in zip(eighths, values, strict=True)
    ]
    rows = []
    for row in range(n_rows - 1, -1, -1):
        rows.append(
            "".join(" " if level is None else EIGHTHS[max(0, min(8, level - row * 8))] for level in seen)
        )
    return rows


def gauge(share: float, width: int) -> str:
    """Return a bar that is ``share`` full, from 0 to 1."""
    full = max(0, min(width, round(share * width)))
    return "█" * full + "░" * (width - full)
