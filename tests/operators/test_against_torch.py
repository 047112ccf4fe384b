"""Counts against PyTorch's own FLOP counter on transformers models with random weights (CPU).

PyTorch counts every matrix product it dispatches. Two things differ by design. Eager attention computes the
whole score square where a causal kernel computes its attended half. Latent attention in transformers expands
the whole cached latent again in each decode step where serving engines absorb the expansion into the query,
which costs as much as expanding the new token alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.params import parameter_count

Slots = Mapping[str, Mapping[str, float]]
Counter = Callable[..., Slots]
BATCH, PROMPT = 3, 12

LLAMA = Architecture(
    model_id="small-llama",
    hidden_dim=64,
    vocab_size=160,
    n_full_attention_layers=3,
    n_heads=8,
    n_kv_heads=2,
    head_dim=16,  # wider than hidden_dim / n_heads, as in several published models
    n_dense_mlp_layers=3,
    ffn_dim=176,
    other_params=7 * 64,
)
QWEN_MOE = Architecture(
    model_id="small-qwen2-moe",
    hidden_dim=32,
    vocab_size=96,
    n_full_attention_layers=3,
    n_heads=4,
    n_kv_heads=2,
    head_dim=8,
    n_dense_mlp_layers=1,
    ffn_dim=80,
    n_moe_layers=2,
    n_experts=6,
    experts_per_token=2,
    expert_ffn_dim=24,
    shared_expert_ffn_dim=40,
    other_params=7 * 32
    + 3 * (32 + 16 + 16)
    + 2 * 32,  # norms, biases of q, k and v, gate of the shared expert
)
DEEPSEEK = Architecture(
    model_id="small-deepseek-v3",
    hidden_dim=32,
    vocab_size=96,
    n_full_attention_layers=3,
    n_heads=4,
    n_kv_heads=4,
    head_dim=18,
    q_lora_rank=16,
    kv_lora_rank=20,
    qk_nope_head_dim=12,
    qk_rope_head_dim=6,
    v_head_dim=10,
    n_dense_mlp_layers=1,
    ffn_dim=80,
    n_moe_layers=2,
    n_experts=8,
    experts_per_token=2,
    expert_ffn_dim=24,
    shared_expert_ffn_dim=24,
    other_params=7 * 32 + 3 * (16 + 20),
)


def _llama() -> PreTrainedModel:
    arch = LLAMA
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=arch.hidden_dim, num_hidden_layers=3, num_attention_heads=arch.n_heads,
            num_key_value_heads=arch.n_kv_heads, head_dim=arch.head_dim, intermediate_size=arch.ffn_dim,
            vocab_size=arch.vocab_size, attn_implementation="eager",
        )
    )  # fmt: skip


def _qwen_moe() -> PreTrainedModel:
    arch = QWEN_MOE
    return Qwen2MoeForCausalLM(
        Qwen2MoeConfig(
            hidden_size=arch.hidden_dim, num_hidden_layers=3, num_attention_heads=arch.n_heads,
            num_key_value_heads=arch.n_kv_heads, intermediate_size=arch.ffn_dim, mlp_only_layers=[0],
            moe_intermediate_size=arch.expert_ffn_dim,
            shared_expert_intermediate_size=arch.shared_expert_ffn_dim,
            num_experts=arch.n_experts, num_experts_per_tok=arch.experts_per_token,
            vocab_size=arch.vocab_size, attn_implementation="eager", experts_implementation="eager",
        )
    )  # fmt: skip


def _deepseek() -> PreTrainedModel:
    arch = DEEPSEEK
    return DeepseekV3ForCausalLM(
        DeepseekV3Config(
            hidden_size=arch.hidden_dim, num_hidden_layers=3, num_attention_heads=arch.n_heads,
            num_key_value_heads=arch.n_kv_heads, intermediate_size=arch.ffn_dim, first_k_dense_replace=1,
            moe_intermediate_size=arch.expert_ffn_dim, n_routed_experts=arch.n_experts, n_shared_experts=1,
            num_experts_per_tok=arch.experts_per_token, n_group=2, topk_group=1, vocab_size=arch.vocab_size,
            q_lora_rank=arch.q_lora_rank, kv_lora_rank=arch.kv_lora_rank, v_head_dim=arch.v_head_dim,
            qk_nope_head_dim=arch.qk_nope_head_dim, qk_rope_head_dim=arch.qk_rope_head_dim,
            attn_implementation="eager", experts_implementation="eager",
        )
    )  # fmt: skip


BUILDERS = {"llama": (LLAMA, _llama), "qwen_moe": (QWEN_MOE, _qwen_moe), "deepseek": (DEEPSEEK, _deepseek)}
MODULES = {  # which of transformers' modules a slot stands for
    "qkv_projection": (
        "q_proj",
        "k_proj",
        "v_proj",
        "q_a_proj",
        "q_b_proj",
        "kv_a_proj_with_mqa",
        "kv_b_proj",
    ),
    "output_projection": ("o_proj",),
    "router": ("mlp.gate",),
    "shared_expert": ("shared_expert", "shared_experts"),
    "lm_head": ("lm_head",),
}


class Measured:
    """What PyTorch counted in one forward pass, by module and operator."""

    def __init__(self, counts: Mapping[str, Mapping[Any, int]]) -> None:
        self._counts = {
            name: {str(operator): flops for operator, flops in by_operator.items()}
            for name, by_operator in counts.items()
        }

    def flops(self, *endings: str) -> int:
        """FLOPs of all modules whose name ends so."""
        chosen = [v for name, v in self._counts.items() if name.endswith(tuple(f".{e}" for e in endings))]
        return sum(sum(by_operator.values()) for by_operator in chosen)

    def attention_flops(self) -> int:
        """FLOPs of the batched products inside attention: scores and values."""
        return sum(v.get("aten.bmm", 0) for name, v in self._counts.items() if name.endswith(".self_attn"))

    def feed_forward_flops(self) -> tuple[int, int]:
        """FLOPs of dense feed-forward parts and of routed experts."""
        dense = sum(
            sum(v.values())
            for name, v in self._counts.items()
            if ".mlp." in name
            and "shared" not in name
            and name.endswith(("gate_proj", "up_proj", "down_proj"))
        )
        return dense, self.flops("experts")


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Measured]]:
    """Prefill and one decode step of each small model, seen by PyTorch's counter."""
    torch.manual_seed(0)
    seen: dict[str, dict[str, Measured]] = {}
    for name, (architecture, build) in BUILDERS.items():
        model = build().eval()
        assert sum(p.numel() for p in model.parameters()) == parameter_count(architecture)
        prompt = torch.randint(0, architecture.vocab_size, (BATCH, PROMPT))
        with torch.no_grad():
            with FlopCounterMode(display=False) as prefill:
                answer = model(prompt, use_cache=True, logits_to_keep=1)
            token = answer.logits.argmax(-1)
            with FlopCounterMode(display=False) as decode:
                model(token, past_key_values=answer.past_key_values, use_cache=True)
        seen[name] = {
            "prefill": Measured(prefill.get_flop_counts()),
            "decode": Measured(decode.get_flop_counts()),
        }
    return seen


