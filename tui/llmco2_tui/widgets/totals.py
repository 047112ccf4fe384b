"""All GPUs together: the share that was drawn at rest, and what the sums leave out."""

from __future__ import annotations

from llmco2.report.quantities import energy_text
from llmco2_tui.ledger import Totals
from llmco2_tui.views import TotalsView
from llmco2_tui.widgets.lines import Line, Lines
from llmco2_tui.widgets.wording import clock_time, counted


def idle_line(totals: Totals) -> Line:
    """Return what was drawn at rest, and what the sums leave out."""
    elapsed = f" over {clock_time(totals.elapsed_s)}"
    partial = f"; energy of {totals.energy_gpus_text} only" if totals.incomplete else ""
    partial += f"; {counted(totals.refused, 'impossible counter step')} left out" if totals.refused else ""
    if totals.energy_j is None or totals.idle_j is None:
        return [(f"idle share unknown: utilisation cannot be read{elapsed}{partial}", "muted")]
    share = totals.idle_j / totals.energy_j if totals.energy_j > 0 else 0.0
    return [
        ("idle ", "muted"),
        (f"{energy_text(totals.idle_j)} ({100 * share:.0f} %)", "warn" if share > 0.5 else ""),
        (f", busy {energy_text(totals.energy_j - totals.idle_j)},{elapsed}{partial}", "muted"),
    ]


class TotalsPanel(Lines):
    """One line under the GPUs."""

    def show(self, view: TotalsView) -> None:
        """Show the sums."""
        self.show_lines([idle_line(view.totals)])
