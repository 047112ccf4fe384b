"""Descriptors name no size: batch, tokens and depth leave them, and so the coefficients, as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmco2.catalog.models import load_models
from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import resolve_deployment
from llmco2.operators.names import KINDS, N_SLOTS, PHASES, SLOT_INDEX, SLOT_KINDS, Phase
from llmco2.physics.basis import phase_basis
from llmco2.physics.descriptors import N_NODE_FEATURES, NODE_FEATURES, phase_graphs


def deployed(model: str, gpu: str = "A100-SXM4-80GB", tp: int = 1, precision: str = "unknown") -> Deployment:
    return resolve_deployment(model, gpu, tp, 1, 1, "unknown", precision, "unknown")


@pytest.fixture(scope="module")
def catalog() -> list[Deployment]:
    return [deployed(model) for model in load_models()]


@pytest.mark.parametrize("phase", PHASES)
def test_features_are_bounded_and_zero_where_a_kernel_is_absent(
    phase: Phase, catalog: list[Deployment]
) -> None:
    graphs = phase_graphs(phase, deployment_columns(catalog))
    assert graphs.features.shape == (len(catalog), N_SLOTS, N_NODE_FEATURES)
    assert graphs.features.dtype == np.float32
    assert np.all(np.isfinite(graphs.features))
    assert np.abs(graphs.features).max() <= 3.0
    assert np.all(graphs.features[~graphs.present] == 0.0)
    assert np.all(graphs.present[:, SLOT_INDEX["lm_head"]])


@pytest.mark.parametrize("phase", PHASES)
def test_each_kernel_is_of_one_kind_and_one_phase(phase: Phase, catalog: list[Deployment]) -> None:
    graphs = phase_graphs(phase, deployment_columns(catalog))
    kinds = graphs.features[:, :, : len(KINDS)]
    for slot, kind in SLOT_KINDS.items():
        here = graphs.present[:, SLOT_INDEX[slot]]
        assert np.all(kinds[here, SLOT_INDEX[slot], KINDS.index(kind)] == 1.0)
    assert np.all(kinds.sum(axis=2)[graphs.present] == 1.0)
    column = NODE_FEATURES.index(f"is_{phase}")
    assert np.all(graphs.features[:, :, column][graphs.present] == 1.0)


@pytest.mark.parametrize("phase", PHASES)
def test_depth_leaves_descriptors_as_they_are(phase: Phase, catalog: list[Deployment]) -> None:
    layers = [name for name in catalog[0].architecture.__dataclass_fields__ if name.endswith("_layers")]
    deeper = [
        replace(
            d, architecture=replace(d.architecture, **{n: 3 * getattr(d.architecture, n) for n in layers})
        )
        for d in catalog
    ]
    before, after = (phase_graphs(phase, deployment_columns(each)) for each in (catalog, deeper))
    np.testing.assert_array_equal(after.present, before.present)
    np.testing.assert_allclose(after.features, before.features, atol=1e-6)


def test_the_intensity_of_a_matrix_product_is_that_of_its_shape_over_the_ridge() -> None:
    # Llama-3.1-8B, MLP up on an A100, 32 × 512 tokens: 16,384 rows, 4096 → 2 × 14,336, two bytes each.
    rows, n_in, n_out = 32 * 512, 4096, 2 * 14336
    intensity = 2 * rows * n_in * n_out / (2 * (n_in * n_out + rows * (n_in + n_out)))
    ridge = 312e12 / 2039e9
    graphs = phase_graphs("prefill", deployment_columns([deployed("meta-llama/Llama-3.1-8B")]))
    feature = NODE_FEATURES.index("log_intensity_over_ridge_batch_32")
    got = graphs.features[0, SLOT_INDEX["mlp_up"], feature]
    assert got == pytest.approx(np.log(intensity / ridge) / 3.0, rel=1e-4)


def test_one_gpu_has_no_messages_and_tensor_parallel_has() -> None:
    model = "meta-llama/Llama-3.1-8B"
    graphs = phase_graphs("decode", deployment_columns([deployed(model), deployed(model, tp=4)]))
    assert graphs.present[:, SLOT_INDEX["mixer_all_reduce"]].tolist() == [False, True]
    assert graphs.present[:, SLOT_INDEX["mlp_all_reduce"]].tolist() == [False, True]


@pytest.mark.parametrize("phase", PHASES)
def test_the_basis_counts_seconds_at_peak_rate(phase: Phase) -> None:
    columns = deployment_columns([deployed("meta-llama/Llama-3.1-8B", tp=2)])
    one = np.ones(1)
    work = columns.workload(4 * one, 100 * one, 11 * one, 0 * one)
    basis, roofline = phase_basis(phase, columns, work)
    head = SLOT_INDEX["lm_head"]
    steps, logits = (1, 4) if phase == "prefill" else (10, 40)
    # Half of 128,256 × 4096 weights on each GPU, two bytes each, read once a pass; 312 TFLOP/s and 2039 GB/s.
    assert basis.compute_s[0, head] == pytest.approx(2 * logits * 4096 * 128256 / 2 / 312e12)
    assert basis.weight_s[0, head] == pytest.approx(steps * 4096 * 128256 / 2 * 2 / 2039e9)
    assert (basis.steps[0], basis.n_gpus[0], basis.n_shards[0]) == (steps, 2, 2)
    # A ring over two GPUs sends each byte of the stream once: 400 or 40 rows of 4096, two bytes, 32 layers.
    rows = 400 if phase == "prefill" else 40
    link = columns.device.network_bytes_per_s[0]
    sent_s = basis.network_s[0, SLOT_INDEX["mixer_all_reduce"]]
    assert sent_s == pytest.approx(rows * 4096 * 2 * 32 / link)
    np.testing.assert_array_equal(basis.compute_s, roofline.compute_s)


def test_a_power_cap_lowers_the_limit_and_never_raises_it() -> None:
    columns = deployment_columns([deployed("Qwen/Qwen3-8B")] * 2)
    one = np.ones(2)
    work = columns.workload(one, 10 * one, 10 * one, 0 * one)
    basis, _ = phase_basis("decode", columns, work, power_limit_w=np.array([250.0, 900.0]))
    assert basis.power_limit_w.tolist() == [250.0, 400.0]
    assert basis.tdp_w.tolist() == [400.0, 400.0]
