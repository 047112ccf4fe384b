"""Single lines of the screen say each thing once and fit 80 columns."""

from __future__ import annotations

from datetime import date

import pytest
from rich.cells import cell_len

from llmco2_tui.comparison import Comparison
from llmco2_tui.grid import GridAccount
from llmco2_tui.ledger import Totals
from llmco2_tui.screens.help import KEYS
from llmco2_tui.summary import _comparison_text
from llmco2_tui.views import TotalsView
from llmco2_tui.widgets.cumulative_chart import cumulative_lines
from llmco2_tui.widgets.grid_line import grid_line
from llmco2_tui.widgets.lines import Line
from llmco2_tui.widgets.totals import total_lines

from .conftest import REQUEST


def words(line: Line) -> str:
    return "".join(text for text, _ in line)


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        (None, "grid WOR World (assumed; z chooses) 458 gCO2e/kWh, year not stated  ecologits "),
        ("FRA", "grid FRA France 41.4 gCO2e/kWh, 2025, 1 y old  ecologits "),
        ("gcp:europe-west3", "europe-west3) 345 gCO2e/kWh, year not stated  Google Cloud region "),
    ],
)
def test_the_grid_is_dated_once(zone: str | None, says: str) -> None:
    line = words(grid_line(GridAccount(zone, today=date(2026, 11, 1)).view))
    assert says in line
    assert line.count("ecologits") <= 1
    assert line.count("not stated") <= 1


@pytest.mark.parametrize("width", [78, 118])
def test_the_sums_leave_out_the_limit_rather_than_a_unit(width: int) -> None:
    totals = Totals(
        power_w=2750.0,
        power_limit_w=5600.0,
        energy_j=33_330.0,
        idle_j=7e2,
        elapsed_s=3600.0,
        n_lost=0,
        integrated=False,
        n_gpus=8,
        n_with_power=8,
        n_with_energy=8,
        refused=0,
        restarts=0,
    )
    first = total_lines(TotalsView(totals=totals, operational_g=8.33, embodied_g=0.792), width)[0]
    assert words(first).endswith("CO2e + 792 mg embodied")
    assert cell_len(words(first)) <= width
    assert (" of 5,600" in words(first)) == (width == 118)


def test_where_nothing_was_measured_the_screen_says_what_to_press() -> None:
    (((text, _),),) = cumulative_lines([], 78, 10)
    assert text == "nothing measured yet: press m as one batch starts, and again as it ends"
    assert ("m", "mark start, then end, of one batch of the request in view: its energy is measured") in KEYS


@pytest.mark.parametrize(("batches", "says"), [(4.043, "4"), (4.26, "4.3"), (1234.4, "1,234")])
def test_a_summary_counts_batches_as_the_screen_does(batches: float, says: str) -> None:
    (first, *_) = _comparison_text(Comparison(request=REQUEST, batches=batches, why_not="no GPU"))
    assert first.endswith(f"tokens · bf16, {says} batches measured")
