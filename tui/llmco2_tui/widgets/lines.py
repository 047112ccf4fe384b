"""A widget made of styled lines that repaints only those that changed.

Invariant: a line is a list of ``(text, kind)`` pieces; kinds are resolved by CSS, so every theme has its own
colours and ``NO_COLOR`` none. A line that is as it was costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

Piece = tuple[str, str]
Line = list[Piece]


class Lines(Widget):
    """Shows lines; its height is theirs unless CSS says otherwise."""

    KINDS: ClassVar[tuple[str, ...]] = (
        "good", "warn", "bad", "accent", "second", "muted", "strong", "title", "alarm", "notice", "chosen",
    )  # fmt: skip
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"lines--{kind}" for kind in KINDS}
    DEFAULT_CSS = """
    Lines { height: auto; width: 1fr; }
    Lines > .lines--good { color: $text-success; }
    Lines > .lines--warn { color: $text-warning; text-style: bold; }
    Lines > .lines--bad { color: $text-error; text-style: bold; }
    Lines > .lines--accent { color: $primary; }
    Lines > .lines--second { color: $text-accent; text-style: bold; }
    Lines > .lines--muted { color: $foreground 60%; }
    Lines > .lines--strong { text-style: bold; }
    Lines > .lines--title { color: $foreground; text-style: bold; background: $panel; }
    Lines > .lines--alarm { color: white; background: #b00020; text-style: bold; }
    Lines > .lines--notice { color: black; background: #ffd000; text-style: bold; }
    Lines > .lines--chosen { text-style: bold reverse; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - textual's
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []
        self._styles_by_kind: dict[str, Style] = {}

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Replace the lines; only those that differ are painted again."""
        before, self._lines = self._lines, list(lines)
        if len(before) != len(self._lines):
            self.refresh(layout=self.styles.height is None or self.styles.height.is_auto)
            return
        width = self.size.width
        changed = [
            Region(0, y, width, 1) for y, (old, new) in enumerate(zip(before, self._lines, strict=True))
            if old != new
        ]  # fmt: skip
        if changed:
            self.refresh(*changed)

    @property
    def text(self) -> str:
        """The lines without their styles."""
        return "\n".join("".join(text for text, _ in line) for line in self._lines)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - textual's
        """Return the number of lines."""
        return len(self._lines)

    def notify_style_update(self) -> None:
        """Forget the colours of the former theme."""
        self._styles_by_kind = {}
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """Return one line, as wide as the widget."""
        width, base = self.size.width, self.rich_style
        if y >= len(self._lines):
            return Strip.blank(width, base)
        segments = []
        left = width
        for text, kind in self._lines[y]:
            if left <= 0:
                break
            shown = text if cell_len(text) <= left else fitted(text, left)
            left -= cell_len(shown)
            segments.append(Segment(shown, self._style(kind, base)))
        if left > 0:
            kind = self._lines[y][-1][1] if self._lines[y] else ""
            fill = kind if kind in ("title", "alarm", "notice") else ""
            segments.append(Segment(" " * left, self._style(fill, base)))
        return Strip(segments, width)

    def _style(self, kind: str, base: Style) -> Style:
        if not kind:
            return base
        style = self._styles_by_kind.get(kind)
        if style is None:
            style = self._styles_by_kind[kind] = self.get_component_rich_style(f"lines--{kind}")
        return style


def fitted(text: str, width: int) -> str:
    """Return ``text`` in exactly ``width`` cells, cut with an ellipsis where it is longer."""
    if cell_len(text) > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width > 0 else ""
    return text + " " * (width - cell_len(text))


def wrapped(text: str, width: int, kind: str = "", *, most: int = 4) -> list[Line]:
    """Return ``text`` over as many lines as it needs, ``most`` at most."""
    parts = wrap(text, max(20, width)) or [""]
    if len(parts) > most:
        parts = [*parts[: most - 1], " ".join(parts[most - 1 :])]
    return [[(part, kind)] for part in parts]


def right(text: str, width: int) -> str:
    """Return ``text`` at the right of ``width`` cells."""
    return " " * max(0, width - cell_len(text)) + text
