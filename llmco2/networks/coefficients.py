"""The coefficient network: what hardware and engine make of each kernel, as bounded factors of the physical readout.

A score of zero everywhere is the formula with its prior constants. Shrunken offsets per kernel kind, engine,
precision, board, model family and their groups make it the fitted formula; a graph network over size-free descriptors
of the kernels adds a bounded correction that is zero at the start, and zero where the engine was never measured on the
board: there the formula is what transfers. Coefficients never see a request's size, so predictions stay monotone in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv, global_mean_pool

from llmco2.networks.batch import DeploymentBatch
from llmco2.networks.engine_priors import engine_phase_mean, engine_slot_mean
from llmco2.operators.names import KINDS, N_SLOTS, PHASES, SLOT_KINDS
from llmco2.physics.descriptors import N_DEPLOYMENT_FEATURES, N_NODE_FEATURES
from llmco2.physics.groups import BOARD_KIND
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, bounded

N_SLOT_COEFFICIENTS: Final = len(SLOT_COEFFICIENTS)
N_PHASE_COEFFICIENTS: Final = len(PHASE_COEFFICIENTS)
_KIND_OF_SLOT: Final = [KINDS.index(kind) for kind in SLOT_KINDS.values()]
N_LEVELS: Final = 3  # power, kernel time, host time
_POWER_SLOT: Final = [name.endswith("_power") for name in SLOT_COEFFICIENTS]
_POWER_PHASE: Final = [name.endswith("_power") for name in PHASE_COEFFICIENTS]
_TIME_SLOT: Final = [not power for power in _POWER_SLOT]
_TIME_PHASE: Final = [not power for power in _POWER_PHASE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Names the offsets are kept for; index 0 of each is what was never measured."""

    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    gpus: tuple[str, ...]
    families: tuple[str, ...]
    groups: tuple[str, ...]  # of llmco2.physics.groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Readout coefficients per phase, prefill then decode."""

    slot: tuple[dict[str, Tensor], dict[str, Tensor]]  # name → (n_deployments, n_slots)
    phase: tuple[dict[str, Tensor], dict[str, Tensor]]  # name → (n_deployments,)


