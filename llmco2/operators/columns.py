"""Requests as columns: one array per shape and workload quantity, so that one pass counts many requests.

Invariant: every array has shape ``(n_requests,)`` and dtype float64; names are those of the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from llmco2.catalog.architecture import Architecture

Column = NDArray[np.float64]  # (n_requests,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeColumns:
    """Architectures as columns; see :class:`llmco2.catalog.architecture.Architecture` for each field."""

    hidden_dim: Column
    vocab_size: Column
    tied_embeddings: Column
    n_full_attention_layers: Column
    n_sliding_attention_layers: Column
    sliding_window_tokens: Column
    n_heads: Column
    n_kv_heads: Column
    head_dim: Column
    gated_attention_output: Column
    sliding_n_heads: Column
    sliding_n_kv_heads: Column
    sliding_head_dim: Column
    n_shared_kv_full_layers: Column
    n_shared_kv_sliding_layers: Column
    keys_are_values: Column
    o_lora_rank: Column
    o_groups: Column
    index_topk_tokens: Column
    n_index_layers: Column
    index_n_heads: Column
    index_head_dim: Column
    kv_compression: Column
    q_lora_rank: Column
    kv_lora_rank: Column
    qk_nope_head_dim: Column
    qk_rope_head_dim: Column
    v_head_dim: Column
    n_recurrent_layers: Column
    recurrent_in_dim: Column
    recurrent_inner_dim: Column
    recurrent_conv_dim: Column
    recurrent_conv_width: Column
    recurrent_state_elements: Column
    n_dense_mlp_layers: Column
    ffn_dim: Column
    gated_mlp: Column
    n_moe_layers: Column
    n_experts: Column
    experts_per_token: Column
    expert_ffn_dim: Column
    gated_experts: Column
    shared_expert_ffn_dim: Column
    other_params: Column
    lookup_params: Column

    @property
    def n_attention_layers(self) -> Column:
        """Layers whose mixer is attention of either reach."""
        return self.n_full_attention_layers + self.n_sliding_attention_layers

    @property
    def n_mixer_layers(self) -> Column:
        """Layers that mix tokens: attention and recurrent."""
        return self.n_attention_layers + self.n_recurrent_layers

    @property
    def n_ffn_layers(self) -> Column:
        """Layers with a feed-forward part, dense or experts."""
        return self.n_dense_mlp_layers + self.n_moe_layers

    @property
    def is_mla(self) -> NDArray[np.bool_]:
        """Whether attention keeps a latent cache."""
        return self.kv_lora_rank > 0

    def take(self, index: NDArray[np.intp]) -> ShapeColumns:
        """Return the rows ``index`` (with repeats), one architecture per request."""
        return ShapeColumns(**{name: getattr(self, name)[index] for name in SHAPE_FIELDS})


SHAPE_FIELDS = tuple(field.name for field in fields(ShapeColumns))


def shape_columns(architectures: Sequence[Architecture]) -> ShapeColumns:
    """Return the architectures as columns of shape ``(n_architectures,)``."""
    return ShapeColumns(
        **{
            name: np.array([getattr(a, name) for a in architectures], dtype=np.float64)
            for name in SHAPE_FIELDS
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadColumns:
    """What is asked and how it is deployed; one entry per request."""

    batch_size: Column
    prompt_tokens: Column
    output_tokens: Column
    continuous: Column  # 1 where a steady batch is served, 0 where one batch starts and ends together
    tensor_parallel: Column  # GPUs that share each matrix (the wider of tensor and expert parallel)
    expert_parallel: Column  # GPUs over which whole experts are spread
    pipeline_parallel: Column
    attention_weight_bytes_per_element: Column  # of the projections
    recurrent_weight_bytes_per_element: Column  # of the projections
    dense_mlp_weight_bytes_per_element: Column
    expert_weight_bytes_per_element: Column  # of routed experts
    shared_expert_weight_bytes_per_element: Column
    router_weight_bytes_per_element: Column  # and of norms, biases and convolutions
    head_weight_bytes_per_element: Column
    embedding_weight_bytes_per_element: Column
    activation_bytes_per_element: Column
    kv_bytes_per_element: Column

    @property
    def n_gpus(self) -> Column:
        """GPUs in use."""
        return self.tensor_parallel * self.pipeline_parallel
