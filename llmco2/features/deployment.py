"""A deployment: one model on one kind of GPU under one engine, precision and parallelism, for any size.

Invariant: a deployment is checked when it is made; requests differ from each other only in sizes and
serving mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from os import PathLike, fspath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpu import Gpu
from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.catalog.part_precisions import PartPrecisions
from llmco2.catalog.precisions import (
    Precision,
    compute_peak_flops_per_s,
    default_precision,
    resolve_precision,
    served_precision,
)
from llmco2.catalog.stored import served_parts
from llmco2.errors import RequestError, explain
from llmco2.features.power_levels import power_levels
from llmco2.kernels.columns import Column, ShapeColumns, WorkloadColumns, shape_columns
from llmco2.kernels.roofline import DeviceColumns
from llmco2.records.engines import resolve_engine
from llmco2.records.request import UNKNOWN, InferenceRequest

GPUS_PER_NODE: Final = 8  # beyond it, traffic between GPUs crosses the network card
INTER_NODE_BYTES_PER_S: Final = 50e9  # one direction, per GPU: a 400 Gbit/s adapter for each GPU
GENERIC_IDLE_SHARE: Final = 0.14  # of TDP; median of the catalog's measured bare idles
GENERIC_L2_BYTES: Final = 40e6
GENERIC_SMS: Final = 100
_KV_PRECISIONS: Final = ("fp32", "fp16", "bf16", "fp8", "int8", "int4")
_SIXTEEN_BIT_BYTES: Final = 2.0
_PART_COLUMNS: Final = {  # column of the workload: part of the weights
    "attention_weight_bytes_per_element": "attention",
    "recurrent_weight_bytes_per_element": "recurrent",
    "dense_mlp_weight_bytes_per_element": "dense_mlp",
    "expert_weight_bytes_per_element": "experts",
    "shared_expert_weight_bytes_per_element": "shared_experts",
    "router_weight_bytes_per_element": "router",
    "head_weight_bytes_per_element": "lm_head",
    "embedding_weight_bytes_per_element": "embedding",
}


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


def request_deployment(request: InferenceRequest) -> Deployment:
    """Return the deployment of a request; errors as in :func:`resolve_deployment`."""
    return resolve_deployment(
        request.model,
        request.gpu,
        request.tensor_parallel,
        request.pipeline_parallel,
        request.expert_parallel,
        request.engine,
        request.precision,
        request.kv_precision,
    )


def resolve_deployment(  # noqa: PLR0917 - the columns of a request, in their order
    model: str,
    gpu: str,
    tensor_parallel: int,
    pipeline_parallel: int,
    expert_parallel: int,
    engine: str,
    precision: str,
    kv_precision: str,
) -> Deployment:
    """Resolve names and check that the parts go together.

    Raises:
        UnknownNameError: a model, GPU, engine or precision that is not known, with the nearest names.
        FileFormatError: a damaged configuration or datasheet, where the model or GPU is given by its path.
        RequestError: a precision the GPU lacks, or parallelism that does not divide the model.
    """
    return assemble_deployment(
        resolve_model(_name("model", model)),
        resolve_gpu(_name("gpu", gpu)),
        resolve_engine(_name("engine", engine)),
        named_precision(_name("precision", precision)),
        named_precision(_name("kv_precision", kv_precision)),
        tensor_parallel=int(tensor_parallel),
        pipeline_parallel=int(pipeline_parallel),
        expert_parallel=int(expert_parallel),
    )


def assemble_deployment(
    architecture: Architecture,
    gpu: Gpu,
    engine: str,
    precision: Precision | None,
    kv_precision: Precision | None,
    *,
    tensor_parallel: int,
    pipeline_parallel: int,
    expert_parallel: int,
) -> Deployment:
    """Return the deployment of records that are resolved; a precision of None is the engine's own choice.

    Raises RequestError as :func:`resolve_deployment` does.
    """
    asked = precision or default_precision(architecture, gpu)
    compute_peak_flops_per_s(gpu, asked)  # refuses what the GPU cannot compute, by the name that was given
    chosen = served_precision(architecture, asked) if precision else asked
    parts = served_parts(architecture, gpu, precision and chosen)
    deployment = Deployment(
        architecture=architecture,
        gpu_id=gpu.gpu_id,
        engine=engine,
        precision=chosen,
        parts=parts,
        kv_bytes_per_element=_kv_bytes(kv_precision, chosen, parts),
        tensor_parallel=tensor_parallel,
        expert_parallel=expert_parallel,
        pipeline_parallel=pipeline_parallel,
        datasheet=None if load_gpus().get(gpu.gpu_id) == gpu else gpu,
    )
    reason = parallelism_error(deployment)
    if reason:
        raise RequestError(reason)
    return deployment


def named_precision(name: str) -> Precision | None:
    """Return the precision that ``name`` means; None where it is left to the engine."""
    return None if name.strip().casefold() == UNKNOWN else resolve_precision(name)


def _name(what: str, value: object) -> str:
    if isinstance(value, PathLike):
        value = fspath(value)
    if not isinstance(value, str):
        raise RequestError(explain(f"{what} is not a name", got=repr(value), expected="text"))
    return value


def _kv_bytes(kv_precision: Precision | None, precision: Precision, parts: PartPrecisions) -> float:
    if kv_precision is None:
        published = resolve_precision(parts.kv_cache) if parts.kv_cache else None
        return published.weight_bytes_per_element if published else precision.kv_bytes_per_element
    if kv_precision.name not in _KV_PRECISIONS:
        raise RequestError(
            explain(
                "no engine caches keys and values so",
                got=kv_precision.name,
                expected=" ".join(_KV_PRECISIONS),
                remedy="leave --kv-precision out to use the activations' own",
            )
        )
    return kv_precision.weight_bytes_per_element


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
    if arch.n_heads and arch.n_heads % degree:
        axis = "tensor_parallel" if deployment.tensor_parallel == degree else "expert_parallel"
        return explain(
            f"{axis} does not divide the {arch.n_heads} attention heads of {arch.model_id}",
            got=degree,
            expected=_divisors(arch.n_heads),
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
        "mixture of experts": arch.n_moe_layers > 0,
        "recurrent layers": arch.n_recurrent_layers > 0,
        "sliding-window attention": arch.n_sliding_attention_layers > 0,
        "expert parallelism": deployment.expert_parallel > 1,
        "pipeline parallelism": deployment.pipeline_parallel > 1,
        "tensor parallelism": deployment.tensor_parallel > 1,
    }
    return {name for name, used in present.items() if used}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentColumns:
    """Deployments as columns, ``(n_deployments,)`` each; ``take`` repeats them for requests."""

    shape: ShapeColumns
    device: DeviceColumns
    weight_bytes_per_element: Column  # of the format that names the deployment
    attention_weight_bytes_per_element: Column
    recurrent_weight_bytes_per_element: Column
    dense_mlp_weight_bytes_per_element: Column
    expert_weight_bytes_per_element: Column
    shared_expert_weight_bytes_per_element: Column
    router_weight_bytes_per_element: Column  # and of norms, biases and convolutions
    head_weight_bytes_per_element: Column
    embedding_weight_bytes_per_element: Column
    activation_bytes_per_element: Column
    kv_bytes_per_element: Column
    shard_degree: Column
    expert_parallel: Column
    pipeline_parallel: Column

    def take(self, index: NDArray[np.intp]) -> DeploymentColumns:
        """Return the rows ``index``, with repeats."""
        own = {
            f.name: getattr(self, f.name)[index] for f in fields(self) if f.name not in {"shape", "device"}
        }
        device = DeviceColumns(**{f.name: getattr(self.device, f.name)[index] for f in fields(DeviceColumns)})
        return DeploymentColumns(shape=self.shape.take(index), device=device, **own)

    def workload(
        self, batch_size: Column, prompt_tokens: Column, output_tokens: Column, continuous: Column
    ) -> WorkloadColumns:
        """Return the kernel counter's workload for requests of these sizes, one per row."""
        return WorkloadColumns(
            batch_size=batch_size,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            continuous=continuous,
            tensor_parallel=self.shard_degree,
            expert_parallel=self.expert_parallel,
            pipeline_parallel=self.pipeline_parallel,
            **{name: getattr(self, name) for name in _PART_COLUMNS},
            activation_bytes_per_element=self.activation_bytes_per_element,
            kv_bytes_per_element=self.kv_bytes_per_element,
        )


