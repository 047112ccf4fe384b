"""Model types that no reader here knows: read as a Llama-like decoder only where nothing in the file speaks against it.

Invariant: a key that has the look of a shape and was not used refuses the file; a count that the model's own class in
transformers contradicts does too. What was taken for granted is said in ``assumptions``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_keys import Config
from llmco2.catalog.hf_transformers import ClassFacts
from llmco2.catalog.params import parameter_count
from llmco2.errors import FileFormatError, explain

MAX_DIFFERENCE: Final = 0.01  # of the parameters that the model's own class has
_GATED: Final = frozenset({"silu", "swish", "swiglu", "swigluoai", "geglu", "gegelu", "none"})
_ACTIVATION_KEYS: Final = ("hidden_act", "activation_function", "hidden_activation", "activation")
# The look of a shape: widths, counts, layers, groups, experts, patterns, and words of mechanisms.
_SHAPE_LIKE: Final = re.compile(
    r"^(?:num_|n_|moe_|block_|lru_|ssm_|mamba|linear_|cross_attention|residual_|attn_type|attn_layer|hybrid|swa_"
    r"|index_|sparse_|global_|kv_|o_|q_|v_|qk_|compress|gdn_|kda_|conv_|latent|expert|shared_|share_|routed"
    r"|first_k|interleave|parallel_|altup|laurel|hc_|mla_|dense_|window|chunk|engram|per_layer|recurrent|rnn|rwkv)"
    r"|(?:_size|_dim|_rank|_width|_heads?|_layers?|_groups?|_experts?|_blocks?|_topk|_top_k|_list|_enum|_per_layer"
    r"|_pattern|_interval|_freq|_period|_offset|_ratios?|_types?|_state|_expansion|_window|_multiplier|_setting)$"
)
# Keys with that look that change no matrix of the decoder: by a word between their underscores, or whole.
_HARMLESS_WORDS: Final = frozenset(
    {"rope", "rotary", "theta", "mrope", "dropout", "drop", "pdrop", "init", "initializer", "eps", "epsilon"}
    | {
        "label",
        "labels",
        "beam",
        "beams",
        "loss",
        "aux",
        "bos",
        "eos",
        "pad",
        "padding",
        "sequences",
        "cache",
    }
    | {"dtype", "scoring", "scaling", "logit", "logits", "softcap", "softcapping", "nextn", "mtp", "vision"}
    | {"image", "audio", "video", "visual", "patch", "tie", "torch", "transformers", "tokenizer", "problem"}
    | {
        "penalty",
        "gradient",
        "checkpoint",
        "checkpointing",
        "alpha",
        "beta",
        "jitter",
        "temperature",
        "id",
        "ids",
    }
    | {"index", "position", "positions"}
)
_HARMLESS_KEYS: Final = frozenset(
    {"n_group", "topk_group", "n_ctx", "max_window_layers", "attention_multiplier", "embedding_multiplier"}
    | {"residual_multiplier", "moe_routed_scaling_factor", "router_aux_loss_coef"}
)


# Mechanisms that make another model of a type whose published files do not have them.
_MECHANISM: Final = re.compile(
    r"moe_num_experts|moe_layers_enum|moe_latent_size|routed_expert_hidden_size|share_expert_dim|zero_expert_num"
    r"|num_experts|num_local_experts|n_routed_experts|enable_moe_block|parallel_attn_mlp_res|expert_dtype"
    r"|num_(?:key_value|attention|query)_heads_per_layer|num_attention_groups|num_kv_shared_layers|num_heads_per_layer"
    r"|attn_type_list|block_types|block_configs|layers_block_type|hybrid_(?:layer|override)_pattern|cross_attention_layers|lru_width"
    r"|index_topk|sparse_attention_config|compress_ra(?:tios|tes)|kv_lora_rank|o_lora_rank|swa_num_\w+|global_head_dim"
    r"|attention_other_setting|mamba_d_state|ssm_state_size|linear_num_\w+|linear_attn_config|altup_num_inputs"
    r"|hidden_size_per_layer_input|per_layer_config|ffn_multipliers|intermediate_sizes"
)


def checked_unknown(
    arch: Architecture, config: Config, model_type: str, facts: ClassFacts | None
) -> Architecture:
    """Return ``arch``, read as a Llama-like decoder, with what was assumed; raises FileFormatError where it may not be.

    ``facts`` are those of the model's own class, None where transformers is not installed or does not know it.
    """
    refuse_unused_shapes(config, model_type)
    counted = parameter_count(arch)
    size = f"{counted / 1e9:.3g}B parameters"
    if facts is None:
        _refuse_ungated(config, model_type)
        line = f"model type {model_type!r} is not known here and is read as a Llama-like decoder of {size}"
        return _assuming(arch, line)
    if abs(counted / facts.n_parameters - 1.0) > MAX_DIFFERENCE:
        raise FileFormatError(
            explain(
                f"{config.where}: model type {model_type!r} is not known here",
                got=f"{size} as a Llama-like decoder, {facts.n_parameters / 1e9:.3g}B in {facts.source}",
                expected="a type whose layers are known",
                remedy="give its layers with architecture_from_shape",
            )
        )
    line = f"model type {model_type!r} is not known here; {facts.source} counts {size}, as read here"
    return _assuming(arch, line)


def refuse_unused_shapes(config: Config, model_type: str) -> None:
    """Raise FileFormatError where the file has a key that looks like a shape and that no reader asked for."""
    strange = next(iter(unused_shapes(config.values, config.used)), "")
    if strange:
        raise FileFormatError(
            explain(
                f"{config.where}: model type {model_type!r} is not known here",
                got=f"the key {strange!r}",
                expected="a decoder whose every key is understood",
                remedy="give its layers with architecture_from_shape",
            )
        )


def refuse_unread_mechanisms(config: Config, model_type: str) -> None:
    """Raise FileFormatError where a file of a known type has the key of a mechanism that its reader did not ask for."""
    strange = next(
        (
            key
            for key, value in sorted(config.values.items())
            if key not in config.used and _is_mechanism(key, value)
        ),
        "",
    )
    if strange:
        raise FileFormatError(
            explain(
                f"{config.where}: {model_type!r} is not known with such layers",
                got=f"the key {strange!r}",
                expected="the keys of its published models",
                remedy="give its layers with architecture_from_shape",
            )
        )


def _is_mechanism(key: str, value: Any) -> bool:
    plain = key == "attn_type_list" and isinstance(value, list) and all(flag == 1 for flag in value)
    return _MECHANISM.fullmatch(key) is not None and _says_something(value) and not plain


def unused_shapes(values: Mapping[str, Any], used: Collection[str]) -> list[str]:
    """Return the keys of ``values`` that look like a shape, are not in ``used`` and say something."""
    return sorted(
        key
        for key, value in values.items()
        if key not in used and _SHAPE_LIKE.search(key) and not _harmless(key) and _says_something(value)
    )


def _harmless(key: str) -> bool:
    return key in _HARMLESS_KEYS or not _HARMLESS_WORDS.isdisjoint(key.casefold().split("_"))


def _says_something(value: Any) -> bool:
    return value not in (None, False, 0, "", [], {}) and not isinstance(value, str)


def _refuse_ungated(config: Config, model_type: str) -> None:
    kind = next(
        (config.values[key] for key in _ACTIVATION_KEYS if config.values.get(key) is not None), "none"
    )
    if str(kind).casefold() not in _GATED:
        raise FileFormatError(
            explain(
                f"{config.where}: model type {model_type!r} is not known here",
                got=f"the activation {kind!r}, with which MLPs may have a gate or none"[:120],
                expected="silu",
                remedy="install transformers, whose classes are then asked, or give its layers with "
                "architecture_from_shape",
            )
        )


def _assuming(arch: Architecture, line: str) -> Architecture:
    return dataclasses.replace(arch, assumptions=(line, *arch.assumptions))
