"""The live stream: a meter sampled again and again at a steady rate.

Invariant: samples carry cumulative energy, so a reader that misses some loses a moment and never a joule. The
queue of a slow reader drops its oldest samples; the newest are always there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition
from typing import Final, Self

from llmco2.errors import InputError, MeasurementError, explain
from llmco2.measurement.meters.clock import MonotonicClock, Polling, PollingClock
from llmco2.measurement.meters.meter import EnergyMeter, Sample

MIN_RATE_HZ: Final = 0.1
MAX_RATE_HZ: Final = 50.0
_QUEUE_LENGTH: Final = 1024

Listener = Callable[[tuple[Sample, ...]], None]


class NvmlSampler:
    """Samples ``meter`` at ``rate_hz`` in a thread of its own (on a simulated clock: whenever that moves).

    Read it by :meth:`latest`, by iterating (blocks until the next sample, ends when stopped), or by a
    ``listener`` that is called in the sampler's thread.
    """

    def __init__(
        self,
        meter: EnergyMeter,
        rate_hz: float = 1.0,
        *,
        listener: Listener | None = None,
        clock: PollingClock | None = None,
    ) -> None:
        """Start sampling at once; ``rate_hz`` is 0.1 to 50, else ``InputError``."""
        self._meter = meter
        self._listener = listener
        self._queue: deque[tuple[Sample, ...]] = deque(maxlen=_QUEUE_LENGTH)
        self._ready = Condition()
        self._latest: tuple[Sample, ...] = ()
        self._stopped = False
        self.failure: str | None = None  # why the last attempt gave nothing
        self.n_failures = 0
        self.set_rate(rate_hz)
        self._due_s: float | None = None
        self._clock: PollingClock = MonotonicClock() if clock is None else clock
        self._polling: Polling = self._clock.run(self._take, "llmco2-sampler")

    def set_rate(self, rate_hz: float) -> None:
        """Change the rate; takes effect after the sample that is due."""
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            expected = f"{MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz"
            raise InputError(
                explain("the sampling rate is out of range", got=f"{rate_hz:g} Hz", expected=expected)
            )
        self.rate_hz = rate_hz

    def latest(self) -> tuple[Sample, ...]:
        """Return the newest sample of each GPU; empty before the first one."""
        return self._latest

    def drain(self) -> list[tuple[Sample, ...]]:
        """Return what has come since the last call, oldest first, without waiting."""
        with self._ready:
            waiting = list(self._queue)
            self._queue.clear()
        return waiting

    def __iter__(self) -> Iterator[tuple[Sample, ...]]:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._queue or self._stopped)
                if not self._queue:
                    return
                samples = self._queue.popleft()
            yield samples

    def look_now(self) -> None:
        """Take the next sample soon, not at its beat."""
        self._polling.wake()

    def stop(self) -> None:
        """Stop sampling and end every iteration; a second call does nothing."""
        self._polling.stop()
        with self._ready:
            self._stopped = True
            self._ready.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _take(self) -> float:
        try:
            samples = self._meter.sample()
        except MeasurementError as error:  # the meter was closed, or its driver went: say so and try again
            self.failure = str(error)
            self.n_failures += 1
            return self._delay_s()
        self.failure = None
        with self._ready:
            self._latest = samples
            self._queue.append(samples)
            self._ready.notify_all()
        if self._listener is not None:
            self._listener(samples)
        return self._delay_s()

    def _delay_s(self) -> float:
        """Seconds to the next beat; missed beats are passed over, so the rate never drifts or bunches."""
        now_s = self._clock.now_s()
        period_s = 1.0 / self.rate_hz
        due_s = (now_s if self._due_s is None else self._due_s) + period_s
        while due_s <= now_s:
            due_s += period_s
        self._due_s = due_s
        return due_s - now_s


def wait_for_first(sampler: NvmlSampler, timeout_s: float = 5.0) -> tuple[Sample, ...]:
    """Return the first sample of ``sampler``; ``MeasurementError`` where none comes in real ``timeout_s``."""
    end_s = time.monotonic() + timeout_s
    while not sampler.latest():
        if time.monotonic() > end_s:
            raise MeasurementError(
                explain(
                    "no reading came",
                    got=sampler.failure or "silence",
                    expected=f"one within {timeout_s:g} s",
                )
            )
        time.sleep(0.005)
    return sampler.latest()
