"""Both cumulative energies over time: measured as bars, predicted as a line over them."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events

from llmco2.report.quantities import energy_text
from llmco2_tui.comparison import Point
from llmco2_tui.widgets.bars import bar_rows
from llmco2_tui.widgets.lines import Line, Lines, right

_AXIS = 9


def resampled(points: Sequence[Point], n: int) -> list[Point | None]:
    """Return the newest point at each of ``n`` equal times from the first measurement to the last."""
    if not points or n <= 0:
        return [None] * n
    first_s, last_s = points[0].t_s, points[-1].t_s
    if last_s <= first_s:
        return [points[-1]] * n
    columns: list[Point | None] = []
    place = 0
    for column in range(n):
        t_s = first_s + (last_s - first_s) * (column + 1) / n
        while place + 1 < len(points) and points[place + 1].t_s <= t_s + 1e-9:
            place += 1
        columns.append(points[place])
    return columns


def cumulative_lines(points: Sequence[Point], width: int, height: int) -> list[Line]:
    """Return a title and ``height - 1`` rows."""
    if height < 3 or width <= _AXIS:
        return []
    if not points:
        return [[("nothing measured yet: press m as one batch starts, and again as it ends", "muted")]]
    last = points[-1]
    title: Line = [
        ("cumulative energy  ", "strong"),
        ("█", "accent"),
        (f" measured {energy_text(last.measured_j)}", "strong"),
        (f"  ━ predicted {energy_text(last.predicted_j)}", "second"),
    ]
    n_rows = height - 1
    columns = resampled(points, width - _AXIS)
    top = max(last.measured_j, last.predicted_j) * 1.02 or 1.0
    bars = bar_rows([None if point is None else point.measured_j for point in columns], top, n_rows)
    marks = [
        None if point is None else min(n_rows - 1, int(point.predicted_j / top * n_rows)) for point in columns
    ]
    lines = [title]
    for number, bar in enumerate(bars):
        row = n_rows - 1 - number
        label = energy_text(top) if number == 0 else "0" if row == 0 else ""
        lines.append([(right(label, _AXIS - 2) + " ┤", "muted"), *_pieces(bar, marks, row)])
    return lines


def _pieces(bar: str, marks: Sequence[int | None], row: int) -> Line:
    """Return one row with the marks of the prediction laid over its bars, runs of one kind together."""
    pieces: Line = []
    for character, mark in zip(bar, marks, strict=True):
        kind = "second" if mark == row else "accent"
        shown = "━" if mark == row else character
        if pieces and pieces[-1][1] == kind:
            pieces[-1] = (pieces[-1][0] + shown, kind)
        else:
            pieces.append((shown, kind))
    return pieces


class CumulativeChart(Lines):
    """A chart as high as there is room."""

    DEFAULT_CSS = "CumulativeChart { height: 1fr; min-height: 3; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - textual's
        super().__init__(id=id)
        self._points: Sequence[Point] = ()

    def show(self, points: Sequence[Point]) -> None:
        """Draw both lines."""
        self._points = points
        self.show_lines(cumulative_lines(points, self.size.width, self.size.height))

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002 - textual's
        """Draw it again at its new size."""
        self.show(self._points)
