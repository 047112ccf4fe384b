"""What one GPU does in a phase, from its counted operators: FLOPs of 16-bit cost and bytes, by part.

Invariant: the counts are exact over all steps of the phase; a steady batch's prefill reads no weights of its own,
because it shares a step with decoding sequences.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.deployment.deployment import Deployment
from llmco2.kernel_model.formats import FORMAT_OF_PRECISION, FORMATS
from llmco2.operators.columns import Column
from llmco2.operators.names import SLOT_KINDS, KernelKind
from llmco2.operators.table import KernelTable
from llmco2.physics.power import Work

_COMPUTE_COST: Final = {"16": 1.0, "8": 0.5, "4": 0.25}  # energy of a FLOP over that of a 16-bit one
_COST_OF_FORMAT: Final = {f.name: _COMPUTE_COST[f.compute] for f in FORMATS}
_NARROW_OPERATORS: Final = np.array(
    [
        kind in {KernelKind.GEMM, KernelKind.EXPERT_GEMM} and operator not in {"lm_head", "router"}
        for operator, kind in SLOT_KINDS.items()
    ]
)


def flop_cost(deployment: Deployment) -> float:
    """Return the energy of a FLOP of the deployment's narrow products over that of a 16-bit one."""
    return _COST_OF_FORMAT[FORMAT_OF_PRECISION[deployment.precision.name]]


def phase_work(table: KernelTable, narrow_cost: Column, weight_share: Column | float = 1.0) -> Work:
    """Return the work of a phase on one GPU of each request, ``(n_requests,)`` each.

    Args:
        table: the counted phase; totals of one tensor-parallel rank through all pipeline stages.
        narrow_cost: energy of a narrow product's FLOP over a 16-bit one, ``(n_requests,)``.
        weight_share: share of the counted weight traffic that this phase causes by itself.
    """
    cost: NDArray[np.float64] = np.where(_NARROW_OPERATORS, narrow_cost[:, None], 1.0)
    return Work(
        flops16=(table.flops * cost).sum(axis=1),
        weight_bytes=table.weight_bytes.sum(axis=1) * weight_share,
        cache_bytes=table.kv_bytes.sum(axis=1),
        activation_bytes=table.activation_bytes.sum(axis=1),
        network_bytes=table.network_bytes.sum(axis=1),
    )
