"""Parameter counts as pure functions of an architecture's shape.

Invariant: the parts of :class:`WeightElements` add up to :func:`parameter_count`, which equals the number of
elements of the published checkpoint's language model. Every matrix is counted from its two widths; what is no
matrix (biases, norms, learned positions, state-space vectors) comes with the record as ``other_params``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.part_precisions import WEIGHT_PARTS, PartPrecisions, StoredPart


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightElements:
    """Weight elements of a whole model by part; each figure is summed over all layers."""

    embedding: int  # input table; the LM head reads it too where embeddings are tied
    lm_head: int  # 0 where tied
    attention: int
    recurrent: int
    dense_mlp: int
    router: int
    experts: int  # routed experts, all of them
    shared_experts: int
    other: int
    lookup: int  # tables beside the embedding of which a token reads a row

    @property
    def total(self) -> int:
        """All elements, each stored matrix once."""
        return sum(getattr(self, field.name) for field in fields(self))


def attention_params_per_layer(arch: Architecture) -> int:
    """Return the elements of Q, K, V (and output gate) and output projections of one attention layer.

    With latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): the query path (low-rank where
    ``q_lora_rank`` > 0), the joint down-projection of latent and rotary key, the up-projection, the output.
    """
    if arch.is_mla:
        qk_dim = arch.qk_nope_head_dim + arch.qk_rope_head_dim
        query_in = arch.q_lora_rank or arch.hidden_dim
        query = arch.hidden_dim * arch.q_lora_rank + query_in * arch.n_heads * qk_dim
        down = arch.hidden_dim * (arch.kv_lora_rank + arch.qk_rope_head_dim)
        up = arch.kv_lora_rank * arch.n_heads * (arch.qk_nope_head_dim + arch.v_head_dim)
        outputs = 2 if arch.gated_attention_output else 1  # the gate is as wide as what it gates
        return query + down + up + outputs * arch.n_heads * arch.v_head_dim * arch.hidden_dim
    return _grouped_params(arch, arch.n_heads, arch.n_kv_heads, arch.head_dim)


def sliding_params_per_layer(arch: Architecture) -> int:
    """Return the elements of the projections of one layer with a window, which may have widths of its own."""
    if arch.is_mla:
        return attention_params_per_layer(arch)
    n_heads, n_kv_heads = arch.sliding_n_heads or arch.n_heads, arch.sliding_n_kv_heads or arch.n_kv_heads
    return _grouped_params(arch, n_heads, n_kv_heads, arch.sliding_head_dim or arch.head_dim)


def _grouped_params(arch: Architecture, n_heads: int, n_kv_heads: int, head_dim: int) -> int:
    value_dim = arch.v_head_dim or head_dim
    query_width = n_heads * head_dim * (2 if arch.gated_attention_output else 1)
    query = arch.hidden_dim * query_width
    if arch.q_lora_rank:
        query = arch.q_lora_rank * (arch.hidden_dim + query_width)
    output = n_heads * value_dim * arch.hidden_dim
    if arch.o_lora_rank:
        output = arch.o_lora_rank * (n_heads * value_dim + arch.o_groups * arch.hidden_dim)
    return query + arch.hidden_dim * kv_width(arch, n_kv_heads, head_dim) + output


def kv_width(arch: Architecture, n_kv_heads: int, head_dim: int) -> int:
    """Return the elements of a token's keys and values in one layer of grouped attention."""
    value_dim = 0 if arch.keys_are_values else arch.v_head_dim or head_dim
    return n_kv_heads * (head_dim + value_dim)


def kv_projection_params(arch: Architecture, *, sliding: bool) -> int:
    """Return the elements of the key and value projections of one layer, which layers that share them lack."""
    n_kv_heads = (sliding and arch.sliding_n_kv_heads) or arch.n_kv_heads
    head_dim = (sliding and arch.sliding_head_dim) or arch.head_dim
    return arch.hidden_dim * kv_width(arch, n_kv_heads, head_dim)


def indexer_params_per_layer(arch: Architecture) -> int:
    """Return the elements of one indexer's projections: queries, one key, a weight for each of its heads."""
    query = (arch.q_lora_rank or arch.hidden_dim) * arch.index_n_heads * arch.index_head_dim
    return query + arch.hidden_dim * (arch.index_head_dim + arch.index_n_heads)


def attention_params(arch: Architecture) -> int:
    """Return the elements of all attention projections, indexers included."""
    full = arch.n_full_attention_layers * attention_params_per_layer(arch)
    sliding = arch.n_sliding_attention_layers * sliding_params_per_layer(arch)
    shared = arch.n_shared_kv_full_layers * kv_projection_params(arch, sliding=False)
    shared += arch.n_shared_kv_sliding_layers * kv_projection_params(arch, sliding=True)
    return full + sliding - shared + arch.n_index_layers * indexer_params_per_layer(arch)


