"""A meter that plays a recorded session, at any speed.

Invariant: samples come out as they went in, times included; nothing is interpolated into them. Only a
window that the recording does not hold is worked out, from the cumulative energy of the samples around it.
"""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from llmco2.errors import InputError, MeasurementError, explain
from llmco2.measurement.meters.clock import MonotonicClock, Polling
from llmco2.measurement.meters.counter_tally import CounterTally
from llmco2.measurement.meters.meter import (
    COUNTER_WINDOW,
    INTEGRATED_POWER,
    Device,
    GpuEnergy,
    Sample,
    WindowReading,
)
from llmco2.measurement.meters.session_file import Session, SessionEvent, read_session


class ReplayClock:
    """The time of a recording: ``speed`` times as fast as the machine's; it can be paused or moved."""

    def __init__(self, start_s: float, end_s: float, speed: float) -> None:
        self.start_s = start_s
        self.end_s = end_s
        self._machine = MonotonicClock()
        self._anchor_s = start_s
        self._anchored_at_s = self._machine.now_s()
        self._speed = 0.0
        self._lock = threading.Lock()
        self.set_speed(speed)

    @property
    def speed(self) -> float:
        """Seconds of the recording per second of the machine; 0 is paused."""
        return self._speed

    def set_speed(self, speed: float) -> None:
        """Change the speed from now on; 0 pauses."""
        if not 0.0 <= speed <= 1e6:
            raise InputError(
                explain("the replay speed is out of range", got=speed, expected="0 to 1,000,000")
            )
        now_s = self.now_s()
        with self._lock:
            self._anchor_s, self._anchored_at_s, self._speed = now_s, self._machine.now_s(), speed

    def seek(self, t_s: float) -> None:
        """Go to a time of the recording; outside it, to its nearer end."""
        with self._lock:
            self._anchor_s = min(max(t_s, self.start_s), self.end_s)
            self._anchored_at_s = self._machine.now_s()

    def now_s(self) -> float:
        """Return the time of the recording that is being shown, s; it stays at the end once there."""
        with self._lock:
            passed_s = (self._machine.now_s() - self._anchored_at_s) * self._speed
            return min(self._anchor_s + passed_s, self.end_s)

    def sleep(self, seconds: float) -> None:
        """Let seconds of the recording pass; at once when paused, where they never would, by moving on."""
        if self._speed <= 0:
            self.seek(self.now_s() + seconds)
        else:
            time.sleep(max(0.0, seconds) / self._speed)

    def run(self, poll: Callable[[], float], name: str) -> Polling:
        """Run a poller; the delays it asks for are of the recording."""

        def scaled() -> float:
            delay_s = poll()
            return delay_s / self._speed if self._speed > 0 else 0.1

        return self._machine.run(scaled, name)


