"""A steady rate: Little's law solved with a latency that rises with the requests that run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.decision.load import LatencyOf, needed_replicas, running_requests


def affine(alone_s: np.ndarray, each_s: np.ndarray) -> LatencyOf:
    return lambda rows, running: alone_s[rows] + each_s[rows] * running


def test_by_hand() -> None:
    """Ten requests take 2 + 0.1 x 10 = 3 s: 3.33/s saturate a replica, so 5/s need two of 2.5/s each.

    b = 2.5 (2 + 0.1 b) is 5 / 0.75 = 6.67 requests.
    """
    most = np.array([10.0])
    load = needed_replicas(5.0, most, np.array([3.0]))
    assert load.saturation_requests_per_s == pytest.approx(10 / 3)
    assert load.replicas.tolist() == [2.0]
    assert load.load_share == pytest.approx(0.75)
    running = running_requests(load.requests_per_s, most, affine(np.array([2.0]), np.array([0.1])))
    assert running == pytest.approx(5 / 0.75, rel=1e-5)


def test_below_one_request_the_replica_works_for_that_share_of_the_time() -> None:
    running = running_requests(np.array([0.1]), np.array([64.0]), affine(np.array([2.0]), np.array([0.5])))
    assert running == pytest.approx(0.1 * 2.5)


def test_a_rate_that_whole_replicas_meet_exactly_needs_no_more() -> None:
    """In binary, 0.3 is no multiple of a tenth."""
    load = needed_replicas(0.3, np.array([1.0]), np.array([10.0]))
    assert load.replicas.tolist() == [3.0]
    running = running_requests(
        load.requests_per_s, np.array([1.0]), affine(np.array([10.0]), np.array([0.0]))
    )
    assert running == pytest.approx(1.0)


@settings(max_examples=150, derandomize=True)
@given(
    alone_s=st.floats(0.01, 100.0),
    each_s=st.floats(0.0, 1.0),
    bend=st.floats(0.3, 3.0),
    most=st.integers(1, 1024),
    rate=st.floats(1e-4, 1e4),
)
def test_requests_are_rate_times_latency_within_the_limit(
    alone_s: float, each_s: float, bend: float, most: int, rate: float
) -> None:
    """A latency that rises along any power of the requests, also where throughput falls again."""

    def latency(_: np.ndarray, running: np.ndarray) -> np.ndarray:
        return np.asarray(alone_s + each_s * (running - 1.0) ** bend)

    limit = np.array([float(most)])
    load = needed_replicas(rate, limit, latency(np.zeros(1), limit))
    running = running_requests(load.requests_per_s, limit, latency)
    assert 0.0 < running[0] <= most
    expected = load.requests_per_s * latency(np.zeros(1), np.maximum(running, 1.0))
    assert running == pytest.approx(expected, rel=1e-5)
    assert load.requests_per_s[0] <= load.saturation_requests_per_s[0] * (1.0 + 1e-6)
    assert (load.replicas[0] - 1.0) * load.saturation_requests_per_s[0] <= rate * (1.0 + 1e-6)
