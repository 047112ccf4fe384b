"""What a GPU draws while nothing runs on it."""

from __future__ import annotations

from llmco2.catalog.gpus import resolve_gpu
from llmco2.deployment.columns import GENERIC_IDLE_SHARE


def idle_power_w(gpu: str) -> tuple[float, str]:
    """Return the idle power of one GPU by any of its names, W, and where it comes from.

    Raises:
        UnknownNameError: no table knows the GPU.
    """
    card = resolve_gpu(gpu)
    if card.idle_power_w is not None:
        return card.idle_power_w, "bare idle, by the catalog"
    return GENERIC_IDLE_SHARE * card.tdp_w, f"estimated: {100 * GENERIC_IDLE_SHARE:.0f} % of the power limit"
