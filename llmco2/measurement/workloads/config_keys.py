"""From an architecture record to the keys that published ``config.json`` files have, per way of writing them.

Invariant: a function here inverts the reader of :mod:`llmco2.catalog.hf_config` and invents no width. What the
record holds as a product (groups × state, heads × head width) is divided again; where nothing divides, the
caller's comparison with the record finds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmco2.catalog.architecture import Architecture

Keys = dict[str, Any]


def decoder(arch: Architecture) -> Keys:
    """Return the keys of a decoder whose class takes the head width from hidden width and heads."""
    keys: Keys = {
        "hidden_size": arch.hidden_dim,
        "num_hidden_layers": arch.n_attention_layers,
        "num_attention_heads": arch.n_heads,
        "num_key_value_heads": arch.n_kv_heads,
        "vocab_size": arch.vocab_size,
        "tie_word_embeddings": arch.tied_embeddings,
    }
    if arch.ffn_dim:
        keys["intermediate_size"] = arch.ffn_dim
    return keys | _reach("max_position_embeddings", arch)


def headed(arch: Architecture) -> Keys:
    """Return the keys of a decoder that states its head width."""
    return decoder(arch) | {"head_dim": arch.head_dim}


def all_heads(arch: Architecture) -> Keys:
    """Return the keys of a class without grouped queries."""
    return {key: value for key, value in decoder(arch).items() if key != "num_key_value_heads"}


def windowed(arch: Architecture) -> Keys:
    """Return the keys of a decoder with one window for all layers, for those of a pattern, or for none."""
    return decoder(arch) | {"sliding_window": arch.sliding_window_tokens or None}


def headed_windowed(arch: Architecture) -> Keys:
    """Return the keys of a decoder that states its head width and its window."""
    return headed(arch) | windowed(arch)


def ministral(arch: Architecture) -> Keys:
    """Return the keys of a decoder that lists which layers have the window: full reach first in each group."""
    every = arch.n_attention_layers // max(1, arch.n_full_attention_layers)
    kinds = [
        "sliding_attention" if layer % every else "full_attention" for layer in range(arch.n_attention_layers)
    ]
    return headed_windowed(arch) | {"layer_types": kinds}


def llama4(arch: Architecture) -> Keys:
    """Return the keys of Llama 4: chunked attention, experts in every layer or in every second one."""
    return headed(arch) | {
        "intermediate_size": arch.expert_ffn_dim,
        "intermediate_size_mlp": arch.ffn_dim or 2 * arch.expert_ffn_dim,
        "num_local_experts": arch.n_experts,
        "num_experts_per_tok": arch.experts_per_token,
        "interleave_moe_layer_step": arch.n_attention_layers // arch.n_moe_layers,
        "attention_chunk_size": arch.sliding_window_tokens,
    }


def wide_experts(arch: Architecture) -> Keys:
    """Return the keys of a class whose ``intermediate_size`` is an expert's (Mixtral, OLMoE, Phi-3.5-MoE)."""
    return decoder(arch) | {
        "intermediate_size": arch.expert_ffn_dim,
        "num_local_experts": arch.n_experts,
        "num_experts_per_tok": arch.experts_per_token,
    }


def olmoe(arch: Architecture) -> Keys:
    """Return the keys of OLMoE, which counts its experts under another name than Mixtral."""
    keys = wide_experts(arch)
    return keys | {"num_experts": keys.pop("num_local_experts")}


def headed_wide_experts(arch: Architecture) -> Keys:
    """Return the keys of :func:`wide_experts` with the head width."""
    return wide_experts(arch) | {"head_dim": arch.head_dim}


def gpt_oss(arch: Architecture) -> Keys:
    """Return the keys of gpt-oss: experts everywhere, a window in every second layer."""
    return headed_wide_experts(arch) | {"sliding_window": arch.sliding_window_tokens}


def qwen2_moe(arch: Architecture) -> Keys:
    """Return the keys of Qwen's experts with one shared block."""
    return (
        decoder(arch)
        | _qwen_experts(arch)
        | {"shared_expert_intermediate_size": arch.shared_expert_ffn_dim, "num_experts": arch.n_experts}
    )


def qwen3_moe(arch: Architecture) -> Keys:
    """Return the keys of Qwen 3's experts; the published files normalise the chosen experts' weights."""
    return headed(arch) | _qwen_experts(arch) | {"num_experts": arch.n_experts, "norm_topk_prob": True}


def _qwen_experts(arch: Architecture) -> Keys:
    return {"moe_intermediate_size": arch.expert_ffn_dim, "num_experts_per_tok": arch.experts_per_token}


def routed(arch: Architecture) -> Keys:
    """Return the keys of fine-grained experts behind a few dense layers (DeepSeek, GLM-4.5)."""
    return decoder(arch) | {
        "first_k_dense_replace": arch.n_dense_mlp_layers,
        "n_routed_experts": arch.n_experts,
        "n_shared_experts": arch.shared_expert_ffn_dim // arch.expert_ffn_dim,
        "moe_intermediate_size": arch.expert_ffn_dim,
        "num_experts_per_tok": arch.experts_per_token,
    }


