"""Consoles that lack characters: the screen is drawn in Unicode and translated on its way out.

Invariant: a translation keeps every line's width in cells, so no layout depends on the console.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_ASCII: Final[Mapping[str, str]] = {
    **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
    **dict.fromkeys("▏▎▍▌▋▊▉▐▕▖▗▘▙▚▛▜▝▞▟", "#"),
    **dict.fromkeys("─━╌╍┄┅▔▀", "-"),
    **dict.fromkeys("│┃╎╏┆┇║", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝┏┓┗┛╸╺╻╹", "+"),
    **dict.fromkeys("·•●○◉◆∙", "*"),
    **dict.fromkeys("–—−", "-"),
    **dict.fromkeys("▶▸►→❯", ">"),
    **dict.fromkeys("◀◂◄←❮", "<"),
    **dict.fromkeys("▲↑", "^"),
    **dict.fromkeys("▼▾↓", "v"),
    **dict.fromkeys("░▒▓", ":"),
    "×": "x", "…": "~", "Σ": "S", "∫": "~", "°": "o", "±": "+", "≈": "~", "≤": "<", "≥": ">", "µ": "u",
    "₂": "2", "²": "2", "✓": "v", "✗": "x", "⚠": "!", "“": '"', "”": '"', "’": "'", "∞": "?", "\u00a0": " ",
}  # fmt: skip
# The Linux console's font has half blocks and shades, and none of the eighths.
_LINUX: Final[Mapping[str, str]] = {
    **dict.fromkeys("▁▂", "_"),
    **dict.fromkeys("▃▄▅", "▄"),
    **dict.fromkeys("▆▇", "█"),
    **dict.fromkeys("╌╍┄┅━", "─"),
    **dict.fromkeys("╸╺", "─"),
    "∫": "~", "₂": "2", "…": "~", "▸": ">", "⚠": "!", "✓": "v", "✗": "x", "⭘": "o",
}  # fmt: skip


class GlyphFilter(LineFilter):
    """Replaces what a console cannot show, character by character."""

    def __init__(self, table: Mapping[str, str], *, ascii_only: bool) -> None:
        super().__init__()
        self._translate = lru_cache(maxsize=4096)(_Translation(table, ascii_only=ascii_only))

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - textual's
        """Return the segments with their text translated."""
        return [
            segment if segment.control or segment.text.isascii()
            else Segment(self._translate(segment.text), segment.style)
            for segment in segments
        ]  # fmt: skip


class _Translation:
    def __init__(self, table: Mapping[str, str], *, ascii_only: bool) -> None:
        self._table, self._ascii_only = table, ascii_only

    def __call__(self, text: str) -> str:
        return "".join(self._one(character) for character in text)

    def _one(self, character: str) -> str:
        if character.isascii():
            return character
        known = self._table.get(character)
        if known is not None or not self._ascii_only:
            return known or character
        if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Cf"):
            return ""
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        if len(plain) == 1:
            return plain
        return "??" if unicodedata.east_asian_width(character) in "WF" else "?"


def filter_for(*, ascii_only: bool, term: str, encoding: str) -> GlyphFilter | None:
    """Return the translation that a console needs: all to ASCII, a few for the Linux console, or none."""
    if ascii_only or not encoding.casefold().replace("-", "").startswith("utf"):
        return GlyphFilter(_ASCII, ascii_only=True)
    return GlyphFilter(_LINUX, ascii_only=False) if term == "linux" else None
