"""Markdown tables, written one way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_line(cells: Sequence[str]) -> str:
    """Return one line of a table, without its end."""
    return "| " + " | ".join(cells) + " |"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], n_text: int = 1) -> str:
    """Return a table whose first ``n_text`` columns are text and the others right-aligned numbers."""
    rule = ["---"] * n_text + ["--:"] * (len(header) - n_text)
    return "".join(table_line(row) + "\n" for row in (header, rule, *rows))
