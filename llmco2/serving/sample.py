"""One look at a serving engine: what its counters, gauges and histograms said at one moment.

Invariant: a series that the page lacks is absent from its mapping and named in ``missing``; nothing is zero but
what was read as zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

# counters, tokens unless said otherwise
PROMPT_TOKENS: Final = "prompt_tokens"  # all of them, cached or not
COMPUTED_PROMPT_TOKENS: Final = "computed_prompt_tokens"  # without what came from a cache
CACHED_PROMPT_TOKENS: Final = "cached_prompt_tokens"
GENERATION_TOKENS: Final = "generation_tokens"
FINISHED_REQUESTS: Final = "finished_requests"  # requests
DRAFT_TOKENS: Final = "draft_tokens"
ACCEPTED_TOKENS: Final = "accepted_tokens"
PREEMPTIONS: Final = "preemptions"  # requests
STEPS: Final = "steps"  # forward passes of the engine
DECODE_SECONDS: Final = "decode_seconds"  # s in which the engine decoded
FLOPS_PER_GPU: Final = "flops_per_gpu"  # FLOP, as the engine estimates them
READ_BYTES_PER_GPU: Final = "read_bytes_per_gpu"  # byte, as the engine estimates them
WRITTEN_BYTES_PER_GPU: Final = "written_bytes_per_gpu"
ENERGY: Final = "energy_j"  # J of the GPUs that the engine sees
# gauges
RUNNING: Final = "running"  # requests
WAITING: Final = "waiting"  # requests
KV_USE: Final = "kv_use"  # share of the KV cache in use, 0 to 1; one for each rank
# histograms, s or tokens
TTFT: Final = "ttft_s"
ITL: Final = "itl_s"  # between two tokens of a request; one entry for each token
TPOT: Final = "tpot_s"  # mean of a request; one entry for each request
E2E: Final = "e2e_s"
PROMPT_LENGTH: Final = "prompt_length"  # tokens of a request
OUTPUT_LENGTH: Final = "output_length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A counter or gauge: the name of its series on the page, and its value for each data-parallel rank."""

    series: str
    by_rank: Mapping[str, float]

    @property
    def total(self) -> float:
        """The sum over ranks."""
        return math.fsum(self.by_rank.values())

    @property
    def highest(self) -> float:
        """The highest of the ranks; shares are never averaged."""
        return max(self.by_rank.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A histogram summed over ranks: ``count`` entries of sum ``total``; ``buckets`` holds (bound, entries up to it).

    ``buckets`` rise in both and end at infinity; they are empty where the page's buckets contradict each other.
    """

    series: str
    total: float
    count: float
    buckets: tuple[tuple[float, float], ...] = ()

    @property
    def mean(self) -> float | None:
        """The mean entry, or ``None`` where there is none."""
        return self.total / self.count if self.count > 0 else None

    def since(self, earlier: Histogram) -> Histogram | None:
        """Return the entries made after ``earlier``; ``None`` where it is not an earlier state of this one."""
        count, total = self.count - earlier.count, self.total - earlier.total
        if count < 0 or total < 0:
            return None
        before = dict(earlier.buckets)
        if [bound for bound, _ in self.buckets] != list(before):
            return Histogram(series=self.series, total=total, count=count)
        buckets = tuple((bound, entries - before[bound]) for bound, entries in self.buckets)
        if not _rises(buckets):
            return Histogram(series=self.series, total=total, count=count)
        return Histogram(series=self.series, total=total, count=count, buckets=buckets)

    def quantile(self, share: float) -> Quantile | None:
        """Return the value below which ``share`` of the entries lie, interpolated inside its bucket.

        ``None`` where nothing was entered or the buckets cannot be used. Above the last finite bound only the
        bound is known.
        """
        if not self.buckets or self.buckets[-1][1] <= 0:
            return None
        rank = share * self.buckets[-1][1]
        lower, below = 0.0, 0.0
        for bound, entries in self.buckets:
            if entries >= rank and entries > below:
                if math.isinf(bound):
                    return Quantile(value=lower, beyond=True)
                return Quantile(value=lower + (bound - lower) * (rank - below) / (entries - below))
            lower, below = bound, entries
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """A quantile of a histogram; ``beyond``: it lies above ``value``, the last finite bound."""

    value: float
    beyond: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSample:
    """What one page said of one model at ``t_s`` of the caller's monotonic clock."""

    t_s: float
    engine: str  # vllm | sglang | tgi | trtllm | triton | llamacpp | lmdeploy | dynamo
    model: str | None  # as the page names it; None: it does not
    counters: dict[str, Reading] = field(default_factory=dict)
    gauges: dict[str, Reading] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    config: Mapping[str, str] = field(
        default_factory=dict
    )  # what the page says of dtype, GPU and parallelism
    missing: tuple[str, ...] = ()  # quantities that the engine could tell and this page does not
    notes: tuple[str, ...] = ()

    @property
    def n_ranks(self) -> int:
        """Data-parallel ranks that count tokens."""
        reading = self.counters.get(GENERATION_TOKENS)
        return 1 if reading is None else len(reading.by_rank)

    @property
    def found(self) -> Mapping[str, str]:
        """The series that was read for each quantity."""
        readings = {quantity: reading.series for quantity, reading in (self.counters | self.gauges).items()}
        return readings | {quantity: histogram.series for quantity, histogram in self.histograms.items()}


def histogram_of(series: str, total: float, count: float, bounds: Sequence[tuple[float, float]]) -> Histogram:
    """Return a histogram whose buckets are kept only if they rise, end at infinity and hold ``count`` entries."""
    buckets = tuple(sorted(bounds))
    whole = bool(buckets) and math.isinf(buckets[-1][0]) and _rises(buckets) and buckets[-1][1] == count
    return Histogram(series=series, total=total, count=count, buckets=buckets if whole else ())


def _rises(buckets: Sequence[tuple[float, float]]) -> bool:
    entries = [0.0, *(count for _, count in buckets)]
    return all(before <= after for before, after in pairwise(entries))
