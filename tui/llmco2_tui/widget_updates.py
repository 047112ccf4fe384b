"""What each widget shows, computed from the monitor state.

Invariant: what is shown is computed from the monitor state when it is drawn, and only what is seen is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from textual.app import App

from llmco2.records.request import InferenceRequest
from llmco2_tui.campaign_rows import campaign_rows
from llmco2_tui.grid import GridAccount
from llmco2_tui.monitor_state import MonitorState
from llmco2_tui.sources import Source
from llmco2_tui.widgets.answer_lines import AnswerLines, AnswerView
from llmco2_tui.widgets.banner import Banner, BannerView
from llmco2_tui.widgets.campaign_panel import CampaignPanel
from llmco2_tui.widgets.comparison_table import CUMULATIVE, PER_TOKEN, ComparisonTable
from llmco2_tui.widgets.cumulative_chart import CumulativeChart
from llmco2_tui.widgets.gpu_table import GpuTable, note_lines, spark_width
from llmco2_tui.widgets.grid_line import GridLine
from llmco2_tui.widgets.lines import Lines
from llmco2_tui.widgets.notice import Notice, no_gpu_lines
from llmco2_tui.widgets.power_chart import PowerChart
from llmco2_tui.widgets.process_table import NOT_KNOWN, NOT_RECORDED, ProcessTable
from llmco2_tui.widgets.server_panel import ServerPanel
from llmco2_tui.widgets.top_line import TopLine, TopView
from llmco2_tui.widgets.totals import TotalsPanel
from llmco2_tui.widgets.what_if import Side, WhatIf
from llmco2_tui.widgets.wording import clock_time

LOW: Final = 16  # rows below which only the three lines and the tables are shown
NARROW: Final = 80  # columns below which tables scroll sideways
TALL: Final = 36  # rows from which the live view has room for the comparison too
_SERVER_SHARE: Final = 4  # of the rows that servers may take: one in so many
_PADDING: Final = 2  # of the views, both sides
_MOST_PAINTS_HZ: Final = 2.5  # eyes need no more; samples carry counters, so nothing is lost between paints


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around the views."""

    view: str
    rate_hz: float
    source: Source | None
    recording: str
    trouble: tuple[str, ...]


class RedrawThrottle:
    """Decides which readings of a source are drawn, so that bursts do not flood the terminal."""

    def __init__(self) -> None:
        self._n_readings = 0
        self._unpainted = False

    def is_due(self, rate_hz: float) -> bool:
        """Return whether to paint now, at another reading of a source that is looked at ``rate_hz`` times a second."""
        every = max(1, round(rate_hz / _MOST_PAINTS_HZ))
        self._unpainted = self._n_readings % every != 0
        self._n_readings += 1
        return not self._unpainted

    def take_unpainted(self) -> bool:
        """Return whether the last reading waits to be painted, and let it wait no longer."""
        unpainted, self._unpainted = self._unpainted, False
        return unpainted


