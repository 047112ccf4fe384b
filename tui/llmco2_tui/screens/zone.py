"""Choosing the grid zone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from llmco2.catalog.grids import GridZone

_MOST = 100


def matching(zones: Sequence[GridZone], text: str) -> list[GridZone]:
    """Return the zones whose name or id has ``text``; an id that is just that comes first."""
    key = text.strip().casefold()
    found = [zone for zone in zones if key in zone.zone_id.casefold() or key in zone.name.casefold()]
    return sorted(found, key=lambda zone: zone.zone_id.casefold() != key)[:_MOST]


class ZoneScreen(ModalScreen[str | None]):
    """Hands back the id of the chosen zone, or ``None``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
    ]
    CSS = """
    ZoneScreen { align: center middle; }
    ZoneScreen Vertical { width: 70; max-width: 95%; height: 18; border: round $primary; background: $surface; }
    ZoneScreen Input { height: 1; border: none; background: $panel; }
    ZoneScreen OptionList { height: 1fr; border: none; }
    """

    def __init__(self, zones: Sequence[GridZone]) -> None:
        super().__init__()
        self._zones = zones

    def compose(self) -> ComposeResult:
        """A line to type in, and what matches."""
        with Vertical() as box:
            box.border_title = "grid zone · type to search, Enter chooses, Esc cancels"
            yield Input(placeholder="France, FRA, aws:eu-west-3 …", compact=True)
            yield OptionList()

    def on_mount(self) -> None:
        """Show every zone."""
        self._list("")
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._list(event.value)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self.dismiss(options.get_option_at_index(options.highlighted).id)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def action_move(self, step: int) -> None:
        """Move the choice while the cursor stays in the line."""
        options = self.query_one(OptionList)
        if step > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def _list(self, text: str) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(
            [
                Option(
                    f"{zone.zone_id:<22} {zone.carbon_intensity_gco2e_per_kwh:>6.0f} g/kWh  {zone.name}",
                    id=zone.zone_id,
                )
                for zone in matching(self._zones, text)
            ]
        )
        if options.option_count:
            options.highlighted = 0
