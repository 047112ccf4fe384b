"""Model types that write their shape under keys of their own, brought to the keys that the decoder reader knows.

Invariant: a rewriter only renames and completes; every other value of the file stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from llmco2.catalog.hf_keys import Config
from llmco2.errors import FileFormatError, explain

Values = dict[str, Any]
_MAX_LAYERS: Final = 10_000


def in_known_keys(config: Config, model_type: str) -> Config:
    """Return ``config`` with the keys that :mod:`llmco2.catalog.hf_decoders` reads."""
    rewrite = _REWRITERS.get(model_type)
    if rewrite is None:
        return config
    return config.over(rewrite(config))


def _dbrx(config: Config) -> Values:
    attention, experts = config.sub("attn_config"), config.sub("ffn_config")
    return {
        "num_key_value_heads": attention.whole("kv_n_heads"),
        "intermediate_size": experts.whole("ffn_hidden_size"),
        "num_experts": experts.whole("moe_num_experts"),
        "num_experts_per_tok": experts.whole("moe_top_k"),
    }


def _chatglm(config: Config) -> Values:
    """ChatGLM2 and 3, GLM-4: one group count for keys and values, a vocabulary padded for the hardware."""
    grouped = config.flag("multi_query_attention", default=False)
    heads = config.whole("num_attention_heads")
    return {
        "num_hidden_layers": config.whole("num_layers", "num_hidden_layers"),
        "num_key_value_heads": config.whole("multi_query_group_num") if grouped else heads,
        "head_dim": config.whole("kv_channels"),
        "intermediate_size": config.whole("ffn_hidden_size"),
        "vocab_size": config.whole("padded_vocab_size", "vocab_size"),
    }


def _gpt_neo(config: Config) -> Values:
    """GPT-Neo: full and windowed layers as repeated patterns, the window as ``window_size``."""
    kinds: list[str] = []
    patterns = config.get("attention_types")
    for entry in patterns if isinstance(patterns, list) else []:
        if not _is_pattern(entry):
            raise FileFormatError(
                explain(
                    f"{config.where}: attention_types is unreadable",
                    got=repr(entry)[:60],
                    expected='a pattern and its repeats, as in [["global", "local"], 12]',
                )
            )
        kinds += entry[0] * entry[1]
    names = {"global": "full_attention", "local": "sliding_attention"}
    return {
        "num_hidden_layers": config.whole("num_layers", "num_hidden_layers"),
        "num_attention_heads": config.whole("num_heads", "num_attention_heads"),
        "sliding_window": config.optional_whole(256, "window_size"),
        "layer_types": [names.get(kind, kind) for kind in kinds],
    }


def _is_pattern(entry: Any) -> bool:
    if not (isinstance(entry, list | tuple) and len(entry) == 2):
        return False
    names, repeats = entry
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return listed and isinstance(repeats, int) and not isinstance(repeats, bool) and repeats <= _MAX_LAYERS


def _gpt_bigcode(config: Config) -> Values:
    """StarCoder and SantaCoder: all query heads share one key and one value unless the file says otherwise."""
    heads = config.whole("n_head", "num_attention_heads")
    return {"num_key_value_heads": 1 if config.flag("multi_query", default=True) else heads}


def _hunyuan_moe(config: Config) -> Values:
    """Hunyuan: figures of experts may be lists of one (equal) value per layer."""
    shared = _of_every_layer(config, "num_shared_expert")
    width = _of_every_layer(config, "moe_intermediate_size") or config.whole("intermediate_size")
    return {
        "num_experts_per_tok": _of_every_layer(config, "moe_topk"),
        "moe_intermediate_size": width,
        "n_shared_experts": shared if config.flag("use_mixed_mlp_moe", default=True) else 0,
    }


def _ernie_moe(config: Config) -> Values:
    return {
        "num_experts": config.whole("moe_num_experts"),
        "num_experts_per_tok": config.whole("moe_k"),
        "n_shared_experts": config.optional_whole(0, "moe_num_shared_experts"),
        "first_k_dense_replace": config.optional_whole(0, "moe_layer_start_index"),
        "moe_layer_freq": config.optional_whole(1, "moe_layer_interval"),
    }


def _shared_experts(config: Config) -> Values:
    """Ling, Ring and K-EXAONE: their shared experts are counted under another name."""
    return {"n_shared_experts": config.optional_whole(0, "num_shared_experts", "n_shared_experts")}


def _arctic(config: Config) -> Values:
    """Arctic: experts in every layer beside a dense MLP as wide as the stream, counted as a shared expert."""
    flags = [config.flag(key, default=True) for key in ("use_residual", "parallel_attn_mlp_res")]
    dense = any(flags)
    return {"shared_expert_intermediate_size": config.whole("hidden_size") if dense else 0}


def _qwen(config: Config) -> Values:
    """Qwen 1: the width in the file is that of gate and up projections together."""
    return {"intermediate_size": config.whole("intermediate_size") // 2}


def _refined_web(config: Config) -> Values:
    """Falcon under its first name: grouped heads of the 40B are counted by ``n_head_kv`` alone."""
    grouped = config.optional_whole(0, "n_head_kv")
    return {"new_decoder_architecture": True, "num_kv_heads": grouped} if grouped else {}


def _mllama(config: Config) -> Values:
    """Llama 3.2 Vision: layers that attend to an image are skipped for text."""
    crossing = config.get("cross_attention_layers")
    n_layers = config.whole("num_hidden_layers")
    skipped = (
        [i for i in crossing if isinstance(i, int) and i < n_layers] if isinstance(crossing, list) else []
    )
    return {"num_hidden_layers": n_layers - len(set(skipped))}


def _granite_shared(config: Config) -> Values:
    return {"shared_expert_intermediate_size": config.optional_whole(0, "shared_intermediate_size")}


def _of_every_layer(config: Config, key: str) -> int | None:
    value = config.get(key)
    if isinstance(value, list) and value and value.count(value[0]) == len(value):
        value = value[0]
    return None if value is None else Config(values={key: value}, defaults={}, where=config.where).whole(key)


_REWRITERS: Final[Mapping[str, Callable[[Config], Values]]] = MappingProxyType(
    {
        "dbrx": _dbrx,
        "chatglm": _chatglm,
        "gpt_neo": _gpt_neo,
        "gpt_bigcode": _gpt_bigcode,
        "hunyuan_v1_moe": _hunyuan_moe,
        "ernie4_5_moe": _ernie_moe,
        "bailing_moe": _shared_experts,
        "bailing_moe_v2": _shared_experts,
        "exaone_moe": _shared_experts,
        "hy_v3": _shared_experts,
        "arctic": _arctic,
        "qwen": _qwen,
        "RefinedWebModel": _refined_web,
        "RefinedWeb": _refined_web,
        "mllama_text_model": _mllama,
        "granitemoeshared": _granite_shared,
    }
)
