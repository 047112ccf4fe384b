"""Which configuration a focused campaign measures next, and of which model.

Invariant: every unmeasured configuration can be drawn at every step, because a share of the draws explores
blindly; the same seed and the same finished rows give the same next choice, so a resumed campaign goes on.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from llmco2.errors import InputError, explain
from llmco2.measurement.campaigns.campaign_file import Focus
from llmco2.measurement.workloads.configuration import RunConfiguration

Scores = Callable[[Sequence[RunConfiguration]], Sequence[float]]


def choose_next(
    candidates: Sequence[RunConfiguration],
    measured: Sequence[RunConfiguration],
    focus: Focus,
    scores: Scores,
    costs: Scores | None = None,
) -> RunConfiguration:
    """Draw one of ``candidates``: blindly for the exploration share, else by score × novelty.

    ``scores`` says how much one would like to know each candidate (uncertainty × how common it is), ≥ 0.
    ``costs`` are the seconds that measuring each takes, above 0: then both kinds of draw are by what a second
    is worth, and every candidate can still be drawn.
    """
    rng = random.Random(focus.seed * 1_000_003 + len(measured))
    worth = [1.0 / cost for cost in costs(candidates)] if costs is not None else [1.0] * len(candidates)
    if rng.random() < focus.exploration_share:
        return rng.choices(list(candidates), worth)[0]
    wanted = scores(candidates)
    if len(wanted) != len(candidates) or any(not math.isfinite(s) or s < 0 for s in wanted):
        raise InputError(explain("scores are not usable", expected=f"{len(candidates)} numbers from 0"))
    known: dict[tuple[object, ...], list[RunConfiguration]] = {}
    for other in measured:
        known.setdefault(_deployment(other), []).append(other)
    weights = [
        score * share * novelty(c, known.get(_deployment(c), ()))
        for c, score, share in zip(candidates, wanted, worth, strict=True)
    ]
    return rng.choices(list(candidates), weights if sum(weights) > 0 else worth)[0]


class Visits:
    """Which model a campaign measures now, where it measures each for a few runs before the next.

    The model with the least effort behind it comes next, ties in an order drawn by the seed, so that a campaign
    that ends early has seen as many models as it could. A failure is half the effort of a run: one that never
    works is not tried for ever.
    """

    def __init__(self, configurations: Iterable[RunConfiguration], *, runs: int, seed: int) -> None:
        """``runs`` measured of one model make a visit."""
        self._order = list(dict.fromkeys(c.model for c in configurations))
        random.Random(seed).shuffle(self._order)
        self._runs = runs
        self._effort: Counter[str] = Counter()  # halves of runs
        self._model: str | None = None
        self._until = 0

    def ended(self, configuration: RunConfiguration, *, succeeded: bool) -> None:
        """Take note of a configuration that was tried, now or before this campaign was resumed."""
        self._effort[configuration.model] += 2 if succeeded else 1

    def choices(self, remaining: Sequence[RunConfiguration]) -> list[RunConfiguration]:
        """Return the configurations of the model whose turn it is, in the order of ``remaining``."""
        left = {c.model for c in remaining}
        if self._model not in left or self._effort[self._model] >= self._until:
            self._model = min((m for m in self._order if m in left), key=lambda m: self._effort[m])
            self._until = self._effort[self._model] + 2 * self._runs
        return [c for c in remaining if c.model == self._model]


class Broken:
    """Which ways of running a model never work here, whatever its sizes: told from what failed.

    A machine's release may lack what another has (a static cache for one class, a config's keys); each such
    failure costs seconds, and the same way is not tried a third time.
    """

    TRIES: Final = 2
    KINDS: Final = ("engine_error", "unsupported", "no_config", "missing_package", "unexpected")

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self._failures: Counter[tuple[object, ...]] = Counter()
        self._works: set[tuple[object, ...]] = set()

    def ended(self, configuration: RunConfiguration, failure_reason: str | None) -> None:
        """Take note of a configuration that was tried; ``None``: it was measured."""
        if failure_reason is None:
            self._works.add(_deployment(configuration))
        elif failure_reason.partition(":")[0] in self.KINDS:
            self._failures[_deployment(configuration)] += 1

    def __contains__(self, configuration: RunConfiguration) -> bool:
        way = _deployment(configuration)
        return way not in self._works and self._failures[way] >= self.TRIES


def novelty(candidate: RunConfiguration, measured: Sequence[RunConfiguration]) -> float:
    """Return 0 to 1: how far the nearest measured configuration of the same deployment is, in doublings.

    A neighbour one doubling of batch or tokens away leaves 1 − e⁻¹ = 63 % of the interest.
    """
    distances = [
        _distance(candidate, other) for other in measured if _deployment(other) == _deployment(candidate)
    ]
    return 1.0 - math.exp(-min(distances)) if distances else 1.0


def _deployment(c: RunConfiguration) -> tuple[object, ...]:
    return (
        c.model,
        c.workload,
        c.engine_name,
        c.tensor_parallel,
        c.precision,
        c.attention,
        c.static_cache,
        c.compiled,
    )


def _distance(a: RunConfiguration, b: RunConfiguration) -> float:
    pairs = (
        (a.batch_size, b.batch_size),
        (a.prompt_tokens, b.prompt_tokens),
        (a.output_tokens, b.output_tokens),
    )
    return math.hypot(*(math.log2(x / y) for x, y in pairs))
