"""The roofline of a kernel: how long it must take at least, and what binds it.

Source: Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009. Times are for one GPU, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from llmco2.operators.columns import Column
from llmco2.operators.names import SLOT_KINDS, KernelKind
from llmco2.operators.table import KernelTable, SlotArray

# Projections and experts run at the precision's peak; attention, norms and the like at 16 bit (or fp32).
_QUANTISED_KINDS = (KernelKind.GEMM, KernelKind.EXPERT_GEMM)
_UNQUANTISED = ("lm_head", "router")
_AT_MATMUL_PEAK = np.array([k in _QUANTISED_KINDS and s not in _UNQUANTISED for s, k in SLOT_KINDS.items()])


class Regime(IntEnum):
    """What binds a kernel."""

    ABSENT = 0
    MEMORY = 1
    COMPUTE = 2
    NETWORK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceColumns:
    """The GPU's limits for each request, ``(n_requests,)``; rates per GPU."""

    matmul_flops_per_s: Column  # dense peak at the precision linear layers compute in
    vector_flops_per_s: Column  # peak for attention and elementwise work (16 bit, or 32 in fp32 runs)
    memory_bandwidth_bytes_per_s: Column
    network_bytes_per_s: Column  # one direction; the slower of what the deployment crosses
    memory_bytes: Column
    l2_bytes: Column
    n_sms: Column
    tdp_w: Column
    compute_w: Column  # reference power of compute at peak rate
    memory_w: Column  # reference power of device memory at full bandwidth
    idle_power_w: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineTimes:
    """Seconds each resource needs, ``(n_requests, n_slots)``."""

    compute_s: SlotArray
    weight_s: SlotArray
    activation_s: SlotArray
    kv_s: SlotArray
    network_s: SlotArray

    @property
    def memory_s(self) -> SlotArray:
        """Seconds of device-memory traffic."""
        return self.weight_s + self.activation_s + self.kv_s

    @property
    def bound_s(self) -> SlotArray:
        """The least time of each slot: the slowest of its resources."""
        return np.maximum(np.maximum(self.compute_s, self.memory_s), self.network_s)

    @property
    def regime(self) -> NDArray[np.int8]:
        """What binds each slot, as :class:`Regime` values."""
        stacked = np.stack([np.zeros_like(self.compute_s), self.memory_s, self.compute_s, self.network_s])
        winner: NDArray[np.int8] = np.argmax(stacked, axis=0).astype(np.int8)
        return winner


def peak_flops_per_s(device: DeviceColumns) -> SlotArray:
    """Return the peak each slot computes against, ``(n_requests, n_slots)``."""
    return np.where(_AT_MATMUL_PEAK, device.matmul_flops_per_s[:, None], device.vector_flops_per_s[:, None])


def ridge_point_flop_per_byte(device: DeviceColumns) -> SlotArray:
    """Return the arithmetic intensity at which a kernel turns from memory- to compute-bound, FLOP/byte."""
    return peak_flops_per_s(device) / device.memory_bandwidth_bytes_per_s[:, None]


def arithmetic_intensity_flop_per_byte(table: KernelTable) -> SlotArray:
    """Return FLOPs per byte of device memory traffic; 0 where a slot moves nothing."""
    moved = table.total_bytes
    return np.divide(table.flops, moved, out=np.zeros_like(moved), where=moved > 0.0)


def roofline_times(table: KernelTable, device: DeviceColumns) -> RooflineTimes:
    """Return the seconds each resource needs at its peak rate."""
    bandwidth = device.memory_bandwidth_bytes_per_s[:, None]
    return RooflineTimes(
        compute_s=table.flops / peak_flops_per_s(device),
        weight_s=table.weight_bytes / bandwidth,
        activation_s=table.activation_bytes / bandwidth,
        kv_s=table.kv_bytes / bandwidth,
        network_s=table.network_bytes / device.network_bytes_per_s[:, None],
    )
