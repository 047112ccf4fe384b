"""What zeus does when it is left alone, each beside what the meter does instead.

If zeus mends one of these, the first half of its test fails, and the meter may be made simpler.
"""

import importlib
import os
import warnings

import pytest

from llmco2.errors import MeasurementError
from llmco2.measurement.meters.zeus_devices import forget_zeus_devices
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedGpu


@pytest.fixture
def zeus_monitor():
    """Return a ZeusMonitor class that looks at the GPUs of now."""

    def make(*args, **kwargs):
        forget_zeus_devices()
        return importlib.import_module("zeus.monitor.energy").ZeusMonitor(*args, **kwargs)

    yield make
    forget_zeus_devices()


def no_driver(monkeypatch):
    """Have pynvml find no library, whatever this machine has."""
    pynvml = importlib.import_module("pynvml")

    def missing(*args):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "_LoadNvmlLibrary", missing)


def test_without_a_gpu_zeus_measures_nothing_in_silence_and_the_meter_refuses(zeus_monitor, monkeypatch):
    no_driver(monkeypatch)
    monitor = zeus_monitor(cpu_indices=[])
    monitor.begin_window("a", sync_execution=False)
    measurement = monitor.end_window("a", sync_execution=False)
    assert monitor.gpu_indices == []
    assert measurement.total_energy == 0.0

    with pytest.raises(MeasurementError, match=r"libnvidia-ml\.so\.1 was not found") as caught:
        ZeusMeter()
    assert "--simulate" in str(caught.value)


def test_a_driver_that_is_not_loaded_is_named(make_rig):
    rig = make_rig()
    rig.fail_to_start(9)
    with pytest.raises(MeasurementError, match="the NVIDIA driver is not loaded; load the NVIDIA driver"):
        ZeusMeter(clock=rig.clock)


