"""Node functions: torch and numpy answer alike, names are hidden only while training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmco2.data.kernel_rows import KernelRows
from llmco2.data.simulated_kernels import simulate_kernels
from llmco2.kernel_model.device import FAMILIES
from llmco2.kernel_model.features import KINDS, LIBRARIES, N_CONTEXT_FEATURES, feature_counts
from llmco2.kernel_model.node_functions import node_functions
from llmco2.networks.kernel_network import KernelNetwork, NodeFunction

torch.set_num_threads(1)
ROWS = {kind: KernelRows(kind, simulate_kernels(kind, 100)) for kind in KINDS}


@pytest.fixture
def network() -> KernelNetwork:
    torch.manual_seed(0)
    network = KernelNetwork(feature_counts(), width=24, depth=2)
    for kind, rows in ROWS.items():
        network.node(kind).fit_scales(rows.features, rows.target)
    return network.eval()


def test_numpy_answers_as_torch_does(network: KernelNetwork) -> None:
    numpy_nodes = node_functions(network.arrays())
    with torch.no_grad():
        answers = network({kind: rows.features for kind, rows in ROWS.items()})
    for kind, rows in ROWS.items():
        assert answers[kind].shape == (100,)
        assert answers[kind].std() > 0.0
        np.testing.assert_allclose(
            numpy_nodes.of_kind[kind].log_ratio(rows.features.numpy()), answers[kind].numpy(), atol=1e-5
        )


def test_scales_are_those_of_the_rows_and_words_keep_theirs(network: KernelNetwork) -> None:
    node, rows = network.node("gemm"), ROWS["gemm"]
    assert node.is_fitted
    assert not KernelNetwork(feature_counts()).node("gemm").is_fitted
    sizes = slice(0, -N_CONTEXT_FEATURES)
    torch.testing.assert_close(node.mean[sizes], rows.features.mean(dim=0)[sizes])
    assert (node.mean[-N_CONTEXT_FEATURES:] == 0.0).all()
    assert (node.scale[-N_CONTEXT_FEATURES:] == 1.0).all()
    assert float(node.center) == pytest.approx(float(rows.target.median()))


def test_names_are_hidden_while_training_alone() -> None:
    torch.manual_seed(0)
    rows = ROWS["gemm"]
    hiding = NodeFunction(rows.features.shape[1], width=8, depth=1, family_dropout=1.0, library_dropout=1.0)
    unnamed = rows.features.clone()
    first = unnamed.shape[1] - N_CONTEXT_FEATURES
    unnamed[:, first : first + len(FAMILIES)] = 0.0
    unnamed[:, -len(LIBRARIES) :] = 0.0
    with torch.no_grad():
        trained = hiding.train()(rows.features)
        torch.testing.assert_close(trained, hiding.eval()(unnamed))
        assert not torch.allclose(trained, hiding(rows.features))


def test_far_features_say_no_more_than_that_they_are_far(network: KernelNetwork) -> None:
    node = network.node("gemm")
    far = node.mean + 7.0 * node.scale
    with torch.no_grad():
        assert torch.equal(node(far[None]), node((node.mean + 70.0 * node.scale)[None]))
