"""The kernel graph of a phase: which slots are there and how data flows between them.

Invariant: a graph is a directed acyclic graph over the slots that have launches. Prefill computes attention
from the projections and writes the cache beside it; decode reads keys and values through the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.operators.names import N_SLOTS, SLOT_INDEX, SLOTS, Phase
from llmco2.operators.table import KernelTable

_FLOW: Final[dict[str, tuple[str, ...]]] = {
    "embedding": ("mixer_norm", "mixer_residual"),
    "mixer_norm": ("qkv_projection", "recurrent_in_projection"),
    "qkv_projection": ("kv_cache", "full_attention", "sliding_attention"),
    "full_attention": ("output_projection",),
    "sliding_attention": ("output_projection",),
    "output_projection": ("mixer_all_reduce",),
    "recurrent_in_projection": ("recurrent_scan",),
    "recurrent_scan": ("recurrent_out_projection",),
    "recurrent_out_projection": ("mixer_all_reduce",),
    "mixer_all_reduce": ("mixer_residual",),
    "mixer_residual": ("mlp_norm", "mlp_residual"),
    "mlp_norm": ("mlp_up", "router", "shared_expert"),
    "mlp_up": ("mlp_activation",),
    "mlp_activation": ("mlp_down",),
    "mlp_down": ("mlp_all_reduce",),
    "router": ("expert_up",),
    "expert_up": ("expert_activation",),
    "expert_activation": ("expert_down",),
    "expert_down": ("expert_combine",),
    "expert_combine": ("mlp_all_reduce",),
    "shared_expert": ("mlp_all_reduce",),
    "mlp_all_reduce": ("mlp_residual",),
    "mlp_residual": ("pipeline_send",),
    "pipeline_send": ("final_norm",),
    "final_norm": ("lm_head",),
    "lm_head": ("sampling",),
}
_DECODE_FLOW: Final = {**_FLOW, "kv_cache": ("full_attention", "sliding_attention")}
# Serial stages: where one is absent, data flows straight on to what follows it.
_PASS_THROUGH: Final = frozenset(
    {
        "mixer_all_reduce",
        "mlp_all_reduce",
        "pipeline_send",
        "mixer_residual",
        "mlp_residual",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelGraph:
    """Nodes and edges of one phase of one request."""

    phase: Phase
    slots: tuple[str, ...]  # present slots, in SLOTS order
    edges: tuple[tuple[str, str], ...]  # (from, to)

    @property
    def edge_index(self) -> NDArray[np.int64]:
        """Edges as ``(2, n_edges)`` positions in ``slots`` (the layout of torch-geometric)."""
        position = {slot: i for i, slot in enumerate(self.slots)}
        pairs = [(position[a], position[b]) for a, b in self.edges]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def kernel_graph(table: KernelTable, row: int = 0) -> KernelGraph:
    """Return the graph of one request (``row``) of a kernel table."""
    present = tuple(slot for slot, n in zip(SLOTS, table.launches[row], strict=True) if n > 0.0)
    return KernelGraph(phase=table.phase, slots=present, edges=data_flow(table.phase, present))


@lru_cache(maxsize=512)
def data_flow(phase: Phase, present: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the edges between ``present`` slots; absent serial stages are passed through."""
    flow = _DECODE_FLOW if phase == "decode" else _FLOW
    here = frozenset(present)

    def targets(slot: str) -> list[str]:
        found: list[str] = []
        for nxt in flow.get(slot, ()):
            if nxt in here:
                found.append(nxt)
            elif nxt in _PASS_THROUGH:
                found.extend(targets(nxt))
        return found

    return tuple((slot, nxt) for slot in present for nxt in dict.fromkeys(targets(slot)))


@lru_cache(maxsize=512)
def mean_adjacency(phase: Phase, present: tuple[bool, ...]) -> NDArray[np.float64]:
    """Return the ``(n_slots, n_slots)`` matrix that averages each slot's neighbours, up and down the flow.

    ``present`` flags the slots in SLOTS order; rows of absent slots and of slots without neighbours are zero.
    The matrix is shared between callers and read-only.
    """
    slots = tuple(slot for slot, flag in zip(SLOTS, present, strict=True) if flag)
    matrix = np.zeros((N_SLOTS, N_SLOTS))
    for a, b in data_flow(phase, slots):
        matrix[SLOT_INDEX[a], SLOT_INDEX[b]] = matrix[SLOT_INDEX[b], SLOT_INDEX[a]] = 1.0
    degree = matrix.sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = np.divide(matrix, degree, out=np.zeros_like(matrix), where=degree > 0)
    result.flags.writeable = False  # the cache hands out one array to everybody
    return result
