"""The protocol of every meter, and the records that it hands out.

Invariant: SI units only (J, W, s, byte), except clocks in MHz and temperature in °C as operators know them.
A reading that could not be taken is ``None`` and its reason stands in ``missing``; a zero was always measured
as zero. Times are seconds of the meter's own monotonic clock, never wall clock.

A caller writes::

    with open_meter() as meter:
        meter.begin_window("prefill")
        ...                                # synchronise the GPU yourself before begin and before end
        reading = meter.end_window("prefill")
        reading.energy_j, reading.method, reading.warnings
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, Self, runtime_checkable

COUNTER_SLOPE: Final = "counter_slope"  # slope between the first and last tick inside × duration
COUNTER_WINDOW: Final = "counter_window"  # counter at end minus counter at start: reads low when short
INTEGRATED_POWER: Final = "integrated_power"  # trapezoids under the instant power readings

COUNTER_DISAGREES: Final = "counter_disagrees"
SHORT_WINDOW: Final = "short_window"
NO_COUNTER: Final = "no_counter"
GPU_LOST: Final = "gpu_lost"
THROTTLED: Final = "throttled"
SHARED_GPU: Final = "shared_gpu"
SHARING_UNKNOWN: Final = "sharing_unknown"  # the driver does not say who else is on the GPU
MIG_UNKNOWN: Final = "mig_unknown"  # … nor whether it is cut into slices
SPARSE_POWER: Final = "sparse_power"
COARSE_TICKS: Final = "coarse_ticks"
WARNING_CODES: Final = (
    COUNTER_DISAGREES,
    SHORT_WINDOW,
    NO_COUNTER,
    GPU_LOST,
    THROTTLED,
    SHARED_GPU,
    SHARING_UNKNOWN,
    MIG_UNKNOWN,
    SPARSE_POWER,
    COARSE_TICKS,
)

DISAGREEMENT_LIMIT: Final = 0.05  # relative difference of counter and integrated power that warns


class Clock(Protocol):
    """Where a meter's time comes from: the machine, or a simulation that runs as fast as it can."""

    def now_s(self) -> float:
        """Return monotonic seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass; a simulated clock returns at once, its time moved on and meters polled."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Why one reading is ``None``."""

    field: str  # name of the field of the record that carries this
    reason: str  # one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU as the meter sees it; ``index`` is its place among the GPUs in use, as CUDA counts them."""

    index: int
    nvml_index: int  # its place among all GPUs of the machine
    uuid: str
    name: str
    mig: bool | None  # MIG mode is on: joules of a slice cannot be had; None: NVML does not say
    total_memory_bytes: int | None
    power_limit_w: float | None
    has_energy_counter: bool
    counter_period_s: float | None = None  # measured at start-up; None where there is no counter
    driver_version: str | None = None
    shared: bool | None = False  # processes other than this one and its children are on it; None: not known
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of one GPU at one moment."""

    t_s: float  # the meter's clock
    gpu_index: int  # Device.index
    energy_counter_j: float | None = None  # cumulative: the hardware counter or, without one, our integral
    energy_is_integrated: bool = False  # True: energy_counter_j is the meter's own integral
    power_w: float | None = None  # instant, not the 1 s average
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None  # () is: read, and nothing throttles
    power_limit_w: float | None = None
    missing: tuple[Missing, ...] = ()  # one entry for each reading that is None
    stale_since_s: float | None = None  # the GPU was lost at this time: the values are the last ones known
    simulated: bool = False

    def why_missing(self, field: str) -> str | None:
        """Return the reason why ``field`` is ``None``, or ``None`` where it was read."""
        return next((entry.reason for entry in self.missing if entry.field == field), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterWarning:
    """Something a reader of the label must know: a code for the row's flags and a line for a person."""

    code: str  # one of WARNING_CODES
    text: str
    gpu_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEnergy:
    """What one GPU drew inside one window, by each way that was possible."""

    gpu_index: int
    energy_j: float | None  # the best of the ways below; None: no way worked, and ``reason`` says why
    method: str | None  # COUNTER_SLOPE | COUNTER_WINDOW | INTEGRATED_POWER
    reason: str | None = None
    counter_period_s: float | None = None
    n_ticks: int = 0  # ticks of the counter seen inside the window
    counter_window_energy_j: float | None = None  # counter at end minus counter at begin, as zeus reads it
    integrated_energy_j: float | None = None
    n_power_readings: int = 0
    average_power_w: float | None = None
    sm_clock_mhz: float | None = None  # clocks and utilisation: means of the readings inside the window
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None  # the highest reading
    utilization_percent: float | None = None
    throttle_reasons: tuple[str, ...] | None = None  # every reason that was seen
    power_limit_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReading:
    """Energy and time of one closed window over all GPUs in use."""

    name: str
    start_s: float  # the meter's clock
    duration_s: float
    gpus: tuple[GpuEnergy, ...]
    cpu_energy_j: float | None = None  # CPU packages, where RAPL or zeusd lets us
    dram_energy_j: float | None = None
    warnings: tuple[MeterWarning, ...] = ()
    missing: tuple[Missing, ...] = ()
    simulated: bool = False

    @property
    def energy_j(self) -> float | None:
        """Joules over all GPUs in use; ``None`` as soon as one of them has none."""
        return _sum_or_none([gpu.energy_j for gpu in self.gpus])

    @property
    def integrated_energy_j(self) -> float | None:
        """Joules by integrated power over all GPUs in use, or ``None``."""
        return _sum_or_none([gpu.integrated_energy_j for gpu in self.gpus])

    @property
    def average_power_w(self) -> float | None:
        """Mean watts of all GPUs together, or ``None``."""
        energy_j = self.energy_j
        return None if energy_j is None or self.duration_s <= 0 else energy_j / self.duration_s

    @property
    def method(self) -> str | None:
        """How the energy was had; the weakest way among the GPUs where they differ."""
        order = (INTEGRATED_POWER, COUNTER_WINDOW, COUNTER_SLOPE)
        methods = {gpu.method for gpu in self.gpus}
        return None if None in methods else next((way for way in order if way in methods), None)

    @property
    def counter_period_s(self) -> float | None:
        """The longest counter period among the GPUs, or ``None`` where none has a counter."""
        return max(
            (gpu.counter_period_s for gpu in self.gpus if gpu.counter_period_s is not None), default=None
        )

    @property
    def n_ticks(self) -> int:
        """The fewest counter ticks that any GPU saw inside the window."""
        return min((gpu.n_ticks for gpu in self.gpus), default=0)

    @property
    def flags(self) -> tuple[str, ...]:
        """The warnings' codes, each once, for ``MeasuredRun.flags``."""
        return tuple(dict.fromkeys(warning.code for warning in self.warnings))


