"""The real zeus and pynvml code over simulated GPUs whose true energy is known."""

import statistics
import subprocess
import sys
import time

import pytest

from llmco2.errors import InputError, MeasurementError
from llmco2.measurement.meters.meter import (
    COUNTER_SLOPE,
    INTEGRATED_POWER,
    SHORT_WINDOW,
    EnergyMeter,
)
from llmco2.measurement.meters.zeus_meter import ZeusMeter, open_meter
from llmco2.measurement.simulation.library import find_compiler
from llmco2.measurement.simulation.rig import SimulatedGpu, SimulatedNvml
from tests.measurement.conftest import measure


def test_it_is_an_energy_meter_and_says_that_it_is_simulated(rig):
    with ZeusMeter(clock=rig.clock) as meter:
        assert isinstance(meter, EnergyMeter)
        assert meter.simulated
        assert meter.devices()[0].simulated
        assert meter.sample()[0].simulated
        assert measure(rig, meter, 500.0, 1.0).simulated


@pytest.mark.parametrize("use_compiler", [True, False])
@pytest.mark.parametrize(("period_s", "jitter"), [(0.02, 0.0), (0.02, 0.1), (0.05, 0.0), (0.1, 0.05)])
def test_the_counters_period_is_measured_at_start_up(make_rig, period_s, jitter, use_compiler):
    gpu = SimulatedGpu(counter_period_s=period_s, tick_jitter=jitter)
    rig = make_rig(gpu, use_compiler=use_compiler)
    with ZeusMeter(clock=rig.clock) as meter:
        assert meter.devices()[0].counter_period_s == pytest.approx(period_s, rel=0.04)


def test_at_160_ms_the_slope_is_within_1_percent_where_the_plain_window_loses_over_3(rig):
    """The trap of short phases, at every position of the phase against a 20 ms counter."""
    plain, slope = [], []
    with ZeusMeter(clock=rig.clock) as meter:
        for k in range(20):
            rig.clock.sleep(0.2 + 0.001 * k)
            start_s = rig.clock.now_s()
            reading = measure(rig, meter, 600.0, 0.16)
            true_j = rig.true_energy_j(0, start_s, start_s + 0.16)
            assert true_j == pytest.approx(96.0)
            assert reading.method == COUNTER_SLOPE
            slope.append(reading.energy_j / true_j - 1)
            plain.append(reading.gpus[0].counter_window_energy_j / true_j - 1)
            assert SHORT_WINDOW in reading.flags
    assert max(map(abs, slope)) < 0.01
    assert statistics.fmean(plain) < -0.03
    assert min(plain) < -0.08


@pytest.mark.parametrize("gpu", [SimulatedGpu(), SimulatedGpu(tick_jitter=0.1, power_jitter=0.05)])
def test_over_50_ticks_the_energy_is_within_half_a_percent_and_unflagged(make_rig, gpu):
    rig = make_rig(gpu)
    with ZeusMeter(clock=rig.clock) as meter:
        rig.clock.sleep(0.0137)
        reading = measure(rig, meter, 600.0, 2.0)
    assert reading.energy_j == pytest.approx(1200.0, rel=0.005)
    assert reading.integrated_energy_j == pytest.approx(1200.0, rel=0.02)
    assert reading.gpus[0].counter_window_energy_j == pytest.approx(1200.0, rel=0.02)
    assert reading.n_ticks == pytest.approx(100, abs=2)
    assert reading.average_power_w == pytest.approx(600.0, rel=0.005)
    assert reading.flags == ()


def test_prefill_and_decode_add_up_to_the_window_around_them(rig):
    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("whole")
        prefill = measure(rig, meter, 600.0, 1.2)
        decode = measure(rig, meter, 350.0, 3.1)
        whole = meter.end_window("whole")
    assert prefill.energy_j == pytest.approx(720.0, rel=0.005)
    assert decode.energy_j == pytest.approx(1085.0, rel=0.005)
    assert whole.energy_j == pytest.approx(prefill.energy_j + decode.energy_j, rel=0.005)


def test_a_window_that_no_tick_fell_in_is_integrated_power_and_never_zero(make_rig):
    rig = make_rig(SimulatedGpu(counter_period_s=0.1, sensor_period_s=0.001))
    with ZeusMeter(clock=rig.clock) as meter:
        rig.clock.sleep(0.015)
        reading = measure(rig, meter, 500.0, 0.06)
    (gpu,) = reading.gpus
    assert gpu.counter_window_energy_j == 0.0  # what zeus reads
    assert gpu.method == INTEGRATED_POWER
    assert gpu.energy_j == pytest.approx(30.0, rel=0.2)
    assert "0 ticks" in gpu.reason
    assert SHORT_WINDOW in reading.flags


