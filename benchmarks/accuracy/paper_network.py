"""LLMCO2 as its authors describe it (arXiv 2410.02950), to compare with: two GraphSAGE networks, one a phase.

Each network reads the kernel graph of its phase (one-hot kind of every kernel with its FLOPs, bytes,
attainable roofline rate and network bytes), passes two rounds of GraphSAGE with unit-length outputs, takes
the maximum over the kernels, joins the result with features of the GPU, the model and the whole phase, and
regresses the log of the energy. The decode network also reads what the prefill network said. Sizes, dropout
and that hand-over follow the authors' published scripts.

What differs: kernel kinds are those of this package (nine, the paper's eight and recurrent scans);
magnitudes enter as logs, because energies here span nine decades; request sizes enter through the kernels
and the number of steps; the networks train on whatever energies a run knows, not on phases alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import SAGEConv, global_max_pool

from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.networks.batch import phase_graph_data
from llmco2.operators.names import KINDS, PHASES, SLOT_KINDS
from llmco2.operators.roofline import peak_flops_per_s
from llmco2.physics.descriptors import phase_graphs
from llmco2.physics.readout import PhaseBasis

SIZE_FEATURES: Final = ("log_flops", "log_bytes", "log_attainable_flops_per_s", "log_network_bytes")
PHASE_FEATURES: Final = (
    "log_flops",
    "log_bytes",
    "log_network_bytes",
    "log_steps",
    "log_n_gpus",
    "log_power_limit_w",
)
DEPLOYMENT_FEATURES: Final = (
    "log_matmul_flops_per_s", "log_vector_flops_per_s", "log_memory_bandwidth", "log_network_bandwidth",
    "log_memory_bytes", "log_tdp_w", "log_hidden_dim", "log_n_layers", "log_n_heads", "log_ffn_dim",
    "log_vocab_size",
)  # fmt: skip
N_NODE_FEATURES: Final = len(KINDS) + len(SIZE_FEATURES)
N_GLOBAL_FEATURES: Final = len(PHASE_FEATURES) + len(DEPLOYMENT_FEATURES)
_LOG_SCALE: Final = 10.0  # logs of these magnitudes reach about 35
_TYPICAL_LOG_ENERGY: Final = 5.0  # J; where regression starts from


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperInputs:
    """What the two networks read of each deployment."""

    graphs: tuple[tuple[Data, ...], tuple[Data, ...]]  # per phase and deployment: edge_index, slot
    peak_flops_per_s: Tensor  # (n_deployments, n_slots)
    memory_bandwidth_bytes_per_s: Tensor  # (n_deployments,)
    network_bytes_per_s: Tensor  # (n_deployments,)
    features: Tensor  # (n_deployments, len(DEPLOYMENT_FEATURES))


def paper_inputs(deployments: Sequence[Deployment]) -> PaperInputs:
    """Return the deployments as the two networks read them."""
    columns = deployment_columns(deployments)
    device, shape = columns.device, columns.shape
    features = (
        device.matmul_flops_per_s, device.vector_flops_per_s, device.memory_bandwidth_bytes_per_s,
        device.network_bytes_per_s, device.memory_bytes, device.tdp_w, shape.hidden_dim, shape.n_mixer_layers,
        shape.n_heads, np.maximum(shape.ffn_dim, shape.expert_ffn_dim), shape.vocab_size,
    )  # fmt: skip
    prefill, decode = (tuple(phase_graph_data(phase_graphs(phase, columns))) for phase in PHASES)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    return PaperInputs(
        graphs=(prefill, decode),
        peak_flops_per_s=tensor(peak_flops_per_s(device)),
        memory_bandwidth_bytes_per_s=tensor(device.memory_bandwidth_bytes_per_s),
        network_bytes_per_s=tensor(device.network_bytes_per_s),
        features=tensor(np.log1p(np.stack(features, axis=1)) / _LOG_SCALE),
    )


class PhaseEnergyNetwork(nn.Module):
    """Two rounds of GraphSAGE, maximum over kernels, two dense layers, one log energy."""

    def __init__(self, *, hidden_dim: int, dropout: float, n_extra: int = 0) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                SAGEConv(N_NODE_FEATURES, hidden_dim, normalize=True),
                SAGEConv(hidden_dim, hidden_dim, normalize=True),
            ]
        )
        self.globals = nn.Linear(N_GLOBAL_FEATURES + n_extra, hidden_dim)
        self.dense = nn.ModuleList([nn.Linear(2 * hidden_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)])
        self.predictor = nn.Linear(hidden_dim, 1)
        nn.init.constant_(self.predictor.bias, _TYPICAL_LOG_ENERGY)
        self.drop = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, graphs: Batch, features: Tensor) -> Tensor:
        """Return log energies ``(n_rows,)`` from nodes ``(n_nodes, n)`` and features ``(n_rows, n)``."""
        hidden = nodes
        for convolution in self.convolutions:
            hidden = self.drop(torch.relu(convolution(hidden, graphs.edge_index)))
        pooled = global_max_pool(hidden, graphs.batch, len(features))
        hidden = torch.cat([pooled, torch.relu(self.drop(self.globals(features)))], dim=1)
        for layer in self.dense:
            hidden = self.drop(torch.relu(layer(hidden)))
        return torch.as_tensor(self.predictor(hidden)).squeeze(1)


class PaperNetwork(nn.Module):
    """The prefill and the decode network.

    Args:
        hidden_dim: width of every layer (the authors' scripts use 32; their class defaults to 512).
        dropout: share of activations dropped while training.
    """

    def __init__(self, *, hidden_dim: int = 32, dropout: float = 0.05) -> None:
        super().__init__()
        self.prefill = PhaseEnergyNetwork(hidden_dim=hidden_dim, dropout=dropout)
        self.decode = PhaseEnergyNetwork(hidden_dim=hidden_dim, dropout=dropout, n_extra=1)
        self.register_buffer("kind_one_hot", torch.empty(0), persistent=False)
        self.kind_one_hot = torch.tensor([[float(kind == k) for k in KINDS] for kind in SLOT_KINDS.values()])

    def forward(
        self, inputs: PaperInputs, bases: tuple[PhaseBasis, PhaseBasis], deployment: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return log energies of prefill and decode, each ``(n_rows,)``."""
        prefill = self.prefill(*self._read(0, inputs, bases[0], deployment))
        nodes, graphs, features = self._read(1, inputs, bases[1], deployment)
        handed_over = prefill.detach().unsqueeze(1) / _LOG_SCALE
        return prefill, self.decode(nodes, graphs, torch.cat([features, handed_over], dim=1))

    def _read(
        self, phase: int, inputs: PaperInputs, basis: PhaseBasis, deployment: Tensor
    ) -> tuple[Tensor, Batch, Tensor]:
        bandwidth = inputs.memory_bandwidth_bytes_per_s[deployment].unsqueeze(1)
        peak = inputs.peak_flops_per_s[deployment]
        flops = basis.compute_s * peak
        moved = (basis.weight_s + basis.activation_s + basis.kv_s) * bandwidth
        sent = basis.network_s * inputs.network_bytes_per_s[deployment].unsqueeze(1)
        attainable = torch.minimum(peak, flops / moved.clamp_min(1.0) * bandwidth)
        sizes = torch.stack([torch.log1p(v) / _LOG_SCALE for v in (flops, moved, attainable, sent)], dim=2)
        chosen = [inputs.graphs[phase][i] for i in deployment.tolist()]
        graphs = Batch.from_data_list(chosen).to(flops.device)
        nodes = torch.cat([self.kind_one_hot[graphs.slot], sizes[graphs.batch, graphs.slot]], dim=1)
        whole = torch.stack(
            [flops.sum(1), moved.sum(1), sent.sum(1), basis.steps, basis.n_gpus, basis.power_limit_w], dim=1
        )
        return nodes, graphs, torch.cat([torch.log1p(whole) / _LOG_SCALE, inputs.features[deployment]], dim=1)
