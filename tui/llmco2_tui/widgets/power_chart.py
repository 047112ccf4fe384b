"""Power over time of one GPU or of all, under its limit."""

from __future__ import annotations

from textual import events

from llmco2_tui.history import SPANS
from llmco2_tui.views import PowerView
from llmco2_tui.widgets.bars import bar_rows
from llmco2_tui.widgets.lines import Line, Lines, right
from llmco2_tui.widgets.wording import watts

_AXIS = 7


def power_lines(view: PowerView, width: int, height: int) -> list[Line]:
    """Return a title and ``height - 1`` rows of bars; the top edge is the limit where one is known."""
    if height < 2 or width <= _AXIS:
        return []
    values = view.history.columns(view.span, width - _AXIS)
    known = [value for value in values if value is not None]
    top = max([view.limit_w or 0.0, *known]) or 1.0
    limit = "no limit known" if view.limit_w is None else f"limit {watts(view.limit_w)} W"
    title: Line = [
        (f"{view.title}", "strong"),
        (
            f"  now {watts(view.power_w)} W, {limit}, last {SPANS[view.span].label}  [ ] span  ↑ ↓ GPU",
            "muted",
        ),
    ]
    rows = bar_rows(values, top, height - 1)
    lines = [title]
    for number, row in enumerate(rows):
        label = watts(top) if number == 0 else watts(top / 2) if number == len(rows) // 2 else ""
        label = "0" if number == len(rows) - 1 else label
        lines.append([(right(label, _AXIS - 2) + " ┤", "muted"), (row, "muted" if view.lost else "accent")])
    return lines


class PowerChart(Lines):
    """A chart as high as there is room."""

    DEFAULT_CSS = "PowerChart { height: 1fr; min-height: 3; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - textual's
        super().__init__(id=id)
        self._view: PowerView | None = None

    def show(self, view: PowerView) -> None:
        """Draw the chart."""
        self._view = view
        self.show_lines(power_lines(view, self.size.width, self.size.height))

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002 - textual's
        """Draw it again at its new size."""
        if self._view is not None:
            self.show(self._view)
