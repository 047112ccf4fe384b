"""The line with the views' names and how the screen is looking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from textual import events
from textual.message import Message

from llmco2_tui.widgets.lines import Line, Lines

VIEWS: Final = (("live", "Live"), ("compare", "Compare"), ("what-if", "What if"), ("campaign", "Campaign"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopView:
    """Which view is shown, and the words at the right."""

    current: str
    status: str


class TopLine(Lines):
    """Names the views; a click on one asks for it."""

    DEFAULT_CSS = "TopLine { height: 1; background: $panel; }"

    class ViewChosen(Message):
        """Somebody clicked on a view's name."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self) -> None:
        super().__init__(id="top-line")
        self._ends: list[tuple[int, str]] = []

    def show(self, view: TopView) -> None:
        """Show the line."""
        line: Line = []
        self._ends = []
        used = 0
        for number, (name, label) in enumerate(VIEWS, start=1):
            text = f" {number} {label} "
            line.append((text, "chosen" if name == view.current else ""))
            used += cell_len(text)
            self._ends.append((used, name))
        gap = self.app.size.width - used - cell_len(view.status) - 1
        self.show_lines([[*line, (" " * max(1, gap), ""), (view.status, "")]])

    def on_click(self, event: events.Click) -> None:
        """Ask for the view under the mouse."""
        name = next((name for end, name in self._ends if event.x < end), None)
        if name is not None:
            self.post_message(self.ViewChosen(name))