class CoefficientNetwork(nn.Module):
    """Scores of every coefficient from kernel graphs and categories; see the module's text.

    Args:
        vocabulary: names with offsets of their own.
        hidden_dim: width of the graph network; 0 leaves the formula alone.
        n_rounds: rounds of message passing; 0 pools only.
        correction_limit: largest absolute score the graph network may add.
    """

    engine_slot_mean: Tensor  # what engine_slot is shrunk to
    engine_phase_mean: Tensor

    def __init__(self, vocabulary: Vocabulary, *, hidden_dim: int = 32, n_rounds: int = 2,
                 correction_limit: float = 1.0) -> None:  # fmt: skip
        super().__init__()
        self.vocabulary = vocabulary
        self.hidden_dim = hidden_dim
        self.correction_limit = correction_limit
        n_engines, n_precisions = len(vocabulary.engines) + 1, len(vocabulary.precisions) + 1
        self.kind_slot = nn.Parameter(torch.zeros(len(KINDS), N_SLOT_COEFFICIENTS))
        self.base_slot = nn.Parameter(torch.zeros(N_SLOT_COEFFICIENTS))
        self.base_phase = nn.Parameter(torch.zeros(len(PHASES), N_PHASE_COEFFICIENTS))
        self.register_buffer("engine_slot_mean", engine_slot_mean(vocabulary.engines), persistent=False)
        self.engine_slot = nn.Parameter(engine_slot_mean(vocabulary.engines))
        self.register_buffer("engine_phase_mean", engine_phase_mean(vocabulary.engines), persistent=False)
        self.engine_phase = nn.Parameter(engine_phase_mean(vocabulary.engines))
        self.engine_kind = nn.Parameter(torch.zeros(n_engines, len(KINDS), N_SLOT_COEFFICIENTS))
        self.feature_slot = nn.Parameter(torch.zeros(N_DEPLOYMENT_FEATURES, N_SLOT_COEFFICIENTS))
        self.feature_phase = nn.Parameter(torch.zeros(N_DEPLOYMENT_FEATURES, N_PHASE_COEFFICIENTS))
        self.engine_feature_slot = nn.Parameter(
            torch.zeros(n_engines, N_DEPLOYMENT_FEATURES, N_SLOT_COEFFICIENTS)
        )
        self.engine_feature_phase = nn.Parameter(
            torch.zeros(n_engines, N_DEPLOYMENT_FEATURES, N_PHASE_COEFFICIENTS)
        )
        self.precision_slot = nn.Parameter(torch.zeros(n_precisions, N_SLOT_COEFFICIENTS))
        # Levels move all of a deployment's powers, times of kernels, and times of the host.
        self.gpu_level = nn.Parameter(torch.zeros(len(vocabulary.gpus) + 1, N_LEVELS))
        self.family_level = nn.Parameter(torch.zeros(len(vocabulary.families) + 1, N_LEVELS))
        self.group_level = nn.Parameter(torch.zeros(len(vocabulary.groups) + 1, N_LEVELS))
        for name in ("kind_of_slot", "power_slot", "time_slot", "power_phase", "time_phase"):
            self.register_buffer(name, torch.empty(0), persistent=False)
        self.kind_of_slot = torch.tensor(_KIND_OF_SLOT)
        self.power_slot = torch.tensor(_POWER_SLOT, dtype=torch.float32)
        self.time_slot = torch.tensor(_TIME_SLOT, dtype=torch.float32)
        self.power_phase = torch.tensor(_POWER_PHASE, dtype=torch.float32)
        self.time_phase = torch.tensor(_TIME_PHASE, dtype=torch.float32)
        if hidden_dim:
            self.encoder = nn.Linear(N_NODE_FEATURES, hidden_dim)
            self.engine_embedding = nn.Parameter(0.1 * torch.randn(n_engines, hidden_dim))
            self.convolutions = nn.ModuleList(SAGEConv(hidden_dim, hidden_dim) for _ in range(n_rounds))
            self.slot_head = nn.Linear(2 * hidden_dim, N_SLOT_COEFFICIENTS)
            self.phase_head = nn.Linear(hidden_dim, N_PHASE_COEFFICIENTS)
            for head in (self.slot_head, self.phase_head):
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, batch: DeploymentBatch, *, corrected: bool = True) -> Coefficients:
        """Return the coefficients of every deployment of ``batch``; of the formula alone unless ``corrected``."""
        slot_scores, phase_scores = self._formula_scores(batch)
        if self.hidden_dim and corrected:
            slot_correction, phase_correction = self._corrections(batch)
            slot_scores = slot_scores + slot_correction
            phase_scores = phase_scores + phase_correction
        slot = tuple(_bounded(SLOT_COEFFICIENTS, slot_scores[p]) for p in range(len(PHASES)))
        phase = tuple(_bounded(PHASE_COEFFICIENTS, phase_scores[p]) for p in range(len(PHASES)))
        return Coefficients(slot=slot, phase=phase)  # type: ignore[arg-type]

    def _formula_scores(self, batch: DeploymentBatch) -> tuple[Tensor, Tensor]:
        """Return scores ``(2, n_deployments, n_slots, n_slot)`` and ``(2, n_deployments, n_phase)``."""
        of_groups = self.group_level[batch.groups] * (batch.groups > 0)[:, :, None]  # zero where unmeasured
        levels = self.gpu_level[batch.gpu] + self.family_level[batch.family] + of_groups.sum(dim=1)
        power, time, host_time = levels[:, :1], levels[:, 1:2], levels[:, 2:]
        per_deployment = (
            self.engine_slot[batch.engine]
            + self.precision_slot[batch.precision]
            + power * self.power_slot
            + time * self.time_slot
        )
        by_feature = (
            self.feature_slot + self.engine_feature_slot[batch.engine]
        )  # (n_deployments, n_features, n_slot)
        per_deployment = per_deployment + torch.einsum("df,dfc->dc", batch.features, by_feature)
        per_slot = self.base_slot + self.kind_slot[self.kind_of_slot]  # (n_slots, n_slot)
        by_engine = self.engine_kind[batch.engine][:, self.kind_of_slot]  # (n_deployments, n_slots, n_slot)
        slot = per_deployment[:, None, :] + per_slot + by_engine
        phase = self.base_phase + self.engine_phase[batch.engine]  # (n_deployments, 2, n_phase)
        host = self.feature_phase + self.engine_feature_phase[batch.engine]
        shared = (
            torch.einsum("df,dfc->dc", batch.features, host)
            + power * self.power_phase
            + host_time * self.time_phase
        )
        phase = phase + shared[:, None, :]
        return slot.expand(len(PHASES), -1, -1, -1), phase.transpose(0, 1)

    def _corrections(self, batch: DeploymentBatch) -> tuple[Tensor, Tensor]:
        graphs, n = batch.graphs, batch.n_deployments
        n_graphs = len(PHASES) * n
        engine = batch.engine.repeat(len(PHASES))[graphs.batch]
        hidden = torch.tanh(self.encoder(graphs.x) + self.engine_embedding[engine])
        for convolution in self.convolutions:
            hidden = hidden + torch.tanh(convolution(hidden, graphs.edge_index))
        pooled = global_mean_pool(hidden, graphs.batch, n_graphs)  # (n_graphs, hidden_dim)
        limit = self.correction_limit * is_gate_open(batch).repeat(len(PHASES))[:, None]  # (n_graphs, 1)
        both = torch.cat([hidden, pooled[graphs.batch]], dim=1)
        node = limit[graphs.batch] * torch.tanh(self.slot_head(both) / self.correction_limit)
        dense = node.new_zeros(n_graphs * N_SLOTS, N_SLOT_COEFFICIENTS)
        dense = dense.index_put((graphs.batch * N_SLOTS + graphs.slot,), node)
        phase = limit * torch.tanh(self.phase_head(pooled) / self.correction_limit)
        return dense.view(len(PHASES), n, N_SLOTS, -1), phase.view(len(PHASES), n, -1)


def is_gate_open(batch: DeploymentBatch) -> Tensor:
    """Return 1 for deployments whose engine was measured on their board, else 0, ``(n_deployments,)``."""
    return (batch.groups[:, BOARD_KIND] > 0).float()


def _bounded(ranges: dict[str, tuple[float, float, float]], scores: Tensor) -> dict[str, Tensor]:
    return {name: bounded(torch, scores[..., i], *limits) for i, (name, limits) in enumerate(ranges.items())}
