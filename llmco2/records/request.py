"""The inference request: what is asked of which model on which GPUs.

Invariant: a request holds names and numbers only, and is validated once, when it is made. Whether the names
exist and the model fits is for the catalog and the kernel counts to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Final

from llmco2.bounded import shown
from llmco2.errors import RequestError, explain

UNKNOWN: Final = "unknown"
SERVING_MODES: Final = ("static", "continuous")
# Medians of the Azure 2023 conversation trace (Patel et al., ISCA 2024): what a chat request looks like.
DEFAULT_PROMPT_TOKENS: Final = 1020
DEFAULT_OUTPUT_TOKENS: Final = 129
MAX_TOKENS: Final = 10_000_000
MAX_BATCH_SIZE: Final = 65_536
MAX_PARALLEL: Final = 1_024
_LONGEST: Final = 1e300  # Python's integers have no limit, its floats do


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """One batch of identical requests and the deployment that serves it."""

    model: str
    gpu: str
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: int = 1
    engine: str = UNKNOWN
    precision: str = (
        UNKNOWN  # of weights and activations; unknown: the checkpoint's own, where the GPU has it
    )
    kv_precision: str = UNKNOWN  # unknown: that of the activations
    batch_size: float = 1.0
    prompt_tokens: float = DEFAULT_PROMPT_TOKENS
    output_tokens: float = DEFAULT_OUTPUT_TOKENS
    serving: str = (
        "static"  # static: starts and ends together; continuous: a steady batch of running requests
    )

    def __post_init__(self) -> None:
        for name, limit in (
            ("tensor_parallel", MAX_PARALLEL),
            ("pipeline_parallel", MAX_PARALLEL),
            ("expert_parallel", MAX_PARALLEL),
        ):
            _check_number(name, getattr(self, name), low=1, high=limit, whole=True)
        _check_number("batch_size", self.batch_size, low=1, high=MAX_BATCH_SIZE)
        _check_number("prompt_tokens", self.prompt_tokens, low=1, high=MAX_TOKENS)
        _check_number("output_tokens", self.output_tokens, low=1, high=MAX_TOKENS)
        if not isinstance(self.serving, str) or self.serving not in SERVING_MODES:
            raise RequestError(
                explain("unknown serving mode", got=shown(self.serving), expected=" or ".join(SERVING_MODES))
            )

    @property
    def n_gpus(self) -> int:
        """GPUs in use: the wider of tensor and expert parallel, times the pipeline's stages.

        Serving engines spread experts over the GPUs of the tensor-parallel group; a request that names only
        ``expert_parallel`` shards its attention over those same GPUs.
        """
        return max(self.tensor_parallel, self.expert_parallel) * self.pipeline_parallel


REQUEST_COLUMNS: Final = tuple(field.name for field in fields(InferenceRequest))


def _check_number(name: str, value: Any, *, low: float, high: float, whole: bool = False) -> None:
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not finite:
        raise RequestError(
            explain(f"{name} is not a number", got=shown(value), expected=f"{low} to {high:,}")
        )
    if not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number from" if whole else "from"
        got = f"{value:g}" if abs(value) < _LONGEST else f"more than {_LONGEST:g}"
        raise RequestError(explain(f"{name} is out of range", got=got, expected=f"{kind} {low} to {high:,}"))
