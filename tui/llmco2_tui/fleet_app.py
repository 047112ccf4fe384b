"""``llmco2 monitor --prometheus``: a table of hosts, and one host when it is chosen.

Invariant: a Prometheus is asked in a thread; the screen shows the newest answer with its age, and why there is no
newer one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from llmco2.errors import LLMCO2Error
from llmco2.serving.fleet import Fleet, FleetHost
from llmco2_tui.fleet_table import COLUMNS, fleet_line, host_lines, host_rows, sorted_hosts

ASK_S: Final = 15.0
_POWER_COLUMN: Final = 2


@dataclass
class FleetRead(Message):
    """A newer answer of the Prometheus."""

    fleet: Fleet
    at_s: float

    def can_replace(self, message: Message) -> bool:
        """Replace an older answer that nobody has looked at."""
        return isinstance(message, FleetRead)


@dataclass
class FleetFailed(Message):
    """The Prometheus gave no answer."""

    reason: str


class HostScreen(ModalScreen[None]):
    """All that is known of one host."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "app.pop_screen", "back")]
    CSS = "HostScreen { align: center middle; } #host { width: 90%; height: 80%; border: round $accent; padding: 0 1; }"

    def __init__(self, host: FleetHost) -> None:
        super().__init__()
        self.host = host

    def compose(self) -> ComposeResult:
        """The host's lines, scrollable."""
        with VerticalScroll(id="host"):
            yield Static("\n".join(host_lines(self.host)), markup=False, id="host-lines")


class FleetApp(App[None]):
    """Hosts of one Prometheus."""

    TITLE = "llmco2 fleet"
    CSS = """
    #fleet-line, #trouble { height: auto; padding: 0 1; }
    #trouble { color: $error; }
    #part { height: 3; display: none; }
    #part.-shown { display: block; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort by next column"),
        Binding("r", "reverse", "reverse"),
        Binding("slash", "filter", "filter"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, ask: Callable[[], Fleet], *, ask_s: float = ASK_S, light: bool = False) -> None:
        """``ask`` may take seconds, or raise ``LLMCO2Error``."""
        super().__init__()
        self._ask, self._ask_s, self._light = ask, ask_s, light
        self.fleet: Fleet | None = None
        self._at_s = 0.0
        self._reason = ""
        self._column, self._descending, self._part = _POWER_COLUMN, True, ""
        self._shown: list[FleetHost] = []
        self._line = Static("asking …", id="fleet-line", markup=False)
        self._trouble = Static("", id="trouble", markup=False)
        self._table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=True)
        self._filter = Input(placeholder="host, model, engine …", id="part")

    def compose(self) -> ComposeResult:
        """The sum above, the table, the filter, the keys."""
        yield self._line
        yield self._trouble
        self._table.add_columns(*(column.title for column in COLUMNS))
        yield self._table
        yield self._filter
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Ask now, and again from time to time."""
        self.theme = "textual-light" if self._light else "textual-dark"
        self._table.focus()
        self._look()
        self.set_interval(self._ask_s, self._look)
        self.set_interval(1.0, self._paint_line)

    def _look(self) -> None:
        self.run_worker(self._look_in_thread, thread=True, group="ask", exclusive=True)

    def _look_in_thread(self) -> None:
        try:
            fleet = self._ask()
        except LLMCO2Error as error:
            self.post_message(FleetFailed(reason=str(error)))
        else:
            self.post_message(FleetRead(fleet=fleet, at_s=time.monotonic()))

    @on(FleetRead)
    def _read(self, message: FleetRead) -> None:
        self.fleet, self._at_s, self._reason = message.fleet, message.at_s, ""
        self._paint()

    @on(FleetFailed)
    def _failed(self, message: FleetFailed) -> None:
        self._reason = message.reason
        self._paint_line()

    def _paint(self) -> None:
        """Show the hosts; the cursor stays on its host where that is still shown."""
        self._paint_line()
        table = self._table
        if self.fleet is None or not table.is_attached:
            return
        row = table.cursor_row
        chosen = self._shown[row].name if 0 <= row < len(self._shown) else None
        self._shown = sorted_hosts(
            self.fleet.hosts, self._column, descending=self._descending, part=self._part
        )
        table.clear()
        table.add_rows([Text(cell) for cell in row] for row in host_rows(self._shown))  # no markup in names
        place = next((n for n, host in enumerate(self._shown) if host.name == chosen), 0)
        table.move_cursor(row=place)

    def _paint_line(self) -> None:
        if not self._line.is_attached:
            return  # the screen is being closed
        if self.fleet is not None:
            age_s = time.monotonic() - self._at_s
            arrow = "↓" if self._descending else "↑"
            sort = f"sorted by {COLUMNS[self._column].title} {arrow}"
            self._line.update(f"{fleet_line(self.fleet)}  ·  {age_s:.0f} s ago  ·  {sort}")
        troubles = [self._reason, *(self.fleet.troubles if self.fleet is not None else ())]
        self._trouble.update("\n".join(text for text in troubles if text)[:500])

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._column = (self._column + 1) % len(COLUMNS)
        self._paint()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._descending = not self._descending
        self._paint()

    def action_filter(self) -> None:
        """Let a person type what rows must hold."""
        self._filter.add_class("-shown")
        self._filter.focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._part = event.value
        self._paint()

    @on(Input.Submitted)
    def _typed_all(self) -> None:
        if not self._filter.value:
            self._filter.remove_class("-shown")
        self._table.focus()

    @on(DataTable.HeaderSelected)
    def _header(self, event: DataTable.HeaderSelected) -> None:
        self._descending = not self._descending if event.column_index == self._column else True
        self._column = event.column_index
        self._paint()

    @on(DataTable.RowSelected)
    def _chosen(self, event: DataTable.RowSelected) -> None:
        if 0 <= event.cursor_row < len(self._shown):
            self.push_screen(HostScreen(self._shown[event.cursor_row]))
