"""Kernel graphs of many deployments as one torch-geometric batch.

A batch holds ``2 × n_deployments`` graphs, those of prefill first: graph ``i`` and ``n_deployments + i`` belong to
deployment ``i``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from llmco2.deployment.columns import DeploymentColumns
from llmco2.operators.graph import data_flow
from llmco2.operators.names import PHASES, SLOT_INDEX, SLOTS
from llmco2.physics.descriptors import PhaseGraphs, phase_graphs


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentBatch:
    """Graphs and categories of the deployments of a batch."""

    graphs: Batch  # x (n_nodes, n_features), edge_index (2, n_edges), slot (n_nodes,), batch (n_nodes,)
    n_deployments: int
    features: Tensor  # (n_deployments, N_DEPLOYMENT_FEATURES)
    engine: Tensor  # (n_deployments,) index into the network's engines; 0 = unknown
    precision: Tensor  # (n_deployments,) index; 0 = unknown
    gpu: Tensor  # (n_deployments,) index; 0 = a board without measurements
    family: Tensor  # (n_deployments,) index; 0 = a model family without measurements
    groups: Tensor  # (n_deployments, N_GROUP_KINDS) index; 0 = a group without measurements


def phase_graph_data(graphs: PhaseGraphs) -> list[Data]:
    """Return one torch-geometric graph per deployment; edges go both ways along the data flow."""
    return [
        _one_graph(graphs, row, tuple(s for s, p in zip(SLOTS, graphs.present[row], strict=True) if p))
        for row in range(len(graphs.present))
    ]


def _one_graph(graphs: PhaseGraphs, row: int, slots: tuple[str, ...]) -> Data:
    position = {slot: i for i, slot in enumerate(slots)}
    forward = [(position[a], position[b]) for a, b in data_flow(graphs.phase, slots)]
    both = forward + [(b, a) for a, b in forward]
    slot = np.array([SLOT_INDEX[s] for s in slots], dtype=np.int64)
    return Data(
        x=torch.from_numpy(graphs.features[row, slot]),
        edge_index=torch.tensor(both, dtype=torch.long).reshape(-1, 2).T.contiguous(),
        slot=torch.from_numpy(slot),
        num_nodes=len(slots),
    )


def all_graphs(columns: DeploymentColumns) -> list[Data]:
    """Return the graphs of all deployments in the order a batch keeps: prefill of each, then decode of each."""
    return [data for phase in PHASES for data in phase_graph_data(phase_graphs(phase, columns))]
