"""What the names of a request were taken to mean: the KV cache's format and the format of each part, as text."""

from __future__ import annotations

from typing import Final

from llmco2.catalog.stored import part_names
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import named_precision

_SIXTEEN_BIT_BYTES: Final = 2.0


def kv_name(asked: str, deployment: Deployment) -> str:
    """Return the name of the KV cache's number format: the one ``asked`` for, else the engine's own."""
    chosen = named_precision(asked)
    if chosen is not None:
        return chosen.name
    if deployment.kv_bytes_per_element < _SIXTEEN_BIT_BYTES:
        return deployment.parts.kv_cache  # the checkpoint's own record asks for it
    if deployment.kv_bytes_per_element > _SIXTEEN_BIT_BYTES:
        return "fp32"
    return "bf16" if "bf16" in deployment.gpu.peak_flops_per_s else "fp16"


def precision_by_part(deployment: Deployment, kv_precision: str) -> str:
    """Return the number format of each part of the model, "attention fp8-block, …, lm_head bf16, KV bf16"."""
    names = part_names(deployment.architecture, deployment.parts)
    return ", ".join([*(f"{part} {name}" for part, name in names.items()), f"KV {kv_precision}"])
