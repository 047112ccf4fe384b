"""What stands in place of readings: no GPU, a screen that is too small, or nothing yet."""

from __future__ import annotations

from textwrap import wrap

from llmco2_tui.widgets.lines import Line, Lines

LEAST_WIDTH = 40
LEAST_HEIGHT = 6


def no_gpu_lines(reason: str, width: int) -> list[Line]:
    """Return why there is no reading, and what can be done about it."""
    text: list[Line] = [[("", "")], [("No GPU to watch", "bad")], [("", "")]]
    text += [[(line, "")] for line in wrap(reason, max(20, width - 4))]
    return [
        *text,
        [("", "")],
        [("What you can do:", "strong")],
        [("  r ", "second"), ("try again", "")],
        [("  s ", "second"), ("watch simulated GPUs     ", ""), ("llmco2 monitor --simulate", "muted")],
        [("  p ", "second"), ("play a recorded session  ", ""), ("llmco2 monitor --replay", "muted")],
        [("  3 ", "second"), ("ask what if: predictions need no GPU", "")],
        [("  4 ", "second"), ("follow a campaign        ", ""), ("llmco2 monitor --campaign FILE", "muted")],
        [("", "")],
        [("llmco2 doctor checks this machine and says how to mend it.", "muted")],
    ]


def too_small_lines(width: int, height: int) -> list[Line]:
    """Return that the screen is too small, in words that fit a very small one."""
    needed = f"needs {LEAST_WIDTH}×{LEAST_HEIGHT}"
    return [
        [("terminal too small", "bad")],
        [(f"{width}×{height}, {needed}", "strong")],
        [("make it larger; q quits", "")],
        [("sampling goes on", "muted")],
    ]


class Notice(Lines):
    """A few lines in the middle of nothing."""

    DEFAULT_CSS = "Notice { height: 1fr; padding: 0 2; }"
