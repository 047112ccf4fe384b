"""Read decoders whose layers are not all of one width: Gemma 3n and 4, MiMo-V2, Step-3.5, DeciLM, MiniMax-M3.

Two widths of attention go to the fields of layers with a window. Where widths differ layer by layer, the mean rounded
down is kept and what is left over goes to ``other_params``, so that parameters add up.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_decoders import Fields, attention_fields, common_fields, mlp_fields, read_decoder
from llmco2.catalog.hf_keys import Config
from llmco2.catalog.hf_traits import Traits
from llmco2.errors import FileFormatError, explain

_GEMMA = Traits(family="gemma", tied=True)
_MIMO = Traits(family="mimo", router_bias=True)
_STEP = Traits(family="step", router_bias=True)
_DECI = Traits(family="deci")
_NEMOTRON = Traits(family="llama")
_MINIMAX = Traits(family="minimax", qk_norm="head", router_bias=True)


def read_gemma4(config: Config, model_id: str) -> Architecture:
    """Return a Gemma 4 decoder: wide full layers among windows, experts beside an MLP, an embedding per layer.

    Full layers whose keys are their values have one projection less than is counted, at most 0.4 % of the model.
    """
    shape = common_fields(config, _GEMMA, model_id)
    n_layers, hidden = config.whole("num_hidden_layers"), shape["hidden_dim"]
    kinds = _layer_kinds(config, n_layers, every=6)
    head_dim, n_kv_heads = config.whole("head_dim"), config.whole("num_key_value_heads")
    wide = Config(values=_wide_layers(config), defaults={}, where=config.where)
    k_eq_v = config.flag("attention_k_eq_v", default=False)
    own_heads = config.optional_whole(0, "num_global_key_value_heads") if k_eq_v else 0
    own_heads = wide.optional_whole(own_heads, "num_key_value_heads")
    shape |= _two_reaches(config, kinds) | {
        "n_heads": config.whole("num_attention_heads"),
        "n_kv_heads": own_heads or n_kv_heads,
        "head_dim": wide.optional_whole(0, "head_dim")
        or config.optional_whole(512, "global_head_dim")
        or head_dim,
        "sliding_n_kv_heads": n_kv_heads,
        "sliding_head_dim": head_dim,
    }
    shape |= _feed_forward_of_gemma(config, kinds)
    norms = n_layers * (4 * hidden) + hidden + _head_norms(shape, kinds) + shape.pop("remainder")
    if shape.get("n_moe_layers"):
        norms += n_layers * (4 * hidden + shape["n_experts"])  # three norms, a scale, a scale per expert
    return Architecture(**shape, **_per_layer_tables(config, n_layers, hidden, norms))


def read_gemma3n(config: Config, model_id: str) -> Architecture:
    """Return a Gemma 3n decoder: windows, shared keys and values, an embedding per layer, four residual streams."""
    shape = common_fields(config, _GEMMA, model_id)
    n_layers, hidden = config.whole("num_hidden_layers"), shape["hidden_dim"]
    kinds = _layer_kinds(config, n_layers, every=5)
    shape |= _two_reaches(config, kinds) | {
        "n_heads": config.whole("num_attention_heads"),
        "n_kv_heads": config.whole("num_key_value_heads"),
        "head_dim": config.whole("head_dim"),
    }
    widths = config.get("intermediate_size")
    listed = widths if isinstance(widths, list) else [config.whole("intermediate_size")] * n_layers
    shape |= _mean_mlp(config, listed, n_layers)
    streams, rank = config.optional_whole(4, "altup_num_inputs"), config.optional_whole(64, "laurel_rank")
    mixing = 2 * hidden + streams * hidden + streams * streams * (1 + streams)
    other = n_layers * (5 * hidden + 2 * rank * hidden + mixing) + hidden + _head_norms(shape, kinds)
    other += 2 * (streams - 1) * hidden * hidden + shape.pop("remainder")
    return Architecture(**shape, **_per_layer_tables(config, n_layers, hidden, other))


def read_mimo_v2(config: Config, model_id: str) -> Architecture:
    """Return a MiMo-V2 decoder: windows with more key-value heads than full layers, values narrower than keys."""
    shape = common_fields(config, _MIMO, model_id)
    n_layers, hidden = config.whole("num_hidden_layers"), shape["hidden_dim"]
    kinds = _flagged(config, "hybrid_layer_pattern") or _layer_kinds(config, n_layers, every=6)
    n_kv_heads, head_dim = config.whole("num_key_value_heads"), config.whole("head_dim")
    shape |= _two_reaches(config, kinds) | {
        "n_heads": config.whole("num_attention_heads"),
        "n_kv_heads": n_kv_heads,
        "head_dim": head_dim,
        "v_head_dim": config.optional_whole(head_dim, "v_head_dim"),
        "sliding_n_heads": config.optional_whole(0, "swa_num_attention_heads"),
        "sliding_n_kv_heads": config.optional_whole(2 * n_kv_heads, "swa_num_key_value_heads"),
        "sliding_head_dim": config.optional_whole(0, "swa_head_dim"),
    }
    shape |= mlp_fields(config, "mimo_v2_flash", _MIMO, n_layers)
    other = (2 * n_layers + 1) * hidden + kinds.count("sliding_attention") * shape["n_heads"]
    other += shape.get("n_moe_layers", 0) * shape.get("n_experts", 0)
    return Architecture(**shape, other_params=other)


def read_step(config: Config, model_id: str) -> Architecture:
    """Return a Step-3.5 or 3.7 decoder: windows with more heads than full layers, a gate for each head, experts."""
    n_layers = config.whole("num_hidden_layers")
    n_experts = config.whole("moe_num_experts", "num_experts", "n_routed_experts")
    width = config.whole("moe_intermediate_size")
    known = config.over(
        {
            "num_experts": n_experts,
            "num_experts_per_tok": config.whole("moe_top_k", "num_experts_per_tok"),
            "shared_expert_intermediate_size": config.optional_whole(
                config.optional_whole(0, "n_shared_experts") * width,
                "share_expert_dim",
                "share_expert_dims",
            ),
            "num_key_value_heads": config.whole("num_attention_groups", "num_key_value_heads"),
            **_listed_experts(config, n_layers),
        }
    )
    shape = common_fields(known, _STEP, model_id)
    kinds = _layer_kinds(known, n_layers, every=4)
    n_sliding = kinds.count("sliding_attention")
    shape |= attention_fields(known, "step", n_layers) | _two_reaches(known, kinds)
    windowed = config.sub("attention_other_setting")
    if n_sliding and windowed.values:
        shape |= {
            "sliding_n_heads": windowed.whole("num_attention_heads"),
            "sliding_n_kv_heads": windowed.whole("num_attention_groups", "num_key_value_heads"),
            "sliding_head_dim": windowed.optional_whole(shape["head_dim"], "head_dim"),
        }
    shape |= mlp_fields(known, "step", _STEP, n_layers)
    hidden = shape["hidden_dim"]
    other = (2 * n_layers + 1) * hidden + n_layers * 2 * shape["head_dim"]
    if known.flag("use_head_wise_attn_gate", default=True):
        heads = (n_layers - n_sliding) * shape["n_heads"]
        heads += n_sliding * (shape.get("sliding_n_heads") or shape["n_heads"])
        other += hidden * heads
    other += shape["n_moe_layers"] * shape["n_experts"]
    return Architecture(**shape, other_params=other)


def read_deci(config: Config, model_id: str) -> Architecture:
    """Return a DeciLM decoder: a number of key-value heads for each layer.

    Layers with the larger of two numbers are written as layers whose window is the model's own reach.
    """
    n_layers = config.whole("num_hidden_layers")
    listed = config.get("num_key_value_heads_per_layer")
    heads = _whole_list(config, "num_key_value_heads_per_layer", listed, n_layers)
    fewest, most = min(heads), max(heads)
    wide = [n for n in heads if n > fewest]
    arch = read_decoder(config.over({"num_key_value_heads": fewest}), "deci", _DECI, model_id)
    reach = arch.max_context_tokens
    if not wide or reach is None or wide.count(most) != len(wide):
        more = sum(heads) - fewest * n_layers
        return dataclasses.replace(
            arch, other_params=arch.other_params + 2 * more * arch.head_dim * arch.hidden_dim
        )
    return dataclasses.replace(
        arch,
        n_full_attention_layers=n_layers - len(wide),
        n_sliding_attention_layers=len(wide),
        sliding_window_tokens=reach,
        sliding_n_kv_heads=most,
    )


def read_nemotron_nas(config: Config, model_id: str) -> Architecture:
    """Return a Llama-Nemotron decoder: layers without attention, or with an MLP of their own width."""
    n_layers = config.whole("num_hidden_layers")
    blocks = config.get("block_configs")
    if (
        not isinstance(blocks, list)
        or len(blocks) != n_layers
        or not all(isinstance(b, dict) for b in blocks)
    ):
        raise FileFormatError(
            explain(f"{config.where}: block_configs does not name the layers", expected=f"{n_layers} blocks")
        )
    named = [Config(values=b, defaults={}, where=config.where) for b in blocks]
    attention, feed = [b.sub("attention") for b in named], [b.sub("ffn") for b in named]
    attending = [a for a in attention if not a.flag("no_op", default=False)]
    groups = {a.whole("n_heads_in_group") for a in attending}
    if any(a.flag("replace_with_linear", default=False) for a in [*attention, *feed]) or len(groups) != 1:
        raise FileFormatError(
            explain(
                f"{config.where}: block_configs has layers that are not covered",
                expected="attention of one shape",
            )
        )
    hidden, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    widths = [_block_width(f, hidden) for f in feed if not f.flag("no_op", default=False)]
    shape = common_fields(config, _NEMOTRON, model_id) | {
        "n_full_attention_layers": len(attending),
        "n_heads": heads,
        "n_kv_heads": heads // groups.pop(),
        "head_dim": config.optional_whole(hidden // heads, "head_dim"),
    }
    shape |= _mean_mlp(config, widths, len(widths))
    other = (len(attending) + len(widths) + 1) * hidden + shape.pop("remainder")
    return Architecture(**shape, other_params=other)


def read_minimax_m3(config: Config, model_id: str) -> Architecture:
    """Return a MiniMax-M3 decoder: layers that read the best blocks of tokens, a few that read all, experts.

    The few that read all are written as layers whose window is the model's own reach.
    """
    sparse = config.sub("sparse_attention_config")
    n_layers = config.whole("num_hidden_layers")
    known = config.over(
        {"intermediate_size_mlp": config.whole("dense_intermediate_size")}
        | {"shared_expert_intermediate_size": config.optional_whole(0, "shared_intermediate_size")}
        | {"n_shared_experts": 0}
    )
    shape = common_fields(known, _MINIMAX, model_id) | attention_fields(known, "minimax_m3", n_layers)
    shape |= mlp_fields(known, "minimax_m3", _MINIMAX, n_layers)
    picks = _flagged(sparse, "sparse_attention_freq") or _sparse_kinds(config, n_layers)
    n_sparse = picks.count("sliding_attention")  # marked with a one
    block = sparse.optional_whole(0, "sparse_block_size") or config.whole("index_block_size")
    blocks = sparse.optional_whole(0, "sparse_topk_blocks") or config.whole("index_topk_blocks")
    shape |= {
        "n_full_attention_layers": n_sparse,
        "n_sliding_attention_layers": n_layers - n_sparse,
        "sliding_window_tokens": config.whole("max_position_embeddings") if n_sparse < n_layers else 0,
        "index_topk_tokens": block * blocks,
        "n_index_layers": n_sparse,
        "index_n_heads": sparse.optional_whole(0, "sparse_num_index_heads") or config.whole("index_n_heads"),
        "index_head_dim": sparse.optional_whole(0, "sparse_index_dim") or config.whole("index_head_dim"),
    }
    hidden, head_dim = shape["hidden_dim"], shape["head_dim"]
    other = (2 * n_layers + 1) * hidden + n_layers * 2 * head_dim + n_sparse * 2 * shape["index_head_dim"]
    other += shape["n_moe_layers"] * shape["n_experts"]
    return Architecture(**shape, other_params=other)


def _sparse_kinds(config: Config, n_layers: int) -> list[str]:
    kinds = config.get("layer_types")
    if not isinstance(kinds, list) or len(kinds) != n_layers:
        return ["sliding_attention"] * n_layers
    return ["full_attention" if kind == "full_attention" else "sliding_attention" for kind in kinds]


def _block_width(block: Config, hidden: int) -> int:
    """Return an MLP's width: two thirds of so many times the hidden width, in multiples of 256."""
    own = block.get("intermediate_size")
    if own is not None:
        return block.whole("intermediate_size")
    factor = block.get("ffn_mult")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0.0 < factor < 1000.0:
        raise FileFormatError(explain(f"{block.where}: ffn_mult is no factor", got=repr(factor)[:40]))
    return -(-int(2 * factor * hidden / 3) // 256) * 256


def _wide_layers(config: Config) -> dict[str, Any]:
    """Return what full layers have of their own, where a newer file says it layer by layer."""
    listed = config.get("per_layer_config")
    entries = [e for e in listed.values() if isinstance(e, dict)] if isinstance(listed, dict) else []
    return dict(entries[0]) if entries else {}


def _two_reaches(config: Config, kinds: list[str]) -> Fields:
    """Return how many layers have a window and how many of each reach share an earlier layer's keys and values."""
    n_layers = len(kinds)
    shared = kinds[n_layers - min(n_layers, config.optional_whole(0, "num_kv_shared_layers")) :]
    n_sliding = kinds.count("sliding_attention")
    return {
        "n_full_attention_layers": n_layers - n_sliding,
        "n_sliding_attention_layers": n_sliding,
        "sliding_window_tokens": config.whole("sliding_window", "sliding_window_size") if n_sliding else 0,
        "n_shared_kv_full_layers": len(shared) - shared.count("sliding_attention"),
        "n_shared_kv_sliding_layers": shared.count("sliding_attention"),
    }


def _layer_kinds(config: Config, n_layers: int, *, every: int) -> list[str]:
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) >= n_layers:
        return [str(kind) for kind in kinds[:n_layers]]
    return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(n_layers)]


