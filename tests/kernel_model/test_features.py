"""Rooflines and features of kernels: by hand, and equal where physics is equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.catalog.gpus import resolve_gpu
from llmco2.kernel_model.device import family_of, kernel_device
from llmco2.kernel_model.features import KINDS, N_FEATURES, expected_active_experts, gemm
from llmco2.kernel_model.formats import FORMAT_INDEX, FORMAT_OF_PRECISION
from llmco2.kernel_model.node_functions import NodeFunctions
from llmco2.predictor.checkpoint import load_checkpoint


def gemm_sizes(m: float, n: float, k: float, form: str) -> dict[str, np.ndarray]:
    return {
        name: np.array([float(value)])
        for name, value in
        {"m": m, "n": n, "k": k, "format": FORMAT_INDEX[form], "stack": 0, "library": 8}.items()
    }  # fmt: skip


def test_a_small_product_is_bound_by_its_weights_by_hand() -> None:
    h100 = kernel_device([resolve_gpu("H100-SXM5-80GB")])
    inputs = gemm(gemm_sizes(8, 4096, 4096, "16bit"), h100)
    moved = 2 * (8 * 4096 + 4096 * 4096 + 8 * 4096)
    assert inputs.roofline_s[0] == pytest.approx(moved / 3.35e12)
    assert inputs.flops[0] == 2 * 8 * 4096 * 4096


def test_eight_bit_halves_the_time_of_a_large_product() -> None:
    h100 = kernel_device([resolve_gpu("H100-SXM5-80GB")])
    wide, narrow = (
        gemm(gemm_sizes(16384, 8192, 8192, form), h100).roofline_s[0] for form in ("16bit", "fp8")
    )
    assert narrow == pytest.approx(wide / 2, rel=1e-3)


def test_bf16_and_fp16_are_one_format() -> None:
    assert FORMAT_OF_PRECISION["bf16"] == FORMAT_OF_PRECISION["fp16"]


def test_families_are_of_chips_not_of_boards() -> None:
    names = {
        gpu: family_of(resolve_gpu(gpu)) for gpu in ("H100", "H200", "GH200-96GB", "A40", "B200", "MI300X")
    }
    assert names == {
        "H100": "sm90",
        "H200": "sm90",
        "GH200-96GB": "sm90",
        "A40": "",
        "B200": "sm100",
        "MI300X": "",
    }


@given(st.integers(2, 512), st.integers(1, 8), st.integers(1, 10_000), st.sampled_from([0.0, 1.01, 1.2]))
def test_no_more_experts_are_active_than_there_are_or_are_asked_for(
    n_experts: int, top_k: int, tokens: int, skew: float
) -> None:
    one = np.ones(1)
    top_k = min(top_k, n_experts)
    active = expected_active_experts(n_experts * one, top_k * one, tokens * one, skew * one)[0]
    assert active <= min(n_experts, top_k * tokens) * (1 + 1e-9)
    more = expected_active_experts(n_experts * one, top_k * one, (tokens + 1) * one, skew * one)[0]
    assert more >= active - 1e-9


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_shipped_node_functions_never_beat_the_roofline(kind: str) -> None:
    nodes: NodeFunctions = load_checkpoint().nodes
    assert nodes.of_kind[kind].mean.shape == (N_FEATURES[kind],)
    rng = np.random.default_rng(0)
    from llmco2.kernel_model.features import CONTEXT, SIZES  # noqa: PLC0415

    n = 200
    device = kernel_device([resolve_gpu("H200")]).take(np.zeros(n, dtype=np.intp))
    sizes = {name: np.exp2(rng.integers(0, 10, n)).astype(float) for name in SIZES[kind]}
    small = {"format": 7, "operation": 4, "before": 2, "narrow": 2, "convolution": 2, "decode": 2}
    for name, top in small.items():
        if name in sizes:
            sizes[name] = rng.integers(0, top, n).astype(float)
    if "kv_bytes" in sizes:
        sizes["kv_bytes"] = rng.integers(1, 3, n).astype(float)
    if "top_k" in sizes:
        sizes["top_k"] = np.minimum(sizes["top_k"], sizes["n_experts"])
        sizes["skew"], sizes["matrices"] = np.zeros(n), np.full(n, 3.0)
    if "n_gpus" in sizes:
        sizes["n_gpus"] = np.full(n, 4.0)
    sizes |= {name: np.zeros(n) for name in CONTEXT}
    seconds = nodes.latency_s(kind, sizes, device)
    assert np.all(seconds >= KINDS[kind](sizes, device).roofline_s)
    assert np.all(np.isfinite(seconds))
