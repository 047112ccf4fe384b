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
from llmco2.records.request import UNKNOWN

_SIZE_NAMES: Final = ("batch_size", "prompt_tokens", "output_tokens")
_SLACK: Final = 1.25  # a size this much past the largest measured still counts as measured


@lru_cache(maxsize=1024)
def _parameters(architecture: Architecture) -> int:
    """Return the parameter count, worked out once for the many deployments of a model."""
    return parameter_count(architecture)


def deployment_notes(domain: dict[str, Any], deployment: Deployment) -> tuple[str, ...]:
    """Return what of a deployment lies outside the training data, one sentence part each."""
    arch = deployment.architecture
    notes = []
    if deployment.gpu_id not in domain["gpus"]:
        notes.append(f"gpu {deployment.gpu_id} was not measured")
    if arch.family not in domain["families"]:
        notes.append(f"model family {arch.family or 'unnamed'} was not measured")
    if deployment.engine != UNKNOWN and deployment.engine not in domain["engines"]:
        notes.append(f"engine {deployment.engine} was not measured, an average engine answers")
    if deployment.precision.name not in domain["precisions"]:
        notes.append(f"precision {deployment.precision.name} was not measured")
    notes += [
        f"{name} was not measured" for name in sorted(mechanisms(deployment) - set(domain["mechanisms"]))
    ]
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
