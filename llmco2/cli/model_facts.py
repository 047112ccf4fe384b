"""What was understood of one model: its layers, its size, the format of each part, and what had to be assumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.models import resolve_model
from llmco2.catalog.params import (
    active_parameter_count,
    bytes_read_per_token,
    kv_bytes_per_token,
    parameter_count,
    weight_bytes,
    weight_elements,
)
from llmco2.catalog.part_precisions import PartPrecisions
from llmco2.catalog.precisions import resolve_precision
from llmco2.catalog.stored import part_names, stored_parts

_WIDE: Final = frozenset({"fp32", "tf32"})


def model_facts(name: str) -> Mapping[str, Any]:
    """Return the facts of the model that ``name`` (a name or a path) means; errors as in ``resolve_model``.

    Bytes are those of the checkpoint as published, with its scales; ``bytes_read_per_token`` are the weights that
    one token at batch size 1 reads, ``kv_bytes_per_token`` what it adds to the cache over all attention layers.
    """
    model = resolve_model(name)
    parts = stored_parts(model)
    cache = kv_precision(parts)
    cached_bytes = kv_bytes_per_token(model, resolve_precision(cache).weight_bytes_per_element)
    return {
        "asked": name,
        "model": model.title,
        "family": model.family,
        "layers": layers_by_kind(model),
        "total_parameters": parameter_count(model),
        "active_parameters": touched_parameters(model),
        "weight_bytes": round(weight_bytes(model, parts)),
        "bytes_read_per_token": round(bytes_read_per_token(model, parts)),
        "kv_bytes_per_token": round(cached_bytes),
        "precision": part_names(model, parts),
        "kv_precision": cache,
        "max_context_tokens": model.max_context_tokens,
        "hidden_dim": model.hidden_dim,
        "attention": _attention(model),
        "feed_forward": _feed_forward(model),
        "vocab_size": model.vocab_size,
        "confidence": model.confidence,
        "assumed": list(model.assumptions),
        "source": model.source,
        "retrieved": model.retrieved,
    }


def touched_parameters(model: Architecture) -> int:
    """Return the parameters that one token touches: all of a dense model.

    Of a mixture, without the experts that a token is not sent to, tables of which it reads a row, and an embedding
    that is not the LM head as well.
    """
    if not model.n_moe_layers:
        return parameter_count(model)
    elements = weight_elements(model)
    looked_up = elements.lookup + (0 if model.tied_embeddings else elements.embedding)
    return active_parameter_count(model) - looked_up


def kv_precision(parts: PartPrecisions) -> str:
    """Return the format of the KV cache: the record's, else the type of what is not quantised, at 16 bit."""
    if parts.kv_cache:
        return parts.kv_cache
    wide = parts.embedding.precision
    return "bf16" if wide in _WIDE or resolve_precision(wide).weight_bytes_per_element < 2.0 else wide


def layers_by_kind(model: Architecture) -> dict[str, int]:
    """Return how many layers have each kind of mixer and feed-forward block; kinds it lacks are left out."""
    unbounded = model.sliding_window_tokens >= (model.max_context_tokens or math.inf)
    sliding = "full_attention_of_a_second_shape" if unbounded else "sliding_window_attention"
    kinds = {
        "sparse_attention" if model.index_topk_tokens else "full_attention": model.n_full_attention_layers,
        sliding: model.n_sliding_attention_layers,
        "recurrent": model.n_recurrent_layers,
        "dense_mlp": model.n_dense_mlp_layers,
        "mixture_of_experts": model.n_moe_layers,
    }
    return {kind: n for kind, n in kinds.items() if n}


def _attention(model: Architecture) -> str:
    if not model.n_attention_layers:
        return ""
    if model.is_mla:
        text = f"{model.n_heads} heads over a latent of {model.kv_lora_rank} + {model.qk_rope_head_dim}"
    else:
        text = f"{model.n_heads} heads of {model.head_dim}, {model.n_kv_heads} for keys and values"
    if model.n_sliding_attention_layers:
        text += f", a window of {model.sliding_window_tokens} tokens"
    if model.index_topk_tokens:
        text += f", {model.index_topk_tokens} tokens picked by {model.n_index_layers} indexers"
    return text


def _feed_forward(model: Architecture) -> str:
    texts = []
    if model.n_dense_mlp_layers:
        texts.append(f"{model.ffn_dim} wide{'' if model.gated_mlp else ', no gate'}")
    if model.n_moe_layers:
        shared = f" and {model.shared_expert_ffn_dim} shared" if model.shared_expert_ffn_dim else ""
        texts.append(
            f"{model.experts_per_token} of {model.n_experts} experts {model.expert_ffn_dim} wide{shared}"
        )
    return "; ".join(texts)
