"""The source that is being read: opened in a thread, sampled, recorded where that is wanted, and let go.

Invariant: one source is read at a time; the number of its opening tells its messages from those of a former one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from textual.app import App

from llmco2.errors import LLMCO2Error
from llmco2_tui.keys import RATES_HZ, SPEEDS, neighbour
from llmco2_tui.messages import RecordingFailed, SourceFailed, SourceOpened
from llmco2_tui.sampling_thread import Recorder, SamplingThread
from llmco2_tui.sources import REPLAY, Source, Sources

_LEAST_STEP_S: Final = 10.0


class SourceReader:
    """Reads one source after another for an application, which hears of it in messages."""

    def __init__(
        self,
        app: App[Any],
        sources: Sources,
        *,
        rate_hz: float,
        record: Callable[[Source], Recorder] | None = None,
    ) -> None:
        self._app, self._sources, self._record = app, sources, record
        self._sampling: SamplingThread | None = None
        self._opening = True
        self._no_source: str | None = None
        self.source: Source | None = None
        self.number = 0  # of the source's opening
        self.rate_hz = rate_hz
        self.recording = ""  # what is said of it

    @property
    def looks_per_s(self) -> float:
        """How often the source is looked at."""
        return self.source.rate_hz(self.rate_hz) if self.source is not None else self.rate_hz

    @property
    def is_idle(self) -> bool:
        """Whether nothing is read, nor about to be."""
        return self.source is None and not self._opening

    @property
    def is_replay(self) -> bool:
        """Whether a recording is read."""
        return self.source is not None and self.source.kind == REPLAY

    @property
    def is_played_back(self) -> bool:
        """Whether the source has a clock of its own, which can be set."""
        return self.source is not None and self.source.playback is not None

    @property
    def why_nothing(self) -> str | None:
        """Why nothing is read; ``None`` where readings are on their way."""
        return None if self._opening else self._no_source or "no source"

    @property
    def failure(self) -> str | None:
        """Why the last attempt to read gave nothing."""
        return self._sampling.failure if self._sampling is not None else None

    def open(self) -> None:
        """Open what was asked for on the command line."""
        self._open(self._sources.open)

    def simulate(self) -> None:
        """Open simulated GPUs."""
        self._open(self._sources.simulate)

    def replay(self) -> None:
        """Open the recording."""
        self._open(self._sources.replay)

    def _open(self, opener: Callable[[], Source]) -> None:
        self._opening = True
        self._app.run_worker(
            lambda: self._open_in_thread(opener), thread=True, group="source", exit_on_error=True
        )

    def _open_in_thread(self, opener: Callable[[], Source]) -> None:
        try:
            source = opener()
        except LLMCO2Error as error:
            self._app.post_message(SourceFailed(reason=str(error)))
        else:
            if not self._app.post_message(SourceOpened(source=source)):
                source.close()

    def begin(self, source: Source) -> None:
        """Sample an opened source; the former one must be closed."""
        self._opening, self._no_source = False, None
        self.source = source
        self.number += 1
        recorder = self._recorder(source)
        self._sampling = SamplingThread(
            source, self.number, self._app.post_message, rate_hz=self.rate_hz, recorder=recorder
        )

    def _recorder(self, source: Source) -> Recorder | None:
        if self._record is None or source.kind == REPLAY:
            return None
        try:
            recorder = self._record(source)
        except LLMCO2Error as error:
            self.recording_failed()
            self._app.post_message(RecordingFailed(reason=str(error)))
            return None
        self.recording = "● recording"
        return recorder

    def note(self, name: str, data: dict[str, object]) -> None:
        """Write what a person did into the recording, if there is one."""
        if self._sampling is not None:
            self._sampling.note(name, data)

    def failed(self, reason: str) -> None:
        """Take in that a source could not be opened."""
        self._opening, self._no_source = False, reason

    def recording_failed(self) -> None:
        """Take in that the session is no longer recorded."""
        self.recording = "NOT RECORDING"

    def close(self) -> None:
        """Stop reading and let go of the source."""
        sampling, self._sampling, self.source = self._sampling, None, None
        if sampling is not None:
            sampling.stop()

    def faster(self, step: int) -> None:
        """Sample more often or less; a replay plays faster or slower."""
        playback = self.source.playback if self.source is not None else None
        if playback is not None and self._sampling is not None:
            self._sampling.set_speed(neighbour(SPEEDS, playback.speed or 1.0, step))
            return
        self.rate_hz = neighbour(RATES_HZ, self.rate_hz, step)
        if self._sampling is not None:
            self._sampling.set_rate(self.rate_hz)

    def seek(self, steps: int) -> None:
        """Go forward or back in a recording: by a hundredth of it a step, ten seconds at least."""
        playback = self.source.playback if self.source is not None else None
        if playback is not None and self._sampling is not None:
            step_s = max(_LEAST_STEP_S, (playback.end_s - playback.start_s) / 100)
            to_s = playback.now_s() + steps * step_s
            self._sampling.seek(min(max(to_s, playback.start_s), playback.end_s))

    def pause(self) -> None:
        """Pause a replay, or go on; nothing else can wait."""
        playback = self.source.playback if self.source is not None else None
        if playback is not None and self._sampling is not None:
            self._sampling.set_speed(0.0 if playback.speed > 0 else 1.0)
