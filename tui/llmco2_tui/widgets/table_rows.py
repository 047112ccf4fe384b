"""A table whose rows are told apart by keys: it scrolls, keeps its cursor, and paints only cells that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.cells import cell_len
from rich.text import Text
from textual.widgets import DataTable

from llmco2_tui.widgets.lines import fitted

_STYLES: Final = {"strong": "bold", "muted": "dim", "warn": "bold yellow", "bad": "bold red", "good": "green"}

Heading = tuple[str, Text, int]  # key, text, cells


def cell(text: str, width: int, kind: str = "", *, right: bool = False) -> Text:
    """Return a cell of exactly ``width`` cells, one of them a blank at its end."""
    room = max(1, width - 1)
    shown = text if cell_len(text) <= room else fitted(text, room)
    blanks = " " * max(0, room - cell_len(shown))
    return Text(
        f"{blanks}{shown} " if right else f"{shown}{blanks} ", style=_STYLES.get(kind, ""), no_wrap=True
    )


class TableRows(DataTable[Text]):
    """A DataTable that is handed all its rows at once, again and again."""

    DEFAULT_CSS = """
    TableRows { height: auto; max-height: 12; background: transparent; scrollbar-size-vertical: 1; }
    TableRows > .datatable--header { background: transparent; text-style: none; }
    TableRows > .datatable--even-row { background: transparent; }
    TableRows > .datatable--cursor { background: $primary 30%; color: $foreground; }
    TableRows > .datatable--header-hover { background: $primary 30%; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - textual's
        super().__init__(id=id, cell_padding=0, cursor_type="row", zebra_stripes=False)
        self._headings: list[tuple[str, str, int]] = []
        self._cells: dict[str, list[Text]] = {}

    @property
    def text(self) -> str:
        """The headings and rows without their styles."""
        heading = "".join(text for _, text, _ in self._headings)
        return "\n".join([heading, *("".join(c.plain for c in cells) for cells in self._cells.values())])

    def show_rows(
        self, headings: Sequence[Heading], rows: Mapping[str, Sequence[Text]], chosen: str | None
    ) -> None:
        """Replace the rows, in this order; the cursor goes to the row ``chosen``, where there is one."""
        named = [(key, text.plain, width) for key, text, width in headings]
        with self.prevent(DataTable.RowHighlighted):
            if named != self._headings:
                self.clear(columns=True)
                for key, text, width in headings:
                    self.add_column(text, key=key, width=width)
                self._headings, self._cells = named, {}
            if list(rows) != list(self._cells):
                offset = self.scroll_offset
                self.clear()
                for key, cells in rows.items():
                    self.add_row(*cells, key=key)
                self.scroll_to(offset.x, offset.y, animate=False)
            else:
                self._update_cells(rows)
            self._cells = {key: list(cells) for key, cells in rows.items()}
            self._go_to(chosen)

    def _update_cells(self, rows: Mapping[str, Sequence[Text]]) -> None:
        for key, cells in rows.items():
            for (column, _, _), old, new in zip(self._headings, self._cells[key], cells, strict=True):
                if old.plain != new.plain or old.style != new.style:
                    self.update_cell(key, column, new)

    def _go_to(self, chosen: str | None) -> None:
        if chosen in self._cells:
            row = list(self._cells).index(chosen)
            if row != self.cursor_row:
                self.move_cursor(row=row, animate=False)
