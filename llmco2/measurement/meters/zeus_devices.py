"""The GPUs that zeus remembers in this process."""

from __future__ import annotations

import sys


def forget_zeus_devices() -> None:
    """Make zeus look for GPUs again: it keeps its first answer, and ``CUDA_VISIBLE_DEVICES``, for ever."""
    gpu_module = sys.modules.get("zeus.device.gpu")
    nvidia_module = sys.modules.get("zeus.device.gpu.nvidia")
    if gpu_module is not None:
        gpu_module._gpus = None  # type: ignore[attr-defined]  # zeus has no public way to forget
    if nvidia_module is not None:
        nvidia_module.nvml_is_available.cache_clear()
