"""The meter for real GPUs (and simulated ones): ZeusMonitor windows, phase energies from counter ticks.

Invariant: zeus is only asked what it answers well. GPUs without an energy counter are kept from it, since it
would start its own power process for them; execution is never synchronised by it; and what it saw is checked,
since it takes a machine without a GPU for a measurement of zero.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final, Self

from llmco2.errors import InputError, MeasurementError, explain
from llmco2.measurement.meters import host
from llmco2.measurement.meters.clock import MonotonicClock, PollingClock
from llmco2.measurement.meters.meter import Device, Missing, Sample, WindowReading
from llmco2.measurement.meters.nvml import NvmlDriver, NvmlGpu, ReadFailedError
from llmco2.measurement.meters.processes import GpuProcess, gpu_process
from llmco2.measurement.meters.visible import shown_as_indices
from llmco2.measurement.meters.window_poller import (
    OpenWindow,
    WatchedGpu,
    WindowPoller,
    measure_counter_periods,
)
from llmco2.measurement.meters.window_reading import gpu_energy, shared_warnings, window_warnings
from llmco2.measurement.meters.zeus_devices import forget_zeus_devices

_ZEUS_SAYS_ZERO: Final = "The energy consumption of one or more GPUs was measured as zero"


class ZeusMeter:
    """An :class:`~llmco2.measurement.meters.meter.EnergyMeter` over the GPUs that CUDA may use."""

    def __init__(
        self,
        *,
        clock: PollingClock | None = None,
        windows: bool = True,
        allow_shared: bool = False,
        own_pids: Collection[int] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Open the driver, refuse what cannot be measured, and measure the counters' periods.

        ``windows=False`` is for watching only: it starts at once, takes any machine, and leaves the rest to
        the first window. ``own_pids`` are servers under test. ``allow_shared`` measures GPUs that other
        processes use too, and flags it.
        Raises ``MeasurementError`` without a driver or GPU, under MIG, or on a shared GPU.
        """
        self._clock: PollingClock = MonotonicClock() if clock is None else clock
        self._allow_shared = allow_shared
        self._driver = NvmlDriver(environ, own_pids=own_pids)
        self._closed = False
        self._poller: WindowPoller | None = None
        self._prepared = False
        self._zeus: Any = None
        self._zeus_gpus: tuple[int, ...] = ()
        self._zeus_windows: set[str] = set()
        self._host = host.HostEnergy(reason="not looked for yet")
        self._last: dict[int, Sample] = {}
        try:
            self._devices = self._driver.devices()
            self._watched = tuple(
                WatchedGpu(
                    gpu=gpu, has_counter=device.has_energy_counter, power_limit_w=_label_limit_w(gpu, device)
                )
                for gpu, device in zip(self._driver.gpus, self._devices, strict=True)
            )
            self._poller = WindowPoller(self._watched, self._clock, simulated=self.simulated)
            if windows:
                self._prepare_windows()
        except BaseException:
            self.close()
            raise

    @property
    def simulated(self) -> bool:
        """Whether the driver is the simulated one."""
        return self._driver.simulated

    @property
    def clock(self) -> PollingClock:
        """The clock of all times handed out."""
        return self._clock

    def devices(self) -> tuple[Device, ...]:
        """Return the GPUs in use; their counter periods are known once windows are prepared."""
        return self._devices

    def look_again(self) -> tuple[Device, ...]:
        """Ask again who uses the GPUs and whether MIG is on; ``MeasurementError`` where one is lost."""
        self._check_open()
        try:
            self._devices = tuple(
                replace(device, shared=watched.gpu.is_shared(), mig=watched.gpu.mig_enabled())
                for device, watched in zip(self._devices, self._watched, strict=True)
            )
        except ReadFailedError as error:
            raise MeasurementError(explain("a GPU cannot be read", got=error.reason)) from error
        return self._devices

    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Return who computes on the GPUs in use; ``None`` where the driver does not say."""
        self._check_open()
        found: list[GpuProcess] = []
        for watched in self._watched:
            try:
                running = watched.gpu.compute_processes()
            except ReadFailedError:
                continue  # its row says that it is lost
            if running is None:
                return None
            found += [gpu_process(watched.gpu.index, pid, used) for pid, used in running]
        return tuple(found)

    def begin_window(self, name: str) -> None:
        """Open a window; synchronise the GPU before."""
        poller = self._prepare_windows()
        if name in poller:
            raise InputError(
                explain("a window of that name is open", got=repr(name), remedy="close it first")
            )
        if self._zeus is not None:
            self._begin_zeus(name)
        poller.open(name)

    def end_window(self, name: str) -> WindowReading:
        """Close a window and return what it measured; synchronise the GPU before."""
        self._check_open()
        if self._poller is None or name not in self._poller:
            raise InputError(explain("no window of that name is open", got=repr(name)))
        window, duration_s = self._poller.close(name)
        measurement = self._end_zeus(name)
        for part in window.gpus:
            if measurement is not None and part.gpu_index in self._zeus_gpus:
                part.zeus_energy_j = measurement.gpu_energy.get(part.gpu_index)
        return self._reading(name, window, duration_s, measurement)

    def cancel_window(self, name: str) -> None:
        """Close a window without a reading."""
        if self._poller is not None:
            self._poller.cancel(name)
        self._end_zeus(name)

    def sample(self) -> tuple[Sample, ...]:
        """Read every GPU once; a lost one gives its last values, marked stale, and is tried again."""
        self._check_open()
        return tuple(self._sample(watched) for watched in self._watched)

    def close(self) -> None:
        """Stop polling and let go of the driver."""
        if not self._closed:
            self._closed = True
            if self._poller is not None:
                self._poller.stop()
            self._zeus = None  # it closes NVML once when it goes: let that be now, while its library is there
            self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise MeasurementError(explain("the meter is closed", remedy="open another one"))

    def _prepare_windows(self) -> WindowPoller:
        """Do once what only windows need: refuse MIG and shared GPUs, measure periods, start zeus."""
        self._check_open()
        if self._poller is None:
            raise MeasurementError(explain("the meter did not start", remedy="open another one"))
        if not self._prepared:
            _refuse_mig(self._devices)
            if not self._allow_shared:
                _refuse_shared(self._devices, [watched.gpu.foreign_pids() for watched in self._watched])
            measure_counter_periods(self._watched, self._clock)
            self._devices = tuple(
                replace(
                    device, counter_period_s=watched.track.period_s, has_energy_counter=watched.has_counter
                )
                for device, watched in zip(self._devices, self._watched, strict=True)
            )
            self._host = host.find_host_energy()
            self._zeus_gpus = tuple(device.index for device in self._devices if device.has_energy_counter)
            self._zeus = self._start_zeus()
            self._prepared = True
        return self._poller

    def _start_zeus(self) -> Any:
        """Return a ZeusMonitor over the GPUs with a counter; ``None`` where it has nothing to watch."""
        cpus = list(self._host.cpu_indices)
        if not self._zeus_gpus and not cpus:
            return None
        forget_zeus_devices()
        with shown_as_indices([device.nvml_index for device in self._devices]):
            monitor_type = importlib.import_module("zeus.monitor.energy").ZeusMonitor
            try:
                monitor = monitor_type(gpu_indices=list(self._zeus_gpus), cpu_indices=cpus)
            except (
                _zeus_error()
            ):  # it asks more of the driver than its windows need: the poller goes without it
                return None
        seen = len(monitor.gpus)
        if self._zeus_gpus and seen != len(self._devices):
            raise MeasurementError(
                explain(
                    "zeus does not see the GPUs that the driver shows",
                    got=seen,
                    expected=len(self._devices),
                    remedy="unset ZEUSD_SOCK_PATH, or run llmco2 doctor",
                )
            )
        return monitor

    def _begin_zeus(self, name: str) -> None:
        try:
            self._zeus.begin_window(name, sync_execution=False, restart=True)
            self._zeus_windows.add(name)
        except _zeus_error():
            self._zeus_windows.discard(name)  # the poller meets the same GPU, and says what is wrong with it

    def _end_zeus(self, name: str) -> Any:
        if name not in self._zeus_windows:
            return None
        self._zeus_windows.discard(name)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_ZEUS_SAYS_ZERO)  # short windows get a warning of ours
            try:
                return self._zeus.end_window(name, sync_execution=False)
            except _zeus_error():
                return None

    def _reading(self, name: str, window: OpenWindow, duration_s: float, measurement: Any) -> WindowReading:
        gpus = tuple(gpu_energy(part, duration_s) for part in window.gpus)
        cpu_j = _total(getattr(measurement, "cpu_energy", None))
        dram_j = _total(getattr(measurement, "dram_energy", None))
        why = self._host.reason or "zeus could not read it"
        missing = [Missing(field="cpu_energy_j", reason=why)] if cpu_j is None else []
        if dram_j is None:
            reason = why if cpu_j is None else "RAPL has no DRAM zone on this CPU"
            missing.append(Missing(field="dram_energy_j", reason=reason))
        found = [window_warnings(part, energy) for part, energy in zip(window.gpus, gpus, strict=True)]
        return WindowReading(
            name=name,
            start_s=window.start_s,
            duration_s=duration_s,
            gpus=gpus,
            cpu_energy_j=cpu_j,
            dram_energy_j=dram_j,
            warnings=tuple(warning for some in found for warning in some) + shared_warnings(self._devices),
            missing=tuple(missing),
            simulated=self.simulated,
        )

    def _sample(self, watched: WatchedGpu) -> Sample:
        now_s = self._clock.now_s()
        index = watched.gpu.index
        try:
            sample = watched.gpu.sample(now_s, self.simulated)
        except ReadFailedError as error:
            watched.gpu.reopen()
            return self._stale(index, now_s, error.reason)
        if not watched.has_counter:
            sample = replace(
                sample,
                energy_counter_j=watched.since_start.energy_j if watched.since_start.n_readings else None,
                energy_is_integrated=True,
                missing=tuple(entry for entry in sample.missing if entry.field != "energy_counter_j"),
            )
        self._last[index] = sample
        return sample

    def _stale(self, index: int, now_s: float, reason: str) -> Sample:
        known = self._last.get(index, Sample(t_s=now_s, gpu_index=index, simulated=self.simulated))
        since_s = known.t_s if known.stale_since_s is None else known.stale_since_s
        gone = Missing(field="gpu", reason=f"GPU {index} is lost: {reason}")
        self._last[index] = replace(known, t_s=now_s, stale_since_s=since_s, missing=(gone,))
        return self._last[index]


def open_meter(
    *, windows: bool = True, allow_shared: bool = False, own_pids: Collection[int] = ()
) -> ZeusMeter:
    """Open the meter of this machine's GPUs; see :class:`ZeusMeter`."""
    return ZeusMeter(windows=windows, allow_shared=allow_shared, own_pids=own_pids)


