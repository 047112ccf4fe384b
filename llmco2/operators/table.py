"""The kernel table: what every slot of one phase costs, for many requests at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmco2.operators.columns import Column
from llmco2.operators.names import N_SLOTS, SLOT_INDEX, Phase

SlotArray = NDArray[np.float64]  # (n_requests, n_slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTable:
    """Totals of one phase on one tensor-parallel rank, through all layers and steps and all pipeline stages.

    All arrays are ``(n_requests, n_slots)`` in the order of :data:`llmco2.operators.names.SLOTS`, except
    ``steps`` and ``rows_per_pass``.
    """

    phase: Phase
    flops: SlotArray  # multiply-adds count two
    weight_bytes: SlotArray
    activation_bytes: SlotArray  # inputs and outputs of the kernel
    kv_bytes: SlotArray  # cache or recurrent state, read and written
    network_bytes: SlotArray  # sent by one GPU
    launches: SlotArray  # kernels started, layers and steps multiplied out
    steps: Column  # forward passes, (n_requests,)
    rows_per_pass: Column  # tokens in one forward pass, (n_requests,)
    width_in: SlotArray  # size-free dimensions of one kernel on one GPU: contraction width …
    width_out: SlotArray  # … and output width; 0 where the slot has none

    @property
    def total_bytes(self) -> SlotArray:
        """Bytes moved to and from device memory."""
        return self.weight_bytes + self.activation_bytes + self.kv_bytes


class SlotAccumulator:
    """Collects per-slot columns while a phase is counted; operators that are not added stay zero."""

    def __init__(self, n_requests: int) -> None:
        names = ("flops", "weight_bytes", "activation_bytes", "kv_bytes", "network_bytes", "launches")
        # Columns are written one by one, so each is laid out contiguously (it halves the time of a count).
        self.arrays = {name: np.zeros((N_SLOTS, n_requests)).T for name in (*names, "width_in", "width_out")}

    def add(
        self,
        slot: str,
        *,
        launches: Column,
        width_in: Column | float = 0.0,
        width_out: Column | float = 0.0,
        **totals: Column | float,
    ) -> None:
        """Set a slot's totals; a slot with zero launches gets zero of everything."""
        column = SLOT_INDEX[slot]
        present = launches > 0.0
        self.arrays["launches"][:, column] = launches
        for name, value in (*totals.items(), ("width_in", width_in), ("width_out", width_out)):
            self.arrays[name][:, column] = np.where(present, value, 0.0)