def test_a_mig_slice_is_no_gpu_to_zeus_and_an_error_to_the_meter(rig, zeus_monitor, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4c1b0f8e")
    assert zeus_monitor(cpu_indices=[]).gpu_indices == []
    with pytest.raises(MeasurementError, match=r"names a MIG slice.*turn MIG off"):
        ZeusMeter(clock=rig.clock)


def test_a_gpu_uuid_is_a_bare_value_error_to_zeus_and_a_gpu_to_the_meter(make_rig, zeus_monitor, monkeypatch):
    rig = make_rig(SimulatedGpu(), SimulatedGpu(idle_power_w=200.0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-51a10000-0000-4000-8000-000000000001")
    with pytest.raises(ValueError, match="invalid literal for int"):
        zeus_monitor(cpu_indices=[])
    with ZeusMeter(clock=rig.clock) as meter:
        assert meter.devices()[0].nvml_index == 1
        meter.begin_window("a")
        rig.clock.sleep(1.5)
        reading = meter.end_window("a")
    assert reading.energy_j == pytest.approx(300.0, rel=0.005)
    assert reading.gpus[0].counter_window_energy_j == pytest.approx(300.0, rel=0.03)  # zeus, on the right GPU
    assert os.environ["CUDA_VISIBLE_DEVICES"].startswith("GPU-")


def test_an_empty_setting_is_refused(rig, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(MeasurementError, match="CUDA_VISIBLE_DEVICES hides every GPU"):
        ZeusMeter(clock=rig.clock)


def test_zeus_keeps_its_first_answer_and_the_meter_asks_again(make_rig, monkeypatch):
    rig = make_rig(SimulatedGpu(), SimulatedGpu(idle_power_w=100.0))
    for setting, watts in (("0", 70.0), ("1", 100.0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
        with ZeusMeter(clock=rig.clock) as meter:
            meter.begin_window("a")
            rig.clock.sleep(2.0)
            reading = meter.end_window("a")
        assert reading.gpus[0].counter_window_energy_j == pytest.approx(2 * watts, rel=0.03)


def test_zeus_would_synchronise_a_torch_without_cuda_and_the_meter_never_does(rig, zeus_monitor, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if torch.cuda.is_available():
        pytest.skip("this torch has CUDA, so synchronising works")
    monitor = zeus_monitor(cpu_indices=[])
    with pytest.raises((AssertionError, RuntimeError)):
        monitor.begin_window("a")
    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("a")
        rig.clock.sleep(1.0)
        assert meter.end_window("a").energy_j == pytest.approx(70.0, rel=0.01)


def test_instant_energy_is_only_approximated_at_exactly_zero_and_the_slope_always_corrects(rig, zeus_monitor):
    """A window that one tick fell in reads low, and ``approx_instant_energy`` lets it pass."""
    rig.set_power(0, 600.0)
    rig.clock.sleep(1.0)
    monitor = zeus_monitor(cpu_indices=[], approx_instant_energy=True)
    rig.clock.sleep(0.001)
    monitor.begin_window("short", sync_execution=False)
    rig.clock.sleep(0.038)
    low = monitor.end_window("short", sync_execution=False)
    assert low.total_energy == pytest.approx(12.0, rel=0.01)  # of 22.8 J

    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("short")
        rig.clock.sleep(0.099)
        reading = meter.end_window("short")
    assert reading.energy_j == pytest.approx(59.4, rel=0.01)


def test_zeus_warns_of_zero_in_its_own_words_and_the_meter_in_one_flag(rig):
    with ZeusMeter(clock=rig.clock) as meter, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        meter.begin_window("short")
        rig.clock.sleep(0.002)
        reading = meter.end_window("short")
    assert caught == []
    assert "short_window" in reading.flags


def test_zeus_starts_no_power_process_for_a_gpu_without_a_counter(make_rig, monkeypatch):
    """Its PowerMonitor starts processes within a hard limit and drops readings that repeat."""
    energy = importlib.import_module("zeus.monitor.energy")

    def started(*args, **kwargs):
        raise AssertionError("zeus's PowerMonitor was started")

    monkeypatch.setattr(energy, "PowerMonitor", started)
    rig = make_rig(SimulatedGpu(architecture=4, has_counter=False), SimulatedGpu())
    forget_zeus_devices()
    with pytest.raises(AssertionError, match="PowerMonitor was started"):
        energy.ZeusMonitor(cpu_indices=[])
    with ZeusMeter(clock=rig.clock) as meter:
        rig.set_power(0, 500.0)
        meter.begin_window("constant")
        rig.clock.sleep(1.0)
        reading = meter.end_window("constant")
    # A constant 500 W for a second is 500 J here, where dropped repeats read 0.
    assert reading.gpus[0].energy_j == pytest.approx(500.0, rel=0.03)


def test_zeus_asks_a_new_board_without_a_counter_and_fails_where_the_meter_integrates(make_rig, zeus_monitor):
    """It goes by the architecture; a vGPU or a sick board of a new one has no counter all the same."""
    rig = make_rig(SimulatedGpu(architecture=9, has_counter=False))
    monitor = zeus_monitor(cpu_indices=[])
    with pytest.raises(Exception, match="Not Supported"):
        monitor.begin_window("a", sync_execution=False)
    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("a")
        rig.clock.sleep(1.0)
        assert meter.end_window("a").energy_j == pytest.approx(70.0, rel=0.02)


def test_the_wall_clock_may_jump_and_the_length_of_a_window_does_not(rig, monkeypatch):
    energy = importlib.import_module("zeus.monitor.energy")
    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("a")
        monkeypatch.setattr(energy, "time", lambda: 1e12)  # zeus takes the wall clock
        rig.clock.sleep(1.0)
        reading = meter.end_window("a")
    assert reading.duration_s == pytest.approx(1.0)
    assert reading.energy_j == pytest.approx(70.0, rel=0.01)


def test_what_zeus_asks_at_its_start_and_a_guest_refuses_costs_no_measurement(rig, monkeypatch):
    """It asks for the architecture only to guess whether there is a counter; the meter has read the counter."""
    nvidia = importlib.import_module("zeus.device.gpu.nvidia")
    common = importlib.import_module("zeus.device.gpu.common")

    def refuse(self):
        raise common.ZeusGPUNotSupportedError("Not Supported")

    monkeypatch.setattr(nvidia.NVIDIAGPU, "supports_get_total_energy_consumption", refuse)
    with ZeusMeter(clock=rig.clock) as meter:
        meter.begin_window("a")
        rig.clock.sleep(1.5)
        reading = meter.end_window("a")
    assert reading.energy_j == pytest.approx(105.0, rel=0.01)
    assert reading.method == "counter_slope"
    assert reading.gpus[0].counter_window_energy_j == pytest.approx(105.0, rel=0.03)


def test_a_call_that_an_older_binding_lacks_is_a_reason_and_no_crash(rig, monkeypatch):
    pynvml = importlib.import_module("pynvml")
    for name in ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetC2cModeInfoV"):
        monkeypatch.delattr(pynvml, name, raising=False)
    zeus_gpu = importlib.import_module("zeus.device.gpu.nvidia").NVIDIAGPU
    monkeypatch.setattr(zeus_gpu, "__init__", lambda self, index: None)  # zeus itself needs the newer binding
    monkeypatch.setattr(zeus_gpu, "supports_get_total_energy_consumption", lambda self: True)
    with ZeusMeter(clock=rig.clock, windows=False) as meter:
        (sample,) = meter.sample()
    assert sample.temperature_c == 35.0
    assert sample.power_w == pytest.approx(70.0)
