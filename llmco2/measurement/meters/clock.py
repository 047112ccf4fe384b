"""The clocks a meter can live on: the machine's own, and one that a simulation moves as fast as it can.

Invariant: the clock runs the poller. On the machine's clock that is a thread; on a virtual one the poller
is called from :meth:`VirtualClock.sleep`, at exactly the times it asked for, so that a test of timing has
no timing in it.
"""

from __future__ import annotations

import math
import struct
import threading
import time
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from llmco2.measurement.meters.meter import Clock

Poll = Callable[[], float]  # does its work and returns the seconds until it wants to be called again

_TIME: Final = struct.Struct("<d")


class Polling(Protocol):
    """A poller that is being run."""

    def wake(self) -> None:
        """Call the poller soon, whatever it last asked for."""
        ...

    def stop(self) -> None:
        """Call it no more; returns once a call in progress is over."""
        ...


class PollingClock(Clock, Protocol):
    """A clock that can run a poller."""

    def run(self, poll: Poll, name: str) -> Polling:
        """Call ``poll`` again and again until stopped."""
        ...


class MonotonicClock:
    """The machine's monotonic clock; pollers run in daemon threads."""

    def now_s(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep in real time."""
        time.sleep(max(0.0, seconds))

    def run(self, poll: Poll, name: str) -> Polling:
        """Start a thread that calls ``poll``."""
        return _ThreadPolling(poll, name)


class _ThreadPolling:
    def __init__(self, poll: Poll, name: str) -> None:
        self._poll = poll
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stopping:
            delay_s = self._poll()
            # An Event costs more than a sleep: it is only for the long waits that somebody may want to cut
            # short.
            if delay_s < 0.01:
                time.sleep(delay_s)
            else:
                self._woken.wait(None if math.isinf(delay_s) else delay_s)
                self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self._stopping = True
        self._woken.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)


class VirtualClock:
    """Simulated seconds in a file of eight bytes, which other processes and the simulated library may map."""

    def __init__(self, path: Path, start_s: float = 0.0) -> None:
        path.write_bytes(_TIME.pack(start_s))
        with path.open("r+b") as file:
            self._memory = mmap(file.fileno(), _TIME.size)
        self._pollings: list[_VirtualPolling] = []
        self._lock = threading.RLock()

    def now_s(self) -> float:
        """Return the simulated time, s."""
        return float(_TIME.unpack_from(self._memory)[0])

    def sleep(self, seconds: float) -> None:
        """Move time on by ``seconds``, stopping at each moment at which a poller is due."""
        with self._lock:
            end_s = self.now_s() + max(0.0, seconds)
            while True:
                due = min(self._pollings, key=lambda polling: polling.due_s, default=None)
                if due is None or due.due_s > end_s:
                    break
                self._set(max(due.due_s, self.now_s()))
                due.call(self.now_s())
            self._set(end_s)

    def run(self, poll: Poll, name: str) -> Polling:  # noqa: ARG002  a thread would want the name
        """Call ``poll`` now, and then whenever it is due while this clock sleeps."""
        polling = _VirtualPolling(poll, self)
        self._pollings.append(polling)
        polling.call(self.now_s())
        return polling

    def forget(self, polling: _VirtualPolling) -> None:
        """Stop calling ``polling``."""
        if polling in self._pollings:
            self._pollings.remove(polling)

    def close(self) -> None:
        """Let go of the file."""
        if not self._memory.closed:
            self._memory.close()

    def _set(self, t_s: float) -> None:
        _TIME.pack_into(self._memory, 0, t_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _VirtualPolling:
    MIN_DELAY_S: Final = 1e-5  # a poller that asks for no delay must not stop time

    def __init__(self, poll: Poll, clock: VirtualClock) -> None:
        self._poll = poll
        self._clock = clock
        self.due_s = math.inf

    def call(self, now_s: float) -> None:
        self.due_s = math.inf  # while it runs
        self.due_s = now_s + max(self._poll(), self.MIN_DELAY_S)

    def wake(self) -> None:
        self.due_s = min(self.due_s, self._clock.now_s() + self.MIN_DELAY_S)

    def stop(self) -> None:
        self._clock.forget(self)
