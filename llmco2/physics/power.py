"""Power of one GPU over a phase: idle with a context, work that is done, and a sharp limit.

``P = P_idle + D / (1 + (D/S)^6)^(1/6)`` with ``S = 0.98 limit − P_idle`` and
``D = a·ref·busy + [e_byte (weights + 1.9 cache + 5 activations) + e_flop FLOPs₁₆ + e_net network] / T``.

``busy`` is the share of the time in which kernels run; FLOPs₁₆ counts an 8-bit FLOP as a half and a 4-bit one as a
quarter. Constants are energies of a technology, fitted to boards' watts with each board left out in turn; a board
differs from its kin only by its limit and its idle power.

Invariant: ``P_idle ≤ P ≤ 0.98 limit``; power rises with work at a fixed time, energy rises with time at fixed work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.catalog.gpu import Gpu
from llmco2.catalog.gpus import load_gpus

Column = NDArray[np.float64]
LIMIT_SHARE: Final = 0.98  # boards settle this far under their limit
KNEE: Final = 6.0
CACHE_BYTE_COST: Final = 1.9  # of a weight's byte: gathered reads
ACTIVATION_BYTE_COST: Final = (
    5.0  # stands for traffic that counting leaves out: sampling, copies, unfused passes
)
NETWORK_J_PER_BYTE: Final = 180e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Technology:
    """Energies of one process with its memory, and the share of the reference power that running kernels draw."""

    flop_j: float  # a 16-bit FLOP of a dense product
    byte_j: float  # a byte of device memory
    busy_share: float


_TECHNOLOGIES: Final = {
    "12N HBM2": Technology(flop_j=2.6e-12, byte_j=138e-12, busy_share=0.37),
    "7N HBM2": Technology(flop_j=0.95e-12, byte_j=80e-12, busy_share=0.37),
    "4N HBM3": Technology(flop_j=0.48e-12, byte_j=84e-12, busy_share=0.30),
    "CDNA3": Technology(flop_j=0.55e-12, byte_j=44e-12, busy_share=0.20),
    "CDNA4": Technology(flop_j=0.46e-12, byte_j=36e-12, busy_share=0.16),
    "8N GDDR6": Technology(flop_j=1.7e-12, byte_j=150e-12, busy_share=0.37),
    "4N GDDR": Technology(flop_j=0.6e-12, byte_j=130e-12, busy_share=0.25),
}
# The chip's power at its full limit, where a product is sold under a lower or a module's limit.
_CHIP_W: Final = {
    "A100-PCIe-40GB": 400.0,
    "A100-PCIe-80GB": 400.0,
    "A800-PCIe-80GB": 400.0,
    "GH200-96GB": 700.0,
    "GH200-144GB": 700.0,
    "B300-SXM-288GB": 1000.0,
    "GB200-186GB": 1000.0,
    "GB300-288GB": 1000.0,
    "H100-PCIe-80GB": 700.0,
    "A2": 130.0,  # the chip of a board sold at 130 W
    "L4": 285.0,
    "T4": 215.0,
}
# What the GPU itself may draw, where the product's figure is its module's.
_GPU_LIMIT_W: Final = {"GH200-96GB": 700.0, "GH200-144GB": 700.0}
# Idle with a CUDA or HIP context loaded, as measured on serving boards.
_CONTEXT_IDLE_W: Final = {
    "V100-SXM2-16GB": 45.0,
    "V100-SXM2-32GB": 45.0,
    "V100-PCIe-16GB": 40.0,
    "A100-SXM4-40GB": 64.0,
    "A100-SXM4-80GB": 80.0,
    "A100-PCIe-80GB": 57.0,
    "A100-PCIe-40GB": 52.0,
    "H100-SXM5-80GB": 121.0,
    "H200-SXM-141GB": 127.0,
    "GH200-96GB": 121.0,
    "GH200-144GB": 127.0,
    "B200-SXM-180GB": 195.0,
    "B300-SXM-288GB": 210.0,
    "MI300X": 191.0,
    "MI355X": 310.0,
    "L40S": 100.0,
    "A40": 75.0,
}
_GENERIC_IDLE_SHARE: Final = 0.18  # of the limit: the median of the boards above


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerColumns:
    """Power constants of GPUs, ``(n,)`` each: watts and joules."""

    reference_w: Column
    limit_w: Column
    idle_w: Column
    flop_j: Column
    byte_j: Column
    busy_share: Column

    def take(self, index: NDArray[np.intp]) -> PowerColumns:
        """Return the rows ``index``, with repeats."""
        return PowerColumns(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one GPU does in a phase, ``(n,)`` each: FLOPs of 16-bit cost, and bytes."""

    flops16: Column
    weight_bytes: Column
    cache_bytes: Column
    activation_bytes: Column
    network_bytes: Column


def technology(gpu: Gpu) -> Technology:
    """Return the energies of a GPU's process and memory; boards of unknown ones are taken for 7 nm."""
    stacked = gpu.memory_type.upper().startswith("HBM")
    name = {
        ("Volta", True): "12N HBM2",
        ("Turing", False): "8N GDDR6",
        ("Ampere", True): "7N HBM2",
        ("Ampere", False): "8N GDDR6",
        ("Ada", False): "4N GDDR",
        ("Hopper", True): "4N HBM3",
        ("Blackwell", True): "4N HBM3",
        ("Blackwell Ultra", True): "4N HBM3",
        ("Blackwell", False): "4N GDDR",
        ("CDNA2", True): "7N HBM2",
        ("CDNA3", True): "CDNA3",
        ("CDNA4", True): "CDNA4",
    }.get((gpu.architecture, stacked), "7N HBM2")
    return _TECHNOLOGIES[name]


def power_columns(gpus: Sequence[Gpu], busy_factor: float = 1.0) -> PowerColumns:
    """Return the power constants of GPUs, ``(n_gpus,)``; ``busy_factor`` multiplies the share of running kernels."""
    rows = []
    for gpu in gpus:
        tech = technology(gpu)
        limit = min(_GPU_LIMIT_W.get(gpu.gpu_id, gpu.tdp_w), gpu.tdp_w)
        idle = _CONTEXT_IDLE_W.get(gpu.gpu_id, _GENERIC_IDLE_SHARE * limit)
        product = load_gpus().get(gpu.gpu_id, gpu)  # a board that is capped has the chip of one that is not
        chip = _CHIP_W.get(gpu.gpu_id, max(product.tdp_w, gpu.tdp_w))
        rows.append((chip, limit, idle, tech.flop_j, tech.byte_j, tech.busy_share * busy_factor))
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(fields(PowerColumns)))
    return PowerColumns(**{f.name: table[:, i] for i, f in enumerate(fields(PowerColumns))})


def gpu_power_w(device: PowerColumns, work: Work, time_s: Column, busy: Column) -> Column:
    """Return the mean power of one GPU in watts over ``time_s`` seconds, ``(n,)``; ``busy`` is a share of the time."""
    dynamic_j = (
        device.byte_j
        * (
            work.weight_bytes
            + CACHE_BYTE_COST * work.cache_bytes
            + ACTIVATION_BYTE_COST * work.activation_bytes
        )
        + device.flop_j * work.flops16
        + NETWORK_J_PER_BYTE * work.network_bytes
    )
    demand = device.busy_share * device.reference_w * busy + np.divide(
        dynamic_j, time_s, out=np.zeros_like(dynamic_j), where=time_s > 0.0
    )
    span = LIMIT_SHARE * device.limit_w - device.idle_w
    result: Column = device.idle_w + demand / (1.0 + (demand / span) ** KNEE) ** (1.0 / KNEE)
    return result
