"""The GPU record: dense peaks per precision, bandwidth, power, each in SI units.

Invariant: peaks are DENSE rates. A precision the chip has no tensor path for is absent, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU model as its vendor specifies it."""

    gpu_id: str  # canonical name, e.g. "H100-SXM5-80GB"
    vendor: str
    architecture: str  # "Hopper"
    peak_flops_per_s: Mapping[str, float]  # dense, by precision: fp32 tf32 fp16 bf16 fp8 int8 fp4
    memory_bytes: float
    memory_bandwidth_bytes_per_s: float
    memory_type: str  # "HBM3"; empty where it is not known
    l2_bytes: float | None
    n_sms: int | None
    interconnect_bytes_per_s: float  # GPU to GPU, one direction; PCIe where there is no NVLink
    pcie_bytes_per_s: float  # one direction
    tdp_w: float  # board power limit as shipped
    idle_power_w: float | None  # bare idle where somebody measured it
    release_year: int
    nvml_names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    source: str = ""
    retrieved: str = ""  # ISO date of the check
    verified_how: str = ""  # the arithmetic or second source that agrees
    confidence: str = ""  # high | medium | low
    note: str = ""  # what sources disagree about, and traps
