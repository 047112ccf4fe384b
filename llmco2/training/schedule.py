"""Learning rates over a fit: one cycle per stage, and nothing outside it.

Invariant: a group whose stage has not begun, or is over, has rate zero, so its parameters stand still.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llmco2.training.options import OptimizerOptions

_FIRST: float = 0.04  # of the peak rate, at the first step
_LAST: float = 1e-3  # of the peak rate, at the last step


def one_cycle(progress: float, warmup_share: float) -> float:
    """Return the factor on the peak rate at ``progress`` in [0, 1] of a stage: a cosine up, a cosine down, else 0."""
    if not 0.0 <= progress <= 1.0:
        return 0.0
    if progress < warmup_share:
        return _FIRST + (1.0 - _FIRST) * (1.0 - math.cos(math.pi * progress / warmup_share)) / 2.0
    falling = (progress - warmup_share) / (1.0 - warmup_share)
    return _LAST + (1.0 - _LAST) * (1.0 + math.cos(math.pi * falling)) / 2.0


def rate_schedules(options: OptimizerOptions, n_groups: int, n_steps: float) -> list[Callable[[int], float]]:
    """Return a function from step to rate factor for each group: constants of the formula, then graph weights.

    With one group, or ``formula_share`` 0, every group runs through the whole fit.
    """
    steps = max(int(n_steps), 2)
    formula_steps = steps_of_formula_alone(options, n_groups, n_steps)

    def stage(first: int, last: int) -> Callable[[int], float]:
        return lambda step: one_cycle((step - first) / max(last - 1 - first, 1), options.warmup_share)

    if not formula_steps:
        return [stage(0, steps) for _ in range(n_groups)]
    return [stage(0, formula_steps), *(stage(formula_steps, steps) for _ in range(n_groups - 1))]


def steps_of_formula_alone(options: OptimizerOptions, n_groups: int, n_steps: float) -> int:
    """Return how many of the first steps leave the graph network out; 0 where both are fitted at once."""
    return round(options.formula_share * max(int(n_steps), 2)) if n_groups > 1 else 0