class WidgetUpdater:
    """Shows a monitor state on the widgets of one application."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app

    @property
    def _width(self) -> int:
        return self._app.size.width - _PADDING

    def _find(self, kind: type[Any], name: str = "") -> Any:
        # the views are on the first screen, whatever lies over it
        return self._app.screen_stack[0].query_one(f"#{name}" if name else kind.__name__, kind)

    def frame(self, monitor_state: MonitorState, frame: Frame) -> None:
        """Show the banner and the line of views."""
        playback = frame.source.playback if frame.source is not None else None
        elapsed = clock_time(monitor_state.totals().elapsed_s)
        words = [frame.recording, "" if playback is not None else f"{frame.rate_hz:g} Hz", elapsed]
        replay = replay_text(frame.source.name, playback) if frame.source and playback else ""
        alarms = (*frame.trouble, *monitor_state.alarms())
        self._find(Banner).show(
            BannerView(
                simulated=monitor_state.is_simulated() and self._app.size.height >= TALL,
                replay=replay,
                alarms=alarms,
            )
        )
        has_room = frame.source is not None and self._app.size.height >= LOW
        servers = frame.source.servers if frame.source is not None and has_room else ()
        most, simulated = self._app.size.height // _SERVER_SHARE, monitor_state.is_simulated()
        self._find(ServerPanel).show(servers, self._width, most, simulated=simulated)
        status = " · ".join(word for word in words if word)
        self._find(TopLine).show(TopView(current=frame.view, status=status))

    def answer(self, monitor_state: MonitorState, trouble: str) -> None:
        """Show the three lines on top."""
        self._find(AnswerLines).show(
            AnswerView(
                totals=monitor_state.totals_view(),
                grams_per_hour=monitor_state.grams_per_hour(),
                gpu_names=[device.name for device in monitor_state.devices],
                comparison=monitor_state.comparison,
                simulated=monitor_state.is_simulated(),
                trouble=trouble,
            )
        )

    def processes(self, monitor_state: MonitorState, *, recorded: bool) -> None:
        """Show who computes on the GPUs."""
        why = NOT_RECORDED if recorded else NOT_KNOWN
        self._find(ProcessTable).show(monitor_state.processes, why, self._width)

    def nothing(self, reason: str | None) -> None:
        """Show why there are no readings; ``None`` is that they are on their way."""
        self._show_readings(shown=False)
        looking = [[("looking for GPUs …", "muted")]]
        lines = looking if reason is None else no_gpu_lines(reason, self._width)
        self._find(Notice, "no-source").show_lines(lines)

    def readings(self, monitor_state: MonitorState, *, live: bool) -> None:
        """Show what the GPUs draw, where that is looked at."""
        self._show_readings(shown=True)
        if live:
            rows = monitor_state.gpu_rows(spark_width(self._width))
            self._find(GpuTable).show(
                rows,
                monitor_state.totals(),
                self._width,
                sort=monitor_state.sort,
                descending=monitor_state.descending,
            )
            self._find(Lines, "gpu-notes").show_lines(note_lines(rows, self._width, most=3))
            self._find(TotalsPanel).show(monitor_state.totals_view())
            self._find(PowerChart, "power").show(monitor_state.power_view())

    def _show_readings(self, *, shown: bool) -> None:
        self._find(Notice, "no-source").display = not shown
        self._app.screen_stack[0].query_one("#readings").display = shown

    def comparison(self, monitor_state: MonitorState, block: str) -> None:
        """Show predicted beside measured, wherever it stands."""
        view = monitor_state.comparison
        for name in ("live-grid", "compare-grid"):
            self._find(GridLine, name).show(monitor_state.account.view)
        self._find(ComparisonTable, "live-comparison").show(view, (block,))
        self._find(CumulativeChart, "live-cumulative").show(view.points)
        blocks = (CUMULATIVE, PER_TOKEN) if self._app.size.height >= TALL else (block,)
        self._find(ComparisonTable, "comparison").show(view, blocks)
        self._find(CumulativeChart, "cumulative").show(view.points)

    def form(
        self,
        monitor_state: MonitorState,
        request: InferenceRequest | None,
        account: GridAccount,
        problem: str | None,
    ) -> None:
        """Show the form's answer beside the one in view."""
        now, answers = monitor_state.request, monitor_state.answers
        present = answers.get(now) if now else None
        other = answers.get(request) if request else None
        self._find(WhatIf).show(
            Side(title="now", request=now, answer=present, account=monitor_state.account),
            Side(title="what if", request=request, answer=other, account=account),
            problem,
        )

    def campaign(self, monitor_state: MonitorState) -> None:
        """Show the campaign."""
        view = monitor_state.campaign
        rows = [] if view is None else campaign_rows(view, monitor_state.answers, monitor_state.account)
        self._find(CampaignPanel).show(view, rows)


def replay_text(name: str, playback: Any) -> str:
    """Return where a recording is, and the keys that move it."""
    now_s, end_s = playback.now_s(), playback.end_s
    where = f"{clock_time(now_s - playback.start_s)} of {clock_time(end_s - playback.start_s)}"
    if now_s >= end_s:
        return f"{name} · {where} · ended; 0 plays it again"
    state = (
        "paused; space goes on"
        if playback.speed == 0
        else f"{playback.speed:g}×; space pauses, , . go, + - speed"
    )
    return f"{name} · {where} · {state}"
