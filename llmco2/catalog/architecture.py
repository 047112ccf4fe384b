"""The architecture record: all about a model that decides its kernels, as counts and widths.

Invariant: a layer stack is described by how many layers of each kind it has, so one record covers dense,
GQA, MQA, MLA, sliding-window, mixture-of-experts and hybrid (Mamba, gated linear attention) decoders. Zero
means "none".
"""

from __future__ import annotations

from dataclasses import dataclass

from llmco2.catalog.part_precisions import PartPrecisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Shape of a decoder-only language model; widths in elements, windows in tokens."""

    model_id: str
    published_as: str = ""  # the name of another checkpoint of this shape, where that one was asked for
    family: str = ""  # who shares a lineage: "llama", "qwen", "gemma" (for group-aware splits)
    hidden_dim: int
    vocab_size: int
    tied_embeddings: bool = False
    max_context_tokens: int | None = None

    # attention mixers
    n_full_attention_layers: int = 0
    n_sliding_attention_layers: int = 0
    sliding_window_tokens: int = 0
    n_heads: int = 0
    n_kv_heads: int = 0
    head_dim: int = 0
    gated_attention_output: bool = False  # the query projection also makes an output gate of its own width
    sliding_n_heads: int = 0  # of layers with a window, where they differ from the others; 0: as those
    sliding_n_kv_heads: int = 0
    sliding_head_dim: int = 0
    n_shared_kv_full_layers: int = 0  # of the full layers, those that read an earlier layer's keys and values
    n_shared_kv_sliding_layers: int = 0
    keys_are_values: bool = False  # one projection and one cached vector serve as key and as value
    o_lora_rank: int = (
        0  # 0: one output projection; else to this rank in each of o_groups groups of heads, then up
    )
    o_groups: int = 0

    # sparse attention: an indexer picks the tokens that a full layer reads (DeepSeek-V3.2, arXiv 2512.02556)
    index_topk_tokens: int = 0  # 0: every token is read
    n_index_layers: int = 0  # layers with an indexer of their own; others take over its choice
    index_n_heads: int = 0
    index_head_dim: int = 0  # of the indexer's queries and of its one cached key a token
    kv_compression: int = 0  # tokens of a full layer that share one entry of its cache; 0: none share

    # multi-head latent attention (where kv_lora_rank > 0; the cache is kv_lora_rank + qk_rope_head_dim)
    q_lora_rank: int = 0  # also of other attention whose queries pass through a narrow vector
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0  # also of other attention whose values are not as wide as its keys; 0: as wide

    # recurrent mixers: Mamba, Mamba-2, gated delta-net
    n_recurrent_layers: int = 0
    recurrent_in_dim: int = (
        0  # summed output widths of the input projections (x, z, B, C, dt | q, k, v, z, a, b)
    )
    recurrent_inner_dim: int = 0  # input width of the output projection
    recurrent_conv_dim: int = 0  # channels of the short convolution
    recurrent_conv_width: int = 4
    recurrent_state_elements: int = 0  # state per sequence and layer, in elements

    # feed-forward
    n_dense_mlp_layers: int = 0
    ffn_dim: int = 0
    gated_mlp: bool = True  # three matrices (gate, up, down) rather than two
    n_moe_layers: int = 0
    n_experts: int = 0
    experts_per_token: int = 0
    expert_ffn_dim: int = 0
    gated_experts: bool = True
    shared_expert_ffn_dim: int = 0  # summed over the shared experts; 0 where there is none

    # what no matrix product carries: biases, norms, positions, convolutions' small vectors
    other_params: int = 0
    lookup_params: int = 0  # further tables of which a token reads a row, as embeddings of each layer
    checkpoint_precision: str = "bf16"  # of the published weights; a name of catalog.precisions
    fp8_in_blocks: bool = False  # its published FP8 weights have a scale per 128x128 block, not per channel
    stored: PartPrecisions | None = None  # by part, where the checkpoint's own record says so
    stated_params: int | None = None  # as published, where known
    source: str = ""
    retrieved: str = ""
    confidence: str = ""
    assumptions: tuple[str, ...] = ()  # what the source left out and was taken to be, a sentence each

    @property
    def name(self) -> str:
        """The name of the checkpoint that was asked for: its own, or that of the shape."""
        return self.published_as or self.model_id

    @property
    def title(self) -> str:
        """The model's name for answers; one that shares another's shape says whose."""
        return f"{self.published_as} (shape of {self.model_id})" if self.published_as else self.model_id

    @property
    def n_attention_layers(self) -> int:
        """Layers whose mixer is attention of either reach."""
        return self.n_full_attention_layers + self.n_sliding_attention_layers

    @property
    def is_mla(self) -> bool:
        """Whether attention keeps a latent cache (multi-head latent attention)."""
        return self.kv_lora_rank > 0
