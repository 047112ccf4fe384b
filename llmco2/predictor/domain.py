"""Is a request inside what the model was trained on, and if not, which input is outside.

Invariant: every verdict names its input and, for a size, the range that was measured.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.params import parameter_count
from llmco2.deployment.deployment import Deployment, mechanisms
from llmco2.operators.columns import Column
from llmco2.physics.hosts import known_host
from llmco2.records.request import UNKNOWN

_SIZE_NAMES: Final = ("batch_size", "prompt_tokens", "output_tokens")
_SLACK: Final = 1.25  # a size this much past the largest measured still counts as measured
# What kernels measure wherever they were measured; a model's recurrences and parallel pipelines are only seen in runs.
_KERNEL_MECHANISMS: Final = frozenset(
    {
        "mixture of experts",
        "sliding-window attention",
        "tensor parallelism",
        "latent attention",
        "expert parallelism",
    }
)


@lru_cache(maxsize=1024)
def _parameters(architecture: Architecture) -> int:
    """Return the parameter count, worked out once for the many deployments of a model."""
    return parameter_count(architecture)


def unmeasured_mechanisms(domain: dict[str, Any], deployment: Deployment) -> tuple[str, ...]:
    """Return the model's mechanisms that neither kernels nor runs of the engine have shown, sorted."""
    seen = set(domain["mechanisms"].get(deployment.engine, ())) | _KERNEL_MECHANISMS
    return tuple(sorted(mechanisms(deployment) - seen))


def deployment_notes(
    hosts: dict[str, Any], domain: dict[str, Any], deployment: Deployment, *, kernels_measured: bool
) -> tuple[str, ...]:
    """Return what of a deployment lies outside the training data, one sentence part each."""
    arch, engine = deployment.architecture, deployment.engine
    notes = []
    if deployment.gpu_id not in domain["gpus"]:
        notes.append(f"gpu {deployment.gpu_id} was not measured under load")
    if not kernels_measured:
        notes.append(
            f"kernels of {deployment.precision.name} under {engine} on {deployment.gpu.architecture} boards were not "
            "measured, their nearest relatives answer"
        )
    stand_in = known_host(engine, hosts)
    if engine not in {UNKNOWN, stand_in}:
        notes.append(f"engine {engine} was not measured, {stand_in or 'an engine without a host'} answers")
    notes += [f"{name} was not measured under {engine}" for name in unmeasured_mechanisms(domain, deployment)]
    low, high = domain["ranges"]["parameters"]
    count = _parameters(arch)
    if not low / _SLACK <= count <= high * _SLACK:
        notes.append(f"parameters {count / 1e9:.3g}B outside {low / 1e9:.3g}B to {high / 1e9:.3g}B")
    n_gpus = deployment.shard_degree * deployment.pipeline_parallel
    if n_gpus > domain["ranges"]["n_gpus"][1]:
        notes.append(f"GPUs {n_gpus} more than the {domain['ranges']['n_gpus'][1]:g} measured")
    return tuple(notes)


def size_outside(domain: dict[str, Any], sizes: dict[str, Column]) -> dict[str, NDArray[np.bool_]]:
    """Return per size, for every request, whether it lies outside the measured range."""
    outside = {}
    for name in _SIZE_NAMES:
        low, high = domain["ranges"][name]
        outside[name] = (sizes[name] < low / _SLACK) | (sizes[name] > high * _SLACK)
    return outside


def size_note(domain: dict[str, Any], name: str, value: float) -> str:
    """Return the sentence part for one size that lies outside."""
    low, high = domain["ranges"][name]
    return f"{name} {value:g} outside {low:g} to {high:g}"
