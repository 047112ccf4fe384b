"""The operators that a decoder can have, each a node of the operator graph, and their kinds.

Invariant: every request has the same operators; one that its model or deployment lacks has zero launches. An operator
stands for all its repeats through the layer stack, so a graph has at most ``N_OPERATORS`` nodes, however deep the
model is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

Phase = Literal["prefill", "decode"]
PHASES: Final[tuple[Phase, Phase]] = ("prefill", "decode")


class OperatorKind(StrEnum):
    """What sort of work an operator does; learned heads are shared by kind."""

    EMBEDDING = "embedding"
    NORM = "norm"
    GEMM = "gemm"
    ATTENTION = "attention"
    CACHE = "cache"
    ELEMENTWISE = "elementwise"
    EXPERT_GEMM = "expert_gemm"
    RECURRENT = "recurrent"
    COMMUNICATION = "communication"
    SAMPLING = "sampling"


OPERATOR_KINDS: Final[dict[str, OperatorKind]] = {
    "embedding": OperatorKind.EMBEDDING,
    "mixer_norm": OperatorKind.NORM,
    "qkv_projection": OperatorKind.GEMM,
    "kv_cache": OperatorKind.CACHE,
    "full_attention": OperatorKind.ATTENTION,
    "sliding_attention": OperatorKind.ATTENTION,
    "output_projection": OperatorKind.GEMM,
    "recurrent_in_projection": OperatorKind.GEMM,
    "recurrent_scan": OperatorKind.RECURRENT,
    "recurrent_out_projection": OperatorKind.GEMM,
    "mixer_all_reduce": OperatorKind.COMMUNICATION,
    "mixer_residual": OperatorKind.ELEMENTWISE,
    "mlp_norm": OperatorKind.NORM,
    "mlp_up": OperatorKind.GEMM,
    "mlp_activation": OperatorKind.ELEMENTWISE,
    "mlp_down": OperatorKind.GEMM,
    "router": OperatorKind.GEMM,
    "expert_up": OperatorKind.EXPERT_GEMM,
    "expert_activation": OperatorKind.ELEMENTWISE,
    "expert_down": OperatorKind.EXPERT_GEMM,
    "expert_combine": OperatorKind.ELEMENTWISE,
    "shared_expert": OperatorKind.GEMM,
    "mlp_all_reduce": OperatorKind.COMMUNICATION,
    "mlp_residual": OperatorKind.ELEMENTWISE,
    "pipeline_send": OperatorKind.COMMUNICATION,
    "final_norm": OperatorKind.NORM,
    "lm_head": OperatorKind.GEMM,
    "sampling": OperatorKind.SAMPLING,
}
OPERATORS: Final = tuple(OPERATOR_KINDS)
N_OPERATORS: Final = len(OPERATORS)
OPERATOR_INDEX: Final = {operator: i for i, operator in enumerate(OPERATORS)}
KINDS: Final = tuple(OperatorKind)
