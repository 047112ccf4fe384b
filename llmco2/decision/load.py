"""How many requests a deployment holds at a steady rate, and how many deployments that rate needs.

Invariant: requests in a system are rate times time in it (Little, Operations Research 9(3), 1961); the time depends on
how many run, so the two are solved together. Arrivals are even: a wait in a queue is in none of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]
LatencyOf = Callable[[NDArray[np.intp], Column], Column]  # rows, their running requests → seconds

_ROUNDS: Final = 60
_TOLERANCE: Final = 1e-8  # of the running requests
_ROUNDING: Final = 1e-9  # a rate that whole replicas meet exactly asks for no replica more


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The deployments that a rate needs, ``(n_options,)`` each."""

    saturation_requests_per_s: Column  # the most that one replica serves, at its limit of running requests
    replicas: Column
    requests_per_s: Column  # of one replica

    @property
    def load_share(self) -> Column:
        """The rate of a replica over that at which it saturates, 0 to 1."""
        return self.requests_per_s / self.saturation_requests_per_s


def needed_replicas(rate_per_s: float, most_running: Column, latency_at_most_s: Column) -> Replicas:
    """Return the fewest equal replicas that serve ``rate_per_s``, each running up to ``most_running`` requests."""
    saturation = most_running / latency_at_most_s
    replicas = np.maximum(np.ceil(rate_per_s / saturation - _ROUNDING), 1.0)
    return Replicas(
        saturation_requests_per_s=saturation, replicas=replicas, requests_per_s=rate_per_s / replicas
    )


def running_requests(requests_per_s: Column, most_running: Column, latency_of: LatencyOf) -> Column:
    """Return the mean number of requests that run in a replica, ``(n_options,)``.

    It is ``b`` with ``b = requests_per_s × latency(b)``, at most ``most_running``, found by the Illinois form of false
    position. Below one the replica is empty at times and serves one request at a time: ``b`` is then the share of the
    time in which it works.

    Args:
        requests_per_s: of one replica; no more than ``most_running`` over the latency there.
        most_running: at least 1.
        latency_of: seconds from a request's start to its last token, of rows at their numbers of running requests.
    """
    everyone = np.arange(len(requests_per_s))
    alone = requests_per_s * latency_of(everyone, np.ones(len(everyone)))
    result = np.minimum(alone, most_running)
    left = np.flatnonzero(alone > 1.0)
    low, high = np.ones(len(left)), most_running[left].copy()
    at_low = 1.0 - alone[left]
    at_high = high - requests_per_s[left] * latency_of(left, high)
    result[left] = high
    state = np.stack([low, high, at_low, at_high, np.zeros(len(left))])
    left, state = left[at_high > 0.0], state[:, at_high > 0.0]  # else the limit itself, but for rounding
    for _ in range(_ROUNDS):
        if not len(left):
            break
        low, high, at_low, at_high, _ = state
        middle = np.clip((low * at_high - high * at_low) / (at_high - at_low), low, high)
        gap = middle - requests_per_s[left] * latency_of(left, middle)
        result[left] = middle
        open_ = np.abs(gap) > _TOLERANCE * middle
        left, state = left[open_], _narrowed(state, middle, gap)[:, open_]
    return result


def _narrowed(state: Column, middle: Column, gap: Column) -> Column:
    """Return the bracket with ``middle`` in place of one end; an end that stays twice running counts half from then on.

    ``state`` is ``(5, n)``: the low and the high end, the gap at each, and which end moved last, -1 or 1 (0: none yet).
    """
    low, high, at_low, at_high, moved = state
    below = gap < 0.0
    halved_low, halved_high = (
        np.where(moved > 0, at_low / 2.0, at_low),
        np.where(moved < 0, at_high / 2.0, at_high),
    )
    return np.stack(
        [
            np.where(below, middle, low),
            np.where(below, high, middle),
            np.where(below, gap, halved_low),
            np.where(below, halved_high, gap),
            np.where(below, -1.0, 1.0),
        ]
    )
