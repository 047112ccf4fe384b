"""The doctor's look at the driver and its GPUs.

Invariant: one finding per check and GPU, named ``gpu 0 counter`` and the like; a GPU that is lost gets one
finding and is asked nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llmco2.errors import MeasurementError
from llmco2.measurement.doctor.finding import FAIL, OK, WARN, Finding
from llmco2.measurement.meters import reading
from llmco2.measurement.meters.clock import MonotonicClock, PollingClock
from llmco2.measurement.meters.meter import Device
from llmco2.measurement.meters.nvml import NvmlDriver, NvmlGpu, ReadFailedError
from llmco2.measurement.meters.visible import VARIABLE, visible_indices
from llmco2.measurement.meters.window_poller import WatchedGpu, measure_counter_periods

_LONG_PERIOD_S = 0.11  # counters tick every 20 to 100 ms


def check_gpus(
    driver: NvmlDriver, environ: Mapping[str, str], clock: PollingClock | None = None
) -> Iterator[Finding]:
    """Check the driver, which GPUs are in use, and each of those."""
    yield _driver(driver)
    devices, lost = _describe(driver)
    yield from lost
    uuids = [found.uuid if found else f"lost-{index}" for index, found in enumerate(devices)]
    try:
        in_use = visible_indices(environ, uuids)
    except MeasurementError as error:
        what, _, fix = str(error).partition("; ")
        yield Finding(name="gpus in use", status=FAIL, found=what, fix=fix)
        return
    yield _in_use(environ, in_use, uuids)
    chosen = [device for index in in_use if (device := devices[index]) is not None]
    yield from _order(environ, [device for device in devices if device is not None])
    gpus = [driver.gpus[device.nvml_index] for device in chosen]
    watched = [
        WatchedGpu(gpu=gpu, has_counter=device.has_energy_counter)
        for gpu, device in zip(gpus, chosen, strict=True)
    ]
    measure_counter_periods(watched, MonotonicClock() if clock is None else clock)
    for device, one in zip(chosen, watched, strict=True):
        try:
            yield _counter(device, one)
            yield _power(device, one.gpu)
            yield _persistence(device, one.gpu)
            yield _mig(device)
            yield _processes(device, one.gpu)
            yield from _throttling(device, one.gpu)
        except ReadFailedError as error:
            yield _lost(device.nvml_index, error.reason)


def _driver(driver: NvmlDriver) -> Finding:
    version = driver.driver_version or "of unknown version"
    if driver.simulated:
        return Finding(
            name="driver",
            status=WARN,
            found=f"{version}: these GPUs are simulated, and rows will say so",
            fix="leave out --simulate (unset LLMCO2_SIM_NVML) to measure real ones",
        )
    return Finding(name="driver", status=OK, found=f"NVIDIA driver {version}, {len(driver.gpus)} GPUs")


def _describe(driver: NvmlDriver) -> tuple[list[Device | None], list[Finding]]:
    devices: list[Device | None] = []
    lost = []
    for gpu in driver.gpus:
        try:
            devices.append(gpu.describe(driver.driver_version, driver.simulated))
        except MeasurementError as error:
            devices.append(None)
            lost.append(_lost(gpu.nvml_index, str(error).partition("; ")[0]))
    return devices, lost


def _lost(nvml_index: int, reason: str) -> Finding:
    return Finding(
        name=f"gpu {nvml_index}",
        status=FAIL,
        found=reason,
        fix=f"reset it (sudo nvidia-smi --gpu-reset -i {nvml_index}), reboot, or leave it out of {VARIABLE}",
        gpu_index=nvml_index,
    )


def _in_use(environ: Mapping[str, str], in_use: Sequence[int], uuids: Sequence[str]) -> Finding:
    setting = environ.get(VARIABLE)
    which = ", ".join(map(str, in_use)) or "none"
    found = f"{len(in_use)} of {len(uuids)} ({which})"
    if setting is not None:
        found += f", as {VARIABLE}={setting} says"
    return Finding(name="gpus in use", status=OK, found=found)


def _order(environ: Mapping[str, str], devices: Sequence[Device]) -> Iterator[Finding]:
    """NVML counts by PCI bus, CUDA by speed: on a machine of mixed boards the two name different GPUs."""
    mixed = len({device.name for device in devices}) > 1
    if environ.get(VARIABLE, "").upper().startswith("GPU-"):
        return  # a UUID is the same GPU to both
    if mixed and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        yield Finding(
            name="gpu order",
            status=FAIL,
            found="boards differ, and CUDA numbers them by speed where the driver numbers them by slot",
            fix="export CUDA_DEVICE_ORDER=PCI_BUS_ID before anything uses CUDA",
        )


def _counter(device: Device, watched: WatchedGpu) -> Finding:
    name = f"gpu {device.nvml_index} counter"
    period_s = watched.track.period_s
    if watched.has_counter and period_s is not None:
        slow = period_s > _LONG_PERIOD_S
        return Finding(
            name=name,
            status=WARN if slow else OK,
            found=f"energy counter ticks every {1e3 * period_s:.0f} ms",
            fix=f"repeat phases for {50 * period_s:.0f} s or more" if slow else "",
            gpu_index=device.nvml_index,
        )
    if watched.has_counter:
        found, fix = "the energy counter did not move for 1.5 s", "put some load on the GPU and look again"
        return Finding(name=name, status=WARN, found=found, fix=fix, gpu_index=device.nvml_index)
    why, status, fix = _why_no_counter(watched.gpu)
    return Finding(name=name, status=status, found=why, fix=fix, gpu_index=device.nvml_index)


def _why_no_counter(gpu: NvmlGpu) -> tuple[str, str, str]:
    try:
        gpu.energy_counter_j()
    except ReadFailedError as error:
        if error.code == reading.NO_PERMISSION:
            return "no permission to read the energy counter", FAIL, _PERMISSION_FIX
        fix = "none for this board: energies will be integrated power, and rows will say so"
        return f"no energy counter: {error.reason}", WARN, fix
    return "the energy counter answers only now and then", WARN, "update the driver"


_PERMISSION_FIX = (
    "run as a user who may open /dev/nvidia* (group video or render), or start the container with --gpus"
)


def _power(device: Device, gpu: NvmlGpu) -> Finding:
    name = f"gpu {device.nvml_index} power"
    try:
        power_w = gpu.power_w()
    except ReadFailedError as error:
        if error.lost:
            raise
        denied = error.code == reading.NO_PERMISSION
        return Finding(
            name=name,
            status=WARN if device.has_energy_counter else FAIL,
            found=f"no instant power: {error.reason}",
            fix=_PERMISSION_FIX if denied else "update the driver (instant power came with 535)",
            gpu_index=device.nvml_index,
        )
    limit = "" if device.power_limit_w is None else f" of {device.power_limit_w:.0f} W"
    found = f"{power_w:.0f} W{limit} now"
    return Finding(name=name, status=OK, found=found, gpu_index=device.nvml_index)


def _persistence(device: Device, gpu: NvmlGpu) -> Finding:
    name, enabled = f"gpu {device.nvml_index} persistence", gpu.persistence_enabled()
    if enabled:
        return Finding(name=name, status=OK, found="on", gpu_index=device.nvml_index)
    found = (
        "off: the driver unloads between runs, and counters start again" if enabled is False else "unknown"
    )
    fix = f"sudo nvidia-smi -i {device.nvml_index} -pm 1"
    return Finding(name=name, status=WARN, found=found, fix=fix, gpu_index=device.nvml_index)


def _mig(device: Device) -> Finding:
    name = f"gpu {device.nvml_index} mig"
    if device.mig is None:
        return Finding(
            name=name,
            status=WARN,
            found="not known: the driver does not say; rows are flagged",
            gpu_index=device.nvml_index,
        )
    if not device.mig:
        return Finding(name=name, status=OK, found="off", gpu_index=device.nvml_index)
    return Finding(
        name=name,
        status=FAIL,
        found="on: the joules of a slice cannot be measured, so measuring is refused",
        fix=f"sudo nvidia-smi -i {device.nvml_index} -mig 0, or use another GPU",
        gpu_index=device.nvml_index,
    )


def _processes(device: Device, gpu: NvmlGpu) -> Finding:
    name, pids = f"gpu {device.nvml_index} processes", gpu.foreign_pids()
    if pids is None:
        return Finding(
            name=name,
            status=WARN,
            found="not known: the driver does not say who is on the GPU; rows are flagged",
            gpu_index=device.nvml_index,
        )
    if not pids:
        return Finding(name=name, status=OK, found="none but ours", gpu_index=device.nvml_index)
    return Finding(
        name=name,
        status=FAIL,
        found=f"shared with processes {', '.join(map(str, pids))}: measuring is refused",
        fix="stop them, use another GPU, or measure with --allow-shared and have the rows flagged",
        gpu_index=device.nvml_index,
    )


def _throttling(device: Device, gpu: NvmlGpu) -> Iterator[Finding]:
    reasons = gpu.sample(0.0, device.simulated).throttle_reasons or ()
    held_back = sorted(reading.HARMFUL_THROTTLING.intersection(reasons))
    if held_back:
        yield Finding(
            name=f"gpu {device.nvml_index} throttling",
            status=WARN,
            found=f"held back by {', '.join(held_back)}",
            fix="mend cooling or power supply; rows measured now will be flagged",
            gpu_index=device.nvml_index,
        )
