"""The kernels a decoder can have, each a slot of the kernel graph, and the data flow between them.

Invariant: every request has the same slots; one that its model or deployment lacks has zero launches. A slot
stands for all its repeats through the layer stack, so a graph has at most ``N_SLOTS`` nodes, however deep the
model is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

Phase = Literal["prefill", "decode"]
PHASES: Final[tuple[Phase, Phase]] = ("prefill", "decode")


class KernelKind(StrEnum):
    """What sort of work a slot does; learned heads are shared by kind."""

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


SLOT_KINDS: Final[dict[str, KernelKind]] = {
    "embedding": KernelKind.EMBEDDING,
    "mixer_norm": KernelKind.NORM,
    "qkv_projection": KernelKind.GEMM,
    "kv_cache": KernelKind.CACHE,
    "full_attention": KernelKind.ATTENTION,
    "sliding_attention": KernelKind.ATTENTION,
    "output_projection": KernelKind.GEMM,
    "recurrent_in_projection": KernelKind.GEMM,
    "recurrent_scan": KernelKind.RECURRENT,
    "recurrent_out_projection": KernelKind.GEMM,
    "mixer_all_reduce": KernelKind.COMMUNICATION,
    "mixer_residual": KernelKind.ELEMENTWISE,
    "mlp_norm": KernelKind.NORM,
    "mlp_up": KernelKind.GEMM,
    "mlp_activation": KernelKind.ELEMENTWISE,
    "mlp_down": KernelKind.GEMM,
    "router": KernelKind.GEMM,
    "expert_up": KernelKind.EXPERT_GEMM,
    "expert_activation": KernelKind.ELEMENTWISE,
    "expert_down": KernelKind.EXPERT_GEMM,
    "expert_combine": KernelKind.ELEMENTWISE,
    "shared_expert": KernelKind.GEMM,
    "mlp_all_reduce": KernelKind.COMMUNICATION,
    "mlp_residual": KernelKind.ELEMENTWISE,
    "pipeline_send": KernelKind.COMMUNICATION,
    "final_norm": KernelKind.NORM,
    "lm_head": KernelKind.GEMM,
    "sampling": KernelKind.SAMPLING,
}
SLOTS: Final = tuple(SLOT_KINDS)
N_SLOTS: Final = len(SLOTS)
SLOT_INDEX: Final = {slot: i for i, slot in enumerate(SLOTS)}
KINDS: Final = tuple(KernelKind)
