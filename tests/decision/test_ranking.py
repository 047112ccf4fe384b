"""Targets, ranking and the front, on made-up options."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.decision.pareto import non_dominated
from llmco2.decision.ranking import equal_to_first
from llmco2.decision.targets import Missed, Targets, meets, shortfall
from llmco2.errors import RequestError

FIGURES = st.lists(st.tuples(*[st.integers(1, 6)] * 3), min_size=1, max_size=40)
VALUES = st.lists(st.tuples(*[st.floats(0.01, 10.0)] * 4), min_size=1, max_size=20)
COLUMNS = ["ttft_s", "tpot_s", "latency_s", "gpus_needed"]


def options(*rows: tuple[float, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS, dtype=float)


@settings(max_examples=100, derandomize=True)
@given(FIGURES)
def test_the_front_is_what_nothing_dominates(rows: list[tuple[int, ...]]) -> None:
    figures = np.array(rows, dtype=float)
    by_hand = [not any((other <= row).all() and (other < row).any() for other in figures) for row in figures]
    assert non_dominated(figures).tolist() == by_hand


def test_equal_is_where_the_middle_of_one_lies_within_the_other() -> None:
    middle = np.array([1.0, 1.2, 1.5, 1.6])
    low, high = np.array([0.8, 1.1, 0.9, 1.2]), np.array([1.3, 1.4, 2.0, 2.0])
    assert equal_to_first(middle, low, high).tolist() == [True, True, True, False]


def test_one_target_that_binds_by_hand() -> None:
    table = options((0.1, 0.02, 2.0, 4), (0.1, 0.01, 1.0, 16), (0.5, 0.005, 0.9, 8))
    found = shortfall(table, Targets(max_ttft_s=0.2, max_tpot_s=0.015, max_gpus=8), np.array([1.0, 2.0, 3.0]))
    # The first misses TPOT alone, the second GPUs, the third TTFT: by 1.33, 2 and 2.5 times, so the first is closest.
    assert found.alone
    assert found.closest == 0
    assert found.binding == (
        Missed(target="max_ttft_s", asked=0.2, nearest=0.5),
        Missed(target="max_tpot_s", asked=0.015, nearest=0.02),
        Missed(target="max_gpus", asked=8, nearest=16.0),
    )


def test_targets_that_bind_together_by_hand() -> None:
    table = options((0.2, 0.02, 2.0, 4), (0.9, 0.011, 2.0, 4))
    found = shortfall(table, Targets(max_ttft_s=0.1, max_tpot_s=0.01), np.array([1.0, 1.0]))
    assert not found.alone
    assert found.closest == 0
    assert [(missed.target, missed.nearest) for missed in found.binding] == [
        ("max_ttft_s", 0.2),
        ("max_tpot_s", 0.02),
    ]


def test_a_value_just_above_its_target_misses_it() -> None:
    """Their quotient may round to one."""
    limits = np.random.default_rng(0).uniform(0.001, 1.0, 200)
    for limit in limits.tolist():
        above = float(np.nextafter(limit, 2.0))
        targets = Targets(max_tpot_s=limit, max_ttft_s=limit)
        table = options((above, above, 1.0, 1))
        assert not meets(table, targets).any()
        found = shortfall(table, targets, np.zeros(1))
        assert [missed.nearest for missed in found.binding] == [above, above]


@settings(max_examples=150, derandomize=True)
@given(VALUES, st.tuples(*[st.floats(0.01, 10.0)] * 3))
def test_the_nearest_values_can_be_met(rows: list[tuple[float, ...]], limits: tuple[float, ...]) -> None:
    table = options(*rows)
    asked = dict(zip(("max_ttft_s", "max_tpot_s", "max_latency_s"), limits, strict=True))
    targets = Targets(**asked)
    if meets(table, targets).any():
        return
    found = shortfall(table, targets, np.zeros(len(table)))
    nearest = {missed.target: missed.nearest for missed in found.binding}
    assert all(value > asked[name] for name, value in nearest.items())
    trials = [{name: value} for name, value in nearest.items()] if found.alone else [nearest]
    for moved in trials:
        assert meets(table, Targets(**(asked | moved))).any()
        for name, value in moved.items():  # and nothing nearer to it can
            if found.alone:
                assert not meets(table, Targets(**(asked | {name: value * (1.0 - 1e-9)}))).any()


@pytest.mark.parametrize("limits", [{"max_ttft_s": 0.0}, {"max_tpot_s": float("nan")}, {"max_gpus": 0.5}])
def test_a_target_that_cannot_be_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(limits))} is out of range"):
        Targets(**limits)
