"""A counter step counts between 0 and twice the power limit × the time that passed, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.measurement.meters.counter_tally import (
    LARGEST_LIMIT_W,
    CounterTally,
    is_possible_step,
    largest_step_j,
)

LIMIT_W = 700.0


def tally_of(
    counters: Sequence[float], *, step_s: float = 1.0, limit_w: float | None = LIMIT_W
) -> CounterTally:
    tally = CounterTally()
    for place, counter_j in enumerate(counters):
        tally.add(place * step_s, counter_j, limit_w)
    return tally


def steady(n: int, *, start_j: float = 0.0, watts: float = 300.0) -> list[float]:
    return [start_j + watts * place for place in range(n)]


def test_the_largest_step_is_twice_the_limit_over_the_time_and_two_ticks() -> None:
    assert largest_step_j(1.0, 700.0) == pytest.approx(1680.0)
    assert largest_step_j(1.0, None) == largest_step_j(1.0, LARGEST_LIMIT_W)
    assert largest_step_j(1.0, 0.0) == largest_step_j(1.0, None)
    assert is_possible_step(0.0, 0.0, 700.0)
    assert not is_possible_step(-1e-3, 10.0, 700.0)
    assert not is_possible_step(1681.0, 1.0, 700.0)


@pytest.mark.parametrize("drop_j", [1e-3, 5.0, 300.0, 1e4])
@pytest.mark.parametrize("start_j", [0.0, 2.2e7, 5e9])
def test_one_reading_below_the_one_before_costs_no_joule(drop_j: float, start_j: float) -> None:
    counters = steady(60, start_j=start_j)
    counters[30] = max(0.0, counters[29] - drop_j)
    tally = tally_of(counters)
    assert tally.energy_j == pytest.approx(59 * 300.0)
    assert tally.restarts == 0
    assert tally.refused == 1


@pytest.mark.parametrize("glitch_j", [2e4, 1.8e13, 2.0**63 / 1000])
def test_one_reading_far_above_costs_no_joule(glitch_j: float) -> None:
    counters = steady(60)
    counters[30] = glitch_j
    tally = tally_of(counters)
    assert tally.energy_j == pytest.approx(59 * 300.0)
    assert tally.refused == 1


def test_a_glitch_as_the_last_reading_costs_what_that_reading_hid() -> None:
    assert tally_of([*steady(10), 1e12]).energy_j == 2700.0
    assert tally_of([*steady(10), 2699.0]).energy_j == 2700.0


def test_a_glitch_that_stays_adds_only_what_was_drawn_on_its_level() -> None:
    counters = [*steady(10), *steady(10, start_j=1e12)]
    tally = tally_of(counters)
    assert tally.energy_j == pytest.approx(2700.0 + 2700.0)
    assert tally.refused == 1


def test_a_counter_that_begins_again_is_counted_from_zero() -> None:
    tally = tally_of([5000.0, 5300.0, 40.0, 340.0])
    assert tally.energy_j == 300.0 + 40.0 + 300.0
    assert tally.restarts == 1
    assert tally.refused == 0


def test_a_restart_that_could_be_a_slip_is_known_by_the_next_reading() -> None:
    tally = CounterTally()
    for t_s, counter_j in ((0.0, 0.0), (1.0, 1000.0), (61.0, 900.0), (62.0, 920.0)):
        tally.add(t_s, counter_j, LIMIT_W)
    # 900 J fit into the minute since the last reading, and so does a slip of 100 J: both readings say the level
    # is new, and the smaller of the two stories is told
    assert tally.energy_j == pytest.approx(920.0)


def test_a_restart_long_after_the_last_reading_counts_what_the_counter_shows() -> None:
    tally = CounterTally()
    for t_s, counter_j in ((0.0, 9e6), (10.0, 9.003e6), (3610.0, 1e6), (3611.0, 1.0003e6)):
        tally.add(t_s, counter_j, LIMIT_W)
    assert tally.energy_j == pytest.approx(3000.0 + 1e6 + 300.0)
    assert tally.restarts == 1


def test_a_reading_a_little_too_high_is_taken_back() -> None:
    counters = steady(20)
    counters[10] += 1000.0  # within what one second allows
    assert tally_of(counters).energy_j == pytest.approx(19 * 300.0)


def test_the_first_reading_may_be_the_wrong_one() -> None:
    assert tally_of([5e12, *steady(10, start_j=2e7)]).energy_j == pytest.approx(2700.0)


def test_a_gpu_without_a_stated_limit_is_held_to_that_of_the_largest_board() -> None:
    assert tally_of([0.0, 2900.0], limit_w=None).energy_j == 2900.0
    assert tally_of([0.0, 1e5], limit_w=None).energy_j == 0.0


readings = st.lists(st.floats(0.0, 1400.0), min_size=3, max_size=40)


@given(
    steps=readings,
    place=st.integers(1, 38),
    glitch_j=st.one_of(st.floats(0.0, 1e14), st.floats(-50.0, -1e-4)),
)
def test_no_single_wrong_reading_moves_the_sum_by_more_than_two_steps(
    steps: list[float], place: int, glitch_j: float
) -> None:
    counters = [2e7 + sum(steps[: n + 1]) for n in range(len(steps))]
    place = min(place, len(counters) - 2)
    wrong = list(counters)
    wrong[place] = counters[place - 1] + glitch_j if glitch_j < 0 else glitch_j
    energy_j = tally_of(wrong).energy_j
    assert energy_j is not None
    assert abs(energy_j - (counters[-1] - counters[0])) <= 2 * largest_step_j(1.0, LIMIT_W)


@given(steps=readings)
def test_possible_steps_are_all_counted(steps: list[float]) -> None:
    counters = [sum(steps[: n + 1]) for n in range(len(steps))]
    tally = tally_of(counters)
    assert tally.energy_j == pytest.approx(counters[-1] - counters[0])
    assert tally.refused == tally.restarts == 0
