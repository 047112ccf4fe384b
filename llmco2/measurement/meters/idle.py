"""What a GPU draws while it does nothing: bare, and with a CUDA context loaded.

Invariant: bare power is only claimed where no context of this process existed; a context costs 26 to 66 W on
common boards, so the two are never mixed.
"""

from __future__ import annotations

import importlib
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from llmco2.measurement.meters.meter import EnergyMeter, Missing

IDLE_WINDOW_S: Final = 2.0
SETTLE_S: Final = 1.0
_BUSY_PERCENT: Final = 5.0

MakeContext = Callable[[int], str | None]  # GPU index → why there is no context, or None once there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class IdlePower:
    """Idle power of one GPU, W; each that could not be had is ``None`` with its reason."""

    gpu_index: int
    bare_w: float | None = None
    context_w: float | None = None
    missing: tuple[Missing, ...] = ()
    simulated: bool = False


def measure_idle(
    meter: EnergyMeter,
    *,
    window_s: float = IDLE_WINDOW_S,
    make_context: MakeContext | None = None,
    context_exists: Callable[[], bool] | None = None,
) -> tuple[IdlePower, ...]:
    """Measure each GPU at rest for ``window_s``, before and after a CUDA context is made on it.

    The context is a tensor of one number by torch where it has CUDA; it stays, as it does in every real run.
    """
    make_context = cuda_context if make_context is None else make_context
    context_exists = cuda_initialised if context_exists is None else context_exists
    bare = (
        _skipped(meter, "a CUDA context was loaded already") if context_exists() else _rest(meter, window_s)
    )
    reasons = {device.index: make_context(device.index) for device in meter.devices()}
    if all(reason is not None for reason in reasons.values()):
        loaded: dict[int, _Power] = {index: (None, str(reason)) for index, reason in reasons.items()}
    else:
        meter.clock.sleep(SETTLE_S)
        loaded = _rest(meter, window_s)
        loaded |= {index: (None, reason) for index, reason in reasons.items() if reason is not None}
    return tuple(_record(index, bare[index], loaded[index], meter.simulated) for index in sorted(bare))


def cuda_initialised() -> bool:
    """Whether torch has made a CUDA context in this process; torch is not imported to find out."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def cuda_context(gpu_index: int) -> str | None:
    """Make a CUDA context on ``gpu_index``; return why that cannot be, or ``None``."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return "torch has no CUDA here"
    if gpu_index >= torch.cuda.device_count():
        return f"torch sees only {torch.cuda.device_count()} GPUs"
    torch.zeros(1, device=f"cuda:{gpu_index}")
    torch.cuda.synchronize(gpu_index)
    return None


_Power = tuple[float | None, str]  # W, or None with the reason


def _rest(meter: EnergyMeter, window_s: float) -> dict[int, _Power]:
    utilization: dict[int, list[float]] = {device.index: [] for device in meter.devices()}
    meter.begin_window("idle")
    for _ in range(4):
        meter.clock.sleep(window_s / 4)
        for sample in meter.sample():
            if sample.utilization_percent is not None:
                utilization[sample.gpu_index].append(sample.utilization_percent)
    reading = meter.end_window("idle")
    found: dict[int, _Power] = {}
    for gpu in reading.gpus:
        busy = statistics.fmean(utilization[gpu.gpu_index] or [0.0])
        if busy > _BUSY_PERCENT:
            found[gpu.gpu_index] = (None, f"the GPU was {busy:.0f} % busy: not idle")
        else:
            found[gpu.gpu_index] = (gpu.average_power_w, gpu.reason or "")
    return found


def _skipped(meter: EnergyMeter, reason: str) -> dict[int, _Power]:
    return {device.index: (None, reason) for device in meter.devices()}


def _record(index: int, bare: _Power, loaded: _Power, simulated: bool) -> IdlePower:
    readings = (("bare_w", bare), ("context_w", loaded))
    missing = tuple(Missing(field=name, reason=why) for name, (watts, why) in readings if watts is None)
    return IdlePower(
        gpu_index=index, bare_w=bare[0], context_w=loaded[0], missing=missing, simulated=simulated
    )