class ReplayMeter:
    """An :class:`~llmco2.measurement.meters.meter.EnergyMeter` over a recording."""

    def __init__(self, session: Session | Path, *, speed: float = 1.0) -> None:
        """Load a recording and start playing; ``InputError`` for one without a sample."""
        self.session = read_session(session) if isinstance(session, Path) else session
        if not self.session.samples:
            raise InputError(
                explain("the recording holds no sample", remedy="record one with llmco2 monitor --record")
            )
        self._times = {
            index: [sample.t_s for sample in group] for index, group in _by_gpu(self.session.samples).items()
        }
        self._samples = _by_gpu(self.session.samples)
        first_s = min(times[0] for times in self._times.values())
        last_s = max(times[-1] for times in self._times.values())
        self._clock = ReplayClock(first_s, last_s, speed)
        self._open: dict[str, float] = {}
        self._closed = False

    @property
    def simulated(self) -> bool:
        """Whether what was recorded was simulated."""
        return self.session.simulated

    @property
    def clock(self) -> ReplayClock:
        """The time of the recording."""
        return self._clock

    @property
    def finished(self) -> bool:
        """Whether the recording has been played to its end."""
        return self._clock.now_s() >= self._clock.end_s

    def devices(self) -> tuple[Device, ...]:
        """Return the GPUs of the recording."""
        return self.session.devices

    def look_again(self) -> tuple[Device, ...]:
        """Return the GPUs of the recording, which cannot change any more."""
        return self.session.devices

    def sample(self) -> tuple[Sample, ...]:
        """Return the newest sample of each GPU at this time of the recording, as it was recorded."""
        if self._closed:
            raise MeasurementError(explain("the meter is closed", remedy="open another one"))
        now_s = self._clock.now_s()
        newest = (self._at(index, now_s) for index in sorted(self._samples))
        return tuple(sample for sample in newest if sample is not None)

    def windows(self) -> tuple[WindowReading, ...]:
        """Return the recorded windows that had closed by this time of the recording."""
        now_s = self._clock.now_s()
        return tuple(window for window in self.session.windows if window.start_s + window.duration_s <= now_s)

    def events(self) -> tuple[SessionEvent, ...]:
        """Return the recorded events up to this time of the recording."""
        now_s = self._clock.now_s()
        return tuple(event for event in self.session.events if event.t_s <= now_s)

    def begin_window(self, name: str) -> None:
        """Open a window at this time of the recording."""
        if name in self._open:
            raise InputError(
                explain("a window of that name is open", got=repr(name), remedy="close it first")
            )
        self._open[name] = self._clock.now_s()

    def end_window(self, name: str) -> WindowReading:
        """Close a window: the recorded one of that name if it lies inside, else the samples' difference."""
        if name not in self._open:
            raise InputError(explain("no window of that name is open", got=repr(name)))
        start_s, end_s = self._open.pop(name), self._clock.now_s()
        for recorded in reversed(self.session.windows):
            inside = start_s <= recorded.start_s and recorded.start_s + recorded.duration_s <= end_s
            if recorded.name == name and inside:
                return recorded
        gpus = tuple(self._between(index, start_s, end_s) for index in sorted(self._samples))
        return WindowReading(
            name=name, start_s=start_s, duration_s=end_s - start_s, gpus=gpus, simulated=self.simulated
        )

    def cancel_window(self, name: str) -> None:
        """Forget a window."""
        self._open.pop(name, None)

    def close(self) -> None:
        """Stop playing."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _at(self, index: int, t_s: float) -> Sample | None:
        place = bisect.bisect_right(self._times[index], t_s)
        return self._samples[index][place - 1] if place else None

    def _between(self, index: int, start_s: float, end_s: float) -> GpuEnergy:
        first, last = self._at(index, start_s), self._at(index, end_s)
        if first is None or last is None or first.energy_counter_j is None or last.energy_counter_j is None:
            return GpuEnergy(
                gpu_index=index, energy_j=None, method=None, reason="the recording has no energy there"
            )
        tally = CounterTally()
        for sample in self._samples[index][bisect.bisect_left(self._times[index], first.t_s) :]:
            if sample.t_s > last.t_s:
                break
            if sample.energy_counter_j is not None and sample.stale_since_s is None:
                tally.add(sample.t_s, sample.energy_counter_j, sample.power_limit_w)
        energy_j = tally.energy_j or 0.0
        method = INTEGRATED_POWER if last.energy_is_integrated else COUNTER_WINDOW
        span_s = last.t_s - first.t_s
        reason = f"from recorded samples {span_s:.2f} s apart"
        power_w = energy_j / span_s if span_s > 0 else None
        return GpuEnergy(
            gpu_index=index, energy_j=energy_j, method=method, reason=reason, average_power_w=power_w
        )


def _by_gpu(samples: tuple[Sample, ...]) -> dict[int, tuple[Sample, ...]]:
    ordered = sorted(samples, key=lambda sample: sample.gpu_index)  # stable: times stay in order
    return {
        index: tuple(group)
        for index, group in itertools.groupby(ordered, key=lambda sample: sample.gpu_index)
    }
