"""A deployment: one model on one kind of GPU under one engine, precision and parallelism, for any size.

Invariant: requests to one deployment differ from each other only in sizes and serving mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpu import Gpu
from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.catalog.part_precisions import PartPrecisions
from llmco2.catalog.precisions import (
    Precision,
)
from llmco2.errors import explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What serves a request; hashable, so that equal deployments are worked out once."""

    architecture: Architecture
    gpu_id: str
    engine: str
    precision: Precision  # by which the deployment is named: what most of the quantised weights are in
    parts: PartPrecisions  # by which bytes are counted
    kv_bytes_per_element: float
    tensor_parallel: int
    expert_parallel: int
    pipeline_parallel: int
    datasheet: Gpu | None = field(
        default=None, hash=False
    )  # the GPU's record where the catalog's is not meant

    @property
    def gpu(self) -> Gpu:
        """The GPU's record."""
        return self.datasheet or load_gpus().get(self.gpu_id) or resolve_gpu(self.gpu_id)

    @property
    def shard_degree(self) -> int:
        """GPUs that share one layer: the wider of tensor and expert parallel."""
        return max(self.tensor_parallel, self.expert_parallel)


def parallelism_error(deployment: Deployment) -> str:
    """Return the line that says why the parallelism does not suit the model; empty where it does."""
    arch, degree = deployment.architecture, deployment.shard_degree
    if deployment.expert_parallel > 1 and not arch.n_moe_layers:
        return explain(
            f"{arch.model_id} has no experts to spread",
            expected="1",
            remedy="use --tensor-parallel",
            got=f"expert_parallel {deployment.expert_parallel}",
        )
    if degree % deployment.tensor_parallel or degree % deployment.expert_parallel:
        return explain(
            "tensor_parallel and expert_parallel do not nest",
            expected="one a multiple of the other",
            got=f"{deployment.tensor_parallel} and {deployment.expert_parallel}",
        )
    if arch.n_moe_layers and arch.n_experts % deployment.expert_parallel:
        return explain(
            f"expert_parallel does not divide the {arch.n_experts} experts of {arch.model_id}",
            got=deployment.expert_parallel,
            expected=_divisors(arch.n_experts),
        )
    heads = next((n for n in (arch.n_heads, arch.sliding_n_heads) if n % degree), 0)
    if heads:
        axis = "tensor_parallel" if deployment.tensor_parallel == degree else "expert_parallel"
        return explain(
            f"{axis} does not divide the {heads} attention heads of {arch.model_id}",
            got=degree,
            expected=_divisors(heads),
        )
    layers = max(arch.n_attention_layers + arch.n_recurrent_layers, 1)
    if deployment.pipeline_parallel > layers:
        return explain(
            f"more pipeline stages than the {layers} layers of {arch.model_id}",
            got=deployment.pipeline_parallel,
            expected=f"1 to {layers}",
        )
    return ""


def _divisors(number: int, limit: int = 64) -> str:
    return "one of " + " ".join(str(d) for d in range(1, min(number, limit) + 1) if number % d == 0)


def mechanisms(deployment: Deployment) -> set[str]:
    """Return the architectural mechanisms a deployment uses beyond dense attention."""
    arch = deployment.architecture
    present = {
        "latent attention": arch.is_mla,
        "sparse attention": arch.index_topk_tokens > 0,
        "mixture of experts": arch.n_moe_layers > 0,
        "recurrent layers": arch.n_recurrent_layers > 0,
        "sliding-window attention": arch.n_sliding_attention_layers > 0,
        "expert parallelism": deployment.expert_parallel > 1,
        "pipeline parallelism": deployment.pipeline_parallel > 1,
        "tensor parallelism": deployment.tensor_parallel > 1,
    }
    return {name for name, used in present.items() if used}