def _zeus_error() -> type[BaseException]:
    found: type[BaseException] = importlib.import_module("zeus.exception").ZeusBaseError
    return found


def _total(by_index: Mapping[int, float] | None) -> float | None:
    return None if not by_index else float(sum(by_index.values()))


def _label_limit_w(gpu: NvmlGpu, device: Device) -> float | None:
    """Return the watts that a label of this GPU cannot pass; ``None`` where the limit is of less than it reads."""
    return None if gpu.measures_module() else device.power_limit_w


def _refuse_mig(devices: tuple[Device, ...]) -> None:
    cut = [device for device in devices if device.mig]
    if cut:
        raise MeasurementError(
            explain(
                "MIG is on, and no counter measures the joules of a slice",
                got=", ".join(f"GPU {device.nvml_index} ({device.name})" for device in cut),
                remedy=f"turn it off (nvidia-smi -i {cut[0].nvml_index} -mig 0) or choose another GPU",
            )
        )


def _refuse_shared(devices: tuple[Device, ...], pids: list[tuple[int, ...] | None]) -> None:
    for device, foreign in zip(devices, pids, strict=True):
        if foreign:
            raise MeasurementError(
                explain(
                    f"GPU {device.nvml_index} is shared: its joules would not be yours alone",
                    got=f"processes {', '.join(map(str, foreign))}",
                    remedy="stop them, choose another GPU, or allow it (--allow-shared): rows are flagged",
                )
            )
