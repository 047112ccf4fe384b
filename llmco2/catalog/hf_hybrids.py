"""Read state-space and hybrid decoders (Mamba, Mamba-2, Nemotron-H, Jamba, Qwen3-Next) from a configuration.

How a recurrent layer is written in :class:`Architecture`: ``recurrent_in_dim`` sums the output widths of all
projections that read the hidden state; the short convolution is counted from channels × width; decay rates,
step biases, skip weights and norms go to ``other_params``.

Mamba-1's second projection reads the inner state (``expand`` times the hidden width), so its columns count
``expand`` times; parameters and FLOPs come out exact.
"""

from __future__ import annotations

import math
from typing import Any

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_decoders import Fields, attention_fields, common_fields, mlp_fields
from llmco2.catalog.hf_keys import Config
from llmco2.catalog.hf_traits import Traits
from llmco2.errors import FileFormatError, explain

_MAMBA = Traits(family="mamba", tied=True)
_MAMBA2 = Traits(family="mamba")
_NEMOTRON = Traits(family="nemotron", gated_mlp=False)
_NEMOTRON_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_NEMOTRON_NAMES = {kind: kind for kind in _NEMOTRON_LETTERS.values()} | {
    "linear_attention": "mamba",  # as newer releases of transformers write them
    "full_attention": "attention",
}
_JAMBA = Traits(family="jamba")
_QWEN_NEXT = Traits(family="qwen", shared_expert_gate=True)


def read_mamba(config: Config, model_id: str) -> Architecture:
    """Return a pure Mamba decoder: one norm and one mixer a layer, no MLP."""
    shape = common_fields(config, _MAMBA, model_id)
    n_layers = config.whole("num_hidden_layers", "n_layer")
    recurrent, other_per_layer = _mamba1(config, "state_size", "conv_kernel", "time_step_rank")
    hidden = shape["hidden_dim"]
    other = n_layers * (other_per_layer + hidden) + hidden
    return Architecture(**shape, **recurrent, n_recurrent_layers=n_layers, other_params=other)


def read_mamba2(config: Config, model_id: str) -> Architecture:
    """Return a pure Mamba-2 decoder: one norm and one mixer a layer, no MLP."""
    shape = common_fields(config, _MAMBA2, model_id)
    n_layers = config.whole("num_hidden_layers", "n_layer")
    recurrent, other_per_layer = mamba2_fields(
        config, n_heads=config.whole("num_heads"), head_dim=config.whole("head_dim"), state_key="state_size"
    )
    hidden = shape["hidden_dim"]
    other = n_layers * (other_per_layer + hidden) + hidden
    return Architecture(**shape, **recurrent, n_recurrent_layers=n_layers, other_params=other)


def read_nemotron_h(config: Config, model_id: str) -> Architecture:
    """Return a Nemotron-H decoder: each layer is Mamba-2, attention, MLP or experts, under one norm."""
    kinds = nemotron_layers(config)
    shape = common_fields(config, _NEMOTRON, model_id)
    # Their classes write these also where no layer has experts.
    config.get("n_routed_experts", "moe_latent_size")
    shape |= attention_fields(config, "nemotron_h", kinds.count("attention"))
    recurrent, other_per_mixer = mamba2_fields(
        config,
        n_heads=config.whole("mamba_num_heads"),
        head_dim=config.whole("mamba_head_dim"),
        state_key="ssm_state_size",
    )
    shape |= recurrent | {
        "n_recurrent_layers": kinds.count("mamba"),
        "gated_mlp": False,
        "gated_experts": False,
    }
    shape |= {"n_dense_mlp_layers": kinds.count("mlp")}
    if shape["n_dense_mlp_layers"]:
        shape["ffn_dim"] = config.whole("intermediate_size")
    hidden = shape["hidden_dim"]
    other = (len(kinds) + 1) * hidden + kinds.count("mamba") * other_per_mixer
    if "moe" in kinds:
        shape |= {"n_moe_layers": kinds.count("moe")} | _nemotron_experts(config, hidden)
        other += kinds.count("moe") * config.whole("n_routed_experts")  # a score correction per expert
    return Architecture(**shape, other_params=other)


def nemotron_layers(config: Config) -> list[str]:
    """Return each layer's kind, from the list of newer files or the letters of older ones."""
    kinds = config.get("layers_block_type")
    if isinstance(kinds, list) and kinds and set(map(str, kinds)) <= set(_NEMOTRON_NAMES):
        return [_NEMOTRON_NAMES[str(kind)] for kind in kinds]
    pattern = config.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or not pattern or set(pattern) - set(_NEMOTRON_LETTERS):
        got = repr(pattern if kinds is None else kinds)[:60]
        what = f"{config.where}: hybrid_override_pattern is unreadable"
        raise FileFormatError(explain(what, got=got, expected="letters M * - E"))
    return [_NEMOTRON_LETTERS[letter] for letter in pattern]


def _nemotron_experts(config: Config, hidden: int) -> Fields:
    """Return the expert fields of one layer.

    Latent experts (Nemotron 3) work at ``moe_latent_size`` between two shared projections: the same
    elements as experts on the full width that are narrower by the same factor, and a shared two-matrix
    block of that size.
    """
    latent = config.optional_whole(0, "moe_latent_size")
    expert_ffn = config.whole("moe_intermediate_size")
    if latent and expert_ffn * latent % hidden:
        raise FileFormatError(explain(f"{config.where}: moe_latent_size does not fit", got=latent))
    n_shared = config.optional_whole(0, "n_shared_experts")
    return {
        "n_experts": config.whole("n_routed_experts"),
        "experts_per_token": config.whole("num_experts_per_tok"),
        "expert_ffn_dim": expert_ffn * latent // hidden if latent else expert_ffn,
        "shared_expert_ffn_dim": n_shared * config.optional_whole(0, "moe_shared_expert_intermediate_size")
        + latent,
    }


