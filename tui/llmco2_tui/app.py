"""The application: it listens to messages, keeps the monitor state, and updates the widgets.

Invariant: it is handed its sources, its predictor and its grid; nothing that can block runs here, but in threads
that post messages.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from textual import events, on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input

from llmco2.errors import LLMCO2Error
from llmco2.records.request import InferenceRequest
from llmco2_tui import exporting, notes
from llmco2_tui.grid import GridAccount
from llmco2_tui.keys import BINDINGS, LETTER_ACTIONS
from llmco2_tui.messages import (
    Answered,
    CampaignRead,
    Noted,
    ProcessesSeen,
    Readings,
    RecordingFailed,
    Rewound,
    SourceFailed,
    SourceOpened,
    WorkloadMeasured,
)
from llmco2_tui.monitor_state import MonitorState
from llmco2_tui.options import Options
from llmco2_tui.predicting import Predict
from llmco2_tui.prediction_worker import PredictionWorker
from llmco2_tui.reading import SourceReader
from llmco2_tui.screens.help import HelpScreen
from llmco2_tui.screens.main import MainScreen, main_widgets
from llmco2_tui.screens.zone import ZoneScreen
from llmco2_tui.sources import Sources
from llmco2_tui.widget_updates import LOW, NARROW, TALL, Frame, RedrawThrottle, WidgetUpdater
from llmco2_tui.widgets.comparison_table import CUMULATIVE, PER_TOKEN
from llmco2_tui.widgets.gpu_table import GpuTable
from llmco2_tui.widgets.notice import LEAST_HEIGHT, LEAST_WIDTH, Notice, too_small_lines
from llmco2_tui.widgets.top_line import VIEWS, TopLine
from llmco2_tui.widgets.what_if import WhatIf

_SIGNALLED: Final = 128  # what a shell adds to the number of the signal that ended a program
_CAMPAIGN_LOOK_S: Final = 1.0
_CLOCK_NOTE_S: Final = 60.0  # a machine that sleeps, or whose clock is set, is known to a minute


class MonitorApp(App[None]):
    """``llmco2 monitor``."""

    TITLE = "llmco2 monitor"
    CSS_PATH = "monitor.tcss"
    AUTO_FOCUS = None  # digits are keys until somebody goes into the form
    # an instance's, says textual; below each, what the screen leaves out
    VERTICAL_BREAKPOINTS = [(0, "-low"), (LOW, "-short"), (TALL, "-tall")]  # noqa: RUF012
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (NARROW, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = list(BINDINGS)

    def __init__(self, sources: Sources, predict: Predict, options: Options | None = None) -> None:
        super().__init__()
        self._options = options or Options()
        self._monitor_state = MonitorState(self._options.account(self._options.zone), self._options.request)
        self._reader = SourceReader(self, sources, rate_hz=self._options.rate_hz, record=self._options.record)
        self._prediction_worker = PredictionWorker(self, predict)
        self._throttle = RedrawThrottle()
        self._trouble: tuple[str, ...] = ()
        self._view = VIEWS[0][0]
        self._block = CUMULATIVE
        self._form: tuple[InferenceRequest | None, GridAccount, str | None] = (
            None,
            self._monitor_state.account,
            None,
        )
        self._keep_zone = self._options.zone is not None  # against what a recording notes
        self._keep_request = self._options.request is not None
        self._clock_noted_at = time.monotonic()
        self._updater = WidgetUpdater(self)
        if self._options.glyphs is not None:
            self._filters.append(self._options.glyphs)

    @property
    def monitor_state(self) -> MonitorState:
        """What is known; for exports and tests."""
        return self._monitor_state

    def compose(self) -> ComposeResult:
        """The banner and the views' names above, the views, the keys below."""
        yield from main_widgets(self._options.names)

    def get_default_screen(self) -> Screen[Any]:
        """Return the screen of the views."""
        return MainScreen(id="_default")

    def on_mount(self) -> None:
        """Open the source, and begin to look at what is not pushed."""
        self.theme = "textual-light" if self._options.light else "textual-dark"
        self._listen_to_signals()
        self._reader.open()
        self.set_interval(1.0, self._watch)
        self.screen_stack[0].query_one(GpuTable).focus()
        if self._options.campaign is not None:
            self._look_at_campaign()
            self.set_interval(_CAMPAIGN_LOOK_S, self._look_at_campaign)
        self._ask()
        self._paint()

    def _listen_to_signals(self) -> None:
        """Let a request to end, or a terminal that goes, end the screen as the quit key does."""
        if self.is_headless:  # there is no terminal to put back, and a test's process is not ours to end
            return
        self.app_resume_signal.subscribe(self, lambda _: self._paint_anew())  # after Ctrl+Z and fg
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._leave_by_signal, number)

    def _paint_anew(self) -> None:
        """Paint every cell: the shell has written over the screen meanwhile."""
        self.screen.refresh(layout=True)
        for widget in self.screen.walk_children():
            widget.refresh()

    def _leave_by_signal(self, number: signal.Signals) -> None:
        self.exit(return_code=_SIGNALLED + number)

    def on_unmount(self) -> None:
        """Stop reading."""
        self._reader.close()

    def on_resize(self, event: events.Resize) -> None:
        """Say where the screen is too small; paint everything at its new width."""
        small = event.size.width < LEAST_WIDTH or event.size.height < LEAST_HEIGHT
        self.set_class(small, "-too-small")
        notice = self.screen_stack[0].query_one("#too-small", Notice)
        notice.show_lines(too_small_lines(event.size.width, event.size.height) if small else [])
        self.call_after_refresh(self._paint)

    # the source

    @on(SourceOpened)
    def _source_opened(self, message: SourceOpened) -> None:
        self._reader.close()
        self._monitor_state.begin(message.source.meter.devices())
        self._reader.begin(message.source)
        self._paint_processes()
        self._note_beginning()
        self._throttle = RedrawThrottle()
        self._paint()

    def _note_beginning(self) -> None:
        """Have a recording hold what is in view as it begins."""
        self._note(notes.WALL_CLOCK, notes.wall_clock_data())
        self._note(notes.ZONE, notes.zone_data(self._monitor_state.account))
        if self._monitor_state.typed is not None:
            self._note(notes.TYPED, notes.typed_data(self._monitor_state.typed))
        self._clock_noted_at = time.monotonic()

    def _note(self, name: str, data: dict[str, object]) -> None:
        self._reader.note(name, data)

    @on(Rewound)
    def _rewound(self, message: Rewound) -> None:
        if message.source == self._reader.number:
            self._monitor_state.rewind(keep_request=self._keep_request)

    @on(ProcessesSeen)
    def _processes_seen(self, message: ProcessesSeen) -> None:
        if message.source == self._reader.number:
            self._monitor_state.processes = message.processes
            self._paint_processes()

    def _paint_processes(self) -> None:
        self._updater.processes(self._monitor_state, recorded=self._reader.is_replay)

    @on(Noted)
    def _noted(self, message: Noted) -> None:
        if message.source != self._reader.number:
            return
        taker = notes.NoteTaker(
            account=self._options.account, keep_zone=self._keep_zone, keep_request=self._keep_request
        )
        try:
            taker.take(self._monitor_state, message.events)
        except LLMCO2Error as error:
            self.notify(str(error), severity="error")
        self._ask()
        self._paint()

    @on(SourceFailed)
    def _source_failed(self, message: SourceFailed) -> None:
        self._reader.failed(message.reason)
        self._paint()

    @on(RecordingFailed)
    def _recording_failed(self, message: RecordingFailed) -> None:
        self._reader.recording_failed()
        self.notify(message.reason, title="recording stopped", severity="error", timeout=20)

    def _watch(self) -> None:
        """See once a second whether readings have stopped coming."""
        if time.monotonic() - self._clock_noted_at >= _CLOCK_NOTE_S:
            self._clock_noted_at = time.monotonic()
            self._note(notes.WALL_CLOCK, notes.wall_clock_data())
        failure = self._reader.failure
        trouble = (f"NO READING: {failure}; trying again",) if failure else ()
        if trouble != self._trouble or self._reader.is_played_back:
            self._trouble = trouble
            self._paint_frame()
        if self._throttle.take_unpainted():  # the last reading of a burst
            self._paint_readings()

    # readings and answers

    @on(Readings)
    def _readings(self, message: Readings) -> None:
        if message.source != self._reader.number:
            return
        for samples in message.samplings:
            self._monitor_state.read(samples)
        if self._throttle.is_due(self._reader.looks_per_s):
            self._paint_readings()

    @on(WorkloadMeasured)
    def _workload_measured(self, message: WorkloadMeasured) -> None:
        if message.source == self._reader.number:
            self._monitor_state.measured(message.request, message.entries)
            self._ask()
            self._paint_comparison()

    @on(Answered)
    def _answered(self, message: Answered) -> None:
        self._monitor_state.answer(message.request, message.answer)
        self._prediction_worker.answered(message.request)
        self._paint_comparison()
        if self._view == "campaign":
            self._updater.campaign(self._monitor_state)

    @on(CampaignRead)
    def _campaign_read(self, message: CampaignRead) -> None:
        self._monitor_state.follow(message.view)
        self._ask()
        self._paint()

    def _look_at_campaign(self) -> None:
        self.run_worker(self._look_in_thread, thread=True, group="campaign", exclusive=True)

    def _look_in_thread(self) -> None:
        view = self._options.campaign.look() if self._options.campaign is not None else None
        if view is not None:
            self.post_message(CampaignRead(view=view))

    def _ask(self, *more: InferenceRequest) -> None:
        """Have every request that is in view, and ``more``, predicted, each once."""
        wanted = (*more, *self._monitor_state.unanswered())
        self._prediction_worker.ask(
            request for request in wanted if request not in self._monitor_state.answers
        )

    # painting

    def _paint(self) -> None:
        self._paint_frame()
        self._paint_readings()
        self._paint_comparison()
        self._updater.campaign(self._monitor_state)

    def _paint_frame(self) -> None:
        self._paint_answer()
        frame = Frame(
            view=self._view,
            rate_hz=self._reader.rate_hz,
            source=self._reader.source,
            recording=self._reader.recording,
            trouble=self._trouble,
        )
        self._updater.frame(self._monitor_state, frame)

    def _paint_answer(self) -> None:
        nothing = self._reader.why_nothing if self._reader.source is None else None
        trouble = self._trouble[0] if self._trouble else f"NO READING: {nothing}" if nothing else ""
        self._updater.answer(self._monitor_state, trouble)

    def _paint_readings(self) -> None:
        if self._reader.source is None:
            self._updater.nothing(self._reader.why_nothing)
        else:
            self._paint_frame()
            self._updater.readings(self._monitor_state, live=self._view == "live")

    def _paint_comparison(self) -> None:
        self._paint_answer()
        self._updater.comparison(self._monitor_state, self._block)
        self._paint_form()

    def _paint_form(self) -> None:
        self._updater.form(self._monitor_state, *self._form)

    # what people do

    @on(TopLine.ViewChosen)
    def _view_chosen(self, message: TopLine.ViewChosen) -> None:
        self.action_view(message.name)

    @on(GpuTable.GpuChosen)
    def _gpu_chosen(self, message: GpuTable.GpuChosen) -> None:
        self._monitor_state.chosen = message.index
        self._paint_readings()

    @on(GpuTable.SortChosen)
    def _sort_chosen(self, message: GpuTable.SortChosen) -> None:
        self._monitor_state.sort_by(message.column)
        self._paint_readings()

    @on(WhatIf.Asked)
    def _form_changed(self, message: WhatIf.Asked) -> None:
        account, problem = self._monitor_state.account, message.problem
        if message.zone and message.zone != account.view.zone.zone_id:
            try:
                account = self._options.account(message.zone)
            except LLMCO2Error as error:
                problem = problem or str(error)
        request = message.request if problem is None else None
        self._form = (request, account, problem)
        if request is not None:
            self._ask(request)
        self._paint_form()

    def picture(self) -> str:
        """Return the screen as SVG."""
        return exporting.with_spaces(self.export_screenshot(title=self.TITLE))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """While somebody types, a key is a letter; the form's own keys are for the form."""
        typing = isinstance(self.focused, Input)
        if action in ("adopt", "leave"):
            return len(self.screen_stack) == 1 and self._view == "what-if"
        return not typing or action not in LETTER_ACTIONS

    def action_view(self, name: str) -> None:
        """Show another view."""
        self._view = name
        self.screen_stack[0].query_one(ContentSwitcher).current = name
        if name == "what-if":
            form = self.screen_stack[0].query_one(WhatIf)
            if self._form[0] is None and self._form[2] is None:
                form.fill(
                    self._monitor_state.request or form.start, self._monitor_state.account.view.zone.zone_id
                )
            form.focus_first()
        elif name == "live":
            self.screen_stack[0].query_one(GpuTable).focus()
        else:
            self.set_focus(None)
        self._paint()

    def action_leave(self) -> None:
        """Take the cursor out of the form; from there, go back to the first view."""
        if isinstance(self.focused, Input):
            self.set_focus(None)
        else:
            self.action_view(VIEWS[0][0])

    def action_adopt(self) -> None:
        """Bring the form's request and zone into view."""
        request, account, _ = self._form
        if request is not None:
            self._keep_request = self._keep_zone = True
            self._monitor_state.type_in(request)
            self._monitor_state.set_account(account)
            self._note(notes.TYPED, notes.typed_data(request))
            self._note(notes.ZONE, notes.zone_data(account))
            self._ask()
            self.action_view("compare")

    def action_zone(self) -> None:
        """Choose the grid zone."""
        self.push_screen(ZoneScreen(self._options.zones()), self._set_zone)

    def _set_zone(self, zone: str | None) -> None:
        if zone is not None:
            self._keep_zone = True
            self._monitor_state.set_account(self._options.account(zone))
            self._note(notes.ZONE, notes.zone_data(self._monitor_state.account))
            self._paint()

    def action_unit(self) -> None:
        """Cumulative, or per output token."""
        self._block = PER_TOKEN if self._block == CUMULATIVE else CUMULATIVE
        self._paint_comparison()

    def action_span(self, step: int) -> None:
        """Look further back, or less far."""
        self._monitor_state.widen(step)
        self._paint_readings()

    def action_choose(self, step: int) -> None:
        """Choose a GPU for the chart, or all."""
        self._monitor_state.choose(step)
        self._paint_readings()

    def action_sort(self) -> None:
        """Sort the GPUs by the next column."""
        self._monitor_state.sort_next()
        self._paint_readings()

    def action_reverse(self) -> None:
        """Sort the GPUs the other way round."""
        self._monitor_state.sort_by(self._monitor_state.sort)
        self._paint_readings()

    def action_faster(self, step: int) -> None:
        """Sample more often or less; a replay plays faster or slower."""
        self._reader.faster(step)
        self._paint_frame()

    def action_seek(self, steps: int) -> None:
        """Go forward or back in a replay."""
        self._reader.seek(steps)

    def action_pause(self) -> None:
        """Pause a replay, or go on."""
        self._reader.pause()
        self._paint_frame()

    def action_restart(self) -> None:
        """Count from zero; a replay plays from its start."""
        if self._reader.is_replay:
            self._reader.replay()
        else:
            self._monitor_state.zero()
            self._paint()

    def action_mark(self) -> None:
        """Mark the start or the end of one batch."""
        before = len(self._monitor_state.marks)
        self.notify(self._monitor_state.mark())
        if len(self._monitor_state.marks) > before:
            self._note(notes.MARKED, notes.marked_data(self._monitor_state.marks[-1]))
        self._paint_comparison()

    def action_unmark(self) -> None:
        """Take back the last mark."""
        before = len(self._monitor_state.marks)
        self.notify(self._monitor_state.undo_mark())
        if len(self._monitor_state.marks) < before:
            self._note(notes.UNMARKED, {})
        self._paint_comparison()

    def action_export(self) -> None:
        """Write CSV, JSON and SVG."""
        try:
            names = exporting.export_all(self._monitor_state, self._options.export_dir, self.picture)
        except OSError as error:
            self.notify(f"nothing was exported: {error.strerror}", severity="error")
        else:
            self.notify(f"exported {', '.join(names)}")

    def action_dark(self) -> None:
        """Light or dark."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    def action_retry(self) -> None:
        """Look for GPUs again."""
        if self._reader.is_idle:
            self._reader.open()
            self._paint()

    def action_simulate(self) -> None:
        """Watch simulated GPUs, where there are no others."""
        if self._reader.is_idle:
            self._reader.simulate()
            self._paint()

    def action_play(self) -> None:
        """Play the recording, where there are no GPUs."""
        if self._reader.is_idle:
            self._reader.replay()
            self._paint()

    def action_help(self) -> None:
        """Show keys and glossary."""
        self.push_screen(HelpScreen())

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Offer in the palette what the keys do."""
        for name, label in VIEWS:
            yield SystemCommand(f"View: {label}", f"Show {label}", lambda name=name: self.action_view(name))
        yield SystemCommand("Grid zone", "Choose the zone; every gram follows", self.action_zone)
        yield SystemCommand(
            "Cumulative or per output token", "Change the comparison's unit", self.action_unit
        )
        yield SystemCommand("Export", "Write CSV, JSON and SVG", self.action_export)
        yield SystemCommand("Light or dark", "Change the theme", self.action_dark)
        yield SystemCommand("Help", "Keys and glossary", self.action_help)
        yield SystemCommand("Quit", "Leave", self.exit)
        del screen
