"""Which configuration a focused campaign measures next.

Invariant: every unmeasured configuration can be drawn at every step, because a share of the draws explores
blindly; the same seed and the same finished rows give the same next choice, so a resumed campaign goes on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from llmco2.errors import InputError, explain
from llmco2.measurement.campaign_file import Focus
from llmco2.measurement.configuration import RunConfiguration

Scores = Callable[[Sequence[RunConfiguration]], Sequence[float]]


def choose_next(
    candidates: Sequence[RunConfiguration],
    measured: Sequence[RunConfiguration],
    focus: Focus,
    scores: Scores,
) -> RunConfiguration:
    """Draw one of ``candidates``: blindly for the exploration share, else by score × novelty.

    ``scores`` says how much one would like to know each candidate (uncertainty × how common it is), ≥ 0.
    """
    rng = random.Random(focus.seed * 1_000_003 + len(measured))
    if rng.random() < focus.exploration_share:
        return rng.choice(list(candidates))
    wanted = scores(candidates)
    if len(wanted) != len(candidates) or any(not math.isfinite(s) or s < 0 for s in wanted):
        raise InputError(explain("scores are not usable", expected=f"{len(candidates)} numbers from 0"))
    weights = [score * novelty(c, measured) for c, score in zip(candidates, wanted, strict=True)]
    if sum(weights) <= 0:
        return rng.choice(list(candidates))
    return rng.choices(list(candidates), weights)[0]


def novelty(candidate: RunConfiguration, measured: Sequence[RunConfiguration]) -> float:
    """Return 0 to 1: how far the nearest measured configuration of the same deployment is, in doublings.

    A neighbour one doubling of batch or tokens away leaves 1 − e⁻¹ = 63 % of the interest.
    """
    distances = [
        _distance(candidate, other) for other in measured if _deployment(other) == _deployment(candidate)
    ]
    return 1.0 - math.exp(-min(distances)) if distances else 1.0


def _deployment(c: RunConfiguration) -> tuple[object, ...]:
    return (c.model, c.workload, c.engine_name, c.tensor_parallel, c.precision, c.attention, c.static_cache)


def _distance(a: RunConfiguration, b: RunConfiguration) -> float:
    pairs = (
        (a.batch_size, b.batch_size),
        (a.prompt_tokens, b.prompt_tokens),
        (a.output_tokens, b.output_tokens),
    )
    return math.hypot(*(math.log2(x / y) for x, y in pairs))
