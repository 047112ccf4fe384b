"""The border to NVML: what is read there comes out in SI units, and what fails comes out as a reason.

Invariant: no other module of this project calls pynvml. ``nvmlDeviceGetPowerUsage`` is an average over one
second on Ampere and newer, so it is never read there; power is the instant field, on older boards the plain
call.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from llmco2.errors import MeasurementError, explain
from llmco2.measurement.meters import reading
from llmco2.measurement.meters.meter import Device, Missing, Sample
from llmco2.measurement.meters.visible import foreign_pids, visible_indices
from llmco2.units import joules_from_millijoules, watts_from_milliwatts

_T = TypeVar("_T")
_FIELD_POWER_INSTANT: Final = 186  # NVML_FI_DEV_POWER_INSTANT
_NO_SUCH_MODE: Final = (reading.NOT_SUPPORTED, reading.INVALID_ARGUMENT, reading.FUNCTION_NOT_FOUND)
_SCOPE_GPU, _SCOPE_MODULE = 0, 1
_ARCH_TURING: Final = 6  # the last whose nvmlDeviceGetPowerUsage is instant on every board
_ARCH_UNKNOWN: Final = 0xFFFFFFFF

_START_REMEDIES: Final = {
    reading.LIBRARY_NOT_FOUND: "install the NVIDIA driver (in a container: --gpus all), or use --simulate",
    reading.DRIVER_NOT_LOADED: "load the NVIDIA driver (nvidia-smi must work), or use --simulate",
    reading.VERSION_MISMATCH: "reboot, or reload the driver's kernel module",
    reading.NO_PERMISSION: "run as a user who may open /dev/nvidia*",
}


class ReadFailedError(Exception):
    """One reading that NVML refused: ``lost`` with its GPU, ``lasting`` where asking again is of no use."""

    def __init__(self, code: int, detail: str = "") -> None:
        self.code = code
        self.reason = reading.reason_of(code, detail)
        self.lost = code in reading.LOST_CODES
        self.lasting = code in reading.LASTING_CODES
        super().__init__(self.reason)


class NvmlDriver:
    """NVML opened once; holds the GPUs in use."""

    def __init__(self, environ: Mapping[str, str] | None = None, *, own_pids: Collection[int] = ()) -> None:
        """Open NVML and find the GPUs that ``environ`` (this process's own) lets CUDA use.

        ``own_pids`` are processes, such as a server under test, that do not make a GPU shared.
        Raises ``MeasurementError`` where there is no driver or no GPU, or a setting names none.
        """
        self._pynvml: Any = importlib.import_module("pynvml")
        self._own_pids = frozenset(own_pids) | {os.getpid()}
        try:
            self._pynvml.nvmlInit()
        except self._pynvml.NVMLError as error:
            raise _no_driver(error) from error
        self._open = True
        try:
            self.driver_version = self._system_text("nvmlSystemGetDriverVersion")
            self.simulated = hasattr(self._pynvml.nvmlLib, "llmco2_simulated_nvml")
            self.gpus = self._gpus_in_use(os.environ if environ is None else environ)
        except BaseException:
            self.close()
            raise

    def _gpus_in_use(self, environ: Mapping[str, str]) -> tuple[NvmlGpu, ...]:
        try:
            count = int(self._pynvml.nvmlDeviceGetCount())
        except self._pynvml.NVMLError as error:
            raise _no_driver(error) from error
        uuids = [self._uuid_of(index) for index in range(count)]
        indices = visible_indices(environ, uuids)
        if not indices:
            raise MeasurementError(explain("the driver works but sees no GPU", remedy="check nvidia-smi -L"))
        return tuple(
            NvmlGpu(self._pynvml, index, nvml_index, self._own_pids)
            for index, nvml_index in enumerate(indices)
        )

    def _uuid_of(self, nvml_index: int) -> str:
        try:
            handle = self._pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
            return str(self._pynvml.nvmlDeviceGetUUID(handle))
        except self._pynvml.NVMLError:
            return (
                f"lost-{nvml_index}"  # a GPU that is gone keeps its place, or the others would change theirs
            )

    def _system_text(self, name: str) -> str | None:
        try:
            return str(getattr(self._pynvml, name)())
        except self._pynvml.NVMLError:
            return None

    def devices(self) -> tuple[Device, ...]:
        """Describe the GPUs in use; raises ``MeasurementError`` where one is lost."""
        return tuple(gpu.describe(self.driver_version, self.simulated) for gpu in self.gpus)

    def close(self) -> None:
        """Close NVML once; a second call does nothing."""
        if self._open:
            self._open = False
            try:
                self._pynvml.nvmlShutdown()
            except self._pynvml.NVMLError_Uninitialized:
                return  # somebody else in this process closed it once too often: nothing is left to close


class NvmlGpu:
    """One GPU; every reading raises ``ReadFailedError`` or comes in SI units."""

    def __init__(self, pynvml: Any, index: int, nvml_index: int, own_pids: Collection[int]) -> None:
        self.index = index
        self.nvml_index = nvml_index
        self._pynvml = pynvml
        self._own_pids = own_pids
        self._handle: Any = None
        self._power_scope: int | None = None
        self._plain_power: bool | None = None

    def reopen(self) -> None:
        """Ask for a new handle at the next reading; for a GPU that may have come back."""
        self._handle = None

    def _call(self, name: str, *args: Any) -> Any:
        try:
            handle = self._handle  # another thread may reopen the GPU meanwhile
            if handle is None:
                handle = self._handle = self._pynvml.nvmlDeviceGetHandleByIndex(self.nvml_index)
            return getattr(self._pynvml, name)(handle, *args)
        except self._pynvml.NVMLError as error:
            raise ReadFailedError(int(error.value), str(error)) from error
        except AttributeError as error:  # an older nvidia-ml-py has no such call, whatever the driver has
            raise ReadFailedError(reading.FUNCTION_NOT_FOUND) from error

    def _optional(self, name: str, *args: Any) -> Any:
        """Return ``None`` where this driver or GPU does not offer the call; a lost GPU still raises."""
        try:
            return self._call(name, *args)
        except ReadFailedError as error:
            if error.lost:
                raise
            return None

    def energy_counter_j(self) -> float:
        """Joules since the driver was loaded (``nvmlDeviceGetTotalEnergyConsumption``)."""
        return joules_from_millijoules(self._call("nvmlDeviceGetTotalEnergyConsumption"))

    def power_w(self) -> float:
        """Instant power, W (field 186; for the whole module on a Grace superchip, as its energy counter is).

        Without the field, boards up to Turing answer ``nvmlDeviceGetPowerUsage`` with instant power; newer
        ones with a one-second average, which is refused.
        """
        if self._plain_power:
            return watts_from_milliwatts(self._call("nvmlDeviceGetPowerUsage"))
        value = self._call("nvmlDeviceGetFieldValues", [(_FIELD_POWER_INSTANT, self._scope())])[0]
        if value.nvmlReturn == 0:
            return watts_from_milliwatts(value.value.uiVal)
        missing_field = value.nvmlReturn in reading.LASTING_CODES - {reading.NO_PERMISSION}
        if missing_field and self._plain_power is None and self.architecture() <= _ARCH_TURING:
            self._plain_power = True
            return self.power_w()
        if missing_field:
            self._plain_power = False
        raise ReadFailedError(int(value.nvmlReturn))

    def _scope(self) -> int:
        if self._power_scope is None:
            info = self._optional("nvmlDeviceGetC2cModeInfoV")
            self._power_scope = _SCOPE_MODULE if info is not None and info.isC2cEnabled else _SCOPE_GPU
        return self._power_scope

    def architecture(self) -> int:
        """NVML's number of the architecture: 5 Volta, 6 Turing, 7 Ampere …"""
        known = self._optional("nvmlDeviceGetArchitecture")
        return _ARCH_UNKNOWN if known is None else int(known)

    def mig_enabled(self) -> bool | None:
        """Whether the GPU is cut into MIG slices now; ``None`` where NVML refuses to say.

        A GPU or driver that has no such mode is not cut.
        """
        try:
            return bool(self._call("nvmlDeviceGetMigMode")[0])
        except ReadFailedError as error:
            if error.lost:
                raise
            return False if error.code in _NO_SUCH_MODE else None

    def persistence_enabled(self) -> bool | None:
        """Whether the driver stays loaded between uses; ``None`` where it does not say."""
        mode = self._optional("nvmlDeviceGetPersistenceMode")
        return None if mode is None else bool(mode)

    def compute_pids(self) -> tuple[int, ...] | None:
        """Processes that compute on this GPU; ``None`` where NVML refuses to say, which is not the same as none."""
        running = self._optional("nvmlDeviceGetComputeRunningProcesses")
        return None if running is None else tuple(int(process.pid) for process in running)

    def compute_processes(self) -> tuple[tuple[int, int | None], ...] | None:
        """Processes that compute on this GPU and the bytes of its memory that each holds, where NVML says.

        ``None`` where NVML refuses to tell which there are.
        """
        running = self._optional("nvmlDeviceGetComputeRunningProcesses")
        if running is None:
            return None
        held = [(int(process.pid), process.usedGpuMemory) for process in running]
        return tuple((pid, None if used is None else int(used)) for pid, used in held)

    def foreign_pids(self) -> tuple[int, ...] | None:
        """Processes on this GPU other than this one, its descendants and those named as its own.

        ``None`` where NVML refuses to say.
        """
        running = self.compute_pids()
        return None if running is None else foreign_pids(running, self._own_pids)

    def is_shared(self) -> bool | None:
        """Whether processes of others are on this GPU; ``None`` where NVML refuses to say."""
        foreign = self.foreign_pids()
        return None if foreign is None else bool(foreign)

    def measures_module(self) -> bool:
        """Whether energy and power are of a whole Grace module, and the power limit of its GPU alone."""
        return self._scope() == _SCOPE_MODULE

    def describe(self, driver_version: str | None, simulated: bool) -> Device:
        """Return the record of this GPU; raises ``MeasurementError`` where it is lost."""
        try:
            return self._describe(driver_version, simulated)
        except ReadFailedError as error:
            raise MeasurementError(
                explain(
                    f"GPU {self.nvml_index} cannot be read: {error.reason}",
                    remedy="reboot or reset it, or leave it out with CUDA_VISIBLE_DEVICES",
                )
            ) from error

    def _describe(self, driver_version: str | None, simulated: bool) -> Device:
        memory = self._optional("nvmlDeviceGetMemoryInfo")
        limit_mw = self._optional("nvmlDeviceGetPowerManagementLimit")
        return Device(
            index=self.index,
            nvml_index=self.nvml_index,
            uuid=str(self._call("nvmlDeviceGetUUID")),
            name=str(self._call("nvmlDeviceGetName")),
            mig=self.mig_enabled(),
            total_memory_bytes=None if memory is None else int(memory.total),
            power_limit_w=None if limit_mw is None else watts_from_milliwatts(limit_mw),
            has_energy_counter=self.has_counter(),
            driver_version=driver_version,
            shared=self.is_shared(),
            simulated=simulated,
        )

    def has_counter(self) -> bool:
        """Whether the energy counter answers now; asking beats knowing the architecture, as zeus does."""
        try:
            self.energy_counter_j()
        except ReadFailedError as error:
            if error.lost:
                raise
            return False
        return True

    def sample(self, t_s: float, simulated: bool) -> Sample:
        """Read everything once; a lost GPU raises ``ReadFailedError``, any other failure becomes a reason."""
        missing: list[Missing] = []

        def read(field: str, ask: Callable[[], _T]) -> _T | None:
            try:
                return ask()
            except ReadFailedError as error:
                if error.lost:
                    raise
                missing.append(Missing(field=field, reason=error.reason))
                return None

        memory = read("memory_used_bytes", lambda: self._call("nvmlDeviceGetMemoryInfo"))
        if memory is None:
            missing.append(Missing(field="memory_total_bytes", reason=missing[-1].reason))
        return Sample(
            t_s=t_s,
            gpu_index=self.index,
            energy_counter_j=read("energy_counter_j", self.energy_counter_j),
            power_w=read("power_w", self.power_w),
            utilization_percent=read("utilization_percent", self._utilization),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            temperature_c=read("temperature_c", self._temperature_c),
            sm_clock_mhz=read("sm_clock_mhz", lambda: float(self._call("nvmlDeviceGetClockInfo", 1))),
            memory_clock_mhz=read("memory_clock_mhz", lambda: float(self._call("nvmlDeviceGetClockInfo", 2))),
            throttle_reasons=read("throttle_reasons", self._throttle_reasons),
            power_limit_w=read("power_limit_w", self._power_limit_w),
            missing=tuple(missing),
            simulated=simulated,
        )

    def _temperature_c(self) -> float:
        known = self._optional("nvmlDeviceGetTemperatureV", 0)  # drivers before 550 only have the older call
        return float(self._call("nvmlDeviceGetTemperature", 0) if known is None else known)

    def _utilization(self) -> float:
        return float(self._call("nvmlDeviceGetUtilizationRates").gpu)

    def _power_limit_w(self) -> float:
        return watts_from_milliwatts(self._call("nvmlDeviceGetPowerManagementLimit"))

    def _throttle_reasons(self) -> tuple[str, ...]:
        return reading.throttle_names(int(self._call("nvmlDeviceGetCurrentClocksThrottleReasons")))


def _no_driver(error: Any) -> MeasurementError:
    code = int(error.value)
    return MeasurementError(
        explain(
            f"no NVIDIA GPU can be read: {reading.reason_of(code, str(error))}",
            remedy=_START_REMEDIES.get(code, "check that nvidia-smi works, or use --simulate"),
        )
    )
