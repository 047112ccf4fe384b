"""Deployments as columns: one array per quantity, so that one pass answers many deployments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.precisions import (
    compute_peak_flops_per_s,
)
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.power_levels import power_levels
from llmco2.operators.columns import Column, ShapeColumns, WorkloadColumns, shape_columns
from llmco2.operators.roofline import DeviceColumns

GPUS_PER_NODE: Final = 8  # beyond it, traffic between GPUs crosses the network card
INTER_NODE_BYTES_PER_S: Final = 50e9  # one direction, per GPU: a 400 Gbit/s adapter for each GPU
GENERIC_IDLE_SHARE: Final = 0.14  # of TDP; median of the catalog's measured bare idles
GENERIC_L2_BYTES: Final = 40e6
GENERIC_SMS: Final = 100
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
