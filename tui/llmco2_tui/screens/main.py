"""The screen of the views, and what stands on it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer, Vertical
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Footer

from llmco2_tui.views import Names
from llmco2_tui.widgets.answer_lines import AnswerLines
from llmco2_tui.widgets.banner import Banner
from llmco2_tui.widgets.campaign_panel import CampaignPanel
from llmco2_tui.widgets.comparison_table import ComparisonTable
from llmco2_tui.widgets.cumulative_chart import CumulativeChart
from llmco2_tui.widgets.gpu_table import GpuTable
from llmco2_tui.widgets.grid_line import GridLine
from llmco2_tui.widgets.lines import Lines
from llmco2_tui.widgets.notice import Notice
from llmco2_tui.widgets.power_chart import PowerChart
from llmco2_tui.widgets.process_table import ProcessTable
from llmco2_tui.widgets.server_panel import ServerPanel
from llmco2_tui.widgets.top_line import TopLine
from llmco2_tui.widgets.totals import TotalsPanel
from llmco2_tui.widgets.what_if import WhatIf


class MainScreen(Screen[None]):
    """Up and down choose a GPU wherever the cursor is, but in a table that scrolls by itself."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.choose(-1)", "GPU", show=False),
        Binding("down", "app.choose(1)", "GPU", key_display="↑↓"),
    ]


def main_widgets(names: Names) -> ComposeResult:
    """The banner and the views' names above, the views, the keys below."""
    yield AnswerLines()
    yield Banner(id="banner")
    yield TopLine()
    yield Notice(id="too-small")
    with ContentSwitcher(initial="live", id="views"):
        with Vertical(id="live"):
            yield Notice(id="no-source")
            with Vertical(id="readings"):
                yield GpuTable()
                yield Lines(id="gpu-notes")
                yield ServerPanel()
                yield TotalsPanel()
                yield GridLine(id="live-grid")
                yield ProcessTable()
                yield PowerChart(id="power")
                with Vertical(id="dashboard"):
                    yield ComparisonTable(id="live-comparison")
                    yield CumulativeChart(id="live-cumulative")
        with ScrollableContainer(id="compare"):
            yield ComparisonTable(id="comparison")
            yield GridLine(id="compare-grid")
            yield CumulativeChart(id="cumulative")
        yield WhatIf(names)
        yield CampaignPanel(id="campaign")
    yield Footer(show_command_palette=False, compact=True)
