"""The joules between readings of a cumulative energy counter, with steps that no GPU can make left out.

Invariant: a step counts only between 0 and twice the power limit × the time that passed. A counter that began
again at zero counts from there; any other step waits for the next reading to say which of the two was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LARGEST_LIMIT_W: Final = 1500.0  # no board of today is allowed more; for GPUs that do not state their limit
LIMIT_MARGIN: Final = 2.0  # boards pass their limit for moments, and counters move in ticks
TICK_S: Final = 0.2  # a counter may hold back the energy of two of its ticks (20 to 100 ms each)
_RESTART_SHARE: Final = 0.5  # a fall to more than this share of the last reading is first taken for a glitch


@dataclass(frozen=True, slots=True)
class CounterReading:
    """One reading of a counter: when (s), and the joules that it showed."""

    t_s: float
    energy_j: float


def largest_step_j(elapsed_s: float, power_limit_w: float | None) -> float:
    """Return the most joules that a counter can move in ``elapsed_s``; without a limit, that of any board."""
    limit_w = power_limit_w if power_limit_w and power_limit_w > 0 else LARGEST_LIMIT_W
    return LIMIT_MARGIN * limit_w * (max(0.0, elapsed_s) + TICK_S)


def is_possible_step(step_j: float, elapsed_s: float, power_limit_w: float | None) -> bool:
    """Return whether a counter can move by ``step_j`` in ``elapsed_s``."""
    return 0.0 <= step_j <= largest_step_j(elapsed_s, power_limit_w)


@dataclass(slots=True)
class CounterTally:
    """What one GPU drew since its counter was first read.

    ``energy_j`` is ``None`` before the first reading; ``restarts`` counts counters that began again at zero,
    ``refused`` readings that were set aside because no GPU can have moved there.
    """

    energy_j: float | None = None
    restarts: int = 0
    refused: int = 0
    _known: CounterReading | None = None
    _suspect: CounterReading | None = None  # the last reading, where it could not follow the one before
    _before_restart: tuple[CounterReading, float] | None = None  # the reading, and the sum then

    def add(self, t_s: float, counter_j: float, power_limit_w: float | None) -> float:
        """Take one reading, later than the last; return the joules that it adds to the sum."""
        reading = CounterReading(t_s, counter_j)
        if self._known is None:
            self._known, self.energy_j = reading, self.energy_j or 0.0
            return 0.0
        before_j = self.energy_j or 0.0
        step_j = self._step_j(self._goes_on_from(self._known, reading, power_limit_w), reading, power_limit_w)
        if step_j is None:
            self._suspect = reading
            self.refused += 1
            return 0.0
        self._known, self._suspect = reading, None
        self.energy_j = max(0.0, (self.energy_j or 0.0) + step_j)
        return self.energy_j - before_j

    def _step_j(
        self, known: CounterReading, reading: CounterReading, power_limit_w: float | None
    ) -> float | None:
        """Return the joules since ``known``, or ``None`` where only the next reading can tell."""
        step_j, passed_s = reading.energy_j - known.energy_j, reading.t_s - known.t_s
        if is_possible_step(step_j, passed_s, power_limit_w):
            return step_j
        fresh = is_possible_step(reading.energy_j, passed_s, power_limit_w)
        if step_j < 0 and fresh and reading.energy_j <= _RESTART_SHARE * known.energy_j:
            self.restarts += 1
            self._before_restart = (known, self.energy_j or 0.0)
            return reading.energy_j
        suspect = self._suspect
        if suspect is None:
            return None
        since_j, since_s = reading.energy_j - suspect.energy_j, reading.t_s - suspect.t_s
        if not is_possible_step(since_j, since_s, power_limit_w):
            return None
        return self._moved_j(known, suspect, power_limit_w) + since_j  # two readings agree on the new level

    def _goes_on_from(
        self, known: CounterReading, reading: CounterReading, power_limit_w: float | None
    ) -> CounterReading:
        """Return what ``reading`` follows: a restart is taken back where it goes on from before that."""
        if self._before_restart is None:
            return known
        (before, energy_j), self._before_restart = self._before_restart, None
        goes_on = is_possible_step(
            reading.energy_j - before.energy_j, reading.t_s - before.t_s, power_limit_w
        )
        if not goes_on or is_possible_step(
            reading.energy_j - known.energy_j, reading.t_s - known.t_s, power_limit_w
        ):
            return known
        self.energy_j = energy_j
        self.restarts -= 1
        self.refused += 1
        return before

    def _moved_j(self, known: CounterReading, suspect: CounterReading, power_limit_w: float | None) -> float:
        """Return what the move to a level that two readings agree on was worth: a restart, a slip, or nothing."""
        moved_j, passed_s = suspect.energy_j - known.energy_j, suspect.t_s - known.t_s
        if moved_j >= 0:
            return 0.0
        if is_possible_step(-moved_j, passed_s, power_limit_w):
            return moved_j  # the reading before was as much too high
        if is_possible_step(suspect.energy_j, passed_s, power_limit_w):
            self.restarts += 1
            return suspect.energy_j
        return 0.0
