"""The thread that reads the meter and posts its readings to the application.

Invariant: a reading is recorded before it is posted. Where the application is slow, readings that wait are replaced
by newer ones; measurements of the workload never are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from textual.message import Message

from llmco2.errors import LLMCO2Error, MeasurementError
from llmco2.measurement.meters.meter import Sample
from llmco2.measurement.meters.power_stream import NvmlSampler
from llmco2.records.request import InferenceRequest
from llmco2_tui.measured import MEASURED_EVENT, REQUEST_EVENT, MeasuredPhase, entry_data, request_data
from llmco2_tui.messages import Noted, ProcessesSeen, Readings, RecordingFailed, Rewound, WorkloadMeasured
from llmco2_tui.sources import Source

_PROCESSES_S: Final = 2.0
_MOST_SAMPLINGS: Final = 250  # in one message: a jump through a long recording must not hold up the keys


class Recorder(Protocol):
    """The part of the library's session recorder that is needed here."""

    def write_samples(self, samples: tuple[Sample, ...]) -> None:
        """Write one sampling."""
        ...

    def write_event(self, t_s: float, name: str, data: dict[str, object]) -> None:
        """Write anything else."""
        ...

    def close(self) -> None:
        """Sync and close."""
        ...


class SamplingThread:
    """Samples one source until stopped."""

    def __init__(
        self,
        source: Source,
        number: int,
        post: Callable[[Message], object],
        *,
        rate_hz: float,
        recorder: Recorder | None = None,
    ) -> None:
        """Start at once; ``post`` must be safe to call from another thread."""
        self._source, self._number, self._post, self._recorder = source, number, post, recorder
        self._request: InferenceRequest | None = None
        self._wanted_hz = rate_hz
        self._processes_at_s = -math.inf
        self._wanted_s: float | None = None  # where in the recording to go to
        self._sampler = NvmlSampler(
            source.meter, source.rate_hz(rate_hz), listener=self._listen, clock=source.poll_clock
        )

    @property
    def failure(self) -> str | None:
        """Why the last attempt to read gave nothing."""
        return self._sampler.failure

    def set_rate(self, rate_hz: float) -> None:
        """Look this often a second (of the recording, where it is one)."""
        self._wanted_hz = rate_hz
        self._sampler.set_rate(self._source.rate_hz(rate_hz))

    def set_speed(self, speed: float) -> None:
        """Change the speed of a recording."""
        if self._source.playback is not None:
            self._source.playback.set_speed(speed)
            self.set_rate(self._wanted_hz)

    def seek(self, t_s: float) -> None:
        """Go to a time of the recording; what lies between is read, from the start where that is back."""
        self._wanted_s = t_s
        self._sampler.look_now()

    def _go_to_wanted(self) -> None:
        t_s, self._wanted_s = self._wanted_s, None
        playback, rewind = self._source.playback, self._source.rewind
        if t_s is None or playback is None or rewind is None:
            return
        back = t_s < playback.now_s()
        playback.seek(t_s)
        if back:
            rewind()
            self._request = None
            self._post(Rewound(source=self._number))

    def stop(self) -> None:
        """Stop reading, close the source and the recording."""
        self._sampler.stop()
        if self._recorder is not None:
            self._recorder.close()
        self._source.close()

    def note(self, name: str, data: dict[str, object]) -> None:
        """Write what a person did into the recording, if there is one."""
        self._write(lambda recorder: recorder.write_event(self._source.meter.clock.now_s(), name, data))

    def _listen(self, samples: tuple[Sample, ...]) -> None:
        self._go_to_wanted()
        entries = tuple(self._source.feed.take())
        request = self._source.feed.request
        fresh = request is not None and request != self._request
        self._record(samples, entries, request if fresh else None)
        passed = [samples] if self._source.passed is None else self._source.passed()
        for start in range(0, len(passed), _MOST_SAMPLINGS):
            several = tuple(passed[start : start + _MOST_SAMPLINGS])
            self._post(Readings(samplings=several, source=self._number))
        self._look_at_processes()
        notes = () if self._source.notes is None else tuple(self._source.notes())
        if notes:
            self._post(Noted(events=notes, source=self._number))
        if fresh or entries:
            self._request = request
            self._post(WorkloadMeasured(request=request, entries=entries, source=self._number))

    def _look_at_processes(self) -> None:
        """Look who computes on the GPUs, every other second at most."""
        now_s = time.monotonic()
        if self._source.processes is None or now_s - self._processes_at_s < _PROCESSES_S:
            return
        self._processes_at_s = now_s
        try:
            found = self._source.processes()
        except MeasurementError:
            return  # the meter is closed, or a GPU is lost: the readings say so
        self._post(ProcessesSeen(processes=found, source=self._number))

    def _record(
        self,
        samples: tuple[Sample, ...],
        entries: tuple[MeasuredPhase, ...],
        request: InferenceRequest | None,
    ) -> None:
        def write(recorder: Recorder) -> None:
            recorder.write_samples(samples)
            if request is not None:
                recorder.write_event(samples[0].t_s, REQUEST_EVENT, request_data(request))
            for entry in entries:
                recorder.write_event(entry.t_s, MEASURED_EVENT, entry_data(entry))

        self._write(write)

    def _write(self, write: Callable[[Recorder], None]) -> None:
        if self._recorder is None:
            return
        try:
            write(self._recorder)
        except LLMCO2Error as error:
            self._recorder = None
            self._post(RecordingFailed(reason=str(error)))
