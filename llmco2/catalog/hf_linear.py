"""Read decoders with lightning attention or gated linear recurrences (MiniMax-01 and M1, RecurrentGemma), and others
whose layers hold several blocks (LongCat-Flash) or compress their cache (DeepSeek-V4).
"""

from __future__ import annotations

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_decoders import attention_fields, common_fields, mlp_fields
from llmco2.catalog.hf_keys import Config
from llmco2.catalog.hf_traits import Traits
from llmco2.errors import FileFormatError, explain

_MINIMAX = Traits(family="minimax")
_GRIFFIN = Traits(family="gemma", tied=True)
_LONGCAT = Traits(family="longcat", router_bias=True)
_DEEPSEEK = Traits(family="deepseek", router_bias=True)


def read_minimax(config: Config, model_id: str) -> Architecture:
    """Return a MiniMax-Text-01 or M1 decoder: lightning attention, softmax attention every few layers, experts."""
    shape = common_fields(config, _MINIMAX, model_id)
    n_layers, hidden = config.whole("num_hidden_layers"), shape["hidden_dim"]
    n_full = _softmax_layers(config, n_layers)
    shape |= attention_fields(config, "minimax", n_full) | mlp_fields(config, "minimax", _MINIMAX, n_layers)
    inner = shape["n_heads"] * shape["head_dim"]
    shape |= {
        "n_recurrent_layers": n_layers - n_full,
        "recurrent_in_dim": 4 * inner,  # queries, keys, values, output gate
        "recurrent_inner_dim": inner,
        "recurrent_state_elements": inner * shape["head_dim"],
    }
    other = (2 * n_layers + 1) * hidden + (n_layers - n_full) * inner
    return Architecture(**shape, other_params=other)


def _softmax_layers(config: Config, n_layers: int) -> int:
    flags = config.get("attn_type_list")
    if isinstance(flags, list) and len(flags) == n_layers:
        return sum(flag == 1 for flag in flags)
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == n_layers:
        return sum(kind == "full_attention" for kind in kinds)
    raise FileFormatError(
        explain(f"{config.where}: attn_type_list does not name the layers", expected=f"{n_layers} kinds")
    )


