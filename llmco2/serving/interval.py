"""What a serving engine did between two looks at it, and what its GPUs drew meanwhile.

Invariant: everything is a difference of counters over the same seconds. Where a counter fell, a rank came or went, or a
series is missing, there is no figure rather than a negative or a zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from llmco2.serving import sample as q
from llmco2.serving.engines import ENGINES
from llmco2.serving.sample import Histogram, Reading, ServerSample

_WITNESSES: Final = (q.GENERATION_TOKENS, q.PROMPT_TOKENS, q.COMPUTED_PROMPT_TOKENS, q.FINISHED_REQUESTS)
COARSEST: Final = 0.02  # share of a count that rounding in print may make up


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One sample of an engine with the joules that its GPUs had drawn by then, where they can be read."""

    sample: ServerSample
    energy_j: float | None = None  # cumulative, since any fixed moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The work and the energy of one engine between two looks; tokens and joules of this interval alone."""

    start_s: float
    end_s: float
    counts: Mapping[str, float] = field(default_factory=dict)  # by quantity; absent: not known
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    running: float | None = None  # mean of the gauge over the looks that saw work
    waiting: float | None = None
    kv_use: float | None = None  # of the fullest rank, at the end, 0 to 1
    n_ranks: int = 1
    energy_j: float | None = None

    @property
    def duration_s(self) -> float:
        """Seconds between the looks."""
        return self.end_s - self.start_s

    def rate_per_s(self, quantity: str) -> float | None:
        """Return a count per second, or ``None`` where it is not known."""
        count = self.counts.get(quantity)
        return None if count is None or self.duration_s <= 0 else count / self.duration_s

    @property
    def prefilled_tokens(self) -> float | None:
        """Prompt tokens that were computed, not taken from a cache."""
        known = self.counts.get(q.COMPUTED_PROMPT_TOKENS)
        if known is not None:
            return known
        every, cached = self.counts.get(q.PROMPT_TOKENS), self.counts.get(q.CACHED_PROMPT_TOKENS)
        return every if every is None or cached is None else max(0.0, every - cached)

    @property
    def prompt_tokens(self) -> float | None:
        """Prompt tokens of the requests, cached or not."""
        known = self.counts.get(q.PROMPT_TOKENS)
        if known is not None:
            return known
        computed = self.counts.get(q.COMPUTED_PROMPT_TOKENS)
        return None if computed is None else computed + self.counts.get(q.CACHED_PROMPT_TOKENS, 0.0)

    @property
    def cache_hit_share(self) -> float | None:
        """Share of the prompt tokens that came from a cache, 0 to 1; ``None`` where there were none."""
        every, computed = self.prompt_tokens, self.prefilled_tokens
        cached_known = q.CACHED_PROMPT_TOKENS in self.counts or q.COMPUTED_PROMPT_TOKENS in self.counts
        if not every or computed is None or not cached_known:
            return None
        return min(1.0, max(0.0, 1.0 - computed / every))

    @property
    def acceptance_share(self) -> float | None:
        """Share of drafted tokens that were accepted, 0 to 1; ``None`` without speculative decoding."""
        drafted, accepted = self.counts.get(q.DRAFT_TOKENS), self.counts.get(q.ACCEPTED_TOKENS)
        return accepted / drafted if drafted and accepted is not None else None


def has_restarted(before: ServerSample, after: ServerSample) -> bool:
    """Whether the engine began to count anew: a counter fell, or a rank, the model or the engine changed.

    Ranks are compared one by one: the growth of one would hide the fall of another. Start times are not used, for
    engines of several processes publish none.
    """
    if (before.engine, before.model) != (after.engine, after.model):
        return True
    pairs = [(before.counters.get(name), after.counters.get(name)) for name in _WITNESSES]
    return any(_fell(one, other) for one, other in pairs if one is not None and other is not None)


def _fell(before: Reading, after: Reading) -> bool:
    if before.series != after.series or before.by_rank.keys() != after.by_rank.keys():
        return True
    return any(after.by_rank[rank] < value for rank, value in before.by_rank.items())


def interval(looks: Sequence[Look]) -> Interval:
    """Return what happened from the first to the last of ``looks``, between which nothing restarted."""
    first, last = looks[0].sample, looks[-1].sample
    counts = {}
    for name, reading in last.counters.items():
        earlier = first.counters.get(name)
        if earlier is not None and not _fell(earlier, reading):
            counts[name] = reading.total - earlier.total
    histograms = {}
    for name, histogram in last.histograms.items():
        before = first.histograms.get(name)
        since = None if before is None else histogram.since(before)
        if since is not None:
            histograms[name] = since
    samples = [look.sample for look in looks]
    kv_use = last.gauges.get(q.KV_USE)
    return Interval(
        start_s=first.t_s,
        end_s=last.t_s,
        counts=counts,
        histograms=histograms,
        running=_mean_gauge(samples, q.RUNNING, while_busy=True),
        waiting=_mean_gauge(samples, q.WAITING),
        kv_use=None if kv_use is None else kv_use.highest,
        n_ranks=last.n_ranks,
        energy_j=_energy_j(looks),
    )


def _mean_gauge(samples: Sequence[ServerSample], name: str, *, while_busy: bool = False) -> float | None:
    values = [sample.gauges[name].total for sample in samples if name in sample.gauges]
    values = [value for value in values if math.isfinite(value) and value >= 0]
    if not values:
        return None
    busy = [value for value in values if value > 0] if while_busy else values
    return math.fsum(busy) / len(busy) if busy else 0.0


def _energy_j(looks: Sequence[Look]) -> float | None:
    """Return the joules between the first and the last look; ``None`` where a counter lacks or fell."""
    first, last = looks[0].energy_j, looks[-1].energy_j
    return None if first is None or last is None or last < first else last - first


def is_fine_enough(before: ServerSample, after: ServerSample) -> bool:
    """Whether the engine prints its counts finely enough for a rate between two samples.

    llama.cpp prints six digits: above a million a count moves in tens, above ten million in hundreds. A count that
    stands still is a count of nothing.
    """
    digits = ENGINES[after.engine].significant_digits
    if digits is None:
        return True
    for name in (q.GENERATION_TOKENS, q.COMPUTED_PROMPT_TOKENS, q.PROMPT_TOKENS):
        one, other = before.counters.get(name), after.counters.get(name)
        if one is None or other is None:
            continue
        grew, step = other.total - one.total, resolution(other.total, digits)
        if step > 1 and grew > 0 and step > COARSEST * grew:
            return False
    return True


def resolution(value: float, digits: int) -> float:
    """Return the step in which a count moves where ``digits`` significant digits of ``value`` are printed."""
    return 1.0 if value < 1 else max(1.0, 10.0 ** (math.floor(math.log10(value)) + 1 - digits))
