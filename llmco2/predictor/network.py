"""The coefficient network in numpy: the same sums as the torch module, from a checkpoint's arrays.

Invariant: agrees with :class:`llmco2.networks.coefficients.CoefficientNetwork` to 1e-5, which a test holds
it to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.deployment.columns import DeploymentColumns
from llmco2.deployment.deployment import Deployment
from llmco2.operators.graph import mean_adjacency
from llmco2.operators.names import KINDS, PHASES, SLOT_KINDS, Phase
from llmco2.physics.descriptors import deployment_features, phase_graphs
from llmco2.physics.groups import BOARD_KIND, deployment_groups
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, bounded
from llmco2.predictor.checkpoint import Checkpoint

Float = NDArray[np.float32]
_KIND_OF_SLOT: Final = np.array([KINDS.index(kind) for kind in SLOT_KINDS.values()])
_SLOT_IS_POWER: Final = np.array([name.endswith("_power") for name in SLOT_COEFFICIENTS], dtype=np.float32)
_PHASE_IS_POWER: Final = np.array([name.endswith("_power") for name in PHASE_COEFFICIENTS], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCoefficients:
    """Readout coefficients of one phase."""

    slot: dict[str, NDArray[np.float64]]  # name → (n_deployments, n_slots)
    phase: dict[str, NDArray[np.float64]]  # name → (n_deployments,)

    def take(self, index: NDArray[np.intp]) -> PhaseCoefficients:
        """Return the rows ``index``, with repeats."""
        return PhaseCoefficients(
            slot={name: values[index] for name, values in self.slot.items()},
            phase={name: values[index] for name, values in self.phase.items()},
        )

    def scaled(self, scales: Mapping[str, float]) -> PhaseCoefficients:
        """Return the coefficients times ``scales`` by name; the physical ranges still hold."""

        def one(
            ranges: dict[str, tuple[float, float, float]], table: dict[str, NDArray[np.float64]]
        ) -> dict[str, NDArray[np.float64]]:
            return {
                name: np.clip(column * scales[name], *ranges[name][:2]) if name in scales else column
                for name, column in table.items()
            }

        return PhaseCoefficients(
            slot=one(SLOT_COEFFICIENTS, self.slot), phase=one(PHASE_COEFFICIENTS, self.phase)
        )


def vocabulary_index(checkpoint: Checkpoint, kind: str, names: list[str]) -> NDArray[np.intp]:
    """Return each name's index among the checkpoint's ``kind``; 0 for what was never measured."""
    index = {name: i + 1 for i, name in enumerate(checkpoint.vocabulary[kind])}
    return np.array([index.get(name, 0) for name in names], dtype=np.intp)


def coefficients(
    checkpoint: Checkpoint, deployments: list[Deployment], columns: DeploymentColumns
) -> dict[Phase, PhaseCoefficients]:
    """Return the coefficients of both phases for every deployment."""
    arrays = checkpoint.arrays
    engine = vocabulary_index(checkpoint, "engines", [d.engine for d in deployments])
    precision = vocabulary_index(checkpoint, "precisions", [d.precision.name for d in deployments])
    gpu = vocabulary_index(checkpoint, "gpus", [d.gpu_id for d in deployments])
    family = vocabulary_index(checkpoint, "families", [d.architecture.family for d in deployments])
    level = arrays["gpu_level"][gpu] + arrays["family_level"][family]
    groups = [
        vocabulary_index(checkpoint, "groups", list(names))
        for names in zip(*map(deployment_groups, deployments), strict=True)
    ]
    for group in groups:
        level = level + arrays["group_level"][group] * (group > 0)[:, None]
    slot_level = level[:, :1] * _SLOT_IS_POWER + level[:, 1:2] * (1 - _SLOT_IS_POWER)
    phase_level = level[:, :1] * _PHASE_IS_POWER + level[:, 2:] * (1 - _PHASE_IS_POWER)
    per_deployment = arrays["engine_slot"][engine] + arrays["precision_slot"][precision] + slot_level
    features = deployment_features(columns)
    by_feature = arrays["feature_slot"] + arrays["engine_feature_slot"][engine]
    per_deployment = per_deployment + np.einsum("df,dfc->dc", features, by_feature)
    host_feature = arrays["feature_phase"] + arrays["engine_feature_phase"][engine]
    phase_level = phase_level + np.einsum("df,dfc->dc", features, host_feature)
    per_slot = arrays["base_slot"] + arrays["kind_slot"][_KIND_OF_SLOT]
    by_engine = arrays["engine_kind"][engine][:, _KIND_OF_SLOT]
    slot_scores = per_deployment[:, None, :] + per_slot + by_engine
    answer: dict[Phase, PhaseCoefficients] = {}
    # The graph network corrects where the engine was measured on the board; elsewhere the formula answers.
    gate = (groups[BOARD_KIND] > 0).astype(np.float32)
    for p, phase in enumerate(PHASES):
        phase_scores = arrays["base_phase"][p] + arrays["engine_phase"][engine, p] + phase_level
        slot = slot_scores
        if checkpoint.network["hidden_dim"]:
            node, pooled = _corrections(checkpoint, phase, columns, engine)
            slot, phase_scores = slot + gate[:, None, None] * node, phase_scores + gate[:, None] * pooled
        answer[phase] = PhaseCoefficients(
            slot=_bounded(SLOT_COEFFICIENTS, slot), phase=_bounded(PHASE_COEFFICIENTS, phase_scores)
        )
    return answer


def _corrections(
    checkpoint: Checkpoint, phase: Phase, columns: DeploymentColumns, engine: NDArray[np.intp]
) -> tuple[Float, Float]:
    """Return the graph network's scores: ``(n, n_slots, n_slot)`` and ``(n, n_phase)``."""
    arrays, limit = checkpoint.arrays, np.float32(checkpoint.network["correction_limit"])
    graphs = phase_graphs(phase, columns)
    mask = graphs.present[:, :, None].astype(np.float32)
    encoded = _linear(graphs.features, arrays["encoder.weight"]) + arrays["encoder.bias"]
    hidden = np.tanh(encoded + arrays["engine_embedding"][engine][:, None, :]) * mask
    which, neighbours = _neighbours(phase, graphs.present)
    for i in range(checkpoint.network["n_rounds"]):
        received = np.empty_like(hidden)
        for k, matrix in enumerate(neighbours):
            rows = which == k
            received[rows] = matrix @ hidden[rows]
        own = _linear(hidden, arrays[f"convolutions.{i}.lin_r.weight"])
        sent = _linear(received, arrays[f"convolutions.{i}.lin_l.weight"])
        sent += arrays[f"convolutions.{i}.lin_l.bias"]
        hidden = (hidden + np.tanh(sent + own)) * mask
    pooled = hidden.sum(axis=1) / mask.sum(axis=1)
    both = np.concatenate([hidden, np.broadcast_to(pooled[:, None, :], hidden.shape)], axis=2)
    node = limit * np.tanh((_linear(both, arrays["slot_head.weight"]) + arrays["slot_head.bias"]) / limit)
    whole = limit * np.tanh((pooled @ arrays["phase_head.weight"].T + arrays["phase_head.bias"]) / limit)
    return node * mask, whole


def _linear(rows: Float, weight: Float) -> Float:
    """Return ``rows @ weight.T`` over the last axis as one product, which a stack of small ones is not."""
    flat: Float = rows.reshape(-1, rows.shape[-1]) @ weight.T
    return flat.reshape(*rows.shape[:-1], -1)


def _neighbours(phase: Phase, present: NDArray[np.bool_]) -> tuple[NDArray[np.intp], list[Float]]:
    """Return each deployment's pattern of kernels, and the averaging matrix of each pattern."""
    keys = present @ (1 << np.arange(present.shape[1], dtype=np.int64))  # a pattern as the bits of a number
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    patterns = [tuple(row) for row in present[first].tolist()]
    return which, [mean_adjacency(phase, pattern).astype(np.float32) for pattern in patterns]


def _bounded(ranges: dict[str, tuple[float, float, float]], scores: Float) -> dict[str, NDArray[np.float64]]:
    wide = scores.astype(np.float64)
    return {name: bounded(np, wide[..., i], *limits) for i, (name, limits) in enumerate(ranges.items())}
