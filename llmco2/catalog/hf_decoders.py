"""Read attention-and-MLP decoders (dense, experts, latent attention) from a Hugging Face configuration."""

from __future__ import annotations

from typing import Any, Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_keys import Config
from llmco2.catalog.hf_spellings import in_known_keys
from llmco2.catalog.hf_traits import Traits
from llmco2.errors import FileFormatError, explain

_EXPERT_COUNT_KEYS: Final = ("n_routed_experts", "num_experts", "num_local_experts")
_WINDOWED_LAYER_KINDS: Final = frozenset({"sliding_attention", "chunked_attention"})
# Types whose files may leave the width of the feed-forward block to the class: four times the hidden width.
_FOURFOLD_MLP_TYPES: Final = frozenset(
    {"gpt2", "gptj", "bloom", "falcon", "mpt", "gpt_neo", "gpt_bigcode", "codegen"}
    | {"RefinedWebModel", "RefinedWeb"}
)
NULL_WIDTH_TYPES: Final = _FOURFOLD_MLP_TYPES | {
    "nemotron-nas"
}  # a null width of the MLP means the type's own
_FALCONS: Final = frozenset({"falcon", "RefinedWebModel", "RefinedWeb"})
Fields = dict[str, Any]


def read_decoder(config: Config, model_type: str, traits: Traits, model_id: str) -> Architecture:
    """Return the architecture of a decoder whose every layer is attention followed by an MLP or experts."""
    config = in_known_keys(config, model_type)
    shape = common_fields(config, traits, model_id)
    n_layers = config.whole("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    shape |= attention_fields(config, model_type, n_layers)
    shape |= mlp_fields(config, model_type, traits, n_layers)
    narrow = config.optional_whole(shape["hidden_dim"], "word_embed_proj_dim")
    if narrow != shape["hidden_dim"]:
        raise FileFormatError(
            explain(
                f"{config.where}: the embedding is narrower than the layers",
                got=narrow,
                expected=shape["hidden_dim"],
            )
        )
    bare = Architecture(**shape)
    return Architecture(**(shape | {"other_params": _other_params(bare, config, model_type, traits)}))


def common_fields(config: Config, traits: Traits, model_id: str) -> Fields:
    """Return what every decoder has: its name, lineage, width, tables and reach."""
    max_tokens = config.optional_whole(
        0, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length"
    )
    return {
        "model_id": model_id,
        "family": traits.family,
        "hidden_dim": config.whole("hidden_size", "n_embd", "d_model"),
        "vocab_size": config.whole("vocab_size"),
        "tied_embeddings": config.flag("tie_word_embeddings", default=traits.tied),
        "max_context_tokens": max_tokens or None,
    }


def attention_fields(config: Config, model_type: str, n_layers: int) -> Fields:
    """Return heads, widths, windows and latent ranks of ``n_layers`` attention layers."""
    n_heads = config.whole("num_attention_heads", "n_head", "n_heads")
    hidden = config.whole("hidden_size", "n_embd", "d_model")
    head_dim = config.optional_whole(0, "head_dim", "attention_head_dim") or hidden // n_heads
    n_kv_heads = config.optional_whole(n_heads, "num_key_value_heads", "n_head_kv", "kv_n_heads")
    if model_type in _FALCONS:
        n_kv_heads = _falcon_kv_heads(config, n_heads)
    if n_kv_heads < 1 or n_heads % n_kv_heads:
        raise FileFormatError(
            explain(
                f"{config.where}: key-value heads do not divide the heads", got=n_kv_heads, expected=n_heads
            )
        )
    window, n_sliding = sliding_layers(config, model_type, n_layers)
    fields: Fields = {
        "n_full_attention_layers": n_layers - n_sliding,
        "n_sliding_attention_layers": n_sliding,
        "sliding_window_tokens": window if n_sliding else 0,
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "head_dim": head_dim,
    }
    if config.get("kv_lora_rank"):
        nope, rope = config.whole("qk_nope_head_dim"), config.whole("qk_rope_head_dim")
        fields |= {
            "head_dim": nope + rope,
            "q_lora_rank": config.optional_whole(0, "q_lora_rank"),
            "kv_lora_rank": config.whole("kv_lora_rank"),
            "qk_nope_head_dim": nope,
            "qk_rope_head_dim": rope,
            "v_head_dim": config.whole("v_head_dim"),
        }
    return fields | _indexer_fields(config, n_layers)


def _indexer_fields(config: Config, n_layers: int) -> Fields:
    """Return the indexer of sparse attention; layers of the kind "shared" take over an earlier one's choice."""
    if not config.get("index_topk"):
        return {}
    kinds = config.get("indexer_types")
    n_own = sum(kind == "full" for kind in kinds[:n_layers]) if isinstance(kinds, list) else n_layers
    return {
        "index_topk_tokens": config.whole("index_topk"),
        "n_index_layers": n_own,
        "index_n_heads": config.whole("index_n_heads"),
        "index_head_dim": config.whole("index_head_dim"),
    }


def sliding_layers(config: Config, model_type: str, n_layers: int) -> tuple[int, int]:
    """Return the window in tokens and how many of ``n_layers`` see no farther than it.

    Chunked attention (Llama 4) is taken as a window of the chunk, which is its upper bound.
    """
    window = config.optional_whole(0, "sliding_window", "attention_chunk_size")
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and window:
        config.get("sliding_window_pattern", "_sliding_window_pattern")  # says the same
        return window, sum(str(kind) in _WINDOWED_LAYER_KINDS for kind in kinds[:n_layers])
    decided = config.get("use_sliding_window") is not None or model_type.startswith("qwen")
    if not window or (decided and not config.flag("use_sliding_window", default=False)):
        return 0, 0
    if decided:
        return window, max(0, n_layers - config.optional_whole(0, "max_window_layers"))
    if model_type == "llama4_text":
        return window, n_layers - n_layers // 4  # every fourth layer has no rotary position and full reach
    patterns = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6, "cohere2": 4, "olmo3": 4, "exaone4": 4}
    if model_type in patterns:
        every = config.optional_whole(
            patterns[model_type], "sliding_window_pattern", "_sliding_window_pattern"
        )
        return window, n_layers - n_layers // max(1, every)
    return window, n_layers


