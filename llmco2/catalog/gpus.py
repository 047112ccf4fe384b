"""The GPU table and the kind resolution of GPU names.

A name resolves when it is, without regard to case, spaces and dashes, a catalog id, an alias or the device
name that NVML reports ("NVIDIA H100 80GB HBM3"). A bare chip name stands for the board most often met:

========  =================    ========  ================
name      stands for           name      stands for
========  =================    ========  ================
A100      A100-SXM4-80GB       V100      V100-SXM2-16GB
A100-40GB A100-SXM4-40GB       H20       H20-SXM-96GB
A800      A800-PCIe-80GB       GH200     GH200-96GB
H100      H100-SXM5-80GB       B200      B200-SXM-180GB
H200      H200-SXM-141GB       GB200     GB200-186GB
P100      P100-PCIe-16GB       RTX 8000  Quadro-RTX-8000
========  =================    ========  ================

Cloud instances, servers and Slurm's gres mean several boards: see :mod:`llmco2.catalog.instances`.

A name may also be the path of a JSON datasheet (``*.json``) for a GPU that the table lacks; its keys are the
columns of ``datasets/gpus.csv``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from llmco2.catalog import instances, tables, uncovered
from llmco2.catalog.gpu import Gpu
from llmco2.errors import FileFormatError, UnknownNameError, explain
from llmco2.units import BYTES_PER_GB, BYTES_PER_GIB

PEAK_COLUMNS: Final = MappingProxyType(
    {
        "fp32": "fp32_tflops",
        "tf32": "tf32_tflops",
        "fp16": "fp16_tflops",
        "bf16": "bf16_tflops",
        "fp8": "fp8_tflops",
        "int8": "int8_tops",
        "fp4": "fp4_tflops",
    }
)
REQUIRED_COLUMNS: Final = ("gpu_id", "memory_gib", "memory_bandwidth_gb_per_s", "tdp_w")
OPTIONAL_COLUMNS: Final = (
    *PEAK_COLUMNS.values(),
    *(
        "vendor",
        "architecture",
        "memory_type",
        "l2_mb",
        "n_sms",
        "interconnect",
        "interconnect_gb_per_s",
        "pcie",
    ),
    *("pcie_gb_per_s", "idle_power_w", "idle_source", "release_year", "nvml_names", "aliases", "source"),
    *("verified_how", "retrieved", "confidence", "note"),
)
DEFAULT_PCIE_GB_PER_S: Final = 32.0  # PCIe Gen4 x16, one direction
# What no board of today or of the next decades has; a figure beyond is a slip of units.
_MOST: Final = MappingProxyType(
    {
        "tflops": 1e7,
        "memory_gib": 1e5,
        "gb_per_s": 1e6,
        "l2_mb": 1e6,
        "n_sms": 1e5,
        "power_w": 1e5,
        "release_year": 9999,
    }
)
_FLOPS_PER_TFLOP: Final = 1e12
_BYTES_PER_MB: Final = 1e6
_ENDS_IN_G: Final = re.compile(r"\dg$")
_VENDOR_PREFIXES: Final = ("nvidia", "tesla", "geforce", "amd", "instinct", "intel")


@lru_cache(maxsize=1)
def load_gpus() -> Mapping[str, Gpu]:
    """Return every GPU of ``datasets/gpus.csv`` by its canonical id, in the table's order."""
    rows = tables.read_table("gpus.csv", (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS))
    gpus = (gpu_from_row(row, f"gpus.csv line {line}") for line, row in enumerate(rows, start=2))
    with tables.shipped("gpus.csv"):
        return MappingProxyType({gpu.gpu_id: gpu for gpu in gpus})


def resolve_gpu(name: str) -> Gpu:
    """Return the GPU that ``name`` means: an id, alias, NVML device name or the path of a JSON datasheet.

    A name of several boards ("p5.48xlarge", "gpu:h100:4", "8xH100") gives their kind; :func:`counted_gpus` tells how
    many. Raises UnknownNameError with the nearest ids or with what else the name means (a TPU, a slice of a board),
    FileFormatError for a damaged datasheet.
    """
    gpu = _known(name)
    if gpu is not None:
        return gpu
    if name.casefold().endswith(".json"):
        return gpu_from_datasheet(Path(name))
    boards = instances.named_boards(name)
    counted = _known(boards.board) if boards is not None else None
    if counted is not None:
        return counted
    reason = "it does not say which GPU" if instances.names_no_kind(name) else ""
    reason = reason or uncovered.why_no_gpu(name, _key(name))
    if reason:
        raise UnknownNameError("GPU", name, (), remedy=reason)
    gpus = load_gpus()
    known = [*gpus, *(alias for each in gpus.values() for alias in each.aliases), *instances.instance_names()]
    raise UnknownNameError(
        "GPU", name, known, remedy="or give a JSON datasheet with the columns of datasets/gpus.csv"
    )


def counted_gpus(name: str) -> instances.NamedBoards | None:
    """Return how many boards ``name`` means where it says so (an instance, "gpu:h100:4"), or None.

    None also for a board's own name, though it end in a number, and for a board that is not known.
    """
    if not isinstance(name, str) or _known(name) is not None or name.casefold().endswith(".json"):
        return None
    boards = instances.named_boards(name)
    return boards if boards is not None and _known(boards.board) is not None else None


