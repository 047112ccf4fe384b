"""What the panels of the screen are given to show.

Invariant: nothing of textual is needed for any of it, so that a script can say the same without a screen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

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