def mlp_fields(config: Config, model_type: str, traits: Traits, n_layers: int) -> Fields:
    """Return the dense and the expert feed-forward widths and how many layers have each."""
    hidden = config.whole("hidden_size", "n_embd", "d_model")
    ffn_keys = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "ff_intermediate_size")
    ffn = config.optional_whole(0, *ffn_keys)
    if model_type in _FOURFOLD_MLP_TYPES:
        ffn = ffn or config.optional_whole(4, "expansion_ratio") * hidden
    n_experts = config.optional_whole(0, *_EXPERT_COUNT_KEYS)
    n_moe = sum(is_moe_layer(config, layer) for layer in range(n_layers)) if n_experts else 0
    if n_moe < n_layers and not ffn:
        config.whole(*ffn_keys)  # raises: a dense layer without its width
    if not n_moe:
        return {"n_dense_mlp_layers": n_layers, "ffn_dim": ffn, "gated_mlp": traits.gated_mlp}
    dense_ffn = config.optional_whole(ffn, "intermediate_size_mlp")
    expert_ffn = (
        config.optional_whole(0, "moe_intermediate_size") or ffn or config.whole("moe_intermediate_size")
    )
    shared = config.optional_whole(0, "shared_expert_intermediate_size")
    shared = shared or config.optional_whole(0, "n_shared_experts") * expert_ffn
    return {
        "n_dense_mlp_layers": n_layers - n_moe,
        "ffn_dim": dense_ffn if n_moe < n_layers else 0,
        "gated_mlp": traits.gated_mlp,
        "n_moe_layers": n_moe,
        "n_experts": n_experts,
        "experts_per_token": min(
            n_experts, config.whole("num_experts_per_tok", "experts_per_token", "moe_top_k")
        ),
        "expert_ffn_dim": expert_ffn,
        "gated_experts": True,
        "shared_expert_ffn_dim": expert_ffn if model_type == "llama4_text" else shared,
    }


