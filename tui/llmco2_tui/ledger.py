"""The joules of each GPU since the screen began to look.

Invariant: energy is the difference of cumulative counters, so it does not matter how many samples were dropped
between two that arrived. A lost GPU keeps what it had; joules drawn meanwhile are counted when it is back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llmco2.measurement.meter import Sample


@dataclass(slots=True)
class GpuLedger:
    """What one GPU drew since its first sample. ``idle_j`` is what it drew while its utilisation read 0 %."""

    shown: Sample | None = None  # the newest sample, stale or not
    energy_j: float | None = None
    idle_j: float = 0.0
    idle_known: bool = True  # False once utilisation could not be read
    restarts: int = 0  # times that the counter began again at zero
    first_s: float | None = None
    last_s: float | None = None
    _counter_j: float | None = None
    _was_idle: bool = False

    def add(self, sample: Sample) -> None:
        """Take one sample; one that is no newer than the last is passed over."""
        if self.shown is not None and sample.t_s <= self.shown.t_s:
            return
        self.shown = sample
        if sample.stale_since_s is not None:
            return
        self.first_s = sample.t_s if self.first_s is None else self.first_s
        self.last_s = sample.t_s
        idle = sample.utilization_percent == 0.0
        self.idle_known = self.idle_known and sample.utilization_percent is not None
        counter_j = sample.energy_counter_j
        if counter_j is not None:
            if self._counter_j is None:
                self.energy_j = self.energy_j or 0.0
            else:
                self._count(counter_j - self._counter_j, counter_j, idle and self._was_idle)
            self._counter_j = counter_j
        self._was_idle = idle

    def _count(self, delta_j: float, counter_j: float, idle: bool) -> None:
        if delta_j < 0:  # a reloaded driver counts from zero: what it shows is what was drawn since
            self.restarts += 1
            delta_j = counter_j
        self.energy_j = (self.energy_j or 0.0) + delta_j
        if idle:
            self.idle_j += delta_j

    @property
    def lost(self) -> bool:
        """Whether the values shown are the last ones known."""
        return self.shown is not None and self.shown.stale_since_s is not None

    @property
    def why_lost(self) -> str:
        """One line on why the GPU cannot be read."""
        return (self.shown.why_missing("gpu") or "the GPU cannot be read") if self.shown else ""

    @property
    def integrated(self) -> bool:
        """Whether the energy is an integral of power readings, for want of a counter."""
        return self.shown is not None and self.shown.energy_is_integrated


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """All GPUs together; ``None`` where no GPU has it."""

    power_w: float | None
    power_limit_w: float | None
    energy_j: float | None
    idle_j: float | None  # None: utilisation cannot be read
    elapsed_s: float
    n_lost: int
    integrated: bool
    incomplete: bool  # some GPU has no energy


class Ledger:
    """The ledgers of all GPUs."""

    def __init__(self) -> None:
        self._gpus: dict[int, GpuLedger] = {}

    @property
    def gpus(self) -> Mapping[int, GpuLedger]:
        """Ledger by GPU index."""
        return self._gpus

    def add(self, samples: Iterable[Sample]) -> None:
        """Take one sampling."""
        for sample in samples:
            self._gpus.setdefault(sample.gpu_index, GpuLedger()).add(sample)

    def totals(self) -> Totals:
        """Return the sums over GPUs; power leaves out those that are lost."""
        gpus = list(self._gpus.values())
        alive = [gpu.shown for gpu in gpus if gpu.shown is not None and not gpu.lost]
        energies = [gpu.energy_j for gpu in gpus]
        firsts = [gpu.first_s for gpu in gpus if gpu.first_s is not None]
        lasts = [gpu.last_s for gpu in gpus if gpu.last_s is not None]
        return Totals(
            power_w=_sum(sample.power_w for sample in alive),
            power_limit_w=_sum(sample.power_limit_w for sample in alive),
            energy_j=_sum(energies),
            idle_j=sum(gpu.idle_j for gpu in gpus) if gpus and all(gpu.idle_known for gpu in gpus) else None,
            elapsed_s=max(lasts) - min(firsts) if firsts else 0.0,
            n_lost=sum(gpu.lost for gpu in gpus),
            integrated=any(gpu.integrated for gpu in gpus),
            incomplete=any(energy is None for energy in energies),
        )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