def counted(count: Counter, name: str, phase: str) -> Slots:
    """Our counts of the same pass: one decode step is an output of two tokens."""
    return count(phase, BUILDERS[name][0], batch_size=BATCH, prompt_tokens=PROMPT, output_tokens=2)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", BUILDERS)
def test_linear_layers_agree_to_the_flop(
    count: Counter, measured: dict[str, dict[str, Measured]], name: str, phase: str
) -> None:
    ours, theirs = counted(count, name, phase), measured[name][phase]
    reexpanded = theirs.flops("kv_b_proj") * PROMPT // (PROMPT + 1) if phase == "decode" else 0
    for slot, modules in MODULES.items():
        avoided = reexpanded if slot == "qkv_projection" else 0
        assert ours[slot]["flops"] == theirs.flops(*modules) - avoided, slot
    dense, experts = theirs.feed_forward_flops()
    assert ours["mlp_up"]["flops"] + ours["mlp_down"]["flops"] == dense
    assert ours["expert_up"]["flops"] + ours["expert_down"]["flops"] == experts


@pytest.mark.parametrize("name", BUILDERS)
def test_prefill_attention_is_the_causal_half_of_the_square(
    count: Counter, measured: dict[str, dict[str, Measured]], name: str
) -> None:
    causal = counted(count, name, "prefill")["full_attention"]["flops"]
    attended_pairs, all_pairs = PROMPT * (PROMPT + 1) // 2, PROMPT * PROMPT
    assert causal * all_pairs == measured[name]["prefill"].attention_flops() * attended_pairs


@pytest.mark.parametrize("name", ["llama", "qwen_moe"])
def test_decode_attention_agrees_to_the_flop(
    count: Counter, measured: dict[str, dict[str, Measured]], name: str
) -> None:
    assert (
        counted(count, name, "decode")["full_attention"]["flops"]
        == measured[name]["decode"].attention_flops()
    )


def test_absorbed_latent_attention_gives_the_same_result_for_the_counted_flops(count: Counter) -> None:
    """Both ways of computing one decode step of latent attention, in plain matrix products."""
    arch, context = DEEPSEEK, PROMPT + 1
    heads, rank, nope, rope, value = 4, 20, 12, 6, 10
    generator = torch.Generator().manual_seed(0)
    query_nope, query_rope, latent, key_rope, up_key, up_value = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((BATCH * heads, 1, nope), (BATCH * heads, 1, rope), (BATCH, context, rank),
                      (BATCH, context, rope), (heads, nope, rank), (heads, rank, value))
    )  # fmt: skip

    def per_head(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(heads, dim=0)

    expanded_keys = per_head(latent) @ up_key.transpose(1, 2).repeat(BATCH, 1, 1)
    expanded_values = per_head(latent) @ up_value.repeat(BATCH, 1, 1)
    scores = query_nope @ expanded_keys.mT + query_rope @ per_head(key_rope).mT
    expected = scores.softmax(-1) @ expanded_values

    with FlopCounterMode(display=False) as absorbing:
        query_latent = query_nope.bmm(up_key.repeat(BATCH, 1, 1))
    with FlopCounterMode(display=False) as attending:
        scores = torch.cat([query_latent, query_rope], -1).bmm(per_head(torch.cat([latent, key_rope], -1)).mT)
        result_latent = scores.softmax(-1).bmm(per_head(latent))
    with FlopCounterMode(display=False) as expanding:
        result = result_latent.bmm(up_value.repeat(BATCH, 1, 1))

    torch.testing.assert_close(result, expected)
    ours = counted(count, "deepseek", "decode")
    layers = arch.n_full_attention_layers
    assert ours["full_attention"]["flops"] == layers * attending.get_total_flops()
    low_rank_flops = 2 * BATCH * layers * (32 * 16 + 16 * heads * (nope + rope) + 32 * (rank + rope))
    absorbed_flops = layers * (absorbing.get_total_flops() + expanding.get_total_flops())
    assert ours["qkv_projection"]["flops"] == low_rank_flops + absorbed_flops
