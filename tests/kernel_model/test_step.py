"""The kernels of one step have the shapes that one rank runs, by hand for models of known shape."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmco2.deployment.resolving import resolve_deployment
from llmco2.kernel_model.deployments import step_shape
from llmco2.kernel_model.step import Call, Elementwise, delta_net_heads, step_calls


def calls(model: str, tp: int = 1, ep: int = 1, gpu: str = "H200", precision: str = "unknown") -> list[Call]:
    deployment = resolve_deployment(model, gpu, tp, 1, ep, "vllm", precision, "unknown")
    return [call for call in step_calls(step_shape(deployment)) if isinstance(call, Call)]


def of_kind(found: list[Call], kind: str) -> Iterator[Call]:
    return (call for call in found if call.kind == kind)


def test_a_dense_model_on_two_ranks_by_hand() -> None:
    # Llama-3.1-8B: 32 layers, hidden 4096, 32 heads and 8 key-value heads of 128, ffn 14336, vocabulary 128256.
    found = calls("meta-llama/Llama-3.1-8B", tp=2)
    gemms = [(c.sizes["n"], c.sizes["k"], c.count) for c in of_kind(found, "gemm")]
    assert gemms == [
        (16 * 128 + 2 * 4 * 128, 4096, 32),  # queries, keys and values
        (4096, 16 * 128, 32),
        (2 * 7168, 4096, 32),  # gate and up
        (4096, 7168, 32),
        (64128, 4096, 1),  # the head, once for each sequence
    ]
    (attention,) = of_kind(found, "decode_attention")
    assert (attention.sizes["n_heads"], attention.sizes["n_kv_heads"], attention.count) == (16, 4, 32)
    (exchange,) = of_kind(found, "collective")
    assert exchange.growing["message_bytes"] == 2 * 4096
    assert exchange.count == 2 * 32 + 1


def test_one_rank_exchanges_nothing() -> None:
    assert not list(of_kind(calls("meta-llama/Llama-3.1-8B"), "collective"))


def test_experts_keep_the_models_sizes_and_say_their_ranks() -> None:
    # Qwen3-30B-A3B: 128 experts of 768, 8 a token; four ranks, two of them over experts.
    (experts,) = of_kind(calls("Qwen/Qwen3-30B-A3B", tp=4, ep=2), "experts")
    assert experts.sizes["n_experts"] == 128
    assert experts.sizes["ffn_dim"] == 768
    assert (experts.sizes["tp"], experts.sizes["ep"]) == (2, 2)


def test_latent_attention_absorbs_its_projections_and_sparse_attention_reads_what_it_picks() -> None:
    plain, sparse = (
        calls(model, tp=8) for model in ("deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-V3.2-Exp")
    )
    assert len(list(of_kind(plain, "mla_absorb"))) == 2
    (decode,) = of_kind(plain, "mla_decode")
    assert decode.sizes["n_heads"] == 16
    assert decode.context_limit == 0
    (picked,) = of_kind(sparse, "mla_decode")
    assert picked.context_limit == 2048


def test_a_gated_delta_net_is_told_by_its_widths() -> None:
    deployment = resolve_deployment(
        "Qwen/Qwen3-Next-80B-A3B-Instruct", "H200", 1, 1, 1, "vllm", "bf16", "unknown"
    )
    assert delta_net_heads(deployment.architecture) == (16, 32)
    mamba = resolve_deployment(
        "nvidia/NVIDIA-Nemotron-Nano-9B-v2", "H200", 1, 1, 1, "vllm", "bf16", "unknown"
    )
    assert delta_net_heads(mamba.architecture) is None


def test_quantised_experts_leave_attention_at_sixteen_bit() -> None:
    found = calls("openai/gpt-oss-120b")
    (experts,) = of_kind(found, "experts")
    assert experts.format == "mxfp4_w4a16"
    assert {c.format for c in of_kind(found, "gemm")} == {"16bit"}


@pytest.mark.parametrize("model", ["google/gemma-3-27b-it", "mistralai/Mixtral-8x7B-v0.1"])
def test_elementwise_passes_move_bytes(model: str) -> None:
    deployment = resolve_deployment(model, "H200", 1, 1, 1, "vllm", "bf16", "unknown")
    passes = [call for call in step_calls(step_shape(deployment)) if isinstance(call, Elementwise)]
    assert all(p.per_row > 0 and p.count > 0 for p in passes)
    norms = max(passes, key=lambda p: p.count)
    assert norms.per_row == 8 * deployment.architecture.hidden_dim
