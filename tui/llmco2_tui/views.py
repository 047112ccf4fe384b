"""What the panels of the screen are given to show.

Invariant: nothing of textual is needed for any of it, so that a script can say the same without a screen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from llmco2.measurement.meters.meter import Device
from llmco2_tui.history import History
from llmco2_tui.ledger import GpuLedger, Totals

_SHORT: Final = {
    "applications_clocks": "app clocks",
    "power_cap": "power cap",
    "hardware_slowdown": "HW slowdown",
    "software_thermal": "thermal",
    "hardware_thermal": "HW thermal",
    "power_brake": "power brake",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """What is known of one GPU now."""

    device: Device
    ledger: GpuLedger
    sparks: list[float | None] = field(default_factory=list)  # W, oldest first
    chosen: bool = False

    def reading(self, name: str) -> Any:
        """Return a field of the newest sample, ``None`` where there is none."""
        return getattr(self.ledger.shown, name) if self.ledger.shown is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsView:
    """Sums over the GPUs since the screen began to look."""

    totals: Totals
    operational_g: float | None
    embodied_g: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerView:
    """What to draw."""

    title: str
    history: History
    span: int  # into SPANS
    power_w: float | None
    limit_w: float | None
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names that the form completes."""

    models: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("bf16", "fp16", "fp8", "int8", "int4")


SORTS: Final[dict[str, Callable[[GpuRow], Any]]] = {  # column of the GPU table: what rows are sorted by
    "gpu": lambda row: row.device.index,
    "name": lambda row: row.device.name,
    "power": lambda row: row.reading("power_w"),
    "spark": lambda row: row.reading("power_w"),
    "energy": lambda row: row.ledger.energy_j,
    "util": lambda row: row.reading("utilization_percent"),
    "memory": lambda row: row.reading("memory_used_bytes"),
    "temp": lambda row: row.reading("temperature_c"),
    "clocks": lambda row: row.reading("sm_clock_mhz"),
    "state": lambda row: state_words(row)[0],
}
SORT_STEPS: Final = ("gpu", "power", "energy", "util", "memory", "temp")  # in the order of the sort key


def sorted_rows(rows: Sequence[GpuRow], sort: str, *, descending: bool) -> list[GpuRow]:
    """Return the rows by one column of ``SORTS``; those without a value stand last either way."""
    value = SORTS[sort]
    known = [row for row in rows if value(row) is not None]
    unknown = [row for row in rows if value(row) is None]
    return [*sorted(known, key=value, reverse=descending), *unknown]


def state_words(row: GpuRow) -> tuple[str, str]:
    """Return what is special about a GPU, shortest first, and how bad that is."""
    sample, device = row.ledger.shown, row.device
    if row.ledger.lost:
        return "LOST", "bad"
    words = []
    kind = "muted"
    reasons = (sample.throttle_reasons or ()) if sample else ()
    if reasons:
        words.append(short_reason(reasons[0]) if len(reasons) == 1 else "throttled")
        kind = "warn"
    if device.mig:
        words.append("MIG")
        kind = "warn"
    if device.shared or device.shared is None:
        words.append("shared" if device.shared else "shared?")
        kind = "warn"
    if row.ledger.integrated:
        words.append("integrated")
        kind = "warn"
    return ", ".join(words) or "ok", kind


def short_reason(reason: str) -> str:
    """Return a throttling reason in a word or two."""
    return _SHORT.get(reason, reason)
