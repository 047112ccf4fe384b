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
        return query + down + up + arch.n_heads * arch.v_head_dim * arch.hidden_dim
    query_dim = arch.n_heads * arch.head_dim * (2 if arch.gated_attention_output else 1)
    kv_dim = 2 * arch.n_kv_heads * arch.head_dim
    return arch.hidden_dim * (query_dim + kv_dim + arch.n_heads * arch.head_dim)


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
        attention=arch.n_attention_layers * attention_params_per_layer(arch),
        recurrent=arch.n_recurrent_layers * recurrent_params_per_layer(arch),
        dense_mlp=arch.n_dense_mlp_layers * dense,
        router=arch.n_moe_layers * arch.hidden_dim * arch.n_experts,
        experts=arch.n_moe_layers * arch.n_experts * expert,
        shared_experts=arch.n_moe_layers * shared,
        other=arch.other_params,
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
    return stored + elements.other * _bytes_of(parts, "router")


def bytes_read_per_token(arch: Architecture, parts: PartPrecisions) -> float:
    """Return the bytes of weights that one token at batch size 1 reads.

    Every matrix once, of the routed experts those that a token is sent to, of the embedding table one row, and the
    whole table once more where it is the LM head as well.
    """
    elements = weight_elements(arch)
    row = arch.hidden_dim * _bytes_of(parts, "embedding")
    table = elements.embedding * _bytes_of(parts, "lm_head") if arch.tied_embeddings else 0.0
    idle_share = 1.0 - arch.experts_per_token / arch.n_experts if arch.n_experts else 0.0
    idle = elements.experts * idle_share * _bytes_of(parts, "experts")
    return weight_bytes(arch, parts) - elements.embedding * _bytes_of(parts, "embedding") + row + table - idle


def kv_bytes_per_token(arch: Architecture, kv_bytes_per_element: float) -> float:
    """Return the bytes of keys and values, or of their latent, that one token adds over all attention layers.

    Layers with a window are counted; they stop growing at its length.
    """
    latent = arch.kv_lora_rank + arch.qk_rope_head_dim
    per_layer = latent if arch.is_mla else 2 * arch.n_kv_heads * arch.head_dim
    return arch.n_attention_layers * per_layer * kv_bytes_per_element


def _bytes_of(parts: PartPrecisions, name: str) -> float:
    part: StoredPart = getattr(parts, name)
    return part.weight_bytes_per_element
