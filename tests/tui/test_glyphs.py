"""A translated line has the same width, and ASCII is ASCII."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color

from llmco2_tui.glyphs import filter_for

USED = " aZ0▁▂▃▄▅▆▇█░─━│╭╮╰╯┤▔·–—…×Σ∫°₂▸↑↓→µ²∞●≈±🔎é中"


def translated(text: str, *, ascii_only: bool, term: str = "xterm", encoding: str = "utf-8") -> str:
    found = filter_for(ascii_only=ascii_only, term=term, encoding=encoding)
    assert found is not None
    return "".join(segment.text for segment in found.apply([Segment(text)], Color(0, 0, 0)))


@given(st.text(alphabet=USED))
def test_ascii_keeps_the_width(text: str) -> None:
    shown = translated(text, ascii_only=True)
    assert shown.isascii()
    assert cell_len(shown) == cell_len(text)


@given(st.text(alphabet=USED))
def test_the_linux_console_keeps_the_width(text: str) -> None:
    assert cell_len(translated(text, ascii_only=False, term="linux")) == cell_len(text)


def test_bars_stay_bars() -> None:
    assert translated("▁▄█", ascii_only=True) == "_-#"
    assert translated("▁▄▆█", ascii_only=False, term="linux") == "_▄██"


def test_a_terminal_with_unicode_needs_nothing_and_one_without_gets_ascii() -> None:
    assert filter_for(ascii_only=False, term="xterm-256color", encoding="UTF-8") is None
    assert translated("█", ascii_only=False, encoding="ANSI_X3.4-1968") == "#"
