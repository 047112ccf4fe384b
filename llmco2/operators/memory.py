"""Does it fit: weights, KV cache, recurrent state and workspace of one GPU against its memory.

The workspace is what an engine keeps beside them: the CUDA context and allocator slack, plus the activations
of the widest layer of one pass and the logits of its last tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from llmco2.operators.attention import (
    INDEX_BYTES_PER_ELEMENT,
    cached_elements_per_token,
    compression,
    full_layers,
    input_elements,
    output_elements,
    sliding_layers,
)
from llmco2.operators.columns import Column, ShapeColumns, WorkloadColumns
from llmco2.operators.counting import (
    PREFILL_TOKEN_BUDGET,
    STATE_BYTES_PER_ELEMENT,
    stream_bytes_per_element,
)

CONTEXT_BYTES: Final = 0.6e9  # CUDA context, kernels and libraries loaded (measured range 0.3–0.9 GB)
LOGIT_BYTES_PER_ELEMENT: Final = 4.0  # engines sample in fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Bytes on one GPU, ``(n_requests,)``."""

    weights_bytes: Column
    kv_cache_bytes: Column
    workspace_bytes: Column

    @property
    def total_bytes(self) -> Column:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.workspace_bytes


def fullest_stage_share(shape: ShapeColumns, work: WorkloadColumns) -> Column:
    """Return the share of all layers on the fullest pipeline stage; whole layers are dealt out."""
    layers = np.maximum(np.maximum(shape.n_mixer_layers, shape.n_ffn_layers), 1.0)
    return np.ceil(layers / work.pipeline_parallel) / layers


def weights_bytes_per_gpu(shape: ShapeColumns, work: WorkloadColumns) -> Column:
    """Return the bytes of weights on the fullest GPU, every matrix in its own precision."""
    tp, hidden = work.tensor_parallel, shape.hidden_dim
    attention = input_elements(shape, work) + output_elements(shape, work)
    recurrent = shape.n_recurrent_layers * hidden * (shape.recurrent_in_dim + shape.recurrent_inner_dim) / tp
    convolutions = shape.n_recurrent_layers * shape.recurrent_conv_dim * shape.recurrent_conv_width / tp
    mlp = shape.n_dense_mlp_layers * hidden * shape.ffn_dim * (2.0 + shape.gated_mlp) / tp
    per_expert_width = 2.0 + shape.gated_experts
    shared = hidden * shape.shared_expert_ffn_dim * per_expert_width / tp
    routers = shape.n_moe_layers * hidden * shape.n_experts
    experts = shape.n_moe_layers * shape.n_experts * hidden * shape.expert_ffn_dim * per_expert_width / tp
    layers = (
        attention * work.attention_weight_bytes_per_element
        + recurrent * work.recurrent_weight_bytes_per_element
        + mlp * work.dense_mlp_weight_bytes_per_element
        + experts * work.expert_weight_bytes_per_element
        + shape.n_moe_layers * shared * work.shared_expert_weight_bytes_per_element
        + (routers + convolutions + shape.other_params) * work.router_weight_bytes_per_element
    )
    # Embedding and head sit on the first and the last stage: one table each, or both on the only stage.
    table = shape.vocab_size * hidden / tp
    embedding = table * work.embedding_weight_bytes_per_element
    head = table * work.head_weight_bytes_per_element
    one_each = (shape.tied_embeddings > 0) | (work.pipeline_parallel > 1)
    tables = np.where(one_each, np.maximum(embedding, head), embedding + head)
    lookups = shape.lookup_params / tp * work.embedding_weight_bytes_per_element
    return layers * fullest_stage_share(shape, work) + tables + lookups


def kv_cache_bytes_per_gpu(shape: ShapeColumns, work: WorkloadColumns) -> Column:
    """Return the bytes of KV cache and recurrent state on the fullest GPU.

    At the longest context where the batch ends together; requests of a steady batch are out of phase, so on
    average half of their output is there.
    """
    context = work.prompt_tokens + work.output_tokens * np.where(work.continuous > 0, 0.5, 1.0)
    windowed = np.minimum(context, np.maximum(shape.sliding_window_tokens, 1.0))
    full, sliding = full_layers(shape, work), sliding_layers(shape, work)
    elements = context / compression(shape) * full.n_own_kv_layers * cached_elements_per_token(shape, full)
    elements += windowed * sliding.n_own_kv_layers * cached_elements_per_token(shape, sliding)
    index = context / compression(shape) * shape.n_index_layers * shape.index_head_dim
    cache = elements * work.kv_bytes_per_element + index * INDEX_BYTES_PER_ELEMENT
    state = (
        shape.n_recurrent_layers
        * shape.recurrent_state_elements
        / work.tensor_parallel
        * STATE_BYTES_PER_ELEMENT
    )
    return work.batch_size * (cache + state) * fullest_stage_share(shape, work)


def widest_activation_elements(shape: ShapeColumns, work: WorkloadColumns) -> Column:
    """Return the elements per token of the widest layer's activations on one GPU."""
    tp = work.tensor_parallel
    qk = shape.qk_nope_head_dim + shape.qk_rope_head_dim
    attention = shape.n_heads * np.where(
        shape.is_mla, 2.0 * (qk + shape.v_head_dim), shape.head_dim * (2.0 + shape.gated_attention_output)
    )
    mlp = shape.ffn_dim * (1.0 + shape.gated_mlp)
    experts = shape.experts_per_token * shape.expert_ffn_dim * (1.0 + shape.gated_experts)
    recurrent = shape.recurrent_in_dim + shape.recurrent_inner_dim
    sharded = np.maximum(np.maximum(attention, mlp), np.maximum(experts, recurrent))
    return np.maximum(shape.hidden_dim * 2.0, sharded / tp)


def memory_need(shape: ShapeColumns, work: WorkloadColumns) -> MemoryNeed:
    """Return what one GPU must hold for each request."""
    rows = np.minimum(work.batch_size * work.prompt_tokens, PREFILL_TOKEN_BUDGET)
    activations = rows * widest_activation_elements(shape, work) * stream_bytes_per_element(work)
    logits = work.batch_size * shape.vocab_size / work.tensor_parallel * LOGIT_BYTES_PER_ELEMENT
    return MemoryNeed(
        weights_bytes=weights_bytes_per_gpu(shape, work),
        kv_cache_bytes=kv_cache_bytes_per_gpu(shape, work),
        workspace_bytes=CONTEXT_BYTES + activations + logits,
    )