def headed_routed(arch: Architecture) -> Keys:
    """Return the keys of :func:`routed` with the head width."""
    return routed(arch) | {"head_dim": arch.head_dim}


def latent(arch: Architecture) -> Keys:
    """Return the keys of :func:`routed` over multi-head latent attention."""
    return routed(arch) | {
        "q_lora_rank": arch.q_lora_rank or None,
        "kv_lora_rank": arch.kv_lora_rank,
        "qk_nope_head_dim": arch.qk_nope_head_dim,
        "qk_rope_head_dim": arch.qk_rope_head_dim,
        "v_head_dim": arch.v_head_dim,
    }


def dbrx(arch: Architecture) -> Keys:
    """Return the keys of DBRX; its published file clips queries, keys and values at 8, and its class wants a base."""
    return _mosaic(arch) | {
        "attn_config": {"kv_n_heads": arch.n_kv_heads, "clip_qkv": 8, "rope_theta": 500_000},
        "ffn_config": {
            "hidden_size": arch.hidden_dim,
            "ffn_hidden_size": arch.expert_ffn_dim,
            "moe_num_experts": arch.n_experts,
            "moe_top_k": arch.experts_per_token,
        },
    }


def mpt(arch: Architecture) -> Keys:
    """Return the keys of MPT."""
    return _mosaic(arch) | {"expansion_ratio": arch.ffn_dim // arch.hidden_dim}


def _mosaic(arch: Architecture) -> Keys:
    return {
        "d_model": arch.hidden_dim,
        "n_heads": arch.n_heads,
        "n_layers": arch.n_attention_layers,
        "vocab_size": arch.vocab_size,
        "tie_word_embeddings": arch.tied_embeddings,
    } | _reach("max_seq_len", arch)


def gpt(arch: Architecture) -> Keys:
    """Return the keys of GPT-2 and GPT-J."""
    return {
        "n_embd": arch.hidden_dim,
        "n_layer": arch.n_attention_layers,
        "n_head": arch.n_heads,
        "n_inner": arch.ffn_dim,
        "vocab_size": arch.vocab_size,
        "tie_word_embeddings": arch.tied_embeddings,
    } | _reach("n_positions", arch)


def opt(arch: Architecture) -> Keys:
    """Return the keys of OPT with its embeddings as wide as its layers."""
    keys = all_heads(arch)
    return keys | {"ffn_dim": keys.pop("intermediate_size"), "word_embed_proj_dim": arch.hidden_dim}


def bloom(arch: Architecture) -> Keys:
    """Return the keys of BLOOM; its reach (ALiBi: no table) is a key that only files have."""
    return {
        "hidden_size": arch.hidden_dim,
        "n_layer": arch.n_attention_layers,
        "n_head": arch.n_heads,
        "vocab_size": arch.vocab_size,
        "tie_word_embeddings": arch.tied_embeddings,
    } | _reach("seq_length", arch)


def falcon(arch: Architecture) -> Keys:
    """Return the keys of the first two generations of Falcon."""
    keys = decoder(arch)
    return keys | {
        "num_kv_heads": keys.pop("num_key_value_heads"),
        "ffn_hidden_size": keys.pop("intermediate_size"),
    }


def mamba(arch: Architecture) -> Keys:
    """Return the keys of a pure Mamba decoder (arXiv 2312.00752, section 3.4)."""
    expand, state, rank = _mamba1(arch)
    return _recurrent(arch) | {
        "expand": expand,
        "state_size": state,
        "time_step_rank": rank,
        "conv_kernel": arch.recurrent_conv_width,
    }


def mamba2(arch: Architecture) -> Keys:
    """Return the keys of a pure Mamba-2 decoder (arXiv 2405.21060, section 7)."""
    n_heads, head_dim, n_groups, state = _mamba2(arch)
    return _recurrent(arch) | {
        "expand": arch.recurrent_inner_dim // arch.hidden_dim,
        "num_heads": n_heads,
        "head_dim": head_dim,
        "n_groups": n_groups,
        "state_size": state,
        "conv_kernel": arch.recurrent_conv_width,
    }


def jamba(arch: Architecture) -> Keys:
    """Return the keys of Jamba: attention and experts at equal distances, where its published files have them."""
    expand, state, rank = _mamba1(arch)
    n_layers = arch.n_attention_layers + arch.n_recurrent_layers
    attention_period = n_layers // arch.n_attention_layers
    expert_period = n_layers // arch.n_moe_layers
    return decoder(arch) | {
        "num_hidden_layers": n_layers,
        "attn_layer_period": attention_period,
        "attn_layer_offset": attention_period // 2,
        "expert_layer_period": expert_period,
        "expert_layer_offset": expert_period // 2,
        "num_experts": arch.n_experts,
        "num_experts_per_tok": arch.experts_per_token,
        "mamba_expand": expand,
        "mamba_d_state": state,
        "mamba_dt_rank": rank,
        "mamba_d_conv": arch.recurrent_conv_width,
    }


def nemotron_h(arch: Architecture) -> Keys:
    """Return the keys of a Nemotron-H decoder, its kinds of layers spread evenly over the depth.

    The record holds how many layers of each kind there are, not their order, and the kernels are the same in
    any order.
    """
    n_heads, head_dim, n_groups, state = _mamba2(arch)
    kinds = {
        "M": arch.n_recurrent_layers,
        "*": arch.n_attention_layers,
        "-": arch.n_dense_mlp_layers,
        "E": arch.n_moe_layers,
    }
    pattern = "".join(_spread(kinds.items()))
    return headed(arch) | {
        "num_hidden_layers": len(pattern),
        "hybrid_override_pattern": pattern,
        "mamba_num_heads": n_heads,
        "mamba_head_dim": head_dim,
        "n_groups": n_groups,
        "ssm_state_size": state,
        "conv_kernel": arch.recurrent_conv_width,
    }


def nemotron_h_experts(arch: Architecture, latent_dim: int) -> Keys:
    """Return the keys of a Nemotron-H decoder with experts, which work at ``latent_dim`` where it is not 0."""
    width = arch.expert_ffn_dim * arch.hidden_dim // latent_dim if latent_dim else arch.expert_ffn_dim
    return nemotron_h(arch) | {
        "n_routed_experts": arch.n_experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": arch.experts_per_token,
        "moe_intermediate_size": width,
        "moe_shared_expert_intermediate_size": arch.shared_expert_ffn_dim - latent_dim,
        "moe_latent_size": latent_dim or None,
    }


def delta_net(arch: Architecture) -> Keys:
    """Return the keys of Qwen3-Next and Qwen3.5: gated delta-net layers, full attention at equal distances."""
    n_layers = arch.n_attention_layers + arch.n_recurrent_layers
    every = n_layers // arch.n_attention_layers
    value_heads = (arch.recurrent_in_dim - arch.recurrent_conv_dim - arch.recurrent_inner_dim) // 2
    value_dim = arch.recurrent_inner_dim // value_heads
    key_dim = arch.recurrent_state_elements // arch.recurrent_inner_dim
    return headed(arch) | {
        "num_hidden_layers": n_layers,
        "layer_types": [
            "linear_attention" if (layer + 1) % every else "full_attention" for layer in range(n_layers)
        ],
        "linear_num_value_heads": value_heads,
        "linear_value_head_dim": value_dim,
        "linear_num_key_heads": (arch.recurrent_conv_dim - arch.recurrent_inner_dim) // (2 * key_dim),
        "linear_key_head_dim": key_dim,
        "linear_conv_kernel_dim": arch.recurrent_conv_width,
    }


def delta_net_experts(arch: Architecture) -> Keys:
    """Return the keys of :func:`delta_net` with Qwen's experts and one shared block."""
    shared = {"num_experts": arch.n_experts, "shared_expert_intermediate_size": arch.shared_expert_ffn_dim}
    return delta_net(arch) | _qwen_experts(arch) | shared


def _reach(key: str, arch: Architecture) -> Keys:
    return {key: arch.max_context_tokens} if arch.max_context_tokens else {}


def _recurrent(arch: Architecture) -> Keys:
    return {
        "hidden_size": arch.hidden_dim,
        "num_hidden_layers": arch.n_recurrent_layers,
        "vocab_size": arch.vocab_size,
        "tie_word_embeddings": arch.tied_embeddings,
    }


def _mamba1(arch: Architecture) -> tuple[int, int, int]:
    """Return expansion, state width and rank of the step: the inverse of the reader's sums."""
    expand = arch.recurrent_inner_dim // arch.hidden_dim
    state = arch.recurrent_state_elements // arch.recurrent_inner_dim
    second = (arch.recurrent_in_dim - 2 * arch.recurrent_inner_dim) // expand
    return expand, state, second // 2 - state


def _mamba2(arch: Architecture) -> tuple[int, int, int, int]:
    """Return heads, head width, groups and state width: the inverse of the reader's sums."""
    inner = arch.recurrent_inner_dim
    n_heads = arch.recurrent_in_dim - inner - arch.recurrent_conv_dim
    state = arch.recurrent_state_elements // inner
    return n_heads, inner // n_heads, (arch.recurrent_conv_dim - inner) // (2 * state), state


def _spread(counts: Iterable[tuple[str, int]]) -> list[str]:
    """Return every letter as often as it is counted, each kind at equal distances."""
    placed = [((index + 0.5) / count, letter) for letter, count in counts for index in range(count)]
    return [letter for _, letter in sorted(placed, key=lambda pair: pair[0])]
