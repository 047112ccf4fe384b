"""What the catalog understood of one GPU's name: the board, how many, its dense peaks and where each figure is from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llmco2.catalog.embodied import embodied_for
from llmco2.catalog.gpus import counted_gpus, resolve_gpu
from llmco2.catalog.servers import host_power_for
from llmco2.units import BYTES_PER_GB, BYTES_PER_GIB

_FLOPS_PER_TFLOP: Final = 1e12
_BYTES_PER_MB: Final = 1e6
_DIGITS: Final = 12  # of a converted figure: the table's own, without what the conversion adds


def gpu_facts(name: str) -> Mapping[str, Any]:
    """Return the facts of the GPU that ``name`` means, units in the names; errors as in ``resolve_gpu``.

    ``n_gpus`` is the number that the name says (an instance, "gpu:h100:4"), else 1; ``said_by`` is what says so.
    """
    gpu, counted = resolve_gpu(name), counted_gpus(name)
    memory_gib = gpu.memory_bytes / BYTES_PER_GIB
    embodied = embodied_for(gpu.gpu_id, memory_gb=memory_gib, tdp_w=gpu.tdp_w)
    host = host_power_for(gpu.gpu_id)
    return {
        "asked": name,
        "gpu": gpu.gpu_id,
        "n_gpus": 1 if counted is None else counted.n_gpus,
        "said_by": None if counted is None else counted.said_by,
        "vendor": gpu.vendor,
        "architecture": gpu.architecture,
        "release_year": gpu.release_year or None,
        "memory_gib": _figure(memory_gib),
        "memory_type": gpu.memory_type,
        "memory_bandwidth_gb_per_s": _figure(gpu.memory_bandwidth_bytes_per_s / BYTES_PER_GB),
        "dense_peak_tflops": {
            precision: _figure(peak / _FLOPS_PER_TFLOP) for precision, peak in gpu.peak_flops_per_s.items()
        },
        "l2_mb": None if gpu.l2_bytes is None else _figure(gpu.l2_bytes / _BYTES_PER_MB),
        "n_sms": gpu.n_sms,
        "interconnect_gb_per_s": _figure(gpu.interconnect_bytes_per_s / BYTES_PER_GB),
        "pcie_gb_per_s": _figure(gpu.pcie_bytes_per_s / BYTES_PER_GB),
        "power_limit_w": gpu.tdp_w,
        "idle_power_w": gpu.idle_power_w,
        "host_power_w": host.typical_w,
        "embodied_kgco2e": embodied.gpu.mid_kgco2e,
        "nvml_names": list(gpu.nvml_names),
        "aliases": list(gpu.aliases),
        "source": gpu.source,
        "verified_how": gpu.verified_how,
        "retrieved": gpu.retrieved,
        "confidence": gpu.confidence,
        "note": gpu.note,
    }


def _figure(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
