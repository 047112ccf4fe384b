"""The operator graph of a phase: which operators are there and how data flows between them.

Invariant: a graph is a directed acyclic graph over the operators that have launches. Prefill computes attention
from the projections and writes the cache beside it; decode reads keys and values through the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.operators.names import N_OPERATORS, OPERATOR_INDEX, OPERATORS, Phase
from llmco2.operators.table import OperatorTable

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
class OperatorGraph:
    """Nodes and edges of one phase of one request."""

    phase: Phase
    operators: tuple[str, ...]  # present operators, in OPERATORS order
    edges: tuple[tuple[str, str], ...]  # (from, to)

    @property
    def edge_index(self) -> NDArray[np.int64]:
        """Edges as ``(2, n_edges)`` positions in ``operators`` (the layout of torch-geometric)."""
        position = {operator: i for i, operator in enumerate(self.operators)}
        pairs = [(position[a], position[b]) for a, b in self.edges]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def operator_graph(table: OperatorTable, row: int = 0) -> OperatorGraph:
    """Return the graph of one request (``row``) of a kernel table."""
    present = tuple(operator for operator, n in zip(OPERATORS, table.launches[row], strict=True) if n > 0.0)
    return OperatorGraph(phase=table.phase, operators=present, edges=data_flow(table.phase, present))


@lru_cache(maxsize=512)
def data_flow(phase: Phase, present: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the edges between ``present`` operators; absent serial stages are passed through."""
    flow = _DECODE_FLOW if phase == "decode" else _FLOW
    here = frozenset(present)

    def targets(operator: str) -> list[str]:
        found: list[str] = []
        for nxt in flow.get(operator, ()):
            if nxt in here:
                found.append(nxt)
            elif nxt in _PASS_THROUGH:
                found.extend(targets(nxt))
        return found

    return tuple((operator, nxt) for operator in present for nxt in dict.fromkeys(targets(operator)))


@lru_cache(maxsize=512)
def mean_adjacency(phase: Phase, present: tuple[bool, ...]) -> NDArray[np.float64]:
    """Return the ``(n_operators, n_operators)`` matrix that averages each operator's neighbours, up and down the flow.

    ``present`` flags the operators in OPERATORS order; rows of operators that are absent or alone are zero.
    The matrix is shared between callers and read-only.
    """
    operators = tuple(operator for operator, flag in zip(OPERATORS, present, strict=True) if flag)
    matrix = np.zeros((N_OPERATORS, N_OPERATORS))
    for a, b in data_flow(phase, operators):
        matrix[OPERATOR_INDEX[a], OPERATOR_INDEX[b]] = matrix[OPERATOR_INDEX[b], OPERATOR_INDEX[a]] = 1.0
    degree = matrix.sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = np.divide(matrix, degree, out=np.zeros_like(matrix), where=degree > 0)
    result.flags.writeable = False  # the cache hands out one array to everybody
    return result
