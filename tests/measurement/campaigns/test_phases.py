"""Labels per phase: enough counter ticks, means and spreads over windows, parts that add up to the whole."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.errors import InputError, MeasurementError
from llmco2.measurement.campaigns.phases import measure_phases, parts_disagree
from llmco2.measurement.campaigns.plan import (
    MAX_REPEATS,
    MeasurePlan,
    blocks_of,
    least_time_s,
    repeats_to_span,
    span_needed_s,
)
from llmco2.measurement.campaigns.settle import Settling
from llmco2.measurement.workloads.workload import RequestTiming, WorkloadError, WorkloadFacts

PREFILL_J, PREFILL_S = 3.0, 0.010
DECODE_J, DECODE_S = 20.0, 0.130


class FormulaWorkload:
    """Spends fixed joules and seconds per run of each phase."""

    def __init__(self, meter, *, decodes_alone=True, extra_j=0.0, drift=None):
        self.meter = meter
        self.decodes_alone = decodes_alone
        self.extra_j = extra_j
        self.drift = drift or (lambda run: 1.0)
        self.runs = 0
        self.facts = WorkloadFacts()

    def _spend(self, energy_j, time_s):
        self.meter.spend(energy_j * self.drift(self.runs), time_s * self.drift(self.runs))

    def load(self):
        pass

    def prefill(self, repeats):
        for _ in range(repeats):
            self._spend(PREFILL_J, PREFILL_S)
        return self._timings(PREFILL_S, repeats)

    def decode(self, repeats):
        for _ in range(repeats):
            self._spend(DECODE_J, DECODE_S)

    def whole(self, repeats):
        for _ in range(repeats):
            self._spend(PREFILL_J + DECODE_J + self.extra_j, PREFILL_S + DECODE_S)
            self.runs += 1
        return self._timings(PREFILL_S + DECODE_S, repeats)

    def _timings(self, latency_s, repeats):
        if self.decodes_alone:
            return ()
        return (RequestTiming(ttft_s=PREFILL_S, latency_s=latency_s, output_tokens=8),) * repeats

    def step_time_batch1_s(self):
        return 0.004

    def close(self):
        pass


def test_labels_are_joules_and_seconds_of_one_run(formula_meter):
    meter = formula_meter()
    labels = measure_phases(FormulaWorkload(meter), meter, MeasurePlan(), output_tokens=8)
    assert labels.prefill.energy_j == pytest.approx(PREFILL_J)
    assert labels.decode.energy_j == pytest.approx(DECODE_J)
    assert labels.whole.energy_j == pytest.approx(PREFILL_J + DECODE_J)
    assert labels.prefill.time_s == pytest.approx(PREFILL_S)
    assert labels.decode.time_s == pytest.approx(DECODE_S)
    assert labels.prefill.energy_std_j == pytest.approx(0.0, abs=1e-9)
    assert labels.flags == ()
    assert labels.step_time_batch1_s == 0.004


@pytest.mark.parametrize("period_s", [0.02, 0.1, 0.5])
def test_every_window_spans_50_counter_periods(formula_meter, period_s):
    meter = formula_meter(counter_period_s=period_s)
    labels = measure_phases(FormulaWorkload(meter), meter, MeasurePlan(), output_tokens=8)
    assert min(reading.duration_s for reading in meter.windows) >= 50 * period_s
    assert min(reading.n_ticks for reading in meter.windows) >= 49  # 50 periods hold 49 to 51 ticks
    assert labels.prefill.repeats >= 3 * math.ceil(50 * period_s / PREFILL_S)
    assert labels.prefill.window_s == pytest.approx(labels.prefill.repeats * PREFILL_S)


def test_a_window_that_came_out_short_is_measured_again_longer(formula_meter):
    """The first prefill is ten times slower than the rest, so the first guess of repeats is far too low."""
    meter = formula_meter()
    workload = FormulaWorkload(meter)
    calls = iter(range(10**6))
    slow = workload.prefill

    def prefill(repeats):
        if next(calls) == 0:
            meter.spend(0.0, 9 * PREFILL_S)
        return slow(repeats)

    workload.prefill = prefill
    labels = measure_phases(workload, meter, MeasurePlan(), output_tokens=8)
    prefills = [reading for reading in meter.windows if reading.name == "prefill"]
    assert prefills[0].duration_s < 1.0
    assert len(prefills) == 4
    assert all(reading.duration_s >= 1.0 for reading in labels.prefill.readings)
    assert labels.prefill.energy_j == pytest.approx(PREFILL_J)


def test_parts_that_miss_the_whole_are_flagged(formula_meter):
    for extra_j, flagged in ((0.5, False), (1.5, True), (-0.5, False), (-1.5, True)):
        meter = formula_meter()
        workload = FormulaWorkload(meter, extra_j=extra_j)  # tolerance: 3 % of 23 J is 0.69 J
        labels = measure_phases(workload, meter, MeasurePlan(), output_tokens=8)
        assert ("parts_disagree" in labels.flags) is flagged


def test_a_server_gets_decode_as_a_difference_and_says_so(formula_meter):
    meter = formula_meter()
    labels = measure_phases(
        FormulaWorkload(meter, decodes_alone=False), meter, MeasurePlan(), output_tokens=8
    )
    assert {reading.name for reading in meter.windows} == {"prefill", "whole"}
    assert labels.decode.energy_j == pytest.approx(DECODE_J)
    assert labels.decode.time_s == pytest.approx(DECODE_S)
    assert labels.flags == ("decode_by_difference",)
    assert labels.timings[0].ttft_s == PREFILL_S


def test_a_server_whose_first_tokens_come_late_in_full_runs_is_flagged(formula_meter):
    meter = formula_meter()
    workload = FormulaWorkload(meter, decodes_alone=False)
    usual = workload.whole

    def whole(repeats):
        return tuple(
            RequestTiming(ttft_s=t.ttft_s + 0.02, latency_s=t.latency_s, output_tokens=8)
            for t in usual(repeats)
        )

    workload.whole = whole
    labels = measure_phases(workload, meter, MeasurePlan(), output_tokens=8)
    assert "parts_disagree" in labels.flags


def test_one_output_token_has_no_decode(formula_meter):
    meter = formula_meter()
    workload = FormulaWorkload(meter)
    workload.whole = workload.prefill
    labels = measure_phases(workload, meter, MeasurePlan(), output_tokens=1)
    assert labels.decode is None
    assert labels.whole.energy_j == pytest.approx(PREFILL_J)
    assert labels.flags == ()


def test_meter_warnings_become_flags_once(formula_meter):
    meter = formula_meter()
    meter.warn("throttled")
    labels = measure_phases(FormulaWorkload(meter), meter, MeasurePlan(), output_tokens=8)
    assert labels.flags == ("throttled",)


def test_no_reading_is_an_error_with_the_meters_reason_never_a_zero(formula_meter):
    meter = formula_meter()
    meter.no_reading = "MIG is on: joules of a slice cannot be had"
    with pytest.raises(MeasurementError, match="MIG is on"):
        measure_phases(FormulaWorkload(meter), meter, MeasurePlan(), output_tokens=8)


def test_a_workload_that_fails_leaves_no_window_open(formula_meter):
    meter = formula_meter()
    workload = FormulaWorkload(meter)
    usual = workload.decode

    def decode(repeats):
        if meter._open:
            raise MeasurementError("device-side assert")
        usual(repeats)

    workload.decode = decode
    with pytest.raises(MeasurementError, match="device-side assert"):
        measure_phases(workload, meter, MeasurePlan(), output_tokens=8)
    assert meter._open == {}


def test_warm_up_waits_for_latency_to_settle_and_counts_for_nothing(formula_meter):
    meter = formula_meter()
    workload = FormulaWorkload(meter, drift=lambda run: 1.0 + 5.0 * 0.5**run)  # halves its excess every run
    labels = measure_phases(workload, meter, MeasurePlan(), output_tokens=8)
    assert labels.whole.energy_j == pytest.approx(PREFILL_J + DECODE_J, rel=0.01)
    assert "unsettled" not in labels.flags


def test_a_warm_up_that_never_settles_is_cut_and_flagged(formula_meter):
    meter = formula_meter()
    workload = FormulaWorkload(meter, drift=lambda run: 1.05**run if run < 40 else 1.05**40)
    labels = measure_phases(workload, meter, MeasurePlan(warm_up_limit_s=3.0), output_tokens=8)
    assert "unsettled" in labels.flags


def test_heating_prolongs_the_warm_up():
    settling = Settling(latency_tolerance=0.02, temperature_tolerance_c=1.0, temperature_span_s=5.0)
    temperature = [40 + 10 * (1 - math.exp(-t / 5)) for t in range(30)]  # time constant of 5 s, 10 °C in all
    settled_at = None
    for t_s, value in enumerate(temperature):
        settling.add(at_s=float(t_s), latency_s=1.0, temperature_c=value)
        if settling.settled:
            settled_at = t_s
            break
    # the rise over the last 5 s is 10·exp(-t/5)·(e - 1); it drops below 1 °C at t = 5·ln(17.18) = 14.2 s
    assert settled_at == 15


def test_two_runs_that_last_the_temperatures_span_show_enough():
    settling = Settling(latency_tolerance=0.02, temperature_tolerance_c=1.0, temperature_span_s=5.0)
    settling.add(at_s=6.0, latency_s=6.0, temperature_c=60.0)
    assert not settling.settled
    settling.add(at_s=12.0, latency_s=6.0, temperature_c=60.5)
    assert settling.settled
    settling.add(at_s=18.0, latency_s=6.3, temperature_c=60.5)
    settling.add(at_s=24.3, latency_s=6.3, temperature_c=60.5)
    assert not settling.settled  # four runs, and the later two are 5 % slower


def test_one_slow_run_neither_ends_nor_prolongs_a_warm_up():
    settling = Settling(latency_tolerance=0.02, temperature_tolerance_c=1.0, temperature_span_s=0.0)
    for latency_s in (1.0, 1.0, 1.0, 1.0, 9.0, 1.0):
        assert not settling.settled
        settling.add(at_s=0.0, latency_s=latency_s, temperature_c=None)
    assert settling.settled


@given(span_s=st.floats(1e-3, 1e3), run_s=st.floats(1e-4, 1e3))
def test_repeats_are_the_fewest_that_span_the_time(span_s, run_s):
    repeats = repeats_to_span(span_s, run_s)
    assert 1 <= repeats <= MAX_REPEATS
    if 1 < repeats < MAX_REPEATS:
        assert repeats * run_s >= span_s * (1 - 1e-12)
        assert (repeats - 1) * run_s < span_s


def test_span_follows_the_counter_and_the_minimum():
    plan = MeasurePlan()
    assert span_needed_s(0.1, plan) == pytest.approx(5.0)
    assert span_needed_s(0.001, plan) == 1.0
    assert span_needed_s(None, plan) == 1.0


def test_tolerance_is_of_the_whole():
    assert not parts_disagree(40.0, 57.1, 100.0, 0.03)
    assert parts_disagree(40.0, 56.9, 100.0, 0.03)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blocks", 0),
        ("configuration_limit_s", 0),
        ("blocks", 1.5),
        ("minimum_periods", float("nan")),
        ("blocks", True),
    ],
)
def test_a_plan_that_measures_nothing_is_refused(key, value):
    with pytest.raises(InputError, match=key):
        MeasurePlan(**{key: value})


@pytest.mark.parametrize(
    ("run_s", "span_s", "blocks", "windows"),
    [(3.0, 1.0, 3, 3), (3.1, 1.0, 3, 2), (3.1, 1.1, 3, 3), (100.0, 1.0, 1, 1), (0.01, 1.0, 5, 5)],
)
def test_a_run_that_is_long_by_itself_gets_two_windows(run_s, span_s, blocks, windows):
    plan = MeasurePlan(blocks=blocks)
    assert blocks_of(run_s, span_s, plan) == windows
    # prefill and decode together are one whole, and the whole is one more, in each window
    assert least_time_s(run_s, span_s, plan) == 2 * windows * run_s


def test_a_configuration_that_would_take_too_long_is_given_up_after_one_run(formula_meter):
    meter = formula_meter()
    workload = FormulaWorkload(meter, drift=lambda run: 100.0)  # 14 s a run, and four more of them to come
    with pytest.raises(
        WorkloadError, match="got 14 s a run, 70 s in all at least, expected at most 69 s"
    ) as e:
        measure_phases(workload, meter, MeasurePlan(configuration_limit_s=69.0), output_tokens=8)
    assert e.value.kind == "too_slow"
    assert workload.runs == 1
    assert meter.windows == []


def test_no_second_of_a_long_run_is_spent_on_what_the_warm_up_showed(formula_meter):
    """Two runs warm up, one prefill (1 s) is timed, and two windows of prefill, decode and whole are all."""
    meter = formula_meter()
    workload = FormulaWorkload(meter, drift=lambda run: 100.0)
    labels = measure_phases(workload, meter, MeasurePlan(configuration_limit_s=85.1), output_tokens=8)
    assert workload.runs == 2 + 2
    assert (labels.prefill.repeats, labels.decode.repeats, labels.whole.repeats) == (6, 2, 2)
    assert meter.clock.t_s == pytest.approx(14 + 14 + 1 + 3 * 2.0 + 2 * (13 + 14))
    assert labels.decode.energy_std_j is not None
    assert labels.flags == ()


def test_a_decode_that_drowns_in_its_prefill_is_timed_by_itself(formula_meter):
    meter = formula_meter()
    workload = FormulaWorkload(meter)
    times_s = {"prefill": 2.0, "decode": 0.1, "whole": 2.05}  # the difference would be half of the truth
    for name, seconds in times_s.items():
        setattr(workload, name, lambda repeats, s=seconds: meter.spend(100 * s * repeats, s * repeats) or ())
    labels = measure_phases(workload, meter, MeasurePlan(), output_tokens=8)
    assert 32 <= labels.decode.repeats <= 35  # windows of 1.2, 1.05 and 1.05 s


def test_windows_that_are_short_alone_and_long_together_are_no_short_label(formula_meter):
    plan = MeasurePlan(minimum_periods=17, minimum_window_s=0.1)
    meter = formula_meter(counter_period_s=0.1)
    meter.warn("short_window")
    labels = measure_phases(FormulaWorkload(meter), meter, plan, output_tokens=8)
    for label in (labels.prefill, labels.decode, labels.whole):
        assert all(17 <= reading.n_ticks < 50 for reading in label.readings)
        assert sum(reading.n_ticks for reading in label.readings) >= 50
    assert labels.flags == ()
    first, second, _ = labels.prefill.readings
    assert 1.2 * 1.7 <= first.duration_s <= 1.25 * 1.7
    assert 1.0 * 1.7 <= second.duration_s <= 1.06 * 1.7  # the first told how long a run takes
    meter.integrated_share = 0.9  # then counter and power are held against each other over all windows
    assert measure_phases(FormulaWorkload(meter), meter, plan, output_tokens=8).flags == (
        "counter_disagrees",
    )
    few = MeasurePlan(minimum_periods=10, minimum_window_s=0.1)
    assert measure_phases(FormulaWorkload(meter), meter, few, output_tokens=8).flags == ("short_window",)


def test_a_first_run_that_compiles_counts_only_as_the_time_it_took(formula_meter):
    for cuda_graphs, given_up in ((True, False), (False, True)):
        meter = formula_meter()
        workload = FormulaWorkload(meter, drift=lambda run: 100.0 if run == 0 else 1.0)
        workload.facts = WorkloadFacts(cuda_graphs=cuda_graphs)
        plan = MeasurePlan(configuration_limit_s=60.0)
        if given_up:
            with pytest.raises(WorkloadError, match="14 s a run"):
                measure_phases(workload, meter, plan, output_tokens=8)
        else:
            assert measure_phases(workload, meter, plan, output_tokens=8).whole.time_s == pytest.approx(0.14)