def _known(name: str) -> Gpu | None:
    """Return the GPU of the table that ``name`` means; "80G" is read as "80GB"."""
    key, by_key = _key(name), _gpus_by_key()
    return by_key.get(key) or (by_key.get(f"{key}b") if _ENDS_IN_G.search(key) else None)


def gpu_from_datasheet(path: Path) -> Gpu:
    """Return the GPU that a JSON datasheet describes; keys are the columns of ``datasets/gpus.csv``.

    Raises FileFormatError, one line, for a damaged file, an unknown key, a missing or impossible figure.
    """
    row = tables.read_json_object(path, "a GPU datasheet")
    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    unknown = [key for key in row if key not in known]
    if unknown:
        raise FileFormatError(
            explain(f"{path} has an unknown key", got=unknown[0], expected="one of " + " ".join(known))
        )
    return gpu_from_row(row, str(path))


def gpu_from_row(row: tables.Row, where: str) -> Gpu:
    """Return the GPU of one row in table units (TFLOP/s, GiB, GB/s, MB, W) in SI; ``where`` names the row.

    Raises FileFormatError when a required figure is missing or a figure is no positive number.
    """
    gpu_id = tables.text(row, "gpu_id", where)
    peaks = {}
    for precision, column in PEAK_COLUMNS.items():
        peak_tflops = tables.optional_number(row, column, where, low=1e-3, high=_MOST["tflops"])
        if peak_tflops is not None:
            peaks[precision] = peak_tflops * _FLOPS_PER_TFLOP
    if not peaks.keys() & {"fp16", "bf16", "fp32"}:
        raise FileFormatError(
            explain(
                f"{where}: no peak rate",
                expected="at least one of fp32_tflops, fp16_tflops, bf16_tflops (dense)",
            )
        )
    l2_mb = tables.optional_number(row, "l2_mb", where, high=_MOST["l2_mb"])
    n_sms = tables.optional_number(row, "n_sms", where, low=1, high=_MOST["n_sms"])
    pcie_gb_per_s, interconnect_gb_per_s = (
        tables.optional_number(row, f"{link}_gb_per_s", where, low=0.1, high=_MOST["gb_per_s"])
        for link in ("pcie", "interconnect")
    )
    pcie_gb_per_s = pcie_gb_per_s or DEFAULT_PCIE_GB_PER_S
    bandwidth_gb_per_s = tables.number(
        row, "memory_bandwidth_gb_per_s", where, low=0.1, high=_MOST["gb_per_s"]
    )
    tdp_w = tables.number(row, "tdp_w", where, low=1.0, high=_MOST["power_w"])
    return Gpu(
        gpu_id=gpu_id,
        vendor=tables.optional_text(row, "vendor"),
        architecture=tables.optional_text(row, "architecture"),
        peak_flops_per_s=MappingProxyType(peaks),
        memory_bytes=tables.number(row, "memory_gib", where, low=0.1, high=_MOST["memory_gib"])
        * BYTES_PER_GIB,
        memory_bandwidth_bytes_per_s=bandwidth_gb_per_s * BYTES_PER_GB,
        memory_type=tables.optional_text(row, "memory_type"),
        l2_bytes=None if l2_mb is None else l2_mb * _BYTES_PER_MB,
        n_sms=None if n_sms is None else int(n_sms),
        interconnect_bytes_per_s=(interconnect_gb_per_s or pcie_gb_per_s) * BYTES_PER_GB,
        pcie_bytes_per_s=pcie_gb_per_s * BYTES_PER_GB,
        tdp_w=tdp_w,
        idle_power_w=tables.optional_number(row, "idle_power_w", where, high=tdp_w),
        release_year=tables.whole(row, "release_year", where, default=0, high=_MOST["release_year"]),
        nvml_names=tables.names(row, "nvml_names"),
        aliases=tables.names(row, "aliases"),
        source=tables.optional_text(row, "source"),
        retrieved=tables.optional_text(row, "retrieved"),
        verified_how=tables.optional_text(row, "verified_how"),
        confidence=tables.optional_text(row, "confidence"),
        note=tables.optional_text(row, "note"),
    )


def _key(name: str) -> str:
    """Return ``name`` folded for comparison: letters and digits only, without leading vendor words."""
    key = "".join(character for character in name.casefold() if character.isalnum())
    stripped = True
    while stripped:
        stripped = False
        for prefix in _VENDOR_PREFIXES:
            if key.startswith(prefix) and len(key) > len(prefix):
                key = key.removeprefix(prefix)
                stripped = True
    return key


@lru_cache(maxsize=1)
def _gpus_by_key() -> Mapping[str, Gpu]:
    """Return the GPUs by folded id, NVML name and alias; an id beats an NVML name, which beats an alias."""
    by_key: dict[str, Gpu] = {}
    gpus = load_gpus().values()
    for gpu in gpus:
        by_key.setdefault(_key(gpu.gpu_id), gpu)
    for gpu in gpus:
        for name in (*gpu.nvml_names, *gpu.aliases):
            by_key.setdefault(_key(name), gpu)
    return by_key
