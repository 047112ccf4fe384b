"""Read decoders that mix attention with Mamba-2, short convolutions or linear attention from a configuration.

How they are written in :class:`Architecture`: Falcon-H1 runs attention and Mamba-2 side by side in every layer,
which counts as two mixers a layer; a layer of LFM2 that only convolves is a recurrent one whose state is what
its convolution remembers.
"""

from __future__ import annotations

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_decoders import Fields, attention_fields, common_fields, mlp_fields
from llmco2.catalog.hf_hybrids import mamba2_fields
from llmco2.catalog.hf_keys import MAX_WIDTH, Config
from llmco2.catalog.hf_traits import Traits
from llmco2.errors import FileFormatError, explain

_GRANITE = Traits(family="granite")
_FALCON = Traits(family="falcon")
_LFM = Traits(family="lfm", tied=True)
_KIMI = Traits(family="kimi", router_bias=True)


def read_granite_hybrid(config: Config, model_id: str) -> Architecture:
    """Return a Granite 4 decoder: Mamba-2 or attention, then experts beside a shared MLP, or that MLP alone."""
    shape = common_fields(config, _GRANITE, model_id)
    n_layers = config.whole("num_hidden_layers")
    n_attention = count_kind(config, "attention", n_layers)
    shape |= attention_fields(config, "granitemoehybrid", n_attention)
    inner = config.optional_whole(2, "mamba_expand") * shape["hidden_dim"]
    mixer, other_per_mixer = _mamba2_of(config, inner)
    shape |= mixer | {"n_recurrent_layers": n_layers - n_attention}
    shared = config.whole("shared_intermediate_size")
    n_experts = config.optional_whole(0, "num_local_experts")
    if n_experts:
        shape |= {
            "n_moe_layers": n_layers,
            "n_experts": n_experts,
            "experts_per_token": config.whole("num_experts_per_tok"),
            "expert_ffn_dim": config.whole("intermediate_size"),
            "shared_expert_ffn_dim": shared,
        }
    else:
        shape |= {"n_dense_mlp_layers": n_layers, "ffn_dim": shared}
    other = (2 * n_layers + 1) * shape["hidden_dim"] + (n_layers - n_attention) * other_per_mixer
    return Architecture(**_without_unused(shape), other_params=other)


def read_falcon_h1(config: Config, model_id: str) -> Architecture:
    """Return a Falcon-H1 decoder: attention and Mamba-2 read the same norm and their results are added."""
    shape = common_fields(config, _FALCON, model_id)
    n_layers = config.whole("num_hidden_layers")
    shape |= attention_fields(config, "falcon_h1", n_layers)
    shape |= {"n_dense_mlp_layers": n_layers, "ffn_dim": config.whole("intermediate_size")}
    inner = config.optional_whole(0, "mamba_d_ssm")
    inner = inner or config.optional_whole(2, "mamba_expand") * shape["hidden_dim"]
    mixer, other_per_mixer = _mamba2_of(config, inner)
    if not config.flag("mamba_rms_norm", default=False):
        other_per_mixer -= inner  # no norm of the gated result
    other = n_layers * (2 * shape["hidden_dim"] + other_per_mixer) + shape["hidden_dim"]
    return Architecture(**shape, **mixer, n_recurrent_layers=n_layers, other_params=other)


def read_lfm2(config: Config, model_id: str) -> Architecture:
    """Return an LFM2 decoder: gated short convolutions, attention every few layers."""
    shape = common_fields(config, _LFM, model_id)
    n_layers, hidden = config.whole("num_hidden_layers"), shape["hidden_dim"]
    n_attention = _lfm2_attention_layers(config, n_layers)
    shape |= attention_fields(config, "lfm2", n_attention)
    n_moe = 0
    if config.get("num_experts"):
        n_moe = n_layers - config.optional_whole(0, "num_dense_layers")
        shape |= {
            "n_moe_layers": n_moe,
            "n_experts": config.whole("num_experts"),
            "experts_per_token": config.whole("num_experts_per_tok"),
            "expert_ffn_dim": config.whole("moe_intermediate_size"),
        }
    width = config.optional_whole(3, "conv_L_cache")
    shape |= {
        "n_dense_mlp_layers": n_layers - n_moe,
        "ffn_dim": config.whole("intermediate_size") if n_moe else _lfm2_ffn_dim(config),
        "n_recurrent_layers": n_layers - n_attention,
        "recurrent_in_dim": 3 * hidden,  # two gates and what is convolved
        "recurrent_inner_dim": hidden,
        "recurrent_conv_dim": hidden,
        "recurrent_conv_width": width,
        "recurrent_state_elements": width * hidden,
    }
    other = (2 * n_layers + 1) * hidden + n_attention * 2 * shape["head_dim"]
    if n_moe and config.flag("use_expert_bias", default=True):
        other += n_moe * shape["n_experts"]
    return Architecture(**shape, other_params=other)


