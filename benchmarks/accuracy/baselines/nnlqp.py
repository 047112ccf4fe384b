"""NNLQP: one graph embedding of all kernels beside static features, regressed to energy.

Source: Liu et al., "NNLQP: A Multi-Platform Neural Network Latency Query and Prediction System" (ICPP 2022), as
LLMCO2 (arXiv 2410.02950) compares itself with it: two GraphSAGE layers with unit-length outputs, the sum over nodes,
four static features of the whole graph, two dense layers.

A node is a kernel: its kind, the widths of its operand and result, launches, FLOPs and bytes. Prefill and decode are
one graph with their work added up, and no feature knows a roofline. The static features are the source's four (batch
size, FLOPs, parameters, bytes) and what stands in for its platforms.

Simplifications: the source keeps a head for every platform it has measured, which can say nothing of a GPU left out;
here platforms are columns (peak FLOP/s, bandwidth, memory, TDP, GPUs, engine and precision by name), as any baseline on
unseen GPUs needs them. Widths are 48 in place of 512; magnitudes enter as logs; fitted to log energy, stopped early on
deployments held back from the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.nn import DenseSAGEConv

from benchmarks.accuracy.baselines.label_table import Table, phase_work, row_deployments
from benchmarks.accuracy.baselines.regression import FitPlan, Inputs, fit_network, predict, standardiser
from benchmarks.accuracy.baselines.request_columns import name_columns, trained_names
from benchmarks.accuracy.baselines.windows import (
    Windows,
    all_windows,
    energy_samples,
    energy_table,
    held_back,
    window_totals,
)
from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.release.heldout import Fold
from llmco2.catalog.params import parameter_count
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import numbers
from llmco2.deployment.columns import deployment_columns
from llmco2.operators.graph import mean_adjacency
from llmco2.operators.names import KINDS, PHASES, SLOT_KINDS
from llmco2.operators.roofline import peak_flops_per_s
from llmco2.physics.descriptors import NODE_FEATURES, phase_graphs

NAME: Final = "NNLQP"
HIDDEN: Final = 48
DROPOUT: Final = 0.05
PLAN: Final = FitPlan(steps=300, peak_rate=5e-3, weight_decay=1e-3, batch_size=512)
N_NODE_COLUMNS: Final = len(KINDS) + 5
_WIDTHS: Final = [NODE_FEATURES.index(name) for name in ("log_width_in", "log_width_out")]
_LOG_SCALE: Final = 10.0  # logs of these magnitudes reach about 35
Names = tuple[tuple[str, ...], tuple[str, ...]]


class GraphRegression(nn.Module):
    """Two rounds of GraphSAGE, the sum over kernels, static features, two dense layers, one log energy."""

    def __init__(self, n_static: int, typical: float) -> None:
        super().__init__()
        self.first = DenseSAGEConv(N_NODE_COLUMNS, HIDDEN, normalize=True)
        self.second = DenseSAGEConv(HIDDEN, HIDDEN, normalize=True)
        self.dense = nn.ModuleList([nn.Linear(HIDDEN + n_static, HIDDEN), nn.Linear(HIDDEN, HIDDEN)])
        self.predictor = nn.Linear(HIDDEN, 1)
        nn.init.constant_(self.predictor.bias, typical)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, nodes: Tensor, present: Tensor, adjacency: Tensor, static: Tensor) -> Tensor:
        """Return log energies ``(n,)`` of graphs.

        Args:
            nodes: ``(n, n_slots, N_NODE_COLUMNS)``.
            present: ``(n, n_slots)``, whether the kernel is there.
            adjacency: ``(n, n_slots, n_slots)``.
            static: ``(n, n_static)``.
        """
        hidden = self.drop(torch.relu(self.first(nodes, adjacency, present)))
        hidden = self.drop(torch.relu(self.second(hidden, adjacency, present)))
        hidden = torch.cat([hidden.sum(dim=1), static], dim=1)
        for layer in self.dense:
            hidden = self.drop(torch.relu(layer(hidden)))
        return torch.as_tensor(self.predictor(hidden)).squeeze(1)


def graph_columns(
    data: EnergyDataModule, windows: Windows, names: Names
) -> tuple[Tensor, Tensor, Tensor, NDArray[np.float64]]:
    """Return nodes, presence, adjacency and static features (not yet standardised) of every window's graph."""
    rows = windows.row
    place = data.tensors.deployment.numpy()[rows]
    columns, work = row_deployments(data, rows), phase_work(data, rows)
    launches = window_totals(windows, work, "launches")
    flops = window_totals(windows, work, "compute_s") * peak_flops_per_s(columns.device)
    traffic_s = sum(window_totals(windows, work, name) for name in ("weight_s", "activation_s", "kv_s"))
    moved = traffic_s * columns.device.memory_bandwidth_bytes_per_s[:, None]
    present = launches > 0.0
    kinds = np.array([[float(kind == k) for k in KINDS] for kind in SLOT_KINDS.values()])
    widths = phase_graphs(PHASES[0], deployment_columns(data.tensors.deployments)).features[:, :, _WIDTHS][
        place
    ]
    sizes = np.stack([np.log1p(x) / _LOG_SCALE for x in (launches, flops, moved)], axis=2)
    nodes = np.concatenate([np.broadcast_to(kinds, (len(rows), *kinds.shape)), widths, sizes], axis=2)
    adjacency = np.stack([mean_adjacency(PHASES[0], tuple(p)) for p in present.tolist()])
    parameters = np.array(
        [parameter_count(d.architecture) for d in data.tensors.deployments], dtype=np.float64
    )
    device = columns.device
    magnitudes = (
        numbers(data.frame["batch_size"].iloc[rows]), flops.sum(axis=1), parameters[place], moved.sum(axis=1),
        device.matmul_flops_per_s, device.memory_bandwidth_bytes_per_s, device.memory_bytes, device.tdp_w,
        work[0].n_gpus,
    )  # fmt: skip
    static = np.column_stack([*(np.log1p(m) for m in magnitudes), name_columns(data, rows, names)])
    return (
        torch.from_numpy(nodes * present[:, :, None]).float(),
        torch.from_numpy(present),
        torch.from_numpy(adjacency).float(),
        static,
    )


def graph_table(data: EnergyDataModule, train: Index, rows: Index, seed: int, plan: FitPlan = PLAN) -> Table:
    """Return predicted energies of ``rows`` by a network fitted to ``train``."""
    samples = energy_samples(data, train)
    names = trained_names(data, samples.windows.row)
    *graphs, static = graph_columns(data, samples.windows, names)
    scale = standardiser(static)
    typical = float(np.average(samples.log_energy, weights=samples.weight))
    network = fit_network(
        lambda: GraphRegression(static.shape[1], typical), (*graphs, scale(static)),
        samples.log_energy, samples.weight,
        np.isin(samples.windows.row, held_back(data, np.unique(samples.windows.row), seed)), seed=seed, plan=plan,
    )  # fmt: skip
    *asked, asked_static = graph_columns(data, all_windows(rows), names)
    inputs: Inputs = (*asked, scale(asked_static))
    return energy_table(predict(network, inputs).double().numpy())


def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:
    """Return the errors on the fold's test rows."""
    return {NAME: label_errors(graph_table(data, fold.train, fold.test, seed), data, fold.test)}


METHOD_GROUP = MethodGroup(
    names=(NAME,),
    fold_errors=fold_errors,
    seeded=True,
    about="GraphSAGE over one graph of all kernels with static features (NNLQP, ICPP 2022), no roofline, no phases.",
)
