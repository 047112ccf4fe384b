"""The simulated NVML library without a compiler: Python objects that answer pynvml's ctypes calls.

Invariant: pynvml and zeus run unchanged on it, as they do on the C library; only child processes do not see
it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

from llmco2.measurement.simulation.state import GpuState, SimulatedState

_OK, _UNINITIALIZED, _INVALID, _NOT_SUPPORTED, _NO_PERMISSION, _NOT_FOUND = 0, 1, 2, 3, 4, 6
_INSUFFICIENT_SIZE, _DRIVER_NOT_LOADED, _GPU_IS_LOST = 7, 9, 15
_TEXTS: Final = {0: b"Success", 1: b"Uninitialized", 2: b"Invalid Argument", 3: b"Not Supported"} | {
    4: b"Insufficient Permissions",
    6: b"Not Found",
    7: b"Insufficient Size",
    9: b"Driver Not Loaded",
    15: b"GPU is lost",
}
_POWER_AVERAGE, _POWER_INSTANT = 185, 186
_ARCH_AMPERE = 7

Call = Callable[..., int]


def _milli(value: float) -> int:
    return int(1e3 * value + 0.5)


def _nearest(value: float) -> int:
    return int(value + 0.5)


class PythonNvml:
    """Stands where pynvml keeps its loaded library; each attribute is one exported function."""

    def __init__(self, state: SimulatedState, now_s: Callable[[], float]) -> None:
        self._state = state
        self._now_s = now_s
        self._users = 0
        self._device_calls: dict[str, Callable[..., int | None]] = {
            "nvmlDeviceGetIndex": lambda g, out: _put(out, g.index),
            "nvmlDeviceGetMinorNumber": lambda g, out: _put(out, g.index),
            "nvmlDeviceGetName": lambda g, out, _room: _text(out, g.name),
            "nvmlDeviceGetUUID": lambda g, out, _room: _text(out, g.uuid),
            "nvmlDeviceGetArchitecture": lambda g, out: _put(out, g.arch),
            "nvmlDeviceGetPersistenceMode": lambda g, out: _put(out, g.persistence),
            "nvmlDeviceGetC2cModeInfoV": lambda _g, _out: _NOT_SUPPORTED,
            "nvmlDeviceGetTotalEnergyConsumption": self._energy,
            "nvmlDeviceGetPowerUsage": self._power_usage,
            "nvmlDeviceGetFieldValues": self._fields,
            "nvmlDeviceGetPowerManagementLimit": lambda g, out: _put(out, _milli(g.limit)),
            "nvmlDeviceGetEnforcedPowerLimit": lambda g, out: _put(out, _milli(g.limit)),
            "nvmlDeviceGetPowerManagementDefaultLimit": lambda g, out: _put(out, _milli(g.limit)),
            "nvmlDeviceGetPowerManagementLimitConstraints": _limits,
            "nvmlDeviceGetTemperatureV": _temperature,
            "nvmlDeviceGetTemperature": lambda g, _sensor, out: _put(out, _nearest(g.temperature)),
            "nvmlDeviceGetUtilizationRates": _utilization,
            "nvmlDeviceGetClockInfo": _clock,
            "nvmlDeviceGetMaxClockInfo": _clock,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda g, out: _put(out, g.throttle),
            "nvmlDeviceGetCurrentClocksEventReasons": lambda g, out: _put(out, g.throttle),
            "nvmlDeviceGetMemoryInfo": _memory,
            "nvmlDeviceGetMemoryInfo_v2": _memory,
            "nvmlDeviceGetMigMode": lambda g, out, pending: _put(out, g.mig) or _put(pending, g.mig),
            "nvmlDeviceIsMigDeviceHandle": lambda _g, out: _put(out, 0),
            "nvmlDeviceGetMaxMigDeviceCount": lambda g, out: _put(out, 7 if g.mig else 0),
            "nvmlDeviceGetMigDeviceHandleByIndex": lambda *_: _NOT_FOUND,
            "nvmlDeviceGetComputeRunningProcesses_v3": _processes,
            "nvmlDeviceGetGraphicsRunningProcesses_v3": lambda _g, n, _out: _put(n, 0),
            "nvmlDeviceGetMPSComputeRunningProcesses_v3": lambda _g, n, _out: _put(n, 0),
            "nvmlDeviceGetPciInfo_v3": _pci,
        }
        self._system_calls: dict[str, Callable[..., int | None]] = {
            "nvmlSystemGetDriverVersion": lambda out, _room: _text(out, self._state.driver),
            "nvmlSystemGetNVMLVersion": lambda out, _room: _text(out, self._state.driver),
            "nvmlSystemGetCudaDriverVersion": lambda out: _put(out, 13000),
            "nvmlSystemGetCudaDriverVersion_v2": lambda out: _put(out, 13000),
            "nvmlDeviceGetCount_v2": lambda out: _put(out, len(self._state.gpus)),
            "nvmlDeviceGetHandleByIndex_v2": self._handle_by_index,
            "nvmlDeviceGetHandleByUUID": self._handle_by_uuid,
        }

    def __getattr__(self, name: str) -> Any:
        if name in self._device_calls:
            return self._on_device(self._device_calls[name])
        if name in self._system_calls:
            return self._on_system(self._system_calls[name])
        raise AttributeError(name)  # pynvml makes this NVML_ERROR_FUNCTION_NOT_FOUND

    def llmco2_simulated_nvml(self) -> int:
        """Say, as the C library does, that this is no real NVML."""
        return 1

    def nvmlInitWithFlags(self, flags: int) -> int:  # noqa: N802, ARG002  NVML's spelling
        """Open the library once more."""
        if self._state.init_error or not self._state.gpus:
            return self._state.init_error or _DRIVER_NOT_LOADED
        self._users += 1
        return _OK

    def nvmlShutdown(self) -> int:  # noqa: N802  NVML's spelling
        """Close the library once."""
        if not self._users:
            return _UNINITIALIZED
        self._users -= 1
        return _OK

    @property
    def nvmlErrorString(self) -> Any:  # noqa: N802  NVML's spelling
        """Return a function that names an error; pynvml sets its ``restype``."""
        return _ErrorString()

    def _on_device(self, call: Callable[..., int | None]) -> Call:
        def checked(handle: Any, *args: Any) -> int:
            if not self._users:
                return _UNINITIALIZED
            index = (ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1
            if not 0 <= index < len(self._state.gpus):
                return _INVALID
            gpu = self._state.gpus[index]
            return _GPU_IS_LOST if gpu.is_lost(self._now_s()) else (call(gpu, *args) or _OK)

        return checked

    def _on_system(self, call: Callable[..., int | None]) -> Call:
        def checked(*args: Any) -> int:
            return (call(*args) or _OK) if self._users else _UNINITIALIZED

        return checked

    def _handle_by_index(self, index: Any, out: Any) -> int:
        number = int(index.value)
        if number >= len(self._state.gpus):
            return _INVALID
        if self._state.gpus[number].is_lost(self._now_s()):
            return _GPU_IS_LOST
        pointer = ctypes.c_void_p(number + 1)
        ctypes.memmove(ctypes.addressof(out._obj), ctypes.byref(pointer), ctypes.sizeof(pointer))
        return _OK

    def _handle_by_uuid(self, uuid: Any, out: Any) -> int:
        wanted = uuid.value.decode()
        index = next((gpu.index for gpu in self._state.gpus if gpu.uuid == wanted), None)
        return _NOT_FOUND if index is None else self._handle_by_index(ctypes.c_uint(index), out)

    def _energy(self, gpu: GpuState, out: Any) -> int:
        if not gpu.permission or not gpu.counter:
            return _NOT_SUPPORTED if gpu.permission else _NO_PERMISSION
        return _put(out, _milli(self._state.counter_j(gpu, self._now_s())))

    def _power_usage(self, gpu: GpuState, out: Any) -> int:
        if not gpu.permission:
            return _NO_PERMISSION
        now_s = self._now_s()
        state = self._state
        averaged = gpu.arch >= _ARCH_AMPERE
        return _put(out, _milli(state.average_w(gpu, now_s) if averaged else state.sensor_w(gpu, now_s)))

    def _fields(self, gpu: GpuState, n: Any, values: Any) -> int:
        now_s = self._now_s()
        for value in list(values._obj)[: n.value]:
            known = gpu.instant and value.fieldId in (_POWER_AVERAGE, _POWER_INSTANT) and not value.scopeId
            value.timestamp = int(1e6 * now_s)
            value.nvmlReturn = (_OK if known else _NOT_SUPPORTED) if gpu.permission else _NO_PERMISSION
            if value.nvmlReturn == _OK:
                instant = value.fieldId == _POWER_INSTANT
                read = self._state.sensor_w if instant else self._state.average_w
                value.value.uiVal = _milli(read(gpu, now_s))
        return _OK


class _ErrorString:
    restype: Any = None

    def __call__(self, code: int) -> bytes:
        return _TEXTS.get(code, b"Unknown Error")


def _put(out: Any, value: int) -> int:
    out._obj.value = value
    return _OK


def _text(out: Any, text: str) -> int:
    out.value = text.encode()
    return _OK


def _limits(gpu: GpuState, low: Any, high: Any) -> int:
    return _put(low, int(500 * gpu.limit)) or _put(high, _milli(gpu.limit))


def _temperature(gpu: GpuState, out: Any) -> int:
    out._obj.temperature = _nearest(gpu.temperature)
    return _OK


def _utilization(gpu: GpuState, out: Any) -> int:
    out._obj.gpu = _nearest(gpu.utilization)
    out._obj.memory = out._obj.gpu // 2
    return _OK


def _clock(gpu: GpuState, kind: Any, out: Any) -> int:
    memory = getattr(kind, "value", kind) == 2
    return _put(out, _nearest(gpu.memory_clock if memory else gpu.sm_clock))


def _memory(gpu: GpuState, out: Any) -> int:
    out._obj.total, out._obj.used = gpu.memory_total, gpu.memory_used
    out._obj.free = gpu.memory_total - gpu.memory_used
    return _OK


def _processes(gpu: GpuState, n: Any, out: Any) -> int:
    room, n._obj.value = n._obj.value, len(gpu.processes)
    if room < len(gpu.processes):
        return _INSUFFICIENT_SIZE
    for slot, (pid, used_bytes) in zip(out or (), gpu.processes.items(), strict=False):
        slot.pid, slot.usedGpuMemory = pid, used_bytes
        slot.gpuInstanceId = slot.computeInstanceId = 0xFFFFFFFF
    return _OK


def _pci(gpu: GpuState, out: Any) -> int:
    out._obj.bus = gpu.index + 1
    out._obj.busIdLegacy = f"0000:{gpu.index + 1:02X}:00.0".encode()
    out._obj.busId = f"00000000:{gpu.index + 1:02X}:00.0".encode()
    return _OK