def recurrent_params_per_layer(arch: Architecture) -> int:
    """Return the elements of one recurrent layer's input and output projections and short convolution."""
    projections = arch.hidden_dim * (arch.recurrent_in_dim + arch.recurrent_inner_dim)
    return projections + arch.recurrent_conv_dim * arch.recurrent_conv_width


def mlp_params(hidden_dim: int, ffn_dim: int, *, gated: bool) -> int:
    """Return the elements of one feed-forward block: up and down, and a gate where ``gated``."""
    return (3 if gated else 2) * hidden_dim * ffn_dim


def weight_elements(arch: Architecture) -> WeightElements:
    """Return the weight elements of ``arch`` by part."""
    table = arch.vocab_size * arch.hidden_dim
    expert = mlp_params(arch.hidden_dim, arch.expert_ffn_dim, gated=arch.gated_experts)
    shared = mlp_params(arch.hidden_dim, arch.shared_expert_ffn_dim, gated=arch.gated_experts)
    dense = mlp_params(arch.hidden_dim, arch.ffn_dim, gated=arch.gated_mlp)
    return WeightElements(
        embedding=table,
        lm_head=0 if arch.tied_embeddings else table,
        attention=attention_params(arch),
        recurrent=arch.n_recurrent_layers * recurrent_params_per_layer(arch),
        dense_mlp=arch.n_dense_mlp_layers * dense,
        router=arch.n_moe_layers * arch.hidden_dim * arch.n_experts,
        experts=arch.n_moe_layers * arch.n_experts * expert,
        shared_experts=arch.n_moe_layers * shared,
        other=arch.other_params,
        lookup=arch.lookup_params,
    )


def parameter_count(arch: Architecture) -> int:
    """Return all parameters of the language model, tied embeddings counted once."""
    return weight_elements(arch).total


def active_parameter_count(arch: Architecture) -> int:
    """Return the parameters one token touches: everything but the routed experts it is not sent to.

    Both embedding tables are counted, as vendors' "active" figures mostly do.
    """
    idle_experts = arch.n_experts - arch.experts_per_token
    expert = mlp_params(arch.hidden_dim, arch.expert_ffn_dim, gated=arch.gated_experts)
    return parameter_count(arch) - arch.n_moe_layers * idle_experts * expert


def weight_bytes(arch: Architecture, parts: PartPrecisions) -> float:
    """Return the bytes that the weights of ``arch`` occupy, each part in its own format.

    Norms, biases and convolutions are kept as the router is, at 16 bit or wider.
    """
    elements = weight_elements(arch)
    stored: float = sum(getattr(elements, name) * _bytes_of(parts, name) for name in WEIGHT_PARTS)
    looked_up = elements.lookup * _bytes_of(parts, "embedding")
    return stored + looked_up + elements.other * _bytes_of(parts, "router")


def bytes_read_per_token(arch: Architecture, parts: PartPrecisions) -> float:
    """Return the bytes of weights that one token at batch size 1 reads.

    Every matrix once, of the routed experts those that a token is sent to, of the embedding table one row, and the
    whole table once more where it is the LM head as well.
    """
    elements = weight_elements(arch)
    lookup_rows = elements.lookup / arch.vocab_size - elements.lookup
    row = (arch.hidden_dim + lookup_rows) * _bytes_of(parts, "embedding")
    table = elements.embedding * _bytes_of(parts, "lm_head") if arch.tied_embeddings else 0.0
    idle_share = 1.0 - arch.experts_per_token / arch.n_experts if arch.n_experts else 0.0
    idle = elements.experts * idle_share * _bytes_of(parts, "experts")
    return weight_bytes(arch, parts) - elements.embedding * _bytes_of(parts, "embedding") + row + table - idle


def kv_bytes_per_token(arch: Architecture, kv_bytes_per_element: float) -> float:
    """Return the bytes of keys and values, or of their latent, that one token adds over all attention layers.

    Layers with a window are counted; they stop growing at its length.
    """
    if arch.is_mla:
        full = sliding = arch.kv_lora_rank + arch.qk_rope_head_dim
    else:
        full = kv_width(arch, arch.n_kv_heads, arch.head_dim)
        windowed = arch.sliding_n_kv_heads or arch.n_kv_heads, arch.sliding_head_dim or arch.head_dim
        sliding = kv_width(arch, *windowed)
    n_full = arch.n_full_attention_layers - arch.n_shared_kv_full_layers
    n_sliding = arch.n_sliding_attention_layers - arch.n_shared_kv_sliding_layers
    return (n_full * full / (arch.kv_compression or 1) + n_sliding * sliding) * kv_bytes_per_element


def _bytes_of(parts: PartPrecisions, name: str) -> float:
    part: StoredPart = getattr(parts, name)
    return part.weight_bytes_per_element
