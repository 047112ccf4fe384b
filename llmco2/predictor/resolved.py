"""What the names of a request were taken to mean: the KV cache's format and the format of each part, as text."""

from __future__ import annotations

from typing import Final

from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import named_precision

_SIXTEEN_BIT_BYTES: Final = 2.0


def kv_name(asked: str, deployment: Deployment) -> str:
    """Return the name of the KV cache's number format: the one ``asked`` for, else the engine's own."""
    chosen = named_precision(asked)
    if chosen is not None:
        return chosen.name
    if deployment.kv_bytes_per_element > _SIXTEEN_BIT_BYTES:
        return "fp32"
    return sixteen_bit_name(deployment)


def sixteen_bit_name(deployment: Deployment) -> str:
    """Return the 16-bit format in which the deployment's GPU computes."""
    return "bf16" if "bf16" in deployment.gpu.peak_flops_per_s else "fp16"


def precision_by_part(deployment: Deployment, kv_precision: str) -> str:
    """Return the number format of each part of the model, "layers fp8-block, head and embedding bf16, KV bf16"."""
    name, packed = deployment.precision.name, deployment.precision.quantised
    if packed == "everything":
        return f"weights {name}, KV {kv_precision}"
    wide = sixteen_bit_name(deployment)
    if packed == "experts" and deployment.architecture.n_moe_layers:
        return (
            f"experts {name}, attention and dense layers {wide}, head and embedding {wide}, KV {kv_precision}"
        )
    return f"layers {name}, head and embedding {wide}, KV {kv_precision}"