def _flagged(config: Config, key: str) -> list[str]:
    flags = config.get(key)
    if not isinstance(flags, list):
        return []
    return ["sliding_attention" if flag else "full_attention" for flag in flags]


def _feed_forward_of_gemma(config: Config, kinds: list[str]) -> Fields:
    n_layers, ffn = len(kinds), config.whole("intermediate_size")
    n_wide = 0
    if config.flag("use_double_wide_mlp", default=False):
        n_wide = min(n_layers, config.optional_whole(0, "num_kv_shared_layers"))
    fields = _mean_mlp(config, [ffn] * (n_layers - n_wide) + [2 * ffn] * n_wide, n_layers)
    if config.flag("enable_moe_block", default=False):
        fields |= {
            "n_moe_layers": n_layers,
            "n_experts": config.whole("num_experts"),
            "experts_per_token": config.whole("top_k_experts"),
            "expert_ffn_dim": config.whole("moe_intermediate_size", "expert_intermediate_size"),
        }
    return fields


def _mean_mlp(config: Config, widths: list[Any], n_layers: int) -> Fields:
    """Return MLPs of the mean width, and as ``remainder`` the elements that it falls short by."""
    whole = _whole_list(config, "intermediate_size", widths, n_layers)
    mean, left = divmod(sum(whole), max(n_layers, 1))
    hidden = config.whole("hidden_size")
    return {"n_dense_mlp_layers": n_layers, "ffn_dim": mean, "remainder": 3 * left * hidden}


