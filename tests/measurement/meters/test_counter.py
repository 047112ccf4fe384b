import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.measurement.meters.counter import CounterTrack, Tick, TickSpan, period_from_ticks


def tick(t_s: float, energy_j: float = 0.0) -> Tick:
    return Tick(t_s=t_s, energy_j=energy_j, uncertainty_s=0.0)


def test_the_first_reading_is_no_tick_and_a_repeated_one_neither():
    track = CounterTrack()
    assert track.see(0.0, 5.0) is None
    assert track.see(0.1, 5.0) is None


def test_a_tick_lies_between_the_poll_that_missed_it_and_the_one_that_saw_it():
    track = CounterTrack()
    track.see(1.000, 5.0)
    track.see(1.010, 5.0)
    seen = track.see(1.014, 7.0)
    assert seen is not None
    assert seen.t_s == pytest.approx(1.012)
    assert seen.uncertainty_s == pytest.approx(0.002)


def test_a_poller_that_was_kept_waiting_knows_that_the_last_tick_is_at_most_a_period_old():
    track = CounterTrack(period_s=0.02)
    track.see(1.0, 5.0)
    seen = track.see(2.0, 50.0)
    assert seen is not None
    assert seen.t_s == pytest.approx(1.99)
    assert seen.uncertainty_s == pytest.approx(0.01)


def test_a_counter_that_starts_again_from_zero_is_no_tick():
    track = CounterTrack()
    track.see(0.0, 500.0)
    assert track.see(0.1, 3.0) is None
    assert track.see(0.2, 4.0) is not None


def test_the_next_look_comes_shortly_before_the_next_tick_can():
    track = CounterTrack(period_s=0.1)
    assert track.next_due_s() is None
    track.see(0.0, 0.0)
    track.see(0.002, 1.0)  # a tick at 0.001
    assert track.next_due_s() == pytest.approx(0.085)
    track.see(0.09, 1.0)
    assert track.next_due_s() == pytest.approx(0.09)  # due: look now


def test_a_counter_that_moves_at_every_reading_is_not_read_without_pause():
    track = CounterTrack(period_s=0.0006)
    track.see(1.0000, 1.0)
    track.see(1.0006, 2.0)
    assert track.next_due_s() >= 1.004


def test_a_tick_that_was_seen_late_makes_the_next_look_early():
    track = CounterTrack(period_s=0.02)
    track.see(0.0, 0.0)
    track.see(5.0, 1.0)  # it ticked somewhere in the last 20 ms: the next may come at once
    assert track.next_due_s() == 5.0


@given(
    period_s=st.floats(0.02, 0.1),
    missed=st.sets(st.integers(1, 20), max_size=6),
)
def test_the_period_is_found_although_ticks_were_missed(period_s: float, missed: set[int]):
    ticks = [tick(k * period_s) for k in range(22) if k not in missed]
    assert period_from_ticks(ticks) == pytest.approx(period_s, rel=1e-9)


def test_too_few_ticks_give_no_period():
    assert period_from_ticks([tick(0.0), tick(0.1), tick(0.2), tick(0.3)]) is None


@given(
    power_w=st.floats(20.0, 1000.0),
    polls=st.lists(st.floats(0.0002, 0.015), min_size=40, max_size=200),
)
def test_at_steady_power_the_slope_is_right_within_its_stated_uncertainty(power_w: float, polls: list[float]):
    period_s = 0.02
    track, span = CounterTrack(period_s=period_s), TickSpan()
    for t_s in itertools.accumulate(polls):
        # what the counter shows: energy up to its last tick
        seen = track.see(t_s, power_w * period_s * int(t_s / period_s))
        if seen is not None:
            span.add(seen)
    if span.slope_w is not None:
        assert abs(span.slope_w - power_w) <= power_w * span.relative_uncertainty * 1.5 + 1e-6


def test_one_tick_has_no_slope():
    span = TickSpan()
    assert span.slope_w is None
    span.add(tick(1.0, 10.0))
    assert span.slope_w is None
    assert span.relative_uncertainty == 1.0
    span.add(tick(3.0, 50.0))
    assert span.slope_w == 20.0
