"""What a board's compute and memory would draw at their peak rates, from its process and memory technology.

Boards of one chip share these whatever their power limit; a TDP alone says little of how much energy a byte takes (one
A100 is sold at 250, 300 and 400 W). The fit then only learns factors near one on top.

Sources: device energies of GDDR6, GDDR6X and HBM2E are Micron's ("Ultra-Bandwidth Solutions", 7.5, 7.25 and 6.0
pJ/bit); HBM2, HBM3 and HBM3E are scaled from there by their generations' published trend, GDDR7 and LPDDR5 likewise.
The interface on the GPU's side, on-die movement and energy per operation are estimates by technology; those per
operation let a board of each process reach its power limit at the rates that dense matrix products reach there. All
are references for a fit, not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from llmco2.catalog.gpu import Gpu

_PICO: Final = 1e-12
_BITS_PER_BYTE: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a chip's process costs per unit of work."""

    flop_pj: float  # of a dense 16-bit matrix product, operands' on-die movement included
    byte_pj: float  # of moving a byte between the memory's interface and the units


_12_NM: Final = Process(flop_pj=2.2, byte_pj=56.0)
_8_NM: Final = Process(flop_pj=2.0, byte_pj=34.0)
_7_NM: Final = Process(flop_pj=1.15, byte_pj=31.0)
_5_NM: Final = Process(flop_pj=0.84, byte_pj=23.0)
_4_NM: Final = Process(flop_pj=0.5, byte_pj=23.0)
_PROCESSES = MappingProxyType(
    {
        "volta": _12_NM,
        "turing": _12_NM,
        "ampere": _7_NM,
        "ada": _5_NM,
        "hopper": _5_NM,
        "blackwell": _4_NM,
        "blackwell ultra": _4_NM,
        "cdna2": _7_NM,
        "cdna3": _5_NM,
        "cdna4": _4_NM,
    }
)
_MEMORY_PJ_PER_BIT = MappingProxyType(
    {
        "HBM2": 6.3,
        "HBM2E": 6.0,
        "HBM3": 5.5,
        "HBM3E": 5.0,
        "GDDR6": 7.5,
        "GDDR6X": 7.25,
        "GDDR7": 6.5,
        "LPDDR5": 5.0,
    }
)
_GENERIC_MEMORY_PJ_PER_BIT: Final = 6.0
_STACKED_INTERFACE_PJ_PER_BIT: Final = 1.0  # the GPU's side of a short interposer
_BOARD_INTERFACE_PJ_PER_BIT: Final = 6.0  # the GPU's side of traces across a board, as costly as the device's


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLevels:
    """Reference dynamic powers of one GPU, W."""

    compute_w: float  # with matrix units at their dense 16-bit peak
    memory_w: float  # with device memory at full bandwidth


def power_levels(gpu: Gpu) -> PowerLevels:
    """Return the reference powers of a board; one of an unknown process is taken by its TDP.

    Compute is the geometric mean of what the process asks for and the TDP: a board with a lower limit runs its chip at
    a lower voltage, where an operation costs less.
    """
    process = process_of(gpu)
    peaks = gpu.peak_flops_per_s
    peak = peaks.get("bf16") or peaks.get("fp16") or peaks["fp32"]
    unlimited_w = gpu.tdp_w if process is None else process.flop_pj * _PICO * peak
    return PowerLevels(
        compute_w=(unlimited_w * gpu.tdp_w) ** 0.5,
        memory_w=energy_per_byte_j(gpu) * gpu.memory_bandwidth_bytes_per_s,
    )


def process_of(gpu: Gpu) -> Process | None:
    """Return the process of a board's chip; None where its architecture is not known."""
    process = _PROCESSES.get(gpu.architecture.casefold())
    # Ampere boards without stacked memory are another chip, made elsewhere.
    return _8_NM if process is _7_NM and gpu.memory_type and not _stacked(gpu) else process


def energy_per_byte_j(gpu: Gpu) -> float:
    """Return the energy of a byte from device memory to the units, J."""
    process = process_of(gpu) or _7_NM
    device = _MEMORY_PJ_PER_BIT.get(gpu.memory_type.upper(), _GENERIC_MEMORY_PJ_PER_BIT)
    on_board = gpu.memory_type.upper().startswith("GDDR")
    interface = _BOARD_INTERFACE_PJ_PER_BIT if on_board else _STACKED_INTERFACE_PJ_PER_BIT
    return ((device + interface) * _BITS_PER_BYTE + process.byte_pj) * _PICO


def _stacked(gpu: Gpu) -> bool:
    return gpu.memory_type.upper().startswith("HBM")