def deployment_columns(deployments: Sequence[Deployment]) -> DeploymentColumns:
    """Return deployments as columns."""

    def column(values: Sequence[float]) -> Column:
        return np.array(values, dtype=np.float64)

    stream = [max(d.precision.activation_bytes_per_element, _SIXTEEN_BIT_BYTES) for d in deployments]
    narrow = [d.precision.weight_bytes_per_element for d in deployments]
    parts = [d.precision.quantised for d in deployments]
    return DeploymentColumns(
        shape=_shape_columns([deployment.architecture for deployment in deployments]),
        device=_device_columns(deployments),
        weight_bytes_per_element=column(
            [s if p == "experts" else w for w, p, s in zip(narrow, parts, stream, strict=True)]
        ),
        **{
            name: column([getattr(d.parts, part).weight_bytes_per_element for d in deployments])
            for name, part in _PART_COLUMNS.items()
        },
        activation_bytes_per_element=column(stream),
        kv_bytes_per_element=column([d.kv_bytes_per_element for d in deployments]),
        shard_degree=column([d.shard_degree for d in deployments]),
        expert_parallel=column([d.expert_parallel for d in deployments]),
        pipeline_parallel=column([d.pipeline_parallel for d in deployments]),
    )


def _shape_columns(architectures: list[Architecture]) -> ShapeColumns:
    """Return architectures as columns; one that serves in many deployments is read once."""
    distinct = {id(architecture): architecture for architecture in architectures}
    place = {key: i for i, key in enumerate(distinct)}
    index = np.array([place[id(architecture)] for architecture in architectures], dtype=np.intp)
    return shape_columns(list(distinct.values())).take(index)


