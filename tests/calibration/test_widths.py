"""An interval's width follows held-back errors, as far as their number bears out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.calibration.widths import NARROWEST, WIDEST, errors_in_ends, width_scale
from llmco2.predictor.intervals import LogQuantiles

ERRORS = st.lists(st.floats(0.0, 10.0), min_size=1, max_size=40)


def test_widths_by_hand() -> None:
    assert width_scale(np.zeros(0)) == 1.0
    # Errors as the interval expects them, at one sigma: the width stays.
    assert width_scale(np.full(5, 1 / 1.6449)) == pytest.approx(1.0)
    # Three runs without error narrow it to sqrt(8 / 11), five to sqrt(8 / 13), many to a half.
    assert width_scale(np.zeros(3)) == pytest.approx(0.853, abs=0.001)
    assert width_scale(np.zeros(5)) == pytest.approx(0.784, abs=0.001)
    assert width_scale(np.zeros(100)) == NARROWEST
    # Five errors at twice the end: sqrt((8 + 5 · 4 · 1.6449²) / 13) = 2.19.
    assert width_scale(np.full(5, 2.0)) == pytest.approx(2.19, abs=0.01)
    # One absurd run among twelve counts as four ends.
    assert width_scale(np.array([*np.full(11, 0.6), 1e6])) == pytest.approx(WIDEST)
    assert width_scale(np.array([*np.full(18, 0.6), 1e6])) < 2.0
    # Nineteen runs: 90 % of new ones need the 18th of them in order.
    assert width_scale(np.array([0.0] * 17 + [1.5, 1.5])) == pytest.approx(1.5)


def test_an_error_is_measured_by_the_end_on_its_side() -> None:
    ends = LogQuantiles(low=np.full(4, -0.2), high=np.full(4, 0.1))
    assert errors_in_ends(np.array([0.05, -0.05, np.nan, 0.3]), ends) == pytest.approx([0.5, 0.25, 3.0])
    beside = LogQuantiles(low=np.array([0.1]), high=np.array([0.3]))  # an interval that lies wholly above
    assert errors_in_ends(np.array([-0.02]), beside) == pytest.approx([1.0])


@given(ERRORS)
def test_a_width_stays_in_its_range_and_grows_with_errors(used: list[float]) -> None:
    errors = np.array(used)
    width = width_scale(errors)
    assert NARROWEST <= width <= WIDEST
    assert width_scale(1.5 * errors) >= width


@given(ERRORS)
def test_nine_runs_or_more_are_covered_to_ninety_percent(used: list[float]) -> None:
    errors = np.array([*used, *np.zeros(9)])
    width = width_scale(errors)
    assert width == WIDEST or np.mean(errors <= width) >= 0.9