def read_kimi_linear(config: Config, model_id: str) -> Architecture:
    """Return a Kimi Linear decoder: delta attention, latent attention every few layers, experts.

    The gates' second projections read ``head_dim`` values instead of the hidden state; they are counted as the
    columns of the hidden width that have as many elements, the remainder in ``other_params``.
    """
    shape = common_fields(config, _KIMI, model_id)
    n_layers, hidden = config.whole("num_hidden_layers"), shape["hidden_dim"]
    linear = config.sub("linear_attn_config")
    full = linear.get("full_attn_layers")
    n_attention = len(full) if isinstance(full, list) else count_kind(config, "full_attention", n_layers)
    shape |= attention_fields(config, "kimi_linear", n_attention)
    renamed = {
        "num_experts_per_tok": config.whole("num_experts_per_token", "num_experts_per_tok"),
        "n_shared_experts": config.optional_whole(0, "num_shared_experts", "n_shared_experts"),
    }
    shape |= mlp_fields(config.over(renamed), "kimi_linear", _KIMI, n_layers)
    shape |= _latent_experts(config, shape)
    heads = linear.optional_whole(0, "num_heads") or config.whole("linear_num_heads")
    head_dim = linear.optional_whole(0, "head_dim") or config.whole("linear_head_dim")
    inner = heads * head_dim
    full_rank = linear.flag("use_full_rank_gate", default=False)
    columns, remainder = divmod((1 if full_rank else 2) * head_dim * inner, hidden)
    gates = inner + head_dim if full_rank else 2 * head_dim
    shape |= {
        "n_recurrent_layers": n_layers - n_attention,
        "recurrent_in_dim": 3 * inner + heads + gates + columns,
        "recurrent_inner_dim": inner,
        "recurrent_conv_dim": 3 * inner,
        "recurrent_conv_width": linear.optional_whole(4, "short_conv_kernel_size"),
        "recurrent_state_elements": heads * head_dim * head_dim,
    }
    shape["gated_attention_output"] = config.flag("mla_use_output_gate", default=False)
    other = (2 * n_layers + 1) * hidden + n_attention * (
        shape.get("kv_lora_rank", 0) + shape.get("q_lora_rank", 0)
    )
    other += shape.pop("latent_params", 0)
    other += (n_layers - n_attention) * (heads + inner + head_dim + remainder)  # decay, step bias, norm
    other += shape["n_moe_layers"] * shape["n_experts"]
    return Architecture(**shape, other_params=other)


def _latent_experts(config: Config, shape: Fields) -> Fields:
    """Return experts that work at a narrower width than the stream, between two projections that all share.

    They have the elements of experts on the full width that are narrower by the same factor; the projections go to
    ``latent_params``.
    """
    latent = config.optional_whole(0, "routed_expert_hidden_size")
    if not latent or not shape.get("n_moe_layers"):
        return {}
    hidden = shape["hidden_dim"]
    width, left = divmod(shape["expert_ffn_dim"] * latent, hidden)
    if left:
        raise FileFormatError(explain(f"{config.where}: routed_expert_hidden_size does not fit", got=latent))
    projections = shape["n_moe_layers"] * 2 * hidden * latent
    return {"expert_ffn_dim": width, "latent_params": projections}


def count_kind(config: Config, kind: str, n_layers: int) -> int:
    """Return how many entries of ``layer_types`` are ``kind``; the list must name every layer."""
    kinds = config.get("layer_types")
    if not isinstance(kinds, list) or len(kinds) != n_layers:
        raise FileFormatError(
            explain(
                f"{config.where}: layer_types does not name the layers",
                got=repr(kinds)[:60],
                expected=f"{n_layers} names",
            )
        )
    return sum(name == kind for name in kinds)


def _mamba2_of(config: Config, inner: int) -> tuple[Fields, int]:
    """Return recurrent fields and vector elements per layer of a Mamba-2 mixer with ``mamba_`` keys."""
    n_heads = config.whole("mamba_n_heads")
    renamed = {
        "n_groups": config.whole("mamba_n_groups"),
        "conv_kernel": config.whole("mamba_d_conv"),
        "use_conv_bias": config.flag("mamba_conv_bias", default=True),
        "mamba_d_state": config.whole("mamba_d_state"),
    }
    keys = Config(values=renamed, defaults={}, where=config.where)
    return mamba2_fields(keys, n_heads=n_heads, head_dim=inner // n_heads, state_key="mamba_d_state")


def _lfm2_attention_layers(config: Config, n_layers: int) -> int:
    attending = config.get("full_attn_idxs")
    if isinstance(attending, list):
        return len(attending)
    return count_kind(config, "full_attention", n_layers)


def _lfm2_ffn_dim(config: Config) -> int:
    """Return the width of the MLP: two thirds of what the file says, scaled and rounded up to whole blocks."""
    ffn = config.whole("block_ff_dim", "intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return ffn
    factor = config.get("block_ffn_dim_multiplier")
    factor = 1.0 if factor is None else factor
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0.0 < factor < MAX_WIDTH:
        raise FileFormatError(
            explain(f"{config.where}: block_ffn_dim_multiplier is no factor", got=repr(factor)[:60])
        )
    block = config.whole("block_multiple_of") if config.get("block_multiple_of") is not None else 256
    return -(-int(factor * int(2 * ffn / 3)) // block) * block


def _without_unused(shape: Fields) -> Fields:
    """Return ``shape`` without the recurrent fields where no layer is recurrent, or heads where none attends."""
    if shape["n_recurrent_layers"]:
        return shape
    return {key: value for key, value in shape.items() if not key.startswith("recurrent_")}
