"""FLOPs and bytes of every kernel of a phase, from shapes alone.

Conventions. A multiply-add is two FLOPs. Prefill produces the first output token; decode makes the remaining
``output_tokens - 1``, one forward pass each. A causal kernel does only the attended half of the scores.
Expert weights read are those expected to be hit by uniformly routed tokens. Under tensor parallelism each GPU
holds its share of every matrix; key-value heads fewer than GPUs are replicated, as a latent cache is. Expert
parallelism inside a tensor-parallel group leaves every token on every GPU, so results are reduced as they are without.
Narrow formats narrow what goes into a matrix product; what comes out of it, the residual stream and messages stay at
16 bit or wider.

Continuous serving admits prompts while others decode: prompts that arrive within one decode step share a
pass, so a steady batch of B needs
``max(min(B, output_tokens), B·prompt_tokens / PREFILL_TOKEN_BUDGET)`` prefill passes.
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
    output_width,
    sliding_layers,
)
from llmco2.operators.columns import Column, ShapeColumns, WorkloadColumns
from llmco2.operators.context import attended_tokens_between, attended_tokens_up_to
from llmco2.operators.names import Phase
from llmco2.operators.table import KernelTable, SlotAccumulator

PREFILL_TOKEN_BUDGET: Final = (
    8192.0  # tokens a serving engine puts in one pass (vLLM's max_num_batched_tokens)
)
SCAN_FLOPS_PER_STATE_ELEMENT: Final = 6.0  # decay, outer-product update and read-out of a recurrent state
LOGIT_BYTES: Final = 18.0  # read at 16 bit, written and read twice at fp32 (cast, softmax), then drawn from
FLOPS_PER_LOGIT: Final = 5.0
SAMPLING_LAUNCHES: Final = 4.0  # cast, softmax, draw and what gathers shards of the vocabulary
ROUTING_LAUNCHES: Final = 3.0  # choice of experts, order of tokens, sum of the experts' results
INDEXER_PRODUCTS: Final = 3.0  # its queries, its key, the weights of its heads
STATE_BYTES_PER_ELEMENT: Final = 4.0  # recurrent states are kept in fp32
NARROWEST_STREAM_BYTES: Final = (
    2.0  # 8-bit engines requantise before each product and keep the rest at 16 bit
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """The forward passes of one phase; arrays are ``(n_requests,)`` and totals over the phase."""

    steps: Column
    rows: Column  # tokens that go through each layer
    rows_per_step: Column
    full_context: Column  # Σ over sequences and tokens of tokens attended
    sliding_context: Column
    scored_context: Column  # the same, of entries that an indexer scores; cache compression counted
    head_rows: Column  # tokens whose logits are computed
    state_passes: Column  # times that a sequence's recurrent state is read and written


def prefill_pass(shape: ShapeColumns, work: WorkloadColumns) -> Pass:
    """Return the passes of prefill."""
    batch, prompt = work.batch_size, work.prompt_tokens
    rows = batch * prompt
    steady = np.maximum(np.minimum(batch, work.output_tokens), rows / PREFILL_TOKEN_BUDGET)
    steps = np.where(work.continuous > 0, steady, 1.0)
    return Pass(
        steps=steps,
        rows=rows,
        rows_per_step=rows / steps,
        full_context=batch * attended_tokens_up_to(prompt, _reach(shape)) / compression(shape),
        sliding_context=batch * attended_tokens_up_to(prompt, np.maximum(shape.sliding_window_tokens, 1.0)),
        scored_context=batch * attended_tokens_up_to(prompt) / compression(shape),
        head_rows=batch,
        state_passes=batch,
    )


def decode_pass(shape: ShapeColumns, work: WorkloadColumns) -> Pass:
    """Return the passes of decode; exact over the growing context."""
    batch = work.batch_size
    steps = np.maximum(work.output_tokens - 1.0, 0.0)
    first, last = work.prompt_tokens, work.prompt_tokens + steps
    return Pass(
        steps=steps,
        rows=batch * steps,
        rows_per_step=batch,
        full_context=batch * attended_tokens_between(first, last, _reach(shape)) / compression(shape),
        sliding_context=batch
        * attended_tokens_between(first, last, np.maximum(shape.sliding_window_tokens, 1.0)),
        scored_context=batch * attended_tokens_between(first, last) / compression(shape),
        head_rows=batch * steps,
        state_passes=batch * steps,
    )


def _reach(shape: ShapeColumns) -> Column:
    """Return how many tokens a full layer attends to: all, or those that its indexer picks."""
    picked = shape.index_topk_tokens * compression(shape)
    return np.where(shape.index_topk_tokens > 0, picked, np.inf)


def count_phase(phase: Phase, shape: ShapeColumns, work: WorkloadColumns) -> KernelTable:
    """Return the kernel table of one phase for all requests (``shape`` and ``work`` row by row)."""
    run = prefill_pass(shape, work) if phase == "prefill" else decode_pass(shape, work)
    out = SlotAccumulator(len(work.batch_size))
    _embedding_and_head(out, shape, work, run)
    _attention_projections(out, shape, work, run, absorbed=phase == "decode")
    _attention(out, shape, work, run, cached=phase == "decode")
    _recurrent(out, shape, work, run)
    _norms_and_residuals(out, shape, work, run)
    _dense_mlp(out, shape, work, run)
    _experts(out, shape, work, run)
    _communication(out, shape, work, run)
    return KernelTable(phase=phase, steps=run.steps, rows_per_pass=run.rows_per_step, **out.arrays)


def expected_experts_hit(n_experts: Column, experts_per_token: Column, rows: Column) -> Column:
    """Return the expected number of distinct experts that ``rows`` uniformly routed tokens use.

    ``E·(1 − (1 − k/E)^rows)``, shapes ``(n_requests,)``; each token draws ``k`` of ``E`` without replacement.
    """
    experts = np.maximum(n_experts, 1.0)
    share = np.minimum(experts_per_token / experts, 1.0)
    with np.errstate(divide="ignore"):
        return np.where(n_experts > 0, -experts * np.expm1(rows * np.log1p(-share)), 0.0)


def stream_bytes_per_element(work: WorkloadColumns) -> Column:
    """Return the bytes of an element that no product takes in: residual stream, attention, messages."""
    return np.maximum(work.activation_bytes_per_element, NARROWEST_STREAM_BYTES)


def _gemm(
    out: SlotAccumulator,
    slot: str,
    run: Pass,
    work: WorkloadColumns,
    *,
    layers: Column,
    width_in: Column,
    width_out: Column,
    params: Column | None = None,
    between: Column | float = 0.0,
    weight_bytes_per_element: Column,
    launches_per_layer: Column | float = 1.0,
) -> None:
    """Count one linear layer: ``rows × width_in × width_out`` per layer, on this GPU's share of the weights.

    ``between`` is the width of what a chain of products writes and reads back on its way.
    """
    elements = width_in * width_out if params is None else params
    streamed = (width_out + between) * stream_bytes_per_element(work)
    out.add(
        slot,
        launches=layers * run.steps * launches_per_layer,
        flops=2.0 * run.rows * elements * layers,
        weight_bytes=run.steps * elements * layers * weight_bytes_per_element,
        activation_bytes=run.rows * (width_in * work.activation_bytes_per_element + streamed) * layers,
        width_in=width_in,
        width_out=width_out,
    )


def _embedding_and_head(out: SlotAccumulator, shape: ShapeColumns, work: WorkloadColumns, run: Pass) -> None:
    vocab = shape.vocab_size / work.tensor_parallel
    act = stream_bytes_per_element(work)
    looked_up = run.rows * shape.hidden_dim * work.embedding_weight_bytes_per_element / work.tensor_parallel
    out.add("embedding", launches=run.steps, weight_bytes=looked_up,
            activation_bytes=run.rows * shape.hidden_dim * act, width_out=shape.hidden_dim)  # fmt: skip
    out.add(
        "lm_head",
        launches=run.steps,
        flops=2.0 * run.head_rows * shape.hidden_dim * vocab,
        weight_bytes=run.steps * shape.hidden_dim * vocab * work.head_weight_bytes_per_element,
        activation_bytes=run.head_rows * (shape.hidden_dim + vocab) * act,
        width_in=shape.hidden_dim,
        width_out=vocab,
    )
    # Every GPU's share of the logits is gathered; one GPU then samples from the whole vocabulary while others wait.
    logits = run.head_rows * shape.vocab_size
    out.add("sampling", launches=SAMPLING_LAUNCHES * run.steps, flops=FLOPS_PER_LOGIT * logits,
            activation_bytes=LOGIT_BYTES * logits, width_in=shape.vocab_size,
            network_bytes=(run.head_rows * (shape.vocab_size - vocab)) * act)  # fmt: skip


def _attention_projections(out: SlotAccumulator, shape: ShapeColumns, work: WorkloadColumns, run: Pass, *,
                           absorbed: bool) -> None:  # fmt: skip
    """Count the projections of all layers; widths are the mean of layers of different shapes."""
    layers = shape.n_attention_layers
    each = np.maximum(layers, 1.0)
    heads = shape.n_heads / work.tensor_parallel
    hidden = shape.hidden_dim
    grouped_out = input_elements(shape, work) / each / hidden
    qk_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim
    # Prefill expands the latent into keys and values. Decode instead moves each head's query into the latent
    # space and its result out of it, two more products whose operands pass through memory.
    expanded = 0.0 if absorbed else heads * (shape.qk_nope_head_dim + shape.v_head_dim)
    mla_out = heads * qk_dim + shape.kv_lora_rank + shape.qk_rope_head_dim + expanded
    through_latent = (
        heads * (2.0 * shape.kv_lora_rank + shape.qk_nope_head_dim + shape.v_head_dim) if absorbed else 0.0
    )
    _gemm(
        out,
        "qkv_projection",
        run,
        work,
        layers=layers,
        width_in=hidden,
        width_out=np.where(shape.is_mla, mla_out, grouped_out),
        params=input_elements(shape, work) / each,
        weight_bytes_per_element=work.attention_weight_bytes_per_element,
        between=np.where(shape.is_mla, 2.0 * shape.q_lora_rank + through_latent, 0.0),
        launches_per_layer=np.where(shape.is_mla, np.where(shape.q_lora_rank > 0, 4.0, 3.0), 1.0)
        + INDEXER_PRODUCTS * shape.n_index_layers / each,
    )
    _gemm(out, "output_projection", run, work, layers=layers, width_in=output_width(shape, work) / each,
          width_out=hidden, params=output_elements(shape, work) / each,
          weight_bytes_per_element=work.attention_weight_bytes_per_element)  # fmt: skip


def _attention(
    out: SlotAccumulator, shape: ShapeColumns, work: WorkloadColumns, run: Pass, *, cached: bool
) -> None:
    full, sliding = full_layers(shape, work), sliding_layers(shape, work)
    own = full.n_own_kv_layers + sliding.n_own_kv_layers
    written = full.n_own_kv_layers * cached_elements_per_token(shape, full) / compression(shape)
    written += sliding.n_own_kv_layers * cached_elements_per_token(shape, sliding)
    index_bytes = shape.n_index_layers * shape.index_head_dim * INDEX_BYTES_PER_ELEMENT / compression(shape)
    out.add("kv_cache", launches=own * run.steps,
            kv_bytes=run.rows * (written * work.kv_bytes_per_element + index_bytes),
            width_out=written / np.maximum(own, 1.0))  # fmt: skip
    # A layer with a compressed cache attends to its window as well.
    windowed = np.where(
        (shape.kv_compression > 1) & (shape.sliding_window_tokens > 0), run.sliding_context, 0.0
    )
    scored = run.scored_context * shape.n_index_layers * shape.index_head_dim
    scored_keys = scored if cached else run.rows * shape.n_index_layers * shape.index_head_dim
    for slot, layers, context, index_flops, index_read in (
        (
            "full_attention",
            full,
            run.full_context + windowed,
            2.0 * scored * shape.index_n_heads,
            scored_keys,
        ),
        ("sliding_attention", sliding, run.sliding_context, 0.0, 0.0),
    ):
        naive = shape.qk_nope_head_dim + shape.qk_rope_head_dim + shape.v_head_dim
        latent = 2.0 * shape.kv_lora_rank + shape.qk_rope_head_dim
        score_dim = np.where(shape.is_mla, latent if cached else naive, layers.head_dim + layers.value_dim)
        # Queries and results pass through memory; in prefill so do the keys and values expanded from a latent.
        moved = layers.heads * score_dim * np.where(shape.is_mla & (not cached), 2.0, 1.0)
        per_token = cached_elements_per_token(shape, layers) * work.kv_bytes_per_element
        # Decode reads the cache of every attended token once a step; prefill reads each key once.
        read = context if cached else run.rows
        out.add(
            slot,
            launches=layers.n_layers * run.steps,
            flops=2.0 * context * layers.heads * score_dim * layers.n_layers + index_flops,
            kv_bytes=read * per_token * layers.n_layers + index_read * INDEX_BYTES_PER_ELEMENT,
            activation_bytes=run.rows * moved * stream_bytes_per_element(work) * layers.n_layers,
            width_in=score_dim,
            width_out=layers.heads,
        )


def _recurrent(out: SlotAccumulator, shape: ShapeColumns, work: WorkloadColumns, run: Pass) -> None:
    layers, tp = shape.n_recurrent_layers, work.tensor_parallel
    _gemm(out, "recurrent_in_projection", run, work, layers=layers, width_in=shape.hidden_dim,
          width_out=shape.recurrent_in_dim / tp,
          weight_bytes_per_element=work.recurrent_weight_bytes_per_element)  # fmt: skip
    state = shape.recurrent_state_elements / tp
    conv = shape.recurrent_conv_dim / tp
    conv_weights = conv * shape.recurrent_conv_width
    streamed = (shape.recurrent_in_dim + shape.recurrent_inner_dim) / tp * stream_bytes_per_element(work)
    state_bytes = 2.0 * state * STATE_BYTES_PER_ELEMENT  # read and written
    out.add(
        "recurrent_scan",
        launches=2.0 * layers * run.steps,
        flops=run.rows * layers * (SCAN_FLOPS_PER_STATE_ELEMENT * state + 2.0 * conv_weights),
        weight_bytes=run.steps * layers * conv_weights * work.router_weight_bytes_per_element,
        activation_bytes=layers * run.rows * streamed,
        kv_bytes=layers * run.state_passes * state_bytes,
        width_in=state,
        width_out=conv,
    )
    _gemm(out, "recurrent_out_projection", run, work, layers=layers, width_in=shape.recurrent_inner_dim / tp,
          width_out=shape.hidden_dim,
          weight_bytes_per_element=work.recurrent_weight_bytes_per_element)  # fmt: skip


def _norms_and_residuals(out: SlotAccumulator, shape: ShapeColumns, work: WorkloadColumns, run: Pass) -> None:
    hidden, act = shape.hidden_dim, stream_bytes_per_element(work)
    stream = run.rows * hidden * act
    for prefix, layers in (("mixer", shape.n_mixer_layers), ("mlp", shape.n_ffn_layers)):
        out.add(f"{prefix}_norm", launches=layers * run.steps, flops=4.0 * run.rows * hidden * layers,
                activation_bytes=2.0 * stream * layers, width_out=hidden)  # fmt: skip
        out.add(f"{prefix}_residual", launches=layers * run.steps, flops=run.rows * hidden * layers,
                activation_bytes=3.0 * stream * layers, width_out=hidden)  # fmt: skip
    out.add("final_norm", launches=run.steps, flops=4.0 * run.rows * hidden, activation_bytes=2.0 * stream,
            width_out=hidden)  # fmt: skip


def _dense_mlp(out: SlotAccumulator, shape: ShapeColumns, work: WorkloadColumns, run: Pass) -> None:
    layers, ffn = shape.n_dense_mlp_layers, shape.ffn_dim / work.tensor_parallel
    up = ffn * (1.0 + shape.gated_mlp)
    _gemm(out, "mlp_up", run, work, layers=layers, width_in=shape.hidden_dim, width_out=up,
          weight_bytes_per_element=work.dense_mlp_weight_bytes_per_element)  # fmt: skip
    out.add("mlp_activation", launches=layers * run.steps, flops=8.0 * run.rows * ffn * layers,
            activation_bytes=run.rows * (up + ffn) * layers * stream_bytes_per_element(work),
            width_out=ffn)  # fmt: skip
    _gemm(out, "mlp_down", run, work, layers=layers, width_in=ffn, width_out=shape.hidden_dim,
          weight_bytes_per_element=work.dense_mlp_weight_bytes_per_element)  # fmt: skip


def _experts(out: SlotAccumulator, shape: ShapeColumns, work: WorkloadColumns, run: Pass) -> None:
    layers, hidden, act = shape.n_moe_layers, shape.hidden_dim, stream_bytes_per_element(work)
    # Whole experts are spread over expert-parallel GPUs; each is sliced over what tensor parallelism is left.
    slices = work.tensor_parallel / work.expert_parallel
    ffn = shape.expert_ffn_dim / slices
    up = ffn * (1.0 + shape.gated_experts)
    hit = (
        expected_experts_hit(shape.n_experts, shape.experts_per_token, run.rows_per_step)
        / work.expert_parallel
    )
    routed = run.rows * shape.experts_per_token / work.expert_parallel
    _gemm(out, "router", run, work, layers=layers, width_in=hidden, width_out=shape.n_experts,
          weight_bytes_per_element=work.router_weight_bytes_per_element)  # fmt: skip
    for slot, width_in, width_out in (("expert_up", hidden, up), ("expert_down", ffn, hidden)):
        out.add(
            slot,
            launches=layers * run.steps,
            flops=2.0 * routed * width_in * width_out * layers,
            weight_bytes=run.steps
            * hit
            * width_in
            * width_out
            * layers
            * work.expert_weight_bytes_per_element,
            activation_bytes=routed
            * (width_in * work.activation_bytes_per_element + width_out * act)
            * layers,
            width_in=width_in,
            width_out=width_out,
        )
    out.add("expert_activation", launches=layers * run.steps, flops=8.0 * routed * ffn * layers,
            activation_bytes=routed * (up + ffn) * layers * act, width_out=ffn)  # fmt: skip
    out.add("expert_combine", launches=ROUTING_LAUNCHES * layers * run.steps, flops=2.0 * routed * hidden * layers,
            activation_bytes=(routed + run.rows) * hidden * layers * act, width_out=hidden)  # fmt: skip
    shared = shape.shared_expert_ffn_dim / work.tensor_parallel
    has_shared = layers * (shape.shared_expert_ffn_dim > 0)
    _gemm(out, "shared_expert", run, work, layers=has_shared, width_in=hidden,
          width_out=shared * (2.0 + shape.gated_experts),
          weight_bytes_per_element=work.shared_expert_weight_bytes_per_element,
          between=hidden + shared * (2.0 + shape.gated_experts), launches_per_layer=2.0)  # fmt: skip


def _communication(out: SlotAccumulator, shape: ShapeColumns, work: WorkloadColumns, run: Pass) -> None:
    stream = run.rows * shape.hidden_dim * stream_bytes_per_element(work)
    tp, pp = work.tensor_parallel, work.pipeline_parallel
    ring = 2.0 * (tp - 1.0) / tp  # bytes sent per byte reduced, ring all-reduce
    reduced = run.steps * (tp > 1)
    for slot, layers in (("mixer_all_reduce", shape.n_mixer_layers), ("mlp_all_reduce", shape.n_ffn_layers)):
        out.add(slot, launches=layers * reduced, network_bytes=ring * stream * layers,
                activation_bytes=2.0 * stream * layers, width_out=shape.hidden_dim)  # fmt: skip
    out.add("pipeline_send", launches=run.steps * (pp - 1.0), network_bytes=stream / tp * (pp - 1.0),
            activation_bytes=2.0 * stream / tp * (pp - 1.0), width_out=shape.hidden_dim)  # fmt: skip
