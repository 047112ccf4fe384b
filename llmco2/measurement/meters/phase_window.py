"""The energy of a window from what was seen inside it.

Invariant: every way of measuring that was possible is kept beside the one that was chosen, and a window too
short for its counter says so instead of reading low.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from llmco2.measurement.meters.counter import TickSpan
from llmco2.measurement.meters.meter import (
    COUNTER_SLOPE,
    COUNTER_WINDOW,
    DISAGREEMENT_LIMIT,
    INTEGRATED_POWER,
    Sample,
)

RECOMMENDED_TICKS: Final = 50  # repeat a phase until its window spans this many
MIN_SLOPE_TICKS: Final = 3  # with two, one late poll decides the answer
MAX_TICK_UNCERTAINTY: Final = 0.02
_LIMIT_MARGIN: Final = 1.1  # a mean over a second stays below the limit, up to the sensor's own error (5 %)
_SURE_S: Final = 0.5  # in shorter windows one tick too many makes that much
MAX_POWER_GAP_S: Final = 0.25  # longer without a power reading, and the integral is a guess


@dataclass(slots=True)
class PowerIntegral:
    """Trapezoids under power readings, from the first to the last of a window."""

    energy_j: float = 0.0
    n_readings: int = 0
    longest_gap_s: float = 0.0
    first_t_s: float | None = None
    last_t_s: float | None = None
    last_w: float = 0.0

    def add(self, t_s: float, power_w: float) -> None:
        """Take one reading; the same value again counts as much as a new one."""
        if self.last_t_s is None:
            self.first_t_s = t_s
        else:
            gap_s = t_s - self.last_t_s
            self.energy_j += 0.5 * (self.last_w + power_w) * gap_s
            self.longest_gap_s = max(self.longest_gap_s, gap_s)
        self.last_t_s, self.last_w = t_s, power_w
        self.n_readings += 1

    def over(self, duration_s: float) -> float | None:
        """Return the energy of a window of ``duration_s``, J: the mean power seen × its length.

        Readings reach from edge to edge up to the time of a call, so this scales by next to nothing. ``None``
        with fewer than two readings.
        """
        if self.first_t_s is None or self.last_t_s is None or self.last_t_s <= self.first_t_s:
            return None
        return self.energy_j / (self.last_t_s - self.first_t_s) * duration_s


@dataclass(slots=True)
class StateTally:
    """Clocks, temperature, utilisation and throttling seen inside a window."""

    samples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        """Take one reading; past a thousand, every second one is dropped, which leaves the means alone."""
        self.samples.append(sample)
        if len(self.samples) > 1000:
            del self.samples[::2]

    def mean(self, name: str) -> float | None:
        """Return the mean of one field over the readings that have it."""
        known = [value for sample in self.samples if (value := getattr(sample, name)) is not None]
        return sum(known) / len(known) if known else None

    def highest(self, name: str) -> float | None:
        """Return the largest reading of one field."""
        known = [value for sample in self.samples if (value := getattr(sample, name)) is not None]
        return max(known, default=None)

    def throttle_reasons(self) -> tuple[str, ...] | None:
        """Return every reason seen, each once; ``None`` where they could never be read."""
        known = [sample.throttle_reasons for sample in self.samples if sample.throttle_reasons is not None]
        return tuple(dict.fromkeys(name for names in known for name in names)) if known else None


@dataclass(slots=True, kw_only=True)
class GpuWindow:
    """What one GPU showed while one window was open."""

    gpu_index: int
    has_counter: bool
    counter_period_s: float | None
    start_counter_j: float | None = None
    end_counter_j: float | None = None
    zeus_energy_j: float | None = None  # what ZeusMonitor made of the same window
    ticks: TickSpan = field(default_factory=TickSpan)
    power: PowerIntegral = field(default_factory=PowerIntegral)
    states: StateTally = field(default_factory=StateTally)
    power_limit_w: float | None = None  # of all that the energy is of
    trouble: str | None = None  # why this GPU could not be read to the end

    @property
    def counter_delta_j(self) -> float | None:
        """The plain window: counter at the end minus counter at the start."""
        if self.zeus_energy_j is not None:
            return self.zeus_energy_j
        if self.start_counter_j is None or self.end_counter_j is None:
            return None
        return self.end_counter_j - self.start_counter_j


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyChoice:
    """The energy of a window, how it was had, and why not better."""

    energy_j: float | None
    method: str | None
    reason: str | None = None


def slope_energy_j(ticks: TickSpan, duration_s: float) -> float | None:
    """Return the slope between the first and last tick inside × the window's length, J.

    A plain difference loses up to one period of energy at each end of the window; the slope loses none
    where power is steady (compare Burtscher et al., GPGPU-7 2014, and arXiv 2312.02741, on sampled power
    sensors). ``None`` with fewer than ``MIN_SLOPE_TICKS``.
    """
    slope_w = ticks.slope_w
    return None if slope_w is None or ticks.n_ticks < MIN_SLOPE_TICKS else slope_w * duration_s


def choose_energy(window: GpuWindow, duration_s: float) -> EnergyChoice:
    """Return the best energy that the window allows: the counter's slope, else integrated power.

    A plain counter difference is only taken where neither works and the counter did move: it reads low.
    """
    if window.trouble is not None:
        return EnergyChoice(energy_j=None, method=None, reason=window.trouble)
    choice = _best_way(window, duration_s)
    wrong = _impossible(window, choice.energy_j, duration_s)
    return choice if wrong is None else EnergyChoice(energy_j=None, method=None, reason=wrong)


def _best_way(window: GpuWindow, duration_s: float) -> EnergyChoice:
    by_slope = slope_energy_j(window.ticks, duration_s) if window.has_counter else None
    if by_slope is not None:
        return EnergyChoice(energy_j=by_slope, method=COUNTER_SLOPE)
    why = _why_no_slope(window, duration_s)
    by_power = window.power.over(duration_s)
    if by_power is not None:
        return EnergyChoice(energy_j=by_power, method=INTEGRATED_POWER, reason=why)
    delta_j = window.counter_delta_j
    if delta_j is not None and window.ticks.n_ticks > 0:
        return EnergyChoice(energy_j=delta_j, method=COUNTER_WINDOW, reason=why)
    return EnergyChoice(energy_j=None, method=None, reason=f"{why}, and no instant power reading")


def _impossible(window: GpuWindow, energy_j: float | None, duration_s: float) -> str | None:
    """Return why no GPU can have drawn that energy, or ``None`` where one can."""
    if energy_j is None or duration_s <= 0:
        return None
    power_w, limit_w = energy_j / duration_s, window.power_limit_w
    name = f"GPU {window.gpu_index}"
    if power_w <= 0:
        return f"{name} read {power_w:.3g} W over {duration_s:.3g} s: no GPU that works draws nothing"
    if limit_w is not None and duration_s >= _SURE_S and power_w > _LIMIT_MARGIN * limit_w:
        return (
            f"{name} read {power_w:.4g} W over {duration_s:.3g} s, above its power limit of {limit_w:.4g} W"
        )
    return None


def _why_no_slope(window: GpuWindow, duration_s: float) -> str:
    if not window.has_counter:
        return "this GPU has no energy counter"
    period = f"{1e3 * window.counter_period_s:.0f} ms" if window.counter_period_s else "unknown"
    ticks = f"{window.ticks.n_ticks} ticks of the counter (period {period})"
    return f"the window of {1e3 * duration_s:.0f} ms saw {ticks}"


def disagreement(counter_j: float | None, integrated_j: float | None) -> float | None:
    """Return by what share of the larger the two ways differ; ``None`` where one is missing or both are 0."""
    if counter_j is None or integrated_j is None or max(counter_j, integrated_j) <= 0:
        return None
    return abs(counter_j - integrated_j) / max(counter_j, integrated_j)


def disagrees(counter_j: float | None, integrated_j: float | None) -> bool:
    """Return whether counter and integrated power differ by more than a label may carry unsaid (5 %)."""
    share = disagreement(counter_j, integrated_j)
    return share is not None and share > DISAGREEMENT_LIMIT
