"""The paper's two networks: what they read, and that they are two."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.accuracy.paper_network import N_GLOBAL_FEATURES, N_NODE_FEATURES, PaperNetwork, paper_inputs
from llmco2.data.simulate import simulate_runs
from llmco2.data.tensors import run_tensors
from llmco2.operators.names import KINDS

torch.set_num_threads(1)


def test_nodes_carry_their_kind_and_sizes() -> None:
    tensors = run_tensors(simulate_runs(12, seed=2))
    network = PaperNetwork(hidden_dim=8).eval()
    nodes, graphs, features = network._read(
        0, paper_inputs(tensors.deployments), tensors.bases[0], tensors.deployment
    )
    assert nodes.shape == (graphs.num_nodes, N_NODE_FEATURES)
    assert features.shape == (12, N_GLOBAL_FEATURES)
    assert torch.equal(nodes[:, : len(KINDS)].sum(dim=1), torch.ones(len(nodes)))
    # The sizes of a row's kernels add up to the row's totals: log1p(x) / 10 undone.
    flops = torch.expm1(10.0 * nodes[:, len(KINDS)].double())
    totals = torch.zeros(12, dtype=torch.float64).index_add(0, graphs.batch, flops)
    np.testing.assert_allclose(totals.numpy(), torch.expm1(10.0 * features[:, 0].double()).numpy(), rtol=1e-4)


def test_phases_share_no_weight_and_decode_reads_prefill() -> None:
    tensors = run_tensors(simulate_runs(6, seed=2))
    inputs = paper_inputs(tensors.deployments)
    network = PaperNetwork(hidden_dim=8, dropout=0.0)
    prefill, decode = network(inputs, tensors.bases, tensors.deployment)
    prefill.sum().backward(retain_graph=True)
    assert all(p.grad is None for p in network.decode.parameters())
    network.zero_grad()
    decode.sum().backward()
    assert all(p.grad is None for p in network.prefill.parameters())
    with torch.no_grad():
        network.prefill.predictor.bias += 3.0
        _, moved = network(inputs, tensors.bases, tensors.deployment)
    assert not torch.equal(moved, decode)
