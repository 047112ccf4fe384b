"""How carefully to measure, and how long that makes a window, a phase and a configuration.

Invariant: nothing here touches a meter or a clock; a plan and a few seconds give the numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from llmco2.errors import InputError, explain

MAX_REPEATS: Final = 1_000_000
_LONG_RUN_SPANS: Final = 3.0  # a run that lasts more spans than this is long
_LONG_RUN_BLOCKS: Final = 2  # windows of a phase whose runs are long: enough for a spread
_ABOVE_ZERO: Final = ("blocks", "minimum_periods", "configuration_limit_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurePlan:
    """How carefully to measure; the defaults suit a counter that ticks every 20 to 100 ms."""

    blocks: int = 3  # windows per phase; mean and spread are over them; of long runs at most two
    minimum_periods: float = 50.0  # of the energy counter, in each window
    minimum_window_s: float = 1.0
    warm_up_limit_s: float = 60.0
    settle_tolerance_percent: float = 2.0
    temperature_tolerance_c: float = 1.0
    temperature_span_s: float = 5.0
    parts_tolerance_percent: float = 3.0
    configuration_limit_s: float = 1800.0  # a configuration that would take longer is given up

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(explain(f"{name} is not a number", got=repr(value)))
            if value < 0 or (value == 0 and name in _ABOVE_ZERO):
                raise InputError(explain(f"{name} is out of range", got=value, expected="above zero"))
        if self.blocks != int(self.blocks):
            raise InputError(explain("blocks is not a whole number", got=self.blocks))


def repeats_to_span(span_s: float, run_s: float) -> int:
    """Return the fewest runs of ``run_s`` seconds that last at least ``span_s``, within 1 and the maximum."""
    if run_s <= 0:
        return MAX_REPEATS
    return max(1, min(MAX_REPEATS, math.ceil(span_s / run_s)))


def span_needed_s(counter_period_s: float | None, plan: MeasurePlan) -> float:
    """Return how long a window must be: enough counter periods, and never less than the plan's minimum."""
    return max(plan.minimum_window_s, plan.minimum_periods * (counter_period_s or 0.0))


def blocks_of(run_s: float, span_s: float, plan: MeasurePlan) -> int:
    """Return how many windows a phase gets whose runs take ``run_s``, where a window must last ``span_s``."""
    long = run_s > _LONG_RUN_SPANS * span_s
    return min(int(plan.blocks), _LONG_RUN_BLOCKS) if long else int(plan.blocks)


def usual_time_s(run_s: float, plan: MeasurePlan) -> float:
    """Return about how long a configuration takes, s, whose run takes ``run_s``, on a counter that is quick.

    Three phases of ``blocks`` windows and a warm-up of the temperature's span, none shorter than a run.
    """
    windows = blocks_of(run_s, plan.minimum_window_s, plan)
    warm_up_s = max(plan.temperature_span_s, 2.0 * run_s)
    return warm_up_s + windows * (plan.minimum_window_s + 2.0 * max(plan.minimum_window_s, run_s))


def least_time_s(run_s: float, span_s: float, plan: MeasurePlan) -> float:
    """Return the least time, s, that measuring still takes after a warm-up run of ``run_s`` seconds.

    The parts take the time of the whole once more, in each block.
    """
    return 2.0 * run_s * blocks_of(run_s, span_s, plan)
