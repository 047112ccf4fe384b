"""The energy counter as what it is: a number that moves in ticks.

Invariant: a tick is placed where it can have happened, between the last poll that did not see it and the
one that did, and never earlier than one period before that; half of that gap is its uncertainty.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

MIN_PERIOD_TICKS: Final = 4  # intervals needed to call a period measured
SHORTEST_LOOK_S: Final = 0.005  # a counter that moves at every reading is not read more often than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One move of the counter: when, to what, and by how much the time may be off."""

    t_s: float
    energy_j: float
    uncertainty_s: float


@dataclass(slots=True, kw_only=True)
class CounterTrack:
    """Follows one GPU's counter from poll to poll and says when it ticks."""

    period_s: float | None = None
    last_poll_s: float | None = None
    last_energy_j: float | None = None
    last_tick: Tick | None = None

    def see(self, t_s: float, energy_j: float) -> Tick | None:
        """Take one poll (time in s, counter in J); return the tick that it reveals, if any."""
        before_s, known_j = self.last_poll_s, self.last_energy_j
        self.last_poll_s, self.last_energy_j = t_s, energy_j
        if before_s is None or known_j is None or energy_j == known_j:
            return None
        if energy_j < known_j:  # the driver was reloaded, and counts from zero again
            self.last_tick = None
            return None
        earliest_s = before_s if self.period_s is None else max(before_s, t_s - self.period_s)
        half_s = (t_s - earliest_s) / 2
        self.last_tick = Tick(t_s=earliest_s + half_s, energy_j=energy_j, uncertainty_s=half_s)
        return self.last_tick

    def next_due_s(self, margin: float = 0.85) -> float | None:
        """Return when to look for the next tick: a little before it can come; ``None`` where unknown."""
        if self.period_s is None or self.last_tick is None or self.last_poll_s is None:
            return None
        earliest_s = self.last_tick.t_s - self.last_tick.uncertainty_s  # a tick seen late may be older
        return max(self.last_poll_s, earliest_s + margin * max(self.period_s, SHORTEST_LOOK_S))


@dataclass(slots=True)
class TickSpan:
    """First and last tick inside one window; constant size however long the window is."""

    n_ticks: int = 0
    first: Tick | None = field(default=None)
    last: Tick | None = field(default=None)

    def add(self, tick: Tick) -> None:
        """Take a tick that fell inside the window."""
        self.n_ticks += 1
        self.first = self.first or tick
        self.last = tick

    @property
    def slope_w(self) -> float | None:
        """Joules a second between the first and the last tick, or ``None`` with fewer than two."""
        if self.first is None or self.last is None or self.last.t_s <= self.first.t_s:
            return None
        return (self.last.energy_j - self.first.energy_j) / (self.last.t_s - self.first.t_s)

    @property
    def relative_uncertainty(self) -> float:
        """By what share the slope may be off because ticks were seen late."""
        if self.first is None or self.last is None or self.last.t_s <= self.first.t_s:
            return 1.0
        return (self.first.uncertainty_s + self.last.uncertainty_s) / (self.last.t_s - self.first.t_s)


def period_from_ticks(ticks: Sequence[Tick]) -> float | None:
    """Return the counter's period, s, from ticks in order, or ``None`` with too few of them.

    The median gap tells how many periods each gap spans, so that ticks missed by a poller that was kept
    waiting do no harm; the span over that number of periods is finer than any one gap.
    """
    gaps = [later.t_s - earlier.t_s for earlier, later in itertools.pairwise(ticks)]
    if len(gaps) < MIN_PERIOD_TICKS:
        return None
    typical_s = statistics.median(gaps)
    n_periods = sum(max(1, round(gap / typical_s)) for gap in gaps)
    return sum(gaps) / n_periods