def is_moe_layer(config: Config, layer: int) -> bool:
    """Return whether the layer (counted from 0) of a model with experts has them."""
    frequency = config.get("moe_layer_freq")
    kinds = config.get("mlp_layer_types")
    if isinstance(kinds, list) and kinds:
        return layer < len(kinds) and kinds[layer] == "sparse"
    if isinstance(frequency, list):
        return layer < len(frequency) and bool(frequency[layer])
    if config.get("first_k_dense_replace") is not None or frequency is not None:
        every = config.optional_whole(1, "moe_layer_freq") or 1
        return layer >= config.optional_whole(0, "first_k_dense_replace") and layer % every == 0
    dense_only = config.get("mlp_only_layers")
    if isinstance(dense_only, list) and layer in dense_only:
        return False
    every = config.optional_whole(1, "decoder_sparse_step", "interleave_moe_layer_step") or 1
    return (layer + 1) % every == 0


def _falcon_kv_heads(config: Config, n_heads: int) -> int:
    if config.flag("new_decoder_architecture", default=False):
        return config.optional_whole(n_heads, "num_kv_heads", "n_head_kv")
    return 1 if config.flag("multi_query", default=True) else n_heads


def _decides(trait: bool | str, config: Config) -> bool:
    return config.flag(trait, default=False) if isinstance(trait, str) else trait


def _other_params(arch: Architecture, config: Config, model_type: str, traits: Traits) -> int:
    """Return the elements of all biases, norms and learned positions, summed over the model."""
    n_layers = arch.n_attention_layers
    norm = traits.norm_vectors * arch.hidden_dim
    total = n_layers * _norms_per_layer(config, model_type, traits) * norm
    total += norm * (int(traits.final_norm) + int(traits.embedding_norm))
    total += n_layers * (
        _attention_biases(arch, config, traits) + _qk_norms(arch, config, traits, model_type)
    )
    if _decides(traits.mlp_bias, config):
        up_biases = (2 if arch.gated_mlp else 1) * arch.ffn_dim
        total += arch.n_dense_mlp_layers * (up_biases + arch.hidden_dim)
    if _decides(traits.lm_head_bias, config):
        total += arch.vocab_size
    if traits.learned_positions_extra is not None:
        positions = config.whole("max_position_embeddings", "n_positions") + traits.learned_positions_extra
        total += positions * arch.hidden_dim
    total += arch.n_moe_layers * arch.n_experts * int(traits.router_bias)
    total += arch.n_moe_layers * arch.hidden_dim * int(traits.shared_expert_gate)
    if model_type == "gpt_oss":  # attention sinks, router bias, expert biases
        experts = arch.n_experts * (1 + 2 * arch.expert_ffn_dim + arch.hidden_dim)
        total += n_layers * (arch.n_heads + experts)
    if model_type == "apertus":  # two learned scalars of each activation function
        total += 2 * n_layers
    return total + 2 * arch.n_index_layers * arch.index_head_dim  # norms of the indexers' keys


def _norms_per_layer(config: Config, model_type: str, traits: Traits) -> int:
    if model_type in _FALCONS:
        if config.flag("new_decoder_architecture", default=False):
            return config.optional_whole(2, "num_ln_in_parallel_attn")
        return 1 if config.flag("parallel_attn", default=True) else 2
    if traits.parallel_key and config.flag(traits.parallel_key, default=False):
        return 1
    return traits.norms_per_layer


def _attention_biases(arch: Architecture, config: Config, traits: Traits) -> int:
    if arch.is_mla:
        return 0
    qkv = (arch.n_heads + 2 * arch.n_kv_heads) * arch.head_dim if _decides(traits.qkv_bias, config) else 0
    return qkv + (arch.hidden_dim if _decides(traits.out_bias, config) else 0)


def _qk_norms(arch: Architecture, config: Config, traits: Traits, model_type: str) -> int:
    if arch.is_mla:  # norms of the two latent vectors
        return arch.q_lora_rank + arch.kv_lora_rank
    width = (arch.n_heads + arch.n_kv_heads) * arch.head_dim
    if traits.qk_norm == "head" or (
        model_type in {"glm4_moe", "bailing_moe_v2"} and config.flag("use_qk_norm", default=False)
    ):
        return 2 * arch.head_dim
    if traits.qk_norm == "head-affine":
        return 4 * arch.head_dim
    if traits.qk_norm == "affine":
        return 2 * width
    on_demand = {"cohere": "use_qk_norm", "stablelm": "qk_layernorm"}
    if traits.qk_norm == "width" or config.flag(on_demand.get(model_type, ""), default=False):
        return width
    return 0