def read_recurrent_gemma(config: Config, model_id: str) -> Architecture:
    """Return a Griffin decoder (arXiv 2402.19427): gated linear recurrences, windowed attention every few layers.

    The two gates of a recurrence are block-diagonal: ``lru_width / heads`` columns each.
    """
    shape = common_fields(config, _GRIFFIN, model_id)
    n_layers, hidden = config.whole("num_hidden_layers"), shape["hidden_dim"]
    blocks = config.get("block_types")
    if not isinstance(blocks, list) or not blocks:
        raise FileFormatError(explain(f"{config.where}: block_types does not name the layers"))
    kinds = [blocks[i % len(blocks)] for i in range(n_layers)]
    n_attention, heads = kinds.count("attention"), config.whole("num_attention_heads")
    width = config.optional_whole(hidden, "lru_width")
    ffn = config.whole("intermediate_size") // 2
    columns, left = divmod(2 * width * (width // heads), hidden)
    n_kv_heads = config.optional_whole(heads, "num_key_value_heads")
    head_dim = config.optional_whole(hidden // heads, "head_dim")
    shape |= {
        "n_sliding_attention_layers": n_attention,
        "sliding_window_tokens": config.whole("attention_window_size"),
        "n_heads": heads,
        "n_kv_heads": n_kv_heads,
        "head_dim": head_dim,
        "n_recurrent_layers": n_layers - n_attention,
        "recurrent_in_dim": 2 * width + columns,
        "recurrent_inner_dim": width,
        "recurrent_conv_dim": width,
        "recurrent_conv_width": config.optional_whole(4, "conv1d_width"),
        "recurrent_state_elements": width,
        "n_dense_mlp_layers": n_layers,
        "ffn_dim": ffn,
    }
    recurrence = (
        3 * width + 3 * width + hidden + left
    )  # decay and gates' biases; projections' and convolution's
    other = (2 * n_layers + 1) * hidden + (n_layers - n_attention) * recurrence + n_attention * hidden
    return Architecture(**shape, other_params=other + n_layers * (2 * ffn + hidden))


def read_longcat(config: Config, model_id: str) -> Architecture:
    """Return a LongCat-Flash decoder: two latent attentions and two MLPs a layer, experts beside them.

    Some of the experts that a token is sent to do nothing; what is counted is the mean of those that do, were tokens
    sent to all alike.
    """
    n_layers = config.whole("num_layers", "num_hidden_layers")
    shape = common_fields(config, _LONGCAT, model_id) | attention_fields(
        config, "longcat_flash", 2 * n_layers
    )
    n_experts, idle = config.whole("n_routed_experts"), config.optional_whole(0, "zero_expert_num")
    chosen = config.whole("moe_topk", "num_experts_per_tok")
    shape |= {
        "n_dense_mlp_layers": 2 * n_layers,
        "ffn_dim": config.whole("ffn_hidden_size", "intermediate_size"),
        "n_moe_layers": n_layers,
        "n_experts": n_experts,
        "experts_per_token": max(1, round(chosen * n_experts / (n_experts + idle))),
        "expert_ffn_dim": config.whole("expert_ffn_hidden_size", "moe_intermediate_size"),
    }
    hidden = shape["hidden_dim"]
    other = (4 * n_layers + 1) * hidden + 2 * n_layers * (
        shape.get("q_lora_rank", 0) + shape.get("kv_lora_rank", 0)
    )
    return Architecture(**shape, other_params=other + n_layers * (idle * hidden + n_experts + idle))


def read_deepseek_v4(config: Config, model_id: str) -> Architecture:
    """Return a DeepSeek-V4 decoder: one cached vector a token, compressed; an indexer, or a window.

    Layers that compress the most keep one entry in a hundred tokens and read it beside their window: they are counted
    as layers with a window, their entries left out (1 % of what they would read uncompressed).
    """
    shape = common_fields(config, _DEEPSEEK, model_id)
    n_layers, hidden = config.whole("num_hidden_layers"), shape["hidden_dim"]
    rates = _compression_rates(config, n_layers)
    least = min((rate for rate in rates if rate > 1), default=1)
    n_sparse, n_coarse = rates.count(least) if least > 1 else 0, sum(rate > least for rate in rates)
    head_dim, index_dim = config.whole("head_dim"), config.whole("index_head_dim")
    shape |= {
        "n_full_attention_layers": n_sparse,
        "n_sliding_attention_layers": n_layers - n_sparse,
        "sliding_window_tokens": config.whole("sliding_window"),
        "n_heads": config.whole("num_attention_heads"),
        "n_kv_heads": config.optional_whole(1, "num_key_value_heads"),
        "head_dim": head_dim,
        "keys_are_values": True,
        "q_lora_rank": config.whole("q_lora_rank"),
        "o_lora_rank": config.whole("o_lora_rank"),
        "o_groups": config.whole("o_groups"),
        "index_topk_tokens": config.whole("index_topk") if n_sparse else 0,
        "n_index_layers": n_sparse,
        "index_n_heads": config.whole("index_n_heads"),
        "index_head_dim": index_dim,
        "kv_compression": least if n_sparse else 0,
    }
    everywhere = config.over({"first_k_dense_replace": 0, "mlp_layer_types": None, "moe_layer_freq": 1})
    shape |= mlp_fields(everywhere, "deepseek_v4", _DEEPSEEK, n_layers)
    streams = config.optional_whole(1, "hc_mult")
    mixing = (2 + streams) * streams * (streams * hidden + 1) + 3
    other = n_layers * (2 * hidden + shape["q_lora_rank"] + head_dim + shape["n_heads"] + 2 * mixing) + hidden
    other += n_sparse * (4 * hidden * head_dim + 3 * hidden * index_dim + 2 * least * (head_dim + index_dim))
    other += n_coarse * (2 * hidden * head_dim + max(rates) * head_dim) + n_layers * shape["n_experts"]
    other += streams * (streams * hidden + 1) + 1
    return Architecture(**shape, other_params=other)


def _compression_rates(config: Config, n_layers: int) -> list[int]:
    """Return tokens per entry of each layer's cache; 0 where a layer has only its window."""
    listed = config.get("compress_ratios")
    if isinstance(listed, list) and len(listed) >= n_layers:
        return [_rate(config, value) for value in listed[:n_layers]]
    kinds, rates = config.get("layer_types"), config.sub("compress_rates")
    if isinstance(kinds, list) and len(kinds) == n_layers:
        return [rates.optional_whole(0, str(kind)) for kind in kinds]
    raise FileFormatError(
        explain(f"{config.where}: compress_ratios does not name the layers", expected=f"{n_layers} rates")
    )


def _rate(config: Config, value: object) -> int:
    return Config(values={"compress_ratios": value}, defaults={}, where=config.where).optional_whole(
        0, "compress_ratios"
    )
