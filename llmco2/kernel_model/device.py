"""What kernel features read of a GPU: rates, sizes and the family of its instruction set.

Invariant: a board enters through rates and sizes; its family is a word that several boards share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.catalog.gpu import Gpu

Column = NDArray[np.float64]  # (n_kernels,)
# NVIDIA's compute capabilities whose kernels were measured; boards of other families have none of these words.
FAMILIES: Final = ("sm80", "sm89", "sm90", "sm100", "sm103", "sm120")
GENERIC_SMS: Final = 100.0
GENERIC_L2_BYTES: Final = 40e6


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelDevice:
    """One GPU's limits, or a column ``(n_kernels,)`` of each; rates in SI units, links in one direction."""

    family: Column  # index into FAMILIES; -1 where none of them
    n_sms: Column
    l2_bytes: Column
    bandwidth_bytes_per_s: Column
    peak16_flops_per_s: Column
    peak8_flops_per_s: Column
    peak4_flops_per_s: Column
    link_bytes_per_s: Column

    def take(self, index: NDArray[np.intp]) -> KernelDevice:
        """Return the rows ``index``, with repeats."""
        return KernelDevice(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def family_of(gpu: Gpu) -> str:
    """Return the family of a GPU's kernels (a word of FAMILIES), or an empty string."""
    on_hbm = gpu.memory_type.startswith("HBM")
    return {
        ("Ampere", True): "sm80",
        ("Ada", False): "sm89",
        ("Hopper", True): "sm90",
        ("Blackwell", True): "sm100",
        ("Blackwell Ultra", True): "sm103",
        ("Blackwell", False): "sm120",
    }.get((gpu.architecture, on_hbm), "")


def kernel_device(gpus: Sequence[Gpu], link_bytes_per_s: Sequence[float] | None = None) -> KernelDevice:
    """Return the GPUs as columns, ``(n_gpus,)``; ``link_bytes_per_s`` in place of their own interconnect.

    A GPU without 8-bit or 4-bit arithmetic computes such operands at its next wider rate.
    """
    rows = []
    for gpu in gpus:
        peaks = gpu.peak_flops_per_s
        wide = peaks.get("bf16") or peaks.get("fp16") or peaks["fp32"]
        eight = peaks.get("fp8") or peaks.get("int8") or wide
        family = family_of(gpu)
        rows.append(
            (
                FAMILIES.index(family) if family else -1,
                gpu.n_sms or GENERIC_SMS,
                gpu.l2_bytes or GENERIC_L2_BYTES,
                gpu.memory_bandwidth_bytes_per_s,
                wide,
                eight,
                peaks.get("fp4") or eight,
                gpu.interconnect_bytes_per_s,
            )
        )
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(fields(KernelDevice)))
    if link_bytes_per_s is not None:
        table[:, -1] = link_bytes_per_s
    return KernelDevice(**{f.name: table[:, i] for i, f in enumerate(fields(KernelDevice))})
