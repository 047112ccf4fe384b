"""Whose energy it was: the joules of a meter, shared out over the requests that ran.

The rule, for each stretch of time in which the same requests ran:

1. *Idle*: the GPUs' idle power times the stretch, at most what the meter counted. It is shared in equal parts by the
   requests that were held then, whatever they did.
2. *Active*, the rest, is divided in the ratio of what the predictor says each part costs: prefill, by prompt tokens
   computed; *shared* weights, which a step of decoding reads once for all, by output tokens; and a request's *own*
   part of decoding, by output tokens and the context they attend to.
3. Joules of a stretch in which nothing ran belong to no request and stand apart.

The prediction only divides; the meter decides how much. Parts add up to the meter: of leave-one-out or per-token rules
neither does. Shapley values would, at a cost that grows with every subset of requests; equal shares of what all need
and own shares of what each adds are those values where costs add up, as they do here.

Invariant: the parts of all requests and what is apart add up to the joules of the meter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmco2.errors import InputError, explain

Numbers: TypeAlias = NDArray[np.float64]
PARTS: Final = ("idle_j", "prefill_j", "shared_j", "own_j")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCosts:
    """Predicted joules over all GPUs; only their ratios matter."""

    prefill_token_j: float  # of one prompt token
    decode_step_j: float  # of one step, whatever the batch: weights and the engine
    decode_token_j: float  # of one more sequence in a step
    context_token_j: float  # of one token of context that a sequence attends to in a step

    def __post_init__(self) -> None:
        for name in ("prefill_token_j", "decode_step_j", "decode_token_j", "context_token_j"):
            value = getattr(self, name)
            if not np.isfinite(value) or value < 0:
                raise InputError(explain(f"{name} is out of range", got=repr(value), expected="at least 0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLog:
    """Requests in any order, ``(n,)`` each; times in s on the meter's clock."""

    start_s: Numbers
    end_s: Numbers
    first_token_s: Numbers  # NaN where it was not logged
    prompt_tokens: Numbers  # computed ones: without what came from a cache
    output_tokens: Numbers
    context_tokens: Numbers  # of the whole prompt, cached or not


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReadings:
    """Cumulative joules of all GPUs of the server, ``(m,)`` each, at rising times in s."""

    t_s: Numbers
    energy_j: Numbers

    def __post_init__(self) -> None:
        if len(self.t_s) < 2:
            raise InputError(
                explain("the meter has too few readings", got=len(self.t_s), expected="at least 2")
            )
        if np.any(np.diff(self.t_s) <= 0):
            raise InputError(
                explain("the meter's times do not rise", remedy="sort them, and leave out repeats")
            )
        if np.any(np.diff(self.energy_j) < 0):
            raise InputError(explain("the meter's energy falls", expected="cumulative joules"))

    @property
    def total_j(self) -> float:
        """What it counted."""
        return float(self.energy_j[-1] - self.energy_j[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Joules of each request by part, ``(n,)`` each, and those of none."""

    idle_j: Numbers
    prefill_j: Numbers
    shared_j: Numbers
    own_j: Numbers
    unused_idle_j: float  # idle joules of time in which nothing ran
    unused_active_j: float  # joules above idle of such time: the engine's own work, or somebody else's
    total_j: float  # of the meter
    n_outside: int  # requests that the meter did not see at all

    @property
    def energy_j(self) -> Numbers:
        """All joules of each request."""
        return self.idle_j + self.prefill_j + self.shared_j + self.own_j


def attribute(log: RequestLog, meter: MeterReadings, costs: PhaseCosts, idle_power_w: float) -> Attribution:
    """Return whose the meter's joules were; ``idle_power_w`` is that of all GPUs together."""
    if not np.isfinite(idle_power_w) or idle_power_w < 0:
        raise InputError(
            explain("the idle power is out of range", got=repr(idle_power_w), expected="at least 0 W")
        )
    phases = _phases(log)
    times = _boundaries(phases, meter)
    stretches = _Stretches(times, phases, meter, costs, idle_power_w)
    seen = (log.start_s < meter.t_s[-1]) & (log.end_s > meter.t_s[0])
    parts = stretches.shares()
    return Attribution(
        **parts,
        unused_idle_j=stretches.unused_idle_j,
        unused_active_j=stretches.unused_active_j,
        total_j=meter.total_j,
        n_outside=int(np.count_nonzero(~seen)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phases:
    """When each request was held, prefilled and decoded, and how fast, ``(n,)`` each."""

    start_s: Numbers
    end_s: Numbers
    prefill_end_s: Numbers
    decode_start_s: Numbers
    prefill_rate: Numbers  # tokens/s
    decode_rate: Numbers
    context: Numbers  # mean tokens that an output token attends to


def _phases(log: RequestLog) -> _Phases:
    """Return the phases; where the first token's time is missing or leaves no time, both take the whole request.

    The first output token comes out of prefill, so decoding makes one fewer where the phases are apart.
    """
    held_s = log.end_s - log.start_s
    if np.any(~(held_s > 0)):
        row = int(np.flatnonzero(~(held_s > 0))[0]) + 1
        raise InputError(explain(f"request {row} takes no time", expected="an end after its start"))
    prefill_s = log.first_token_s - log.start_s
    decode_s = log.end_s - log.first_token_s
    apart = (prefill_s > 0) & ((decode_s > 0) | (log.output_tokens <= 1)) & (decode_s >= 0)
    decoded = np.where(apart, np.maximum(log.output_tokens - 1, 0), log.output_tokens)
    prefill_end_s = np.where(apart, log.first_token_s, log.end_s)
    decode_start_s = np.where(apart, log.first_token_s, log.start_s)
    decoding_s = log.end_s - decode_start_s
    return _Phases(
        start_s=log.start_s,
        end_s=log.end_s,
        prefill_end_s=prefill_end_s,
        decode_start_s=decode_start_s,
        prefill_rate=log.prompt_tokens / (prefill_end_s - log.start_s),
        decode_rate=np.divide(decoded, decoding_s, out=np.zeros_like(decoded), where=decoding_s > 0),
        context=log.context_tokens + log.output_tokens / 2,
    )


def _boundaries(phases: _Phases, meter: MeterReadings) -> Numbers:
    """Return every moment within the meter's span at which a request or the meter changes."""
    every = np.concatenate(
        [phases.start_s, phases.end_s, phases.prefill_end_s, phases.decode_start_s, meter.t_s]
    )
    first_s, last_s = meter.t_s[0], meter.t_s[-1]
    return np.unique(np.clip(every, first_s, last_s))


class _Stretches:
    """The time between boundaries, ``(k,)``, and what was drawn and done in each."""

    def __init__(
        self, times: Numbers, phases: _Phases, meter: MeterReadings, costs: PhaseCosts, idle_power_w: float
    ) -> None:
        self._times, self._phases, self._costs = times, phases, costs
        drawn_j = np.diff(np.interp(times, meter.t_s, meter.energy_j))
        idle_j = np.minimum(drawn_j, idle_power_w * np.diff(times))
        active_j = drawn_j - idle_j
        n_held = self._sum(np.ones_like(phases.start_s), phases.start_s, phases.end_s)
        self._n_decoding = self._sum(
            (phases.decode_rate > 0).astype(np.float64), phases.decode_start_s, phases.end_s
        )
        n_prefilling = self._sum(
            (phases.prefill_rate > 0).astype(np.float64), phases.start_s, phases.prefill_end_s
        )
        self._prefill_w = phases.prefill_rate * costs.prefill_token_j
        self._own_w = phases.decode_rate * (costs.decode_token_j + costs.context_token_j * phases.context)
        decode_rate = self._sum(phases.decode_rate, phases.decode_start_s, phases.end_s)
        own_w = self._sum(self._own_w, phases.decode_start_s, phases.end_s)
        predicted_w = np.where(
            n_prefilling > 0, self._sum(self._prefill_w, phases.start_s, phases.prefill_end_s), 0.0
        )
        shared_w = _over(costs.decode_step_j * decode_rate, self._n_decoding)
        predicted_w = predicted_w + np.where(self._n_decoding > 0, shared_w + own_w, 0.0)
        at_work = (predicted_w > 0) & (n_held > 0)
        self._scale = np.where(at_work, _over(active_j, np.where(at_work, predicted_w, 0.0)), 0.0)
        resting_j = np.where(at_work, 0.0, active_j)  # drawn while requests only waited
        self._held_j = _over(idle_j + resting_j, n_held)
        empty = n_held == 0
        self.unused_idle_j = float(idle_j[empty].sum())
        self.unused_active_j = float(active_j[empty].sum())
        self._worked_j = float(active_j[at_work].sum())
        self._rested_j = float((idle_j + resting_j)[~empty].sum())

    def shares(self) -> dict[str, Numbers]:
        """Return the joules of each request by part.

        Sums of very unlike rates round; the parts are scaled to what was drawn, so that they add up all the same.
        """
        p = self._phases
        shared = self._costs.decode_step_j * _over(self._scale, self._n_decoding)
        work = {
            "prefill_j": self._prefill_w * self._over_time(self._scale, p.start_s, p.prefill_end_s),
            "shared_j": p.decode_rate * self._over_time(shared, p.decode_start_s, p.end_s),
            "own_j": self._own_w * self._over_time(self._scale, p.decode_start_s, p.end_s),
        }
        held = {"idle_j": self._over_time(self._held_j, p.start_s, p.end_s)}
        return _scaled(held, self._rested_j) | _scaled(work, self._worked_j)

    def _places(self, moments: Numbers) -> NDArray[np.intp]:
        clipped = np.clip(moments, self._times[0], self._times[-1])
        return np.searchsorted(self._times, clipped)

    def _sum(self, rates: Numbers, begins_s: Numbers, ends_s: Numbers) -> Numbers:
        """Return the sum of the requests' ``rates`` in each stretch, ``(k,)``."""
        steps = np.zeros(len(self._times))
        np.add.at(steps, self._places(begins_s), rates)
        np.add.at(steps, self._places(ends_s), -rates)
        return np.cumsum(steps)[:-1]

    def _over_time(self, values: Numbers, begins_s: Numbers, ends_s: Numbers) -> Numbers:
        """Return the sum of the stretches' ``values`` from begin to end of each request, ``(n,)``."""
        sums = np.concatenate([[0.0], np.cumsum(values)])
        found: Numbers = sums[self._places(ends_s)] - sums[self._places(begins_s)]
        return np.where(found > 0.0, found, 0.0)


def _scaled(parts: dict[str, Numbers], total_j: float) -> dict[str, Numbers]:
    """Return parts in their ratios, adding up to ``total_j``."""
    found_j = float(sum(part.sum() for part in parts.values()))
    return {name: part * (total_j / found_j if found_j > 0 else 1.0) for name, part in parts.items()}


def _over(values: Numbers, counts: Numbers) -> Numbers:
    """Return values over counts, zero where nothing is counted."""
    return np.divide(values, counts, out=np.zeros_like(values), where=counts > 0)
