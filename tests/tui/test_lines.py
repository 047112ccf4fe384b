"""Single lines of the screen say each thing once and fit 80 columns."""

from __future__ import annotations

from datetime import date

import pytest

from llmco2_tui.comparison import Comparison
from llmco2_tui.grid import GridAccount
from llmco2_tui.screens.help import KEYS
from llmco2_tui.summary import _comparison_text
from llmco2_tui.widgets.cumulative_chart import cumulative_lines
from llmco2_tui.widgets.grid_line import grid_line
from llmco2_tui.widgets.lines import Line

from .conftest import REQUEST


def words(line: Line) -> str:
    return "".join(text for text, _ in line)


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        (None, "grid WOR World (assumed; z chooses) 458 gCO2e/kWh, 2025, 1 y old  ecologits "),
        ("FRA", "grid FRA France 41.4 gCO2e/kWh, 2025, 1 y old  ecologits "),
        ("gcp:europe-west3", "europe-west3) 345 gCO2e/kWh, year not stated  Google Cloud region "),
    ],
)
def test_the_grid_is_dated_once(zone: str | None, says: str) -> None:
    line = words(grid_line(GridAccount(zone, today=date(2026, 11, 1)).view))
    assert says in line
    assert line.count("ecologits") <= 1
    assert line.count("not stated") <= 1


def test_where_nothing_was_measured_the_screen_says_what_to_press() -> None:
    (((text, _),),) = cumulative_lines([], 78, 10)
    assert text == "nothing measured yet: press m as one batch starts, and again as it ends"
    assert ("m", "mark start, then end, of one batch of the request in view: its energy is measured") in KEYS


@pytest.mark.parametrize(("batches", "says"), [(4.043, "4"), (4.26, "4.3"), (1234.4, "1,234")])
def test_a_summary_counts_batches_as_the_screen_does(batches: float, says: str) -> None:
    (first, *_) = _comparison_text(Comparison(request=REQUEST, batches=batches, why_not="no GPU"))
    assert first.endswith(f"tokens · bf16, {says} batches measured")
