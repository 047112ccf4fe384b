"""Attention on one GPU: heads, widths, weights and cache of full layers and of layers with a window.

Invariant: a width that a record leaves at zero for layers with a window, or for values, is that of the full layers,
or of the keys; every array is ``(n_requests,)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from llmco2.operators.columns import Column, ShapeColumns, WorkloadColumns

# An indexer caches one key a token in 8 bit, with a 32-bit scale per 128 elements (DeepSeek-V3.2).
INDEX_BYTES_PER_ELEMENT: Final = 1.0 + 4.0 / 128.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayers:
    """The layers of one reach, on one GPU."""

    n_layers: Column
    n_own_kv_layers: Column  # those that do not read another layer's keys and values
    heads: Column
    kv_heads: Column  # fewer heads than GPUs are replicated
    head_dim: Column
    value_dim: Column
    cached_value_dim: Column  # 0 where keys are values

    @property
    def query_width(self) -> Column:
        """Elements of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> Column:
        """Elements of keys and values of a token."""
        return self.kv_heads * (self.head_dim + self.cached_value_dim)


def full_layers(shape: ShapeColumns, work: WorkloadColumns) -> AttentionLayers:
    """Return the layers without a window."""
    return AttentionLayers(
        n_layers=shape.n_full_attention_layers,
        n_own_kv_layers=shape.n_full_attention_layers - shape.n_shared_kv_full_layers,
        heads=shape.n_heads / work.tensor_parallel,
        kv_heads=_replicated(shape.n_kv_heads, work),
        head_dim=shape.head_dim,
        value_dim=_or(shape.v_head_dim, shape.head_dim),
        cached_value_dim=_or(shape.v_head_dim, shape.head_dim) * (1.0 - shape.keys_are_values),
    )


def sliding_layers(shape: ShapeColumns, work: WorkloadColumns) -> AttentionLayers:
    """Return the layers with a window."""
    head_dim = _or(shape.sliding_head_dim, shape.head_dim)
    return AttentionLayers(
        n_layers=shape.n_sliding_attention_layers,
        n_own_kv_layers=shape.n_sliding_attention_layers - shape.n_shared_kv_sliding_layers,
        heads=_or(shape.sliding_n_heads, shape.n_heads) / work.tensor_parallel,
        kv_heads=_replicated(_or(shape.sliding_n_kv_heads, shape.n_kv_heads), work),
        head_dim=head_dim,
        value_dim=_or(shape.v_head_dim, head_dim),
        cached_value_dim=_or(shape.v_head_dim, head_dim) * (1.0 - shape.keys_are_values),
    )


def cached_elements_per_token(shape: ShapeColumns, layers: AttentionLayers) -> Column:
    """Return cache elements of one token in one of ``layers``; a latent is shared by all heads, so replicated."""
    return np.where(shape.is_mla, shape.kv_lora_rank + shape.qk_rope_head_dim, layers.kv_width)


def grouped_input_elements(shape: ShapeColumns, layers: AttentionLayers) -> Column:
    """Return the weight elements of the query (and gate), key and value projections, summed over ``layers``."""
    width = layers.query_width * (1.0 + shape.gated_attention_output)
    low_rank = shape.q_lora_rank * (shape.hidden_dim + width)
    queries = np.where(shape.q_lora_rank > 0, low_rank, shape.hidden_dim * width)
    return layers.n_layers * queries + shape.hidden_dim * layers.n_own_kv_layers * layers.kv_width


def latent_input_elements(shape: ShapeColumns, work: WorkloadColumns) -> Column:
    """Return the weight elements of one latent layer's projections before attention.

    Query down (replicated) and up, key-value down (replicated), key-value up or its absorbed halves.
    """
    heads = shape.n_heads / work.tensor_parallel
    qk_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim
    low_rank = shape.q_lora_rank * (shape.hidden_dim + heads * qk_dim)
    query = np.where(shape.q_lora_rank > 0, low_rank, shape.hidden_dim * heads * qk_dim)
    down = shape.hidden_dim * (shape.kv_lora_rank + shape.qk_rope_head_dim)
    gate = shape.gated_attention_output * shape.hidden_dim * heads * shape.v_head_dim
    return query + down + gate + shape.kv_lora_rank * heads * (shape.qk_nope_head_dim + shape.v_head_dim)


def indexer_elements(shape: ShapeColumns) -> Column:
    """Return the weight elements of all indexers; engines replicate them."""
    query = _or(shape.q_lora_rank, shape.hidden_dim) * shape.index_n_heads * shape.index_head_dim
    return shape.n_index_layers * (query + shape.hidden_dim * (shape.index_head_dim + shape.index_n_heads))


def input_elements(shape: ShapeColumns, work: WorkloadColumns) -> Column:
    """Return the weight elements of all projections before attention on one GPU, indexers included."""
    full, sliding = full_layers(shape, work), sliding_layers(shape, work)
    grouped = grouped_input_elements(shape, full) + grouped_input_elements(shape, sliding)
    latent = shape.n_attention_layers * latent_input_elements(shape, work)
    return np.where(shape.is_mla, latent, grouped) + indexer_elements(shape)


def output_width(shape: ShapeColumns, work: WorkloadColumns) -> Column:
    """Return the width that output projections read, summed over all layers."""
    full, sliding = full_layers(shape, work), sliding_layers(shape, work)
    grouped = (
        full.n_layers * full.heads * full.value_dim + sliding.n_layers * sliding.heads * sliding.value_dim
    )
    return np.where(shape.is_mla, shape.n_attention_layers * full.heads * shape.v_head_dim, grouped)


def output_elements(shape: ShapeColumns, work: WorkloadColumns) -> Column:
    """Return the weight elements of all output projections on one GPU, those by groups to a low rank included."""
    width = output_width(shape, work)
    groups = shape.n_attention_layers * shape.o_groups / work.tensor_parallel
    low_rank = shape.o_lora_rank * (width + groups * shape.hidden_dim)
    return np.where(shape.o_lora_rank > 0, low_rank, width * shape.hidden_dim)


def compression(shape: ShapeColumns) -> Column:
    """Return how many tokens share an entry in the cache of a full layer."""
    return np.maximum(shape.kv_compression, 1.0)


def _or(own: Column, otherwise: Column) -> Column:
    return np.where(own > 0.0, own, otherwise)


def _replicated(heads: Column, work: WorkloadColumns) -> Column:
    return np.maximum(heads / work.tensor_parallel, np.minimum(heads, 1.0))
