"""All GPUs together: power, energy in J and Wh, grams, and the share that was drawn at rest."""

from __future__ import annotations

from rich.cells import cell_len

from llmco2.report.quantities import energy_text, mass_text, watt_hours_text
from llmco2_tui.ledger import Totals
from llmco2_tui.views import TotalsView
from llmco2_tui.widgets.lines import Line, Lines
from llmco2_tui.widgets.wording import NOTHING, clock_time, counted, watts


def total_lines(view: TotalsView, width: int) -> list[Line]:
    """Return what all cost, and how much of it was idling; the limit goes where ``width`` has no room for it."""
    totals = view.totals
    limit = f" of {watts(totals.power_limit_w)}" if totals.power_limit_w is not None else ""
    energy = NOTHING if totals.energy_j is None else energy_text(totals.energy_j)
    hours = "" if totals.energy_j is None else f" = {watt_hours_text(totals.energy_j)}"
    grams = NOTHING if view.operational_g is None else mass_text(view.operational_g)
    embodied = "" if view.embodied_g is None else f" + {mass_text(view.embodied_g)} embodied"
    mark = "∫" if totals.integrated else ""
    limit_piece = (limit, "muted")
    partial = totals.n_with_power < totals.n_gpus
    lacking: Line = [(f" of {totals.power_gpus_text}", "warn")] if partial else []
    first: Line = [
        ("Σ ", "strong"),
        (f"{watts(totals.power_w)} W", "strong"),
        *lacking,
        limit_piece,
        (f" ({totals.n_lost} lost)" if totals.n_lost else "", "muted"),
        ("  since start ", "muted"),
        (f"{mark}{energy}", "strong"),
        (hours, ""),
        ("  ", ""),
        (f"{grams} CO2e", "strong"),
        (embodied, "muted"),
    ]
    if sum(cell_len(text) for text, _ in first) > width:
        first = [piece for piece in first if piece is not limit_piece]
    return [first, _idle_line(totals)]


def _idle_line(totals: Totals) -> Line:
    elapsed = f" over {clock_time(totals.elapsed_s)}"
    partial = f"; energy of {totals.energy_gpus_text} only" if totals.incomplete else ""
    partial += f"; {counted(totals.refused, 'impossible counter step')} left out" if totals.refused else ""
    if totals.energy_j is None or totals.idle_j is None:
        return [(f"  idle share unknown: utilisation cannot be read{elapsed}{partial}", "muted")]
    share = totals.idle_j / totals.energy_j if totals.energy_j > 0 else 0.0
    return [
        ("  of which idle ", "muted"),
        (f"{energy_text(totals.idle_j)} ({100 * share:.0f} %)", "warn" if share > 0.5 else ""),
        (f", busy {energy_text(totals.energy_j - totals.idle_j)},{elapsed}{partial}", "muted"),
    ]


class TotalsPanel(Lines):
    """Two lines under the GPUs."""

    def show(self, view: TotalsView) -> None:
        """Show the sums."""
        self.show_lines(total_lines(view, self.size.width))
