"""Size-free descriptors of every kernel of a deployment: the node features of the graph network.

Invariant: no descriptor depends on batch size, tokens or number of layers (of the same mix of kinds), and none names a
GPU or a model; each means the same on any hardware (ratios to the ridge point, to the cache, to the number of SMs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.deployment.columns import DeploymentColumns
from llmco2.operators.columns import Column
from llmco2.operators.counting import count_phase
from llmco2.operators.names import KINDS, PHASES, SLOT_KINDS, Phase
from llmco2.operators.roofline import arithmetic_intensity_flop_per_byte, ridge_point_flop_per_byte
from llmco2.operators.table import KernelTable, SlotArray

# Requests at which roofline descriptors are taken, so that they do not depend on the request asked for.
REFERENCE_BATCH_SIZES: Final = (1.0, 32.0)
REFERENCE_PROMPT_TOKENS: Final = 512.0
TILE_WIDTH: Final = 128.0  # output columns of one thread block of a matrix product
_GPU_CENTRES: Final = (3e-4, 5e-3)  # TDP per GFLOP/s and per MB/s, about an A100's
NODE_FEATURES: Final = (
    *(f"is_{kind}" for kind in KINDS),
    *(f"is_{phase}" for phase in PHASES),
    *(f"log_intensity_over_ridge_batch_{batch:g}" for batch in REFERENCE_BATCH_SIZES),
    "log_width_in",
    "log_width_out",
    "log_tiles_per_sm",
    "log_matrix_over_l2",
    "log_ridge_point",
    "log_tdp_per_flop_rate",
    "log_tdp_per_bandwidth",
    "log_network_over_memory_bandwidth",
    "log_tensor_parallel",
    "log_expert_parallel",
    "log_weight_bytes_per_element",
    "log_kv_bytes_per_element",
    "log_queries_per_kv_head",
)
N_NODE_FEATURES: Final = len(NODE_FEATURES)
_LIMIT: Final = 3.0


# What of a whole deployment decides how much an engine adds to its kernels: heads expanded in memory, unfused
# norms and gates, loops over experts, scans, collectives.
DEPLOYMENT_FEATURES: Final = (
    "log_queries_per_kv_head",
    "gated_share",
    "log_experts",
    "recurrent_share",
    "log_gpus",
)
N_DEPLOYMENT_FEATURES: Final = len(DEPLOYMENT_FEATURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseGraphs:
    """Node features and presence of one phase for many deployments."""

    phase: Phase
    features: NDArray[np.float32]  # (n_deployments, n_slots, N_NODE_FEATURES)
    present: NDArray[np.bool_]  # (n_deployments, n_slots)


def queries_per_kv_head(deployments: DeploymentColumns) -> Column:
    """Return how many query heads share one key-value head; 1 without attention or with a latent cache."""
    shape = deployments.shape
    grouped = (shape.n_kv_heads > 0) & ~shape.is_mla
    return np.where(grouped, shape.n_heads / np.maximum(shape.n_kv_heads, 1.0), 1.0)


def deployment_features(deployments: DeploymentColumns) -> NDArray[np.float32]:
    """Return the features of whole deployments, ``(n_deployments, N_DEPLOYMENT_FEATURES)``."""
    shape = deployments.shape
    gated = shape.n_dense_mlp_layers * shape.gated_mlp + shape.n_moe_layers * shape.gated_experts
    columns = (
        np.log(queries_per_kv_head(deployments)),
        gated / np.maximum(shape.n_ffn_layers, 1.0),
        np.log1p(shape.n_experts * (shape.n_moe_layers > 0)) / 2.0,
        shape.n_recurrent_layers / np.maximum(shape.n_mixer_layers, 1.0),
        np.log(deployments.shard_degree),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def phase_graphs(phase: Phase, deployments: DeploymentColumns) -> PhaseGraphs:
    """Return the descriptors of one phase's kernels, clipped to ±3, zero where a slot is absent."""
    n = len(deployments.shard_degree)
    device = deployments.device
    ridge = ridge_point_flop_per_byte(device)
    tables = [_reference_table(phase, deployments, batch) for batch in REFERENCE_BATCH_SIZES]
    first = tables[0]
    present = first.launches > 0.0
    kinds = np.array([[kind == k for k in KINDS] for kind in SLOT_KINDS.values()], dtype=np.float64)
    matrix_bytes = first.width_in * first.width_out * deployments.weight_bytes_per_element[:, None]
    columns: list[SlotArray | Column] = [
        *(np.broadcast_to(kinds[:, i], present.shape) for i in range(len(KINDS))),
        *(np.full(n, float(phase == p)) for p in PHASES),
        *(_log(arithmetic_intensity_flop_per_byte(t) / ridge) / 3.0 for t in tables),
        (_log(first.width_in) - 8.0) / 2.0,
        (_log(first.width_out) - 8.0) / 2.0,
        _log(first.width_out / TILE_WIDTH / device.n_sms[:, None]) / 2.0,
        _log(matrix_bytes / device.l2_bytes[:, None]) / 3.0,
        _log(ridge / 150.0),
        _log(device.tdp_w / (device.vector_flops_per_s / 1e9) / _GPU_CENTRES[0]) / 2.0,
        _log(device.tdp_w / (device.memory_bandwidth_bytes_per_s / 1e6) / (_GPU_CENTRES[1] * 40.0)) / 2.0,
        _log(device.network_bytes_per_s / device.memory_bandwidth_bytes_per_s / 0.15) / 2.0,
        _log(deployments.shard_degree) / 2.0,
        _log(deployments.expert_parallel) / 2.0,
        _log(deployments.weight_bytes_per_element / 2.0),
        _log(deployments.kv_bytes_per_element / 2.0),
        _log(queries_per_kv_head(deployments)) / 2.0,
    ]
    stacked = np.empty((len(columns), *present.shape), dtype=np.float32)
    for place, column in zip(stacked, columns, strict=True):
        place[...] = column if column.ndim == 2 else column[:, None]
    stacked = np.clip(stacked, -_LIMIT, _LIMIT, out=stacked) * present
    features = np.ascontiguousarray(np.moveaxis(stacked, 0, -1))
    return PhaseGraphs(phase=phase, features=features, present=present)


def _reference_table(phase: Phase, deployments: DeploymentColumns, batch: float) -> KernelTable:
    ones = np.ones(len(deployments.shard_degree))
    work = deployments.workload(batch * ones, REFERENCE_PROMPT_TOKENS * ones, 2.0 * ones, 0.0 * ones)
    return count_phase(phase, deployments.shape, work)


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(values, 1e-9))
