"""Power over time at several spans at once, in memory that never grows.

Invariant: each span keeps a fixed ring of bins; a value goes into the bin of its time in every span, so that a
chart of a minute and one of a day both come from the same samples.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How far back a chart looks."""

    seconds: float
    label: str


SPANS: Final = (
    Span(seconds=60.0, label="1 min"),
    Span(seconds=600.0, label="10 min"),
    Span(seconds=3600.0, label="1 h"),
    Span(seconds=6 * 3600.0, label="6 h"),
    Span(seconds=24 * 3600.0, label="24 h"),
)
BINS: Final = 240
_HOLD: Final = 2.5  # a value stands for this many sampling intervals, then the chart shows a gap


class _Ring:
    def __init__(self, span_s: float) -> None:
        self.bin_s = span_s / BINS
        self._sums = array("d", [0.0] * BINS)
        self._counts = array("d", [0.0] * BINS)
        self._newest = -1

    def add(self, t_s: float, value: float) -> None:
        number = int(t_s / self.bin_s)
        if number > self._newest:
            for skipped in range(max(self._newest + 1, number - BINS + 1), number + 1):
                self._sums[skipped % BINS] = self._counts[skipped % BINS] = 0.0
            self._newest = number
        elif number <= self._newest - BINS:
            return
        self._sums[number % BINS] += value
        self._counts[number % BINS] += 1.0

    def mean(self, first: int, last: int) -> float | None:
        """Return the mean over the bins ``first`` to ``last``, or ``None`` where they are empty."""
        numbers = range(max(first, self._newest - BINS + 1, 0), min(last, self._newest) + 1)
        count = sum(self._counts[number % BINS] for number in numbers)
        return sum(self._sums[number % BINS] for number in numbers) / count if count else None


class History:
    """One quantity over time."""

    def __init__(self) -> None:
        self._rings = tuple(_Ring(span.seconds) for span in SPANS)
        self._start_s: float | None = None
        self._last_s = 0.0
        self._interval_s = 1.0

    def add(self, t_s: float, value: float) -> None:
        """Take one value at ``t_s``, s; times must not go back."""
        if self._start_s is None:
            self._start_s = t_s
        elif t_s <= self._last_s:
            return
        else:
            self._interval_s = t_s - self._last_s
        self._last_s = t_s
        for ring in self._rings:
            ring.add(t_s - self._start_s, value)

    def columns(self, span: int, n: int) -> list[float | None]:
        """Return ``n`` means over the span ``SPANS[span]``, oldest first; ``None`` where nothing was read."""
        if self._start_s is None or n <= 0:
            return [None] * n
        ring, width_s = self._rings[span], SPANS[span].seconds / n
        # Columns stand still while time moves on, so that a chart scrolls by whole columns.
        newest = int((self._last_s - self._start_s) / width_s)
        means: list[float | None] = []
        held, held_for_s = None, 0.0
        for number in range(newest - n + 1, newest + 1):
            first = int(number * width_s / ring.bin_s + 1e-9)
            last = max(first, int((number + 1) * width_s / ring.bin_s + 1e-9) - 1)
            mean = ring.mean(first, last) if number >= 0 else None
            held_for_s = 0.0 if mean is not None else held_for_s + width_s
            held = mean if mean is not None else held if held_for_s < _HOLD * self._interval_s else None
            means.append(held)
        return means
