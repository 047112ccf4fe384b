"""The grid zone in view: its intensity, where that comes from, and how old it is."""

from __future__ import annotations

from llmco2.report.quantities import three_digits
from llmco2_tui.grid import GridView
from llmco2_tui.widgets.lines import Line, Lines


def grid_line(view: GridView) -> Line:
    """Return one line; a stale figure says so before its source."""
    zone = view.zone
    stale: Line = [(f" STALE: {view.age_text} ", "notice")] if view.stale else [(f" {view.age_text}", "good")]
    assumed = " (assumed; z chooses)" if view.assumed else ""
    year = f" {zone.date}," if view.age_years is not None else ""  # without a year, the source says the rest
    return [
        ("grid ", "muted"),
        (f"{zone.zone_id} {zone.name}{assumed} ", "strong"),
        (f"{three_digits(zone.carbon_intensity_gco2e_per_kwh, trim=True)} gCO2e/kWh,", "strong"),
        (year, ""),
        *stale,
        (f"  {zone.source}", "muted"),
    ]


class GridLine(Lines):
    """One line about the grid."""

    DEFAULT_CSS = "GridLine { height: 1; }"

    def show(self, view: GridView) -> None:
        """Show the zone."""
        self.show_lines([grid_line(view)])
