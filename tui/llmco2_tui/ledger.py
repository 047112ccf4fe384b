"""The joules of each GPU since the screen began to look.

Invariant: energy is the difference of cumulative counters, so it does not matter how many samples were dropped
between two that arrived; a step that no GPU can make is left out and counted as refused. A lost GPU keeps what it
had; joules drawn meanwhile are counted when it is back. A sum says over how many GPUs it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llmco2.measurement.meters.counter_tally import CounterTally
from llmco2.measurement.meters.meter import Sample


@dataclass(slots=True)
class GpuLedger:
    """What one GPU drew since its first sample. ``idle_j`` is what it drew while its utilisation read 0 %."""

    shown: Sample | None = None  # the newest sample, stale or not
    idle_j: float = 0.0
    idle_known: bool = True  # False once utilisation could not be read
    first_s: float | None = None
    last_s: float | None = None
    _tally: CounterTally = field(default_factory=CounterTally)
    _limit_w: float | None = None
    _was_idle: bool = False

    @property
    def energy_j(self) -> float | None:
        """Joules since the first sample; ``None`` where none could be read."""
        return self._tally.energy_j

    @property
    def restarts(self) -> int:
        """Times that the counter began again at zero."""
        return self._tally.restarts

    @property
    def refused(self) -> int:
        """Counter readings that were left out, because no GPU can have moved there."""
        return self._tally.refused

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
        self._limit_w = max(sample.power_limit_w or 0.0, self._limit_w or 0.0) or None
        if sample.energy_counter_j is not None:
            counted_j = self._tally.add(sample.t_s, sample.energy_counter_j, self._limit_w)
            if idle and self._was_idle:
                self.idle_j = max(0.0, self.idle_j + counted_j)
        self._was_idle = idle

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
    """Sums over those of ``n_gpus`` GPUs that have it; ``None`` where no GPU has it."""

    n_gpus: int
    n_with_power: int  # over how many GPUs the power goes
    n_with_energy: int  # … and the energy
    refused: int  # counter readings left out
    restarts: int
    power_w: float | None
    power_limit_w: float | None
    energy_j: float | None
    idle_j: float | None  # None: utilisation cannot be read
    elapsed_s: float
    n_lost: int
    integrated: bool

    @property
    def incomplete(self) -> bool:
        """Whether some GPU has no energy."""
        return self.n_with_energy < self.n_gpus

    @property
    def energy_gpus_text(self) -> str:
        """Over which GPUs the energy goes: ``1 of 2 GPUs``, ``2 GPUs``."""
        return gpus_text(self.n_with_energy, self.n_gpus)

    @property
    def power_gpus_text(self) -> str:
        """Over which GPUs the power goes."""
        return gpus_text(self.n_with_power, self.n_gpus)


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

    def totals(self, n_gpus: int | None = None) -> Totals:
        """Return the sums over ``n_gpus`` GPUs (default: those seen so far); power leaves out the lost ones."""
        gpus = list(self._gpus.values())
        n_gpus = len(gpus) if n_gpus is None else n_gpus
        alive = [gpu.shown for gpu in gpus if gpu.shown is not None and not gpu.lost]
        metered = [gpu for gpu in gpus if gpu.energy_j is not None] or gpus
        energies = [gpu.energy_j for gpu in gpus]
        firsts = [gpu.first_s for gpu in gpus if gpu.first_s is not None]
        lasts = [gpu.last_s for gpu in gpus if gpu.last_s is not None]
        return Totals(
            n_gpus=n_gpus,
            n_with_power=sum(sample.power_w is not None for sample in alive),
            n_with_energy=sum(energy is not None for energy in energies),
            refused=sum(gpu.refused for gpu in gpus),
            restarts=sum(gpu.restarts for gpu in gpus),
            power_w=_sum(sample.power_w for sample in alive),
            power_limit_w=_sum(sample.power_limit_w for sample in alive),
            energy_j=_sum(energies),
            idle_j=sum(gpu.idle_j for gpu in metered) if all(gpu.idle_known for gpu in metered) else None,
            elapsed_s=max(lasts) - min(firsts) if firsts else 0.0,
            n_lost=sum(gpu.lost for gpu in gpus),
            integrated=any(gpu.integrated for gpu in gpus),
        )


def gpus_text(n_known: int, n_gpus: int) -> str:
    """Return ``1 of 2 GPUs`` where some are missing, ``2 GPUs`` or ``1 GPU`` where none is."""
    if n_known < n_gpus:
        return f"{n_known} of {n_gpus} GPUs"
    return f"{n_gpus} GPU{'' if n_gpus == 1 else 's'}"


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
