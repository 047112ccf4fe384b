"""The simulated library itself: that it is what it says, to every reader, in every process."""

import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest

from llmco2.errors import InputError, MeasurementError
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation import library
from llmco2.measurement.simulation.library import build_library, in_place_of_nvml
from llmco2.measurement.simulation.python_library import PythonNvml
from llmco2.measurement.simulation.rig import CONTROL_VARIABLE, SimulatedGpu, SimulatedNvml

needs_compiler = pytest.mark.skipif(
    library.find_compiler() is None, reason="needs a C compiler (cc, gcc or clang)"
)


def everything(n_gpus: int) -> list[dict[str, Any]]:
    """Read through pynvml all that the library answers, errors included."""
    calls = {
        "name": pynvml.nvmlDeviceGetName,
        "uuid": pynvml.nvmlDeviceGetUUID,
        "energy": pynvml.nvmlDeviceGetTotalEnergyConsumption,
        "usage": pynvml.nvmlDeviceGetPowerUsage,
        "limit": pynvml.nvmlDeviceGetPowerManagementLimit,
        "limits": pynvml.nvmlDeviceGetPowerManagementLimitConstraints,
        "arch": pynvml.nvmlDeviceGetArchitecture,
        "persistence": pynvml.nvmlDeviceGetPersistenceMode,
        "mig": pynvml.nvmlDeviceGetMigMode,
        "c2c": pynvml.nvmlDeviceGetC2cModeInfoV,
        "temperature": lambda handle: pynvml.nvmlDeviceGetTemperatureV(handle, 0),
        "temperature_old": lambda handle: pynvml.nvmlDeviceGetTemperature(handle, 0),
        "sm": lambda handle: pynvml.nvmlDeviceGetClockInfo(handle, 1),
        "memory_clock": lambda handle: pynvml.nvmlDeviceGetClockInfo(handle, 2),
        "throttle": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
        "memory": lambda handle: [
            getattr(pynvml.nvmlDeviceGetMemoryInfo(handle), k) for k in ("total", "used")
        ],
        "utilization": lambda handle: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "bus": lambda handle: pynvml.nvmlDeviceGetPciInfo_v3(handle).busId,
        "processes": lambda handle: sorted(
            (process.pid, process.usedGpuMemory)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        ),
        "fields": lambda handle: [
            (value.nvmlReturn, value.value.uiVal)
            for value in pynvml.nvmlDeviceGetFieldValues(handle, [(186, 0), (185, 0), (186, 1), (7, 0)])
        ],
    }
    found: list[dict[str, Any]] = []
    for index in range(n_gpus):
        row: dict[str, Any] = {}
        for name, call in calls.items():
            try:
                row[name] = call(pynvml.nvmlDeviceGetHandleByIndex(index))
            except pynvml.NVMLError as error:
                row[name] = f"error {error.value}: {error}"
        found.append(row)
    return found


def shuffle(rig: SimulatedNvml, chance: random.Random) -> None:
    """Change something about each GPU."""
    for gpu in range(len(rig.gpus)):
        rig.set_power(gpu, chance.uniform(0.0, 900.0))
        rig.set(gpu, temperature=chance.randint(20, 95), throttle=chance.getrandbits(9))
        rig.set(gpu, period=chance.choice([0.02, 0.05, 0.1]), tick_jitter=chance.choice([0.0, 0.1]))
        rig.set(gpu, power_jitter=chance.choice([0.0, 0.05]), gain=chance.choice([1.0, 1.1]))
        rig.set(gpu, counter=chance.randint(0, 1), instant=chance.randint(0, 1), arch=chance.randint(5, 10))
        rig.set(gpu, permission=int(chance.random() > 0.2), mig=chance.randint(0, 1))
        rig.set_process(gpu, chance.randint(1, 5), chance.getrandbits(30))
        rig.end_process(gpu, chance.randint(1, 5))
        if chance.random() < 0.2:
            rig.lose(gpu)
        elif chance.random() < 0.5:
            rig.find(gpu)


