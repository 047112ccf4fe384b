"""Measuring by hand: the joules between two marks, of the GPUs that the request runs on and of no others.

Invariant: a mark that cannot say which GPUs it charges is refused in words; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmco2.measurement.meters.meter import Device
from llmco2.records.request import InferenceRequest
from llmco2_tui.grid import catalog_gpu_id
from llmco2_tui.ledger import Ledger
from llmco2_tui.measured import WHOLE, MeasuredPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMark:
    """The start of one batch: when (s, the source's clock), of what, and the joules of its GPUs then."""

    t_s: float
    request: InferenceRequest
    joules: tuple[tuple[int, float], ...]  # (GPU index, J since the sitting began)

    @property
    def gpus(self) -> tuple[int, ...]:
        """The GPUs that are charged."""
        return tuple(index for index, _ in self.joules)


def gpus_of(
    request: InferenceRequest, devices: Sequence[Device], chosen: int | None
) -> tuple[int, ...] | str:
    """Return the indices of the GPUs that ``request`` runs on, or why that cannot be told.

    They are the only ones of its kind, or so many from the chosen one on.
    """
    wanted, needed = catalog_gpu_id(request.gpu), request.n_gpus
    same = [device.index for device in devices if catalog_gpu_id(device.name) == wanted]
    if not same:
        watched = ", ".join(dict.fromkeys(device.name for device in devices)) or "no GPU"
        return f"the request is for {request.gpu}, and what is watched is {watched}"
    if len(same) < needed:
        return f"the request takes {needed} GPUs, and {len(same)} of its kind are watched"
    if len(same) == needed:
        return tuple(same)
    if chosen not in same:
        return f"the request takes {needed} of {len(same)} GPUs: choose the first of them, then mark"
    start = same.index(chosen)
    found = same[start : start + needed]
    if len(found) < needed:
        return f"the request takes {needed} GPUs, and {len(found)} follow from GPU {chosen} on: choose an earlier one"
    return tuple(found)


def open_mark(
    request: InferenceRequest, devices: Sequence[Device], chosen: int | None, ledger: Ledger
) -> OpenMark | str:
    """Return the start of one batch, or why it cannot be marked."""
    gpus = gpus_of(request, devices, chosen)
    if isinstance(gpus, str):
        return gpus
    found = _joules(gpus, ledger)
    if isinstance(found, str):
        return found
    t_s, joules = found
    return OpenMark(t_s=t_s, request=request, joules=tuple(zip(gpus, joules, strict=True)))


def close_mark(mark: OpenMark, ledger: Ledger, *, simulated: bool) -> MeasuredPhase | str:
    """Return one batch as measured between its marks, or why it cannot be."""
    found = _joules(mark.gpus, ledger)
    if isinstance(found, str):
        return found
    t_s, joules = found
    if t_s <= mark.t_s:
        return "no reading has come since the first mark: wait a moment"
    return MeasuredPhase(
        t_s=t_s,
        request=mark.request,
        phase=WHOLE,
        batches=1.0,
        energy_j=sum(joules) - sum(before for _, before in mark.joules),
        time_s=t_s - mark.t_s,
        simulated=simulated,
    )


def _joules(gpus: Sequence[int], ledger: Ledger) -> tuple[float, list[float]] | str:
    """Return the time of the newest reading and each GPU's joules so far, or which GPU has none."""
    joules, times = [], []
    for index in gpus:
        found = ledger.gpus.get(index)
        if found is None or found.energy_j is None or found.last_s is None:
            return f"GPU {index} gives no energy reading"
        if found.lost:
            return f"GPU {index} is lost"
        joules.append(found.energy_j)
        times.append(found.last_s)
    return max(times), joules