def _whole_list(config: Config, key: str, values: Any, length: int) -> list[int]:
    if not isinstance(values, list) or len(values) != length:
        raise FileFormatError(
            explain(f"{config.where}: {key} does not name the layers", expected=f"{length} whole numbers")
        )
    return [Config(values={key: value}, defaults={}, where=config.where).whole(key) for value in values]


def _head_norms(shape: Fields, kinds: list[str]) -> int:
    """Return the norms of queries and keys; layers that share keys have none for them."""
    windowed = shape.get("sliding_head_dim") or shape["head_dim"]
    n_sliding = kinds.count("sliding_attention")
    full: int = 2 * (len(kinds) - n_sliding) - shape["n_shared_kv_full_layers"]
    sliding: int = 2 * n_sliding - shape["n_shared_kv_sliding_layers"]
    return full * int(shape["head_dim"]) + sliding * int(windowed)


def _per_layer_tables(config: Config, n_layers: int, hidden: int, other: int) -> Fields:
    """Return the embedding of each layer, and ``other`` with the projections that bring it into the stream."""
    own = 0 if config.get("model_type") == "gemma4_unified_text" else 256
    width = config.optional_whole(own, "hidden_size_per_layer_input")
    if not width:
        return {"other_params": other}
    vocab = config.optional_whole(0, "vocab_size_per_layer_input") or config.whole("vocab_size")
    other += n_layers * (2 * width * hidden + hidden) + n_layers * width * hidden + width
    return {"other_params": other, "lookup_params": vocab * n_layers * width}


def _listed_experts(config: Config, n_layers: int) -> dict[str, Any]:
    """Return which layers have experts, from a text of their numbers, where there is one."""
    listed = config.get("moe_layers_enum")
    if listed is None:
        return {}
    numbers = listed.split(",") if isinstance(listed, str) else listed
    if not isinstance(numbers, list) or not all(str(n).strip().isdecimal() for n in numbers):
        raise FileFormatError(
            explain(f"{config.where}: moe_layers_enum is unreadable", got=repr(listed)[:60])
        )
    sparse = {int(str(n)) for n in numbers if len(str(n)) < 6}
    return {"mlp_layer_types": ["sparse" if i in sparse else "dense" for i in range(n_layers)]}