@needs_compiler
@pytest.mark.parametrize("seed", range(6))
def test_the_c_library_and_its_stand_in_answer_every_call_alike(make_rig, seed):
    chance = random.Random(seed)
    rig = make_rig(SimulatedGpu(), SimulatedGpu(counter_period_s=0.05, tick_jitter=0.2), SimulatedGpu())
    stand_in = PythonNvml(rig._state, rig.clock.now_s)
    for _ in range(25):
        shuffle(rig, chance)
        rig.clock.sleep(chance.uniform(0.0, 0.7))
        pynvml.nvmlInit()
        by_c = everything(3)
        pynvml.nvmlShutdown()
        with in_place_of_nvml(stand_in):
            pynvml.nvmlInit()
            by_python = everything(3)
        for ours, theirs in zip(by_python, by_c, strict=True):
            assert_alike(ours, theirs)


def assert_alike(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Compare all readings; a half mJ or mW may be rounded either way."""
    for name, value in ours.items():
        if name in ("energy", "usage") and isinstance(value, int):
            assert abs(value - theirs[name]) <= 1, name
        elif name == "fields" and isinstance(value, list):
            assert [code for code, _ in value] == [code for code, _ in theirs[name]]
            for (code, power), (_, power_c) in zip(value, theirs[name], strict=True):
                assert code or abs(power - power_c) <= 1
        else:
            assert value == theirs[name], name


@pytest.mark.parametrize("use_compiler", [pytest.param(True, marks=needs_compiler), False])
def test_the_counter_shows_the_integral_of_power_up_to_its_last_tick(make_rig, use_compiler):
    rig = make_rig(SimulatedGpu(idle_power_w=100.0, counter_period_s=0.05), use_compiler=use_compiler)
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    rig.plan_power(0, [(1.0, 400.0), (2.0, 50.0)])
    rig.clock.sleep(1.03)
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) == 100_000  # 100 W until 1.00 s
    rig.clock.sleep(1.50)  # 2.53 s: the last tick was at 2.50
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) == 100_000 + 400_000 + 25_000
    assert rig.true_energy_j(0, 0.5, 2.2) == pytest.approx(50 + 400 + 10)


def test_power_usage_is_a_one_second_average_on_ampere_and_newer(make_rig):
    rig = make_rig(SimulatedGpu(idle_power_w=100.0), SimulatedGpu(idle_power_w=100.0, architecture=5))
    pynvml.nvmlInit()
    rig.clock.sleep(2.0)
    rig.set_power(0, 500.0)
    rig.set_power(1, 500.0)
    rig.clock.sleep(0.5)
    usage = [pynvml.nvmlDeviceGetPowerUsage(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in (0, 1)]
    assert usage == [300_000, 500_000]


CHILD = """
import json, pynvml
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(1)
print(json.dumps([pynvml.nvmlDeviceGetCount(), pynvml.nvmlDeviceGetName(handle),
                  pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)]))
"""


@needs_compiler
def test_a_child_process_sees_the_same_gpus_and_the_same_joules(make_rig):
    rig = make_rig(SimulatedGpu(), SimulatedGpu(name="NVIDIA A100-SXM4-80GB"))
    rig.set_power(1, 333.0)
    rig.clock.sleep(1.0)
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [2, "NVIDIA A100-SXM4-80GB", 333_000]


NVITOP = """
import json, warnings
warnings.simplefilter("ignore")
from nvitop import Device
print(json.dumps([[d.name(), d.power_usage(), d.power_limit(), d.memory_total(), d.memory_used(),
                   d.temperature(), d.gpu_utilization(), d.sm_clock(), d.memory_clock(),
                   sorted(d.processes())] for d in Device.all()]))
