"""When a warm-up may end: latency no longer drifts and the GPU no longer heats.

Invariant: judged on medians of two halves of the latest runs, so that one slow run neither ends nor prolongs
it. Runs that are long themselves need no six of them: two that last the temperature's span show as much.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

_HALF: Final = 3  # runs in each of the two halves that are compared


class Settling:
    """Collects warm-up runs and says when they have settled."""

    def __init__(
        self, *, latency_tolerance: float, temperature_tolerance_c: float, temperature_span_s: float
    ) -> None:
        """Latency may drift by the fraction ``latency_tolerance``, temperature by so many °C in its span."""
        self._latency_tolerance = latency_tolerance
        self._temperature_tolerance_c = temperature_tolerance_c
        self._temperature_span_s = temperature_span_s
        self._latencies_s: deque[float] = deque(maxlen=2 * _HALF)
        self._temperatures: list[tuple[float, float]] = []  # (time in s, hottest GPU in °C)
        self._span_s = 0.0  # of all runs together

    def add(self, *, at_s: float, latency_s: float, temperature_c: float | None) -> None:
        """Add one run that ended at ``at_s``; without a temperature, latency alone decides."""
        self._latencies_s.append(latency_s)
        self._span_s += latency_s
        if temperature_c is not None:
            self._temperatures.append((at_s, temperature_c))

    @property
    def settled(self) -> bool:
        """Whether latency and temperature both hold still, over a full set of runs or the temperature's span."""
        return self._seen_enough() and self._latency_holds() and self._temperature_holds()

    @property
    def holds_so_far(self) -> bool:
        """The same judgement on what little a cut warm-up saw: at least two runs, any span of time."""
        return (
            len(self._latencies_s) >= 2 and self._latency_holds() and self._temperature_holds(any_span=True)
        )

    def _seen_enough(self) -> bool:
        count = len(self._latencies_s)
        return count == 2 * _HALF or (count >= 2 and self._span_s >= self._temperature_span_s > 0)

    def _latency_holds(self) -> bool:
        runs = list(self._latencies_s)
        half = len(runs) // 2
        before, after = median(runs[-2 * half : -half]), median(runs[-half:])
        return abs(after - before) <= self._latency_tolerance * max(before, after)

    def _temperature_holds(self, *, any_span: bool = False) -> bool:
        if not self._temperatures:
            return True
        last_s, last_c = self._temperatures[-1]
        start_s = last_s - self._temperature_span_s
        if self._temperatures[0][0] > start_s and not any_span:
            return False
        recent = [value for at_s, value in self._temperatures if at_s >= start_s]
        return max(recent) - min(recent) <= self._temperature_tolerance_c and last_c <= max(recent)
