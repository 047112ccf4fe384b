"""Sums over the growing context against loops that add token by token."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmco2.operators.context import attended_tokens_between, attended_tokens_up_to


def _column(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)


@given(tokens=st.integers(0, 400), window=st.integers(1, 400))
def test_sum_equals_the_loop(tokens: int, window: int) -> None:
    looped = sum(min(i, window) for i in range(1, tokens + 1))
    assert attended_tokens_up_to(_column(tokens), _column(window))[0] == looped
    assert attended_tokens_up_to(_column(tokens))[0] == sum(range(1, tokens + 1))


@given(first=st.integers(0, 300), more=st.integers(0, 300), window=st.integers(1, 400))
def test_difference_equals_the_loop(first: int, more: int, window: int) -> None:
    looped = sum(min(i, window) for i in range(first + 1, first + more + 1))
    assert attended_tokens_between(_column(first), _column(first + more), _column(window))[0] == looped


def test_ten_million_tokens_are_summed_without_rounding() -> None:
    n = 10_000_000
    assert attended_tokens_up_to(_column(n))[0] == n * (n + 1) // 2
    assert attended_tokens_between(_column(n), _column(n + 1))[0] == n + 1


@given(tokens=st.floats(0.0, 1e6), more=st.floats(0.0, 1e3), window=st.integers(1, 10_000))
def test_fractional_tokens_lie_between_their_whole_neighbours(
    tokens: float, more: float, window: int
) -> None:
    at = attended_tokens_up_to(
        _column(np.floor(tokens), tokens, np.ceil(tokens), tokens + more), float(window)
    )
    assert at[0] <= at[1] <= at[2]
    assert at[1] <= at[3]


@given(tokens=st.floats(0.0, 200.0), step=st.floats(0.0, 2.0), window=st.integers(1, 100))
def test_a_part_of_a_token_attends_to_no_more_than_the_window(
    tokens: float, step: float, window: int
) -> None:
    attended = attended_tokens_between(_column(tokens), _column(tokens + step), float(window))[0]
    assert attended <= step * window + 1e-9
    assert attended <= step * np.ceil(tokens + step) + 1e-9