"""


@needs_compiler
def test_nvitop_reads_what_our_samples_say(make_rig):
    pytest.importorskip("nvitop", reason="nvitop is not installed (pip install nvitop)")
    rig = make_rig(
        SimulatedGpu(memory_used_bytes=3 << 30, temperature_c=61), SimulatedGpu(utilization_percent=87)
    )
    rig.set_power(0, 420.0)
    rig.set_process(1, os.getpid())
    rig.clock.sleep(3.0)  # nvitop shows the one-second average
    done = subprocess.run(
        [sys.executable, "-c", NVITOP], capture_output=True, text=True, check=True, timeout=60
    )
    with ZeusMeter(clock=rig.clock, windows=False) as meter:
        samples = meter.sample()
        names = [device.name for device in meter.devices()]
    for name, sample, theirs in zip(names, samples, json.loads(done.stdout), strict=True):
        assert theirs[0] == name
        assert theirs[1] / 1e3 == pytest.approx(sample.power_w)
        assert theirs[2] / 1e3 == sample.power_limit_w
        assert theirs[3:9] == [
            sample.memory_total_bytes,
            sample.memory_used_bytes,
            sample.temperature_c,
            sample.utilization_percent,
            sample.sm_clock_mhz,
            sample.memory_clock_mhz,
        ]
    assert json.loads(done.stdout)[1][9] == [os.getpid()]


def test_leaving_the_rig_leaves_nothing_behind(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1234")
    before = dict(os.environ)
    library = pynvml.nvmlLib
    with SimulatedNvml(2) as rig:
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
        assert os.environ[CONTROL_VARIABLE] == str(rig.control_file)
        folder = rig.control_file.parent
        assert pynvml.nvmlLib is not library
    assert dict(os.environ) == before
    assert pynvml.nvmlLib is library
    assert not folder.exists()


def test_power_goes_back_to_what_it_was(rig):
    rig.set_power(0, 120.0)
    with rig.drawing(600.0):
        rig.clock.sleep(1.0)
    rig.clock.sleep(1.0)
    assert rig.true_energy_j(0, 0.0, 2.0) == pytest.approx(720.0)


def test_a_rig_of_no_gpus_or_of_too_many_is_refused():
    with pytest.raises(InputError, match="1 to 16"):
        SimulatedNvml(0)
    with pytest.raises(InputError, match="1 to 16"):
        SimulatedNvml(17)


def test_a_gpu_that_is_not_there_cannot_be_set(rig):
    with pytest.raises(InputError, match="no such simulated GPU: got 1"):
        rig.set_power(1, 100.0)


def test_without_a_compiler_the_rig_says_so_and_works_in_this_process(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with SimulatedNvml(1) as rig:
        assert not rig.in_children
        assert rig.note.startswith("the simulated GPUs exist in this process only: ")
        assert "install gcc" in rig.note
        assert rig.environment == {}
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)) == "NVIDIA H100 80GB HBM3"


def test_building_without_a_compiler_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MeasurementError, match=r"needs a C compiler: got none on PATH.*install gcc"):
        build_library()


def test_a_compiler_that_fails_is_quoted_in_one_line(monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'no such\nheader' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(MeasurementError) as caught:
        build_library()
    assert str(caught.value) == "the simulated NVML library could not be built: got no such header"
    assert not list((tmp_path / "llmco2").rglob("libnvidia*"))


@needs_compiler
def test_a_cache_that_cannot_be_written_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(MeasurementError, match=r"nowhere to be built: got .*set XDG_CACHE_HOME"):
        build_library()
    with SimulatedNvml(1) as rig:
        assert "set XDG_CACHE_HOME" in rig.note


@needs_compiler
def test_a_built_library_is_used_again():
    first = build_library()
    stamp = (first / library.LIBRARY_NAME).stat().st_mtime_ns
    assert build_library() == first
    assert (first / library.LIBRARY_NAME).stat().st_mtime_ns == stamp


@needs_compiler
def test_the_library_is_no_gpu_without_a_control_file(monkeypatch):
    monkeypatch.delenv(CONTROL_VARIABLE, raising=False)
    with in_place_of_nvml(ctypes.CDLL(str(build_library() / library.LIBRARY_NAME))):
        with pytest.raises(pynvml.NVMLError) as caught:
            pynvml.nvmlInit()
        assert caught.value.value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED


@needs_compiler
def test_half_a_command_waits_for_its_end(rig: SimulatedNvml):
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    with Path(rig.control_file).open("a") as file:
        file.write("temperature 0 8")
        file.flush()
        assert pynvml.nvmlDeviceGetTemperatureV(handle, 0) == 35
        file.write("8\n")
        file.flush()
        assert pynvml.nvmlDeviceGetTemperatureV(handle, 0) == 88