def _device_columns(deployments: Sequence[Deployment]) -> DeviceColumns:
    rows = [_device_row(d) for d in deployments]
    names = tuple(f.name for f in fields(DeviceColumns))
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    return DeviceColumns(**{name: table[:, i] for i, name in enumerate(names)})


def _device_row(deployment: Deployment) -> tuple[float, ...]:
    gpu = deployment.gpu
    peaks, levels = gpu.peak_flops_per_s, power_levels(gpu)
    matmul = compute_peak_flops_per_s(gpu, deployment.precision)
    wide = deployment.precision.activation_bytes_per_element > _SIXTEEN_BIT_BYTES
    vector = matmul if wide else peaks.get("bf16") or peaks.get("fp16") or peaks["fp32"]
    n_gpus = deployment.shard_degree * deployment.pipeline_parallel
    link = gpu.interconnect_bytes_per_s if n_gpus <= GPUS_PER_NODE else INTER_NODE_BYTES_PER_S
    idle = gpu.idle_power_w if gpu.idle_power_w is not None else GENERIC_IDLE_SHARE * gpu.tdp_w
    return (
        matmul,
        vector,
        gpu.memory_bandwidth_bytes_per_s,
        min(link, gpu.interconnect_bytes_per_s),
        gpu.memory_bytes,
        gpu.l2_bytes or GENERIC_L2_BYTES,
        float(gpu.n_sms or GENERIC_SMS),
        gpu.tdp_w,
        levels.compute_w,
        levels.memory_w,
        idle,
    )