@runtime_checkable
class EnergyMeter(Protocol):
    """What a workload, a campaign and the screen need of a meter.

    Windows may nest and overlap; each has a name of its own while it is open. Callers synchronise the GPU
    themselves before they open and before they close a window. Every method may raise ``MeasurementError``.
    """

    @property
    def simulated(self) -> bool:
        """True where what is measured was not drawn by a real GPU, or is a replay of such."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock of every time this meter hands out; wait and time a workload on it."""
        ...

    def devices(self) -> tuple[Device, ...]:
        """Return the GPUs in use, by index; never empty."""
        ...

    def look_again(self) -> tuple[Device, ...]:
        """Ask again who uses the GPUs and whether MIG is on; return them as they are now, as devices() then."""
        ...

    def begin_window(self, name: str) -> None:
        """Open a window; refused where one of that name is open."""
        ...

    def end_window(self, name: str) -> WindowReading:
        """Close a window and return what it measured."""
        ...

    def cancel_window(self, name: str) -> None:
        """Close a window without a reading, for a workload that failed in it; unknown names are ignored."""
        ...

    def sample(self) -> tuple[Sample, ...]:
        """Read every GPU in use once."""
        ...

    def close(self) -> None:
        """Stop polling and let go of the driver; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


def _sum_or_none(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
