"""Figures are what they are by hand; intervals narrow with agreement and respect pairing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.accuracy.figures import (
    error_figures,
    group_errors,
    groups_interval,
    rows_interval,
    seed_mapes,
    seed_mean_figures,
)
from llmco2.data.tensors import LABELS


def test_figures_by_hand() -> None:
    # Predictions of 104, 92, 120, 150 % of what was measured, and one that is missing.
    figures = error_figures(np.log([1.04, 0.92, 1.2, 1.5, math.nan]))
    assert figures.mape_percent == pytest.approx((4 + 8 + 20 + 50) / 4)
    assert figures.median_percent == pytest.approx(14.0)
    assert (figures.eba5_percent, figures.eba10_percent, figures.eba30_percent) == (25.0, 50.0, 75.0)
    assert figures.bias_percent == pytest.approx(100 * (math.sqrt(1.04 * 1.2) - 1))


def test_nothing_known_gives_nothing() -> None:
    assert math.isnan(error_figures(np.array([math.nan])).mape_percent)


def test_a_rows_energy_error_is_the_mean_of_its_known_energies() -> None:
    row = dict.fromkeys(LABELS, math.nan) | {
        "prefill_energy_j": 0.1,
        "decode_energy_j": 0.3,
        "latency_s": 0.7,
    }
    errors = np.array([[row[name] for name in LABELS], [math.nan] * len(LABELS)])
    assert group_errors(errors)[0] == pytest.approx(0.2)
    assert group_errors(errors, "prefill energy")[0] == 0.1
    assert group_errors(errors, "time")[0] == 0.7
    assert np.isnan(group_errors(errors)[1])


def test_seeds_are_averaged_after_their_figures() -> None:
    errors = np.log([[1.1, 1.3], [1.0, 1.2]])
    assert seed_mapes(errors) == pytest.approx([20.0, 10.0])
    assert seed_mean_figures(errors).mape_percent == pytest.approx(15.0)
    # Not the figures of the mean prediction: each seed has its own median.
    assert seed_mean_figures(np.log([[1.4, 1.4, 1.0], [1.0, 1.0, 1.4]])).median_percent == pytest.approx(20.0)


def test_rows_that_some_seed_leaves_open_are_left_out() -> None:
    assert seed_mapes(np.log([[1.1, 1.5], [1.1, math.nan]])) == pytest.approx([10.0, 10.0])


def test_the_interval_of_a_constant_is_that_constant() -> None:
    interval = rows_interval(np.full((2, 6), np.log(1.2)))
    assert (interval.low, interval.high) == pytest.approx((20.0, 20.0))
    groups = groups_interval([np.array([20.0]), np.array([20.0])])
    assert (groups.low, groups.high) == pytest.approx((20.0, 20.0))


def test_the_interval_of_a_mean_has_the_width_that_theory_gives() -> None:
    # 400 rows whose absolute errors are 0 or 20 %: the mean is 10 ± 1.96 · 10 / √400.
    errors = np.log(np.tile([1.0, 1.2], 200))[None, :]
    interval = rows_interval(errors)
    assert interval.low == pytest.approx(10.0 - 0.98, abs=0.15)
    assert interval.high == pytest.approx(10.0 + 0.98, abs=0.15)
    groups = groups_interval([np.array([0.0]), np.array([20.0])] * 50)
    assert groups.high - groups.low == pytest.approx(2 * 1.96, abs=0.4)


def test_a_paired_difference_is_surer_than_either_mean() -> None:
    rng = np.random.default_rng(3)
    hard = rng.uniform(0.0, 1.0, (1, 60))
    own, baseline = np.log1p(hard), np.log1p(hard + 0.05)  # always five points worse on the same rows
    difference = rows_interval(own, baseline)
    assert (difference.low, difference.high) == pytest.approx((-5.0, -5.0), abs=1e-6)
    alone = rows_interval(own)
    assert alone.high - alone.low > 10.0
    groups = groups_interval([np.array([v]) for v in (5.0, 50.0)], [np.array([v]) for v in (8.0, 53.0)])
    assert (groups.low, groups.high) == pytest.approx((-3.0, -3.0))


def test_one_group_says_nothing_of_others() -> None:
    assert math.isnan(groups_interval([np.array([5.0, 6.0])]).low)


@given(st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=30))
def test_an_interval_lies_within_what_was_seen(errors: list[float]) -> None:
    loss = 100 * np.abs(np.expm1(errors))
    interval = rows_interval(np.array([errors]))
    assert min(loss) - 1e-6 <= interval.low <= interval.high <= max(loss) + 1e-6
