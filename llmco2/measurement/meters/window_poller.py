"""The poll thread behind every window: counter ticks and instant power, for as long as a window is open.

Invariant: it sleeps until a tick is due and looks closely only then, so that watching costs little; a
window keeps a constant amount of memory however long it lasts; no exception leaves the thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from llmco2.measurement.meters.clock import Polling, PollingClock
from llmco2.measurement.meters.counter import CounterTrack, Tick, period_from_ticks
from llmco2.measurement.meters.counter_tally import is_possible_step
from llmco2.measurement.meters.nvml import NvmlGpu, ReadFailedError
from llmco2.measurement.meters.phase_window import GpuWindow, PowerIntegral

# Each poll takes the interpreter from a thread that launches kernels: no more of them than the label needs.
CLOSE_LOOK_S: Final = 0.0005  # between polls while a tick is due, at least …
CLOSE_LOOK_SHARE: Final = 0.05  # … and this share of the counter's period
UNKNOWN_PERIOD_LOOK_S: Final = 0.001
POWER_INTERVAL_S: Final = 0.02  # sensors of recent boards move every 25 ms or less often
IDLE_POWER_INTERVAL_S: Final = 0.1  # between windows, where the integral must go on for want of a counter
STATE_INTERVAL_S: Final = 0.5  # clocks, temperature, utilisation: ten calls, so seldom
RETRY_S: Final = 1.0  # between attempts to reach a lost GPU
PERIOD_TIMEOUT_S: Final = 1.5
PERIOD_TICKS: Final = 10


@dataclass(slots=True, kw_only=True)
class WatchedGpu:
    """One GPU with what the poller knows of it."""

    gpu: NvmlGpu
    has_counter: bool
    track: CounterTrack = field(default_factory=CounterTrack)
    has_power: bool = True
    power_limit_w: float | None = None
    power_due_s: float = -math.inf
    state_due_s: float = -math.inf
    retry_s: float = -math.inf
    lost: str | None = None  # why, while it is lost
    since_start: PowerIntegral = field(default_factory=PowerIntegral)  # kept where there is no counter

    def counter_due_s(self, now_s: float) -> float:
        """Return when to read the counter next."""
        if not self.has_counter:
            return math.inf
        due_s = self.track.next_due_s()
        return now_s if due_s is None else due_s

    def next_due_s(self, now_s: float) -> float:
        """Return when this GPU wants anything read next."""
        if self.lost is not None:
            return self.retry_s
        period_s = self.track.period_s
        look_s = max(CLOSE_LOOK_S, CLOSE_LOOK_SHARE * period_s) if period_s else UNKNOWN_PERIOD_LOOK_S
        due_s = max(self.counter_due_s(now_s), now_s + look_s)
        return min(due_s, self.power_due_s) if self.has_power else due_s


@dataclass(slots=True, kw_only=True)
class OpenWindow:
    """A window that is being watched."""

    start_s: float
    gpus: tuple[GpuWindow, ...]


class WindowPoller:
    """Watches the GPUs on ``clock`` and feeds every open window."""

    def __init__(self, gpus: Sequence[WatchedGpu], clock: PollingClock, *, simulated: bool) -> None:
        """Prepare; before the first window only GPUs without a counter are polled, for their power."""
        self.watched = tuple(gpus)
        self._clock = clock
        self._simulated = simulated
        self._windows: dict[str, OpenWindow] = {}
        self._lock = threading.RLock()
        self._polling: Polling | None = None
        if any(not watched.has_counter for watched in self.watched):
            self._polling = clock.run(self.poll, "llmco2-meter")

    def __contains__(self, name: str) -> bool:
        return name in self._windows

    def open(self, name: str) -> None:
        """Open a window at this moment."""
        with self._lock:
            self._read_all(everything=True)
            now_s = self._clock.now_s()
            self._windows[name] = OpenWindow(start_s=now_s, gpus=tuple(map(_new_window, self.watched)))
            for watched, window in zip(self.watched, self._windows[name].gpus, strict=True):
                if watched.has_power and watched.lost is None:
                    self._read_power(watched, [window])  # so that the integral begins where the window does
                watched.state_due_s = now_s + STATE_INTERVAL_S / 2  # not now: it has not begun to work yet
        if self._polling is None:
            self._polling = self._clock.run(self.poll, "llmco2-meter")
        self._polling.wake()

    def close(self, name: str) -> tuple[OpenWindow, float]:
        """Close a window at this moment; return what it saw and its length, s."""
        with self._lock:
            end_s = self._clock.now_s()
            self._read_all(everything=True)
            window = self._windows.pop(name)
            for watched, part in zip(self.watched, window.gpus, strict=True):
                part.end_counter_j = watched.track.last_energy_j if watched.has_counter else None
                if not part.states.samples and watched.lost is None:
                    self._read_state(watched, [part])
            return window, end_s - window.start_s

    def cancel(self, name: str) -> None:
        """Forget a window."""
        with self._lock:
            self._windows.pop(name, None)

    def stop(self) -> None:
        """Stop polling."""
        if self._polling is not None:
            self._polling.stop()
            self._polling = None

    def poll(self) -> float:
        """Read what is due; return the seconds until the next reading is."""
        with self._lock:
            if not self._windows and all(watched.has_counter for watched in self.watched):
                return math.inf
            self._read_all(everything=False)
            now_s = self._clock.now_s()
            return max(0.0, min(watched.next_due_s(now_s) for watched in self.watched) - now_s)

    def _read_all(self, *, everything: bool) -> None:
        for index, watched in enumerate(self.watched):
            windows = [window.gpus[index] for window in self._windows.values()]
            now_s = self._clock.now_s()
            if watched.lost is not None and now_s < watched.retry_s and not everything:
                continue
            if watched.lost is not None:
                watched.gpu.reopen()
            if watched.has_counter and (everything or watched.counter_due_s(now_s) <= now_s):
                self._read_counter(watched, windows)
            if watched.has_power and (everything or watched.power_due_s <= now_s):
                self._read_power(watched, windows)
            if windows and watched.state_due_s <= now_s and watched.lost is None:
                self._read_state(watched, windows)

    def _read_counter(self, watched: WatchedGpu, windows: Sequence[GpuWindow]) -> None:
        before_s = self._clock.now_s()
        try:
            energy_j = watched.gpu.energy_counter_j()
        except ReadFailedError as error:
            if error.lost:
                self._lose(watched, windows, error, "the energy counter")
            elif error.lasting:  # it answered at start-up and refuses now; a busy driver is asked again
                watched.has_counter = False
                for window in windows:
                    window.has_counter = False
            return
        watched.lost = None
        at_s = (before_s + self._clock.now_s()) / 2
        wrong = _counter_trouble(watched, at_s, energy_j)
        for window in windows:
            window.trouble = wrong or window.trouble
        tick = watched.track.see(at_s, energy_j)
        if tick is not None:
            for window in windows:
                window.ticks.add(tick)

    def _read_power(self, watched: WatchedGpu, windows: Sequence[GpuWindow]) -> None:
        before_s = self._clock.now_s()
        watched.power_due_s = before_s + (POWER_INTERVAL_S if self._windows else IDLE_POWER_INTERVAL_S)
        try:
            power_w = watched.gpu.power_w()
        except ReadFailedError as error:
            watched.has_power = not error.lasting
            if error.lost:
                self._lose(watched, windows, error, "power")
            return
        watched.lost = None
        at_s = (before_s + self._clock.now_s()) / 2
        if not watched.has_counter:
            watched.since_start.add(at_s, power_w)
        for window in windows:
            window.power.add(at_s, power_w)

    def _read_state(self, watched: WatchedGpu, windows: Sequence[GpuWindow]) -> None:
        now_s = self._clock.now_s()
        watched.state_due_s = now_s + STATE_INTERVAL_S
        try:
            sample = watched.gpu.sample(now_s, self._simulated)
        except ReadFailedError as error:
            self._lose(watched, windows, error, "its state")
            return
        for window in windows:
            window.states.add(sample)

    def _lose(
        self, watched: WatchedGpu, windows: Sequence[GpuWindow], error: ReadFailedError, what: str
    ) -> None:
        watched.lost = error.reason
        watched.retry_s = self._clock.now_s() + RETRY_S
        for window in windows:
            window.trouble = f"GPU {watched.gpu.index} was lost while {what} was read: {error.reason}"


def _counter_trouble(watched: WatchedGpu, at_s: float, energy_j: float) -> str | None:
    """Return what is wrong with the step to this reading of the counter, or ``None``."""
    last_s, last_j = watched.track.last_poll_s, watched.track.last_energy_j
    if last_s is None or last_j is None:
        return None
    if is_possible_step(energy_j - last_j, at_s - last_s, watched.power_limit_w):
        return None
    name = f"the energy counter of GPU {watched.gpu.index}"
    if energy_j < last_j:
        return f"{name} started again from zero" if energy_j <= last_j / 2 else f"{name} ran back"
    return f"{name} jumped by {energy_j - last_j:.4g} J in {at_s - last_s:.3g} s, more than its power limit allows"


def _new_window(watched: WatchedGpu) -> GpuWindow:
    return GpuWindow(
        gpu_index=watched.gpu.index,
        has_counter=watched.has_counter,
        counter_period_s=watched.track.period_s,
        power_limit_w=watched.power_limit_w,
        start_counter_j=watched.track.last_energy_j if watched.has_counter else None,
        trouble=None if watched.lost is None else f"GPU {watched.gpu.index} is lost: {watched.lost}",
    )


def measure_counter_periods(gpus: Sequence[WatchedGpu], clock: PollingClock) -> None:
    """Watch every counter for ten ticks, at most 1.5 s, and note its period, s, where one shows."""
    end_s = clock.now_s() + PERIOD_TIMEOUT_S
    ticks: dict[int, list[Tick]] = {watched.gpu.index: [] for watched in gpus if watched.has_counter}
    while ticks and clock.now_s() < end_s and any(len(seen) < PERIOD_TICKS for seen in ticks.values()):
        for watched in gpus:
            if watched.has_counter:
                _watch_once(watched, clock, ticks[watched.gpu.index])
        clock.sleep(CLOSE_LOOK_S)
    for watched in gpus:
        # The first tick was found by a poll of unknown age: its time is only half known.
        watched.track.period_s = period_from_ticks(ticks.get(watched.gpu.index, [])[1:])


def _watch_once(watched: WatchedGpu, clock: PollingClock, seen: list[Tick]) -> None:
    try:
        tick = watched.track.see(clock.now_s(), watched.gpu.energy_counter_j())
    except ReadFailedError as error:
        watched.has_counter = not (error.lasting or error.lost)
        return
    if tick is not None:
        seen.append(tick)
