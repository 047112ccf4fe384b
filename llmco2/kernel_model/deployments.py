"""From deployments to what the step curves read: kernel formats of the parts, ranks, device, stack."""

from __future__ import annotations

from collections.abc import Sequence

from llmco2.deployment.columns import GPUS_PER_NODE, INTER_NODE_BYTES_PER_S
from llmco2.deployment.deployment import Deployment
from llmco2.kernel_model.curves import StepDeployment
from llmco2.kernel_model.device import KernelDevice, kernel_device
from llmco2.kernel_model.formats import FORMAT_OF_PRECISION
from llmco2.kernel_model.step import StepShape
from llmco2.records.engines import ENGINES


def step_shape(deployment: Deployment) -> StepShape:
    """Return the step of a deployment: its model, ranks and the kernel format of each part."""
    parts = deployment.parts
    experts = FORMAT_OF_PRECISION[parts.experts.precision]
    if (
        experts == "mxfp4_w4a16"
        and deployment.gpu.vendor == "AMD"
        and "fp4" in deployment.gpu.peak_flops_per_s
    ):
        experts = "mxfp4_w4a8"  # ROCm stacks multiply MXFP4 natively
    return StepShape(
        architecture=deployment.architecture,
        tensor_parallel=deployment.shard_degree,
        expert_parallel=deployment.expert_parallel,
        attention_format=_dense_format(parts.attention.precision),
        mlp_format=_dense_format(parts.dense_mlp.precision),
        expert_format=experts,
        shared_format=_dense_format(parts.shared_experts.precision),
        recurrent_format=_dense_format(parts.recurrent.precision),
        kv_bytes=1.0 if deployment.kv_bytes_per_element <= 1.0 else 2.0,
    )


def _dense_format(precision: str) -> str:
    """Return the format whose dense products were measured: 4-bit floats under wider operands run as integers."""
    form = FORMAT_OF_PRECISION[precision]
    return {"mxfp4_w4a16": "w4a16", "mxfp4_w4a8": "w4a16", "w4a8": "w4a16"}.get(form, form)


def step_deployments(deployments: Sequence[Deployment]) -> tuple[list[StepDeployment], KernelDevice]:
    """Return the deployments and their devices, one row of the device columns for each deployment."""
    links = []
    for deployment in deployments:
        n_gpus = deployment.shard_degree * deployment.pipeline_parallel
        own = deployment.gpu.interconnect_bytes_per_s
        links.append(own if n_gpus <= GPUS_PER_NODE else min(own, INTER_NODE_BYTES_PER_S))
    devices = kernel_device([d.gpu for d in deployments], links)
    steps = [
        StepDeployment(shape=step_shape(d), device=i, stack=ENGINES[d.engine].kernels)
        for i, d in enumerate(deployments)
    ]
    return steps, devices