def test_two_gpus_are_measured_apart_and_add_up(make_rig):
    rig = make_rig(SimulatedGpu(), SimulatedGpu(counter_period_s=0.1))
    with ZeusMeter(clock=rig.clock) as meter:
        rig.set_power(0, 600.0)
        rig.set_power(1, 200.0)
        meter.begin_window("phase")
        rig.clock.sleep(6.0)
        reading = meter.end_window("phase")
    assert [gpu.energy_j for gpu in reading.gpus] == [
        pytest.approx(3600.0, rel=0.005),
        pytest.approx(1200.0, rel=0.005),
    ]
    assert reading.energy_j == pytest.approx(4800.0, rel=0.005)
    assert reading.counter_period_s == pytest.approx(0.1, rel=0.02)
    assert reading.n_ticks == reading.gpus[1].n_ticks


def test_only_the_gpus_that_cuda_may_use_are_measured(make_rig, monkeypatch):
    rig = make_rig(SimulatedGpu(), SimulatedGpu(), SimulatedGpu())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    rig.set_power(2, 444.0)
    with ZeusMeter(clock=rig.clock) as meter:
        assert [(device.index, device.nvml_index) for device in meter.devices()] == [(0, 2)]
        meter.begin_window("phase")
        rig.clock.sleep(2.0)
        assert meter.end_window("phase").energy_j == pytest.approx(888.0, rel=0.005)


def test_windows_have_names_of_their_own(rig):
    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("a")
        with pytest.raises(InputError, match="a window of that name is open: got 'a'"):
            meter.begin_window("a")
        with pytest.raises(InputError, match="no window of that name is open: got 'b'"):
            meter.end_window("b")
        meter.cancel_window("a")
        meter.cancel_window("never opened")
        meter.begin_window("a")


def test_a_closed_meter_says_so(rig):
    meter = ZeusMeter(clock=rig.clock)
    meter.close()
    meter.close()
    with pytest.raises(MeasurementError, match="the meter is closed"):
        meter.sample()
    with pytest.raises(MeasurementError, match="the meter is closed"):
        meter.begin_window("a")


def test_between_windows_nothing_is_polled(rig, monkeypatch):
    with ZeusMeter(clock=rig.clock) as meter:
        measure(rig, meter, 500.0, 0.1)
        reads = []
        monkeypatch.setattr(
            type(meter._watched[0].gpu), "energy_counter_j", lambda gpu: reads.append(1) or 0.0
        )
        rig.clock.sleep(60.0)
        assert reads == []


def test_watching_a_window_takes_few_looks_at_the_counter(make_rig, monkeypatch):
    """A close look only where a tick can be: under 10 reads per 20 ms tick, and 2 per tick of power."""
    rig = make_rig()
    with ZeusMeter(clock=rig.clock) as meter:
        gpu = meter._watched[0].gpu
        read, reads = gpu.energy_counter_j, []
        monkeypatch.setattr(gpu, "energy_counter_j", lambda: reads.append(1) or read())
        reading = measure(rig, meter, 500.0, 2.0)
    assert len(reads) < 10 * reading.n_ticks


WATCH = """
import sys
from llmco2.measurement.simulation.library import find_compiler
from llmco2.measurement.meters.zeus_meter import ZeusMeter
with ZeusMeter(windows=False) as meter:
    assert meter.sample()[0].power_w == 70.0
heavy = {"zeus", "torch", "pandas", "numpy", "sklearn"} & set(sys.modules)
print(sorted(heavy))
"""


@pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler (cc, gcc or clang)")
def test_watching_loads_neither_zeus_nor_torch(make_rig):
    """The first reading must not wait for seconds of imports that only windows need."""
    make_rig(virtual_time=False)
    done = subprocess.run(
        [sys.executable, "-c", WATCH], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_in_real_time_the_thread_finds_the_same_energy():
    with SimulatedNvml(1) as rig, open_meter() as meter:
        rig.set_power(0, 500.0)
        meter.begin_window("phase")
        time.sleep(1.2)
        reading = meter.end_window("phase")
        true_j = rig.true_energy_j(0, reading.start_s, reading.start_s + reading.duration_s)
    assert reading.method == COUNTER_SLOPE
    assert reading.energy_j == pytest.approx(true_j, rel=0.05)  # a busy machine may poll late


@pytest.mark.parametrize(("period_s", "most"), [(0.02, 320), (0.1, 130)])
def test_watching_asks_the_driver_no_more_often_than_a_label_needs(make_rig, monkeypatch, period_s, most):
    """Every call takes the interpreter from the thread that launches kernels; ticks are still placed well."""
    rig = make_rig(SimulatedGpu(counter_period_s=period_s))
    with ZeusMeter(clock=rig.clock) as meter:
        gpu, calls = meter._watched[0].gpu, []
        usual = gpu._call
        monkeypatch.setattr(gpu, "_call", lambda name, *args: calls.append(name) or usual(name, *args))
        reading = measure(rig, meter, 500.0, 1.0)
    counter = calls.count("nvmlDeviceGetTotalEnergyConsumption")
    power = calls.count("nvmlDeviceGetFieldValues")
    assert counter + power <= most
    assert power <= 56
    assert reading.energy_j == pytest.approx(500.0, rel=0.005)
    assert reading.flags in ((), ("short_window",))
