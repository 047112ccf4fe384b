"""What a board cannot give, or stops giving, is flagged, refused or missing with its reason: never a silent zero."""

import itertools

import pytest

from llmco2.errors import MeasurementError
from llmco2.measurement.meters.meter import (
    COUNTER_DISAGREES,
    COUNTER_SLOPE,
    GPU_LOST,
    INTEGRATED_POWER,
    NO_COUNTER,
    SHARED_GPU,
    THROTTLED,
)
from llmco2.measurement.meters.nvml import ReadFailedError
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedGpu
from tests.measurement.conftest import measure


def test_a_gpu_without_a_counter_is_integrated_and_says_so(make_rig):
    rig = make_rig(SimulatedGpu(has_counter=False))
    with ZeusMeter(clock=rig.clock) as meter:
        assert not meter.devices()[0].has_energy_counter
        reading = measure(rig, meter, 300.0, 2.0)
        sample = meter.sample()[0]
    (gpu,) = reading.gpus
    assert gpu.method == INTEGRATED_POWER
    assert gpu.energy_j == pytest.approx(600.0, rel=0.02)
    assert gpu.counter_window_energy_j is None
    assert gpu.reason == "this GPU has no energy counter"
    assert reading.flags == (NO_COUNTER,)
    assert sample.energy_is_integrated
    assert sample.energy_counter_j >= gpu.energy_j


def test_the_integral_of_a_gpu_without_a_counter_runs_on_between_windows(make_rig):
    rig = make_rig(SimulatedGpu(has_counter=False, idle_power_w=80.0))
    with ZeusMeter(clock=rig.clock, windows=False) as meter:
        first = meter.sample()[0]
        rig.clock.sleep(100.0)
        last = meter.sample()[0]
    assert last.energy_counter_j - first.energy_counter_j == pytest.approx(8000.0, rel=0.005)


def test_a_volta_without_the_instant_field_uses_its_plain_power_and_an_ampere_does_not(make_rig):
    old = SimulatedGpu(architecture=5, has_counter=False, has_instant_power=False)
    new = SimulatedGpu(architecture=8, has_counter=False, has_instant_power=False)
    rig = make_rig(old, new)
    with ZeusMeter(clock=rig.clock) as meter:
        reading = measure(rig, meter, 250.0, 1.0)
        sample = meter.sample()[1]
    assert reading.gpus[0].energy_j == pytest.approx(250.0, rel=0.03)
    assert reading.gpus[1].energy_j is None
    assert reading.gpus[1].reason == "this GPU has no energy counter, and no instant power reading"
    assert reading.energy_j is None
    assert sample.power_w is None
    assert sample.why_missing("power_w") == "this GPU or driver does not offer it"


def test_counter_and_sensor_that_disagree_are_flagged(make_rig):
    rig = make_rig(SimulatedGpu(sensor_gain=1.08))
    with ZeusMeter(clock=rig.clock) as meter:
        reading = measure(rig, meter, 500.0, 2.0)
    assert COUNTER_DISAGREES in reading.flags
    (warning,) = reading.warnings
    # 1 - 1/1.08 = 7.4 %, less what the sensor still showed of idle at the window's start
    assert warning.text.startswith(
        ("counter and integrated power differ by 6.", "counter and integrated power differ by 7.")
    )
    assert reading.energy_j == pytest.approx(1000.0, rel=0.005)  # the counter is believed


def test_a_gpu_lost_inside_a_window_takes_that_energy_with_it_and_no_other(make_rig):
    rig = make_rig(SimulatedGpu(), SimulatedGpu())
    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("phase")
        rig.lose(1, at_s=rig.clock.now_s() + 1.0)
        rig.clock.sleep(2.0)
        reading = meter.end_window("phase")
        assert reading.gpus[0].energy_j == pytest.approx(140.0, rel=0.005)
        assert reading.gpus[1].energy_j is None
        assert "GPU 1 was lost" in reading.gpus[1].reason
        assert reading.energy_j is None
        assert GPU_LOST in reading.flags

        rig.find(1)
        rig.clock.sleep(2.0)
        meter.begin_window("again")
        rig.clock.sleep(2.0)
        assert meter.end_window("again").energy_j == pytest.approx(280.0, rel=0.01)


def test_a_lost_gpu_keeps_its_last_values_with_the_reason_and_comes_back(make_rig):
    rig = make_rig(SimulatedGpu(), SimulatedGpu())
    with ZeusMeter(clock=rig.clock, windows=False) as meter:
        rig.clock.sleep(1.0)
        good = meter.sample()[1]
        rig.lose(1)
        rig.clock.sleep(1.0)
        there, gone = meter.sample()
        assert there.stale_since_s is None
        assert gone.stale_since_s == good.t_s
        assert gone.power_w == good.power_w
        assert gone.t_s == pytest.approx(2.0)
        assert gone.why_missing("gpu") == "GPU 1 is lost: the GPU has fallen off the bus"
        rig.clock.sleep(1.0)
        assert meter.sample()[1].stale_since_s == good.t_s
        rig.find(1)
        back = meter.sample()[1]
        assert back.stale_since_s is None
        assert back.missing == ()


