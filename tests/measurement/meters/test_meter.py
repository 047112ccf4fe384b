import pytest

from llmco2.measurement.meters.meter import (
    COUNTER_SLOPE,
    COUNTER_WINDOW,
    INTEGRATED_POWER,
    GpuEnergy,
    MeterWarning,
    Missing,
    Sample,
    WindowReading,
)


def gpu(energy_j=10.0, method=COUNTER_SLOPE, **values) -> GpuEnergy:
    return GpuEnergy(**({"gpu_index": 0, "energy_j": energy_j, "method": method} | values))


def reading(*gpus: GpuEnergy, **values) -> WindowReading:
    return WindowReading(**({"name": "a", "start_s": 0.0, "duration_s": 2.0, "gpus": gpus} | values))


def test_energy_is_the_sum_of_the_gpus_and_power_its_mean_over_the_window():
    both = reading(gpu(10.0), gpu(30.0))
    assert both.energy_j == 40.0
    assert both.average_power_w == 20.0


def test_one_gpu_without_energy_leaves_no_total():
    partial = reading(gpu(10.0), gpu(None, None))
    assert partial.energy_j is None
    assert partial.average_power_w is None
    assert partial.method is None
    assert reading().energy_j is None


def test_a_measured_zero_stays_a_zero():
    assert reading(gpu(0.0), gpu(0.0)).energy_j == 0.0


@pytest.mark.parametrize(
    ("methods", "weakest"),
    [
        ([COUNTER_SLOPE, COUNTER_SLOPE], COUNTER_SLOPE),
        ([COUNTER_SLOPE, COUNTER_WINDOW], COUNTER_WINDOW),
        ([COUNTER_SLOPE, INTEGRATED_POWER, COUNTER_WINDOW], INTEGRATED_POWER),
    ],
)
def test_the_method_of_a_window_is_the_weakest_of_its_gpus(methods, weakest):
    assert reading(*(gpu(method=method) for method in methods)).method == weakest


def test_period_and_ticks_are_those_of_the_slowest_counter():
    both = reading(gpu(counter_period_s=0.02, n_ticks=100), gpu(counter_period_s=0.1, n_ticks=20))
    assert both.counter_period_s == 0.1
    assert both.n_ticks == 20
    assert reading(gpu()).counter_period_s is None


def test_flags_name_each_kind_of_warning_once():
    warnings = tuple(
        MeterWarning(code=code, text="t") for code in ("short_window", "throttled", "short_window")
    )
    assert reading(gpu(), warnings=warnings).flags == ("short_window", "throttled")


def test_a_sample_says_why_a_reading_is_missing():
    sample = Sample(t_s=0.0, gpu_index=0, missing=(Missing(field="power_w", reason="no permission"),))
    assert sample.why_missing("power_w") == "no permission"
    assert sample.why_missing("temperature_c") is None
