"""The keys of the screen, and the steps that some of them take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.binding import Binding

from llmco2_tui.widgets.top_line import VIEWS

RATES_HZ: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SPEEDS: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1000.0)
# What a letter means while no text field has the focus.
LETTER_ACTIONS: Final = frozenset(
    ("choose", "dark", "export", "faster", "help", "mark", "pause", "play", "restart", "retry", "reverse",
     "seek", "simulate",
     "sort", "span", "unit", "unmark", "view", "zone")
)  # fmt: skip
BINDINGS: Final[tuple[Binding, ...]] = (
    *(Binding(str(n), f"view('{name}')", label, show=False) for n, (name, label) in enumerate(VIEWS, 1)),
    Binding("z", "zone", "Zone"),
    Binding("o", "sort", "Sort", show=False),
    Binding("O", "reverse", "Sort the other way", show=False),
    Binding("ctrl+z", "suspend_process", "Suspend", show=False, priority=True),
    Binding("t", "unit", "Per token"),
    Binding("left_square_bracket", "span(-1)", "Span", key_display="[", show=False),
    Binding("right_square_bracket", "span(1)", "Span", key_display="[ ]"),
    Binding("plus,equals_sign", "faster(1)", "Faster", key_display="+ -"),
    Binding("minus", "faster(-1)", "Slower", show=False),
    Binding("comma", "seek(-1)", "Back", show=False),
    Binding("full_stop", "seek(1)", "Forward", show=False),
    Binding("less_than_sign", "seek(-10)", "Far back", show=False),
    Binding("greater_than_sign", "seek(10)", "Far forward", show=False),
    Binding("space", "pause", "Pause", show=False),
    Binding("0", "restart", "Zero", show=False),
    Binding("m", "mark", "Mark"),
    Binding("u", "unmark", "Undo mark", show=False),
    Binding("e", "export", "Export"),
    Binding("d", "dark", "Light/dark", show=False),
    Binding("r", "retry", "Retry", show=False),
    Binding("s", "simulate", "Simulate", show=False),
    Binding("p", "play", "Play", show=False),
    Binding("f6", "adopt", "Take into view"),
    Binding("escape", "leave", "Back"),
    Binding("question_mark", "help", "Help", key_display="?"),
    Binding("q", "quit", "Quit"),
    # In a terminal Ctrl+C ends a program, wherever the cursor is; textual's own meaning is to copy.
    Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
)


def neighbour(steps: Sequence[float], value: float, step: int) -> float:
    """Return the next of ``steps`` above or below ``value``; at the ends, the end."""
    if step > 0:
        return next((x for x in steps if x > value * 1.001), steps[-1])
    return next((x for x in reversed(steps) if x < value * 0.999), steps[0])