def test_a_lost_gpu_at_start_is_one_line(make_rig):
    rig = make_rig(SimulatedGpu(), SimulatedGpu())
    rig.lose(1)
    with pytest.raises(
        MeasurementError, match="GPU 1 cannot be read: the GPU has fallen off the bus; reboot"
    ):
        ZeusMeter(clock=rig.clock)


def test_mig_is_refused_for_windows_and_may_be_watched(make_rig):
    rig = make_rig(SimulatedGpu(mig=True))
    with pytest.raises(MeasurementError, match="MIG is on, and no counter measures the joules of a slice"):
        ZeusMeter(clock=rig.clock)
    with ZeusMeter(clock=rig.clock, windows=False) as meter:
        assert meter.devices()[0].mig
        assert meter.sample()[0].power_w == 70.0
        with pytest.raises(MeasurementError, match="MIG is on"):
            meter.begin_window("phase")


def test_a_shared_gpu_is_refused_unless_asked_for_and_flagged_then(rig):
    rig.set_process(0, 1)
    with pytest.raises(MeasurementError, match=r"GPU 0 is shared.*got processes 1; stop them"):
        ZeusMeter(clock=rig.clock)
    with ZeusMeter(clock=rig.clock, allow_shared=True) as meter:
        assert meter.devices()[0].shared
        assert SHARED_GPU in measure(rig, meter, 500.0, 2.0).flags


def test_a_server_under_test_is_no_stranger(rig):
    rig.set_process(0, 1)
    with ZeusMeter(clock=rig.clock, own_pids=[1]) as meter:
        assert not meter.devices()[0].shared


def test_throttling_inside_the_window_is_flagged_and_the_power_cap_is_not(rig):
    with ZeusMeter(clock=rig.clock) as meter:
        rig.set(0, throttle=0x4, sm_clock=1200, temperature=88, utilization=97)
        capped = measure(rig, meter, 500.0, 2.0)
        rig.set(0, throttle=0x40)
        hot = measure(rig, meter, 500.0, 2.0)
    assert capped.flags == ()
    assert capped.gpus[0].throttle_reasons == ("power_cap",)
    assert capped.gpus[0].sm_clock_mhz == 1200.0
    assert capped.gpus[0].temperature_c == 88.0
    assert capped.gpus[0].utilization_percent == 97.0
    assert hot.flags == (THROTTLED,)


def test_no_reading_is_ever_a_silent_zero(make_rig):
    rig = make_rig(SimulatedGpu(permitted=False, idle_power_w=300.0))
    with ZeusMeter(clock=rig.clock) as meter:
        sample = meter.sample()[0]
        reading = measure(rig, meter, 500.0, 1.0)
    assert sample.power_w is None
    assert sample.energy_counter_j is None
    assert sample.why_missing("power_w") == "no permission to read it"
    assert reading.energy_j is None
    assert reading.cpu_energy_j is None
    assert {entry.field for entry in reading.missing} == {"cpu_energy_j", "dram_energy_j"}
    assert all(entry.reason for entry in reading.missing)


def test_a_counter_that_starts_again_spoils_its_window_and_no_other(rig, monkeypatch):
    with ZeusMeter(clock=rig.clock) as meter:
        gpu = meter._watched[0].gpu
        read, offset = gpu.energy_counter_j, [1e6]
        monkeypatch.setattr(gpu, "energy_counter_j", lambda: read() + offset[0])
        meter.begin_window("phase")
        rig.clock.sleep(1.0)
        offset[0] = 0.0  # the driver was reloaded
        rig.clock.sleep(1.0)
        spoilt = meter.end_window("phase")
        after = measure(rig, meter, 500.0, 2.0)
    assert spoilt.energy_j is None
    assert spoilt.gpus[0].reason == "the energy counter of GPU 0 started again from zero"
    assert after.energy_j == pytest.approx(1000.0, rel=0.005)


def test_a_driver_that_is_busy_now_and_then_is_asked_again(rig, monkeypatch):
    with ZeusMeter(clock=rig.clock) as meter:
        gpu = meter._watched[0].gpu
        read, asked = gpu.energy_counter_j, itertools.count()

        def busy() -> float:
            if next(asked) % 3 == 0:
                raise ReadFailedError(10)  # a timeout
            return read()

        monkeypatch.setattr(gpu, "energy_counter_j", busy)
        reading = measure(rig, meter, 500.0, 2.0)
    assert reading.method == COUNTER_SLOPE
    assert reading.energy_j == pytest.approx(1000.0, rel=0.005)


def test_a_counter_that_is_taken_away_inside_a_window_leaves_integrated_power(rig):
    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("phase")
        rig.clock.sleep(1.0)
        rig.set(0, counter=0)
        rig.set_power(0, 500.0)  # after the last tick that was seen
        rig.clock.sleep(1.0)
        reading = meter.end_window("phase")
    assert reading.method == INTEGRATED_POWER
    assert reading.energy_j == pytest.approx(570.0, rel=0.02)
    assert NO_COUNTER in reading.flags
