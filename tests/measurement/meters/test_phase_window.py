import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.measurement.meters.counter import Tick
from llmco2.measurement.meters.meter import COUNTER_SLOPE, COUNTER_WINDOW, INTEGRATED_POWER, Sample
from llmco2.measurement.meters.phase_window import (
    GpuWindow,
    PowerIntegral,
    StateTally,
    choose_energy,
    disagreement,
    disagrees,
)


def window(
    *, ticks: list[tuple[float, float]] = (), powers: list[tuple[float, float]] = (), **values
) -> GpuWindow:
    made = GpuWindow(**({"gpu_index": 0, "has_counter": True, "counter_period_s": 0.02} | values))
    for t_s, energy_j in ticks:
        made.ticks.add(Tick(t_s=t_s, energy_j=energy_j, uncertainty_s=0.0))
    for t_s, power_w in powers:
        made.power.add(t_s, power_w)
    return made


def test_the_slope_between_ticks_times_the_length_is_the_energy():
    # ticks at 10, 30, 50 ms of a 65 ms window at 500 W: 20 J over 40 ms, so 32.5 J; the plain window saw 25 J
    made = window(ticks=[(0.01, 5.0), (0.03, 15.0), (0.05, 25.0)], start_counter_j=0.0, end_counter_j=25.0)
    choice = choose_energy(made, 0.065)
    assert choice.method == COUNTER_SLOPE
    assert choice.energy_j == pytest.approx(32.5)
    assert made.counter_delta_j == 25.0


def test_too_few_ticks_fall_back_to_integrated_power_and_say_why():
    choice = choose_energy(window(ticks=[(0.01, 5.0)], powers=[(0.0, 300.0), (0.03, 300.0)]), 0.03)
    assert choice.method == INTEGRATED_POWER
    assert choice.energy_j == pytest.approx(9.0)
    assert choice.reason == "the window of 30 ms saw 1 ticks of the counter (period 20 ms)"


def test_the_plain_counter_window_is_the_last_resort():
    choice = choose_energy(window(ticks=[(0.01, 5.0)], start_counter_j=1.0, end_counter_j=5.0), 0.03)
    assert (choice.method, choice.energy_j) == (COUNTER_WINDOW, 4.0)


def test_a_counter_that_never_moved_is_no_zero():
    choice = choose_energy(window(start_counter_j=1.0, end_counter_j=1.0), 0.008)
    assert choice.energy_j is None
    assert choice.method is None
    assert choice.reason == (
        "the window of 8 ms saw 0 ticks of the counter (period 20 ms), and no instant power reading"
    )


def test_a_gpu_in_trouble_has_no_energy():
    made = window(ticks=[(0.1, 1.0), (0.2, 2.0), (0.3, 3.0)], trouble="GPU 0 was lost")
    assert choose_energy(made, 1.0).reason == "GPU 0 was lost"
    assert choose_energy(made, 1.0).energy_j is None


@given(
    power_w=st.floats(0.0, 1000.0),
    gaps=st.lists(st.floats(0.001, 0.5), min_size=1, max_size=50),
)
def test_repeated_readings_count_as_much_as_new_ones(power_w: float, gaps: list[float]):
    integral, t_s = PowerIntegral(), 0.0
    integral.add(t_s, power_w)
    for gap in gaps:
        t_s += gap
        integral.add(t_s, power_w)
    assert integral.energy_j == pytest.approx(power_w * t_s)
    assert integral.longest_gap_s == pytest.approx(max(gaps))
    assert integral.over(2 * t_s) == pytest.approx(2 * power_w * t_s)


def test_a_ramp_is_its_trapezoid():
    integral = PowerIntegral()
    integral.add(0.0, 100.0)
    integral.add(1.0, 300.0)
    integral.add(3.0, 300.0)
    assert integral.energy_j == 800.0
    assert PowerIntegral().over(1.0) is None


@pytest.mark.parametrize(
    ("counter_j", "integrated_j", "share", "warns"),
    [
        (100.0, 96.0, 0.04, False),
        (96.0, 100.0, 0.04, False),
        (100.0, 94.0, 0.06, True),
        (94.0, 100.0, 0.06, True),
        (0.0, 0.0, None, False),
        (None, 100.0, None, False),
        (100.0, None, None, False),
    ],
)
def test_disagreement_is_a_share_of_the_larger(counter_j, integrated_j, share, warns):
    assert disagreement(counter_j, integrated_j) == (None if share is None else pytest.approx(share))
    assert disagrees(counter_j, integrated_j) is warns


def test_states_are_means_of_what_was_read_and_throttling_is_all_that_was_seen():
    tally = StateTally()
    tally.add(Sample(t_s=0.0, gpu_index=0, sm_clock_mhz=1000.0, temperature_c=60.0, throttle_reasons=()))
    tally.add(Sample(t_s=1.0, gpu_index=0, temperature_c=70.0, throttle_reasons=("power_cap",)))
    tally.add(Sample(t_s=2.0, gpu_index=0, sm_clock_mhz=2000.0, throttle_reasons=("power_cap",)))
    assert tally.mean("sm_clock_mhz") == 1500.0
    assert tally.highest("temperature_c") == 70.0
    assert tally.throttle_reasons() == ("power_cap",)
    assert tally.mean("memory_clock_mhz") is None
    assert StateTally().throttle_reasons() is None


def test_the_tally_of_a_long_window_stays_small_and_keeps_its_mean():
    tally = StateTally()
    for k in range(5000):
        tally.add(Sample(t_s=float(k), gpu_index=0, sm_clock_mhz=float(k % 2) * 100 + 1000))
    assert len(tally.samples) <= 1001
    assert tally.mean("sm_clock_mhz") == pytest.approx(1050.0, abs=60.0)
