"""What a reader of an answer should know beside the domain: an unnamed engine, a full memory, a window too short.

Invariant: a remark changes no figure and says nothing about the training domain; each states what was taken to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.params import parameter_count
from llmco2.deployment.columns import GPUS_PER_NODE
from llmco2.deployment.deployment import Deployment
from llmco2.predictor.columns import PredictionColumns, SizeColumns
from llmco2.records.request import UNKNOWN
from llmco2.units import BYTES_PER_GIB

_WIDE: Final = frozenset({"fp32", "tf32"})
UNNAMED_ENGINE: Final = "no engine was named, which widens the interval; name it (vllm, sglang, hf-eager …)"
ASSUMED: Final = "the model was taken to have"  # what the note of a model that was not all told begins with
ENGINE_MEMORY_SHARE: Final = (
    0.9  # of a GPU's memory that engines take by default (vLLM's gpu_memory_utilization)
)


def deployment_remarks(deployment: Deployment) -> tuple[str, ...]:
    """Return what is to be said of a deployment whatever the size of its requests."""
    arch, degree = deployment.architecture, deployment.shard_degree
    remarks = assumed_of_the_model(arch)
    if arch.published_as:
        remarks.append(f"{arch.published_as} has the shape of {arch.model_id}")
    if arch.checkpoint_precision in _WIDE and deployment.precision.name not in _WIDE:
        remarks.append(
            f"its fp32 weights are served in {deployment.precision.name}, as engines do by default"
        )
    remarks += [UNNAMED_ENGINE] if deployment.engine == UNKNOWN else []
    if degree > GPUS_PER_NODE:
        remarks.append(
            f"layers are shared by {degree} GPUs, more than the {GPUS_PER_NODE} of a server: traffic between them is "
            "taken to cross the network"
        )
    return tuple(remarks)


def assumed_of_the_model(architecture: Architecture) -> list[str]:
    """Return what the source of a model left out, and how large the model was taken to be for it."""
    if not architecture.assumptions:
        return []
    billions = parameter_count(architecture) / 1e9
    return [f"{ASSUMED} {billions:.3g}B parameters, assuming: {', '.join(architecture.assumptions)}"]


def size_remarks(
    deployments: Sequence[Deployment], sizes: SizeColumns, prediction: PredictionColumns
) -> dict[int, tuple[str, ...]]:
    """Return what is to be said of single requests, by their position: a window too short, a memory too full."""
    windows = np.array([d.architecture.max_context_tokens or np.inf for d in deployments])[sizes.deployment]
    context = sizes.prompt_tokens + sizes.output_tokens
    need, available = prediction.memory.total_bytes, prediction.memory_available_bytes
    full = (need > ENGINE_MEMORY_SHARE * available) & (need <= available)
    found: dict[int, tuple[str, ...]] = {}
    for row in np.flatnonzero(context > windows).tolist():
        found[row] = (
            f"prompt and output, {context[row]:,.0f} tokens, are longer than the model's window of {windows[row]:,.0f}",
        )
    for row in np.flatnonzero(full).tolist():
        filled = f"{need[row] / BYTES_PER_GIB:.3g} of {available[row] / BYTES_PER_GIB:.3g} GiB"
        note = f"{filled} of a GPU are filled: engines keep 10 % free by default, so it may not start"
        found[row] = (*found.get(row, ()), note)
    return found