def read_jamba(config: Config, model_id: str) -> Architecture:
    """Return a Jamba decoder: Mamba with attention and experts every so many layers."""
    shape = common_fields(config, _JAMBA, model_id)
    n_layers = config.whole("num_hidden_layers")
    n_attention = _periodic(config, n_layers, "attn_layer_period", "attn_layer_offset")
    n_moe = _periodic(config, n_layers, "expert_layer_period", "expert_layer_offset")
    shape |= attention_fields(config, "jamba", n_attention)
    recurrent, other_per_mixer = _mamba1(config, "mamba_d_state", "mamba_d_conv", "mamba_dt_rank")
    other_per_mixer += config.whole("mamba_dt_rank") + 2 * config.whole(
        "mamba_d_state"
    )  # norms of step, B and C
    ffn = config.whole("intermediate_size")
    n_experts = config.whole("num_experts")
    shape |= recurrent | {
        "n_recurrent_layers": n_layers - n_attention,
        "n_dense_mlp_layers": n_layers - n_moe,
        "ffn_dim": ffn,
        "n_moe_layers": n_moe,
        "n_experts": n_experts,
        "experts_per_token": config.whole("num_experts_per_tok"),
        "expert_ffn_dim": ffn,
    }
    other = (2 * n_layers + 1) * shape["hidden_dim"] + (n_layers - n_attention) * other_per_mixer
    return Architecture(**shape, other_params=other)


def read_qwen3_next(config: Config, model_id: str) -> Architecture:
    """Return a Qwen3-Next or Qwen3.5 decoder: delta-net layers, gated attention every few layers."""
    shape = common_fields(config, _QWEN_NEXT, model_id)
    n_layers = config.whole("num_hidden_layers")
    n_attention = _full_attention_layers(config, n_layers)
    shape |= attention_fields(config, "qwen3_next", n_attention)
    shape |= mlp_fields(config, "qwen3_next", _QWEN_NEXT, n_layers)
    key_heads, value_heads = config.whole("linear_num_key_heads"), config.whole("linear_num_value_heads")
    key_dim, value_dim = config.whole("linear_key_head_dim"), config.whole("linear_value_head_dim")
    conv_dim = 2 * key_heads * key_dim + value_heads * value_dim
    shape |= {
        "gated_attention_output": config.flag("attn_output_gate", default=True),
        "n_recurrent_layers": n_layers - n_attention,
        "recurrent_in_dim": conv_dim + value_heads * value_dim + 2 * value_heads,
        "recurrent_inner_dim": value_heads * value_dim,
        "recurrent_conv_dim": conv_dim,
        "recurrent_conv_width": config.whole("linear_conv_kernel_dim"),
        "recurrent_state_elements": value_heads * key_dim * value_dim,
    }
    hidden = shape["hidden_dim"]
    other = (2 * n_layers + 1) * hidden + n_attention * 2 * shape["head_dim"]
    other += (n_layers - n_attention) * (2 * value_heads + value_dim)
    if shape.get("shared_expert_ffn_dim"):
        other += shape["n_moe_layers"] * hidden
    return Architecture(**shape, other_params=other)


def _full_attention_layers(config: Config, n_layers: int) -> int:
    kinds: Any = config.get("layer_types")
    if isinstance(kinds, list):
        return sum(kind == "full_attention" for kind in kinds[:n_layers])
    return n_layers // config.whole("full_attention_interval")


def _periodic(config: Config, n_layers: int, period_key: str, offset_key: str) -> int:
    period, offset = config.whole(period_key), config.optional_whole(0, offset_key)
    return sum(layer % period == offset for layer in range(n_layers))


def _mamba1(config: Config, state_key: str, conv_key: str, rank_key: str) -> tuple[Fields, int]:
    """Return recurrent fields and vector elements per layer of Mamba (arXiv 2312.00752, section 3.4)."""
    hidden = config.whole("hidden_size", "d_model")
    expand = config.optional_whole(2, "expand", "mamba_expand")
    state, conv = config.whole(state_key), config.whole(conv_key)
    rank = math.ceil(hidden / 16) if config.get(rank_key) in {"auto", None} else config.whole(rank_key)
    inner = expand * hidden
    fields: Fields = {
        "recurrent_in_dim": 2 * inner + expand * (2 * rank + 2 * state),
        "recurrent_inner_dim": inner,
        "recurrent_conv_dim": inner,
        "recurrent_conv_width": conv,
        "recurrent_state_elements": inner * state,
    }
    return fields, inner * (state + 3)  # decay rates; skip, step bias, convolution bias


def mamba2_fields(config: Config, *, n_heads: int, head_dim: int, state_key: str) -> tuple[Fields, int]:
    """Return recurrent fields and vector elements per layer of Mamba-2 (arXiv 2405.21060, section 7)."""
    state, groups = config.whole(state_key), config.whole("n_groups")
    inner = n_heads * head_dim
    conv_dim = inner + 2 * groups * state
    fields: Fields = {
        "recurrent_in_dim": inner + conv_dim + n_heads,
        "recurrent_inner_dim": inner,
        "recurrent_conv_dim": conv_dim,
        "recurrent_conv_width": config.whole("conv_kernel"),
        "recurrent_state_elements": n_heads * head_dim * state,
    }
    conv_bias = conv_dim if config.flag("use_conv_bias", default=True) else 0
    return fields, conv_bias + 3 * n_heads + inner  # decay, skip and step bias per head; gated norm
