"""The kernels of one step of a deployment, with the shapes one rank runs.

Invariant: a call has one size that grows with the request (tokens, sequences, or a batch with its context); all else
is fixed by the model, the parallelism and the stack. What no measured kernel covers is an :class:`Elementwise` pass
or a roofline, and says so by its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from llmco2.catalog.architecture import Architecture

Part = Literal[
    "projections", "attention", "mlp", "experts", "recurrent", "communication", "head", "elementwise"
]
PARTS: Final[tuple[Part, ...]] = (
    "projections", "attention", "mlp", "experts", "recurrent", "communication", "head", "elementwise",
)  # fmt: skip
Axis = Literal["tokens", "sequences", "decode", "prefill"]
_HEAD_DIM: Final = 128.0  # of the gated delta net's heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A measured kernel kind at fixed sizes, ``count`` times a step; ``axis`` says which size grows and how.

    tokens: ``growing`` is multiplied by the tokens of the step; sequences: by its sequences; decode: batch and
    context; prefill: batch and prompt.
    """

    part: Part
    kind: str
    axis: Axis
    sizes: dict[str, float]
    count: float
    growing: dict[str, float] = field(default_factory=dict)  # size name → factor on the axis
    context_limit: float = 0.0  # tokens a sparse attention reads at most; 0: all
    context_share: float = 1.0  # of the cached tokens that have an entry of their own
    format: str = ""
    beside: bool = False  # runs beside the routed experts, which hide it


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """A memory-bound pass: ``per_row`` bytes for each token, sequence or cached token, ``count`` times a step."""

    part: Part
    axis: Axis
    per_row: float
    count: float
    fixed: float = 0.0
    beside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """What decides the calls: the model, ranks and kernel formats of its parts."""

    architecture: Architecture
    tensor_parallel: int  # ranks that share each layer
    expert_parallel: int
    attention_format: str
    mlp_format: str
    expert_format: str
    shared_format: str
    recurrent_format: str
    kv_bytes: float
    narrow_attention: bool = False  # prefill attention in 8-bit arithmetic


def step_calls(shape: StepShape) -> Iterator[Call | Elementwise]:
    """Yield the kernels of one step of all layers on one rank."""
    arch = shape.architecture
    hidden = float(arch.hidden_dim)
    layers = arch.n_attention_layers + arch.n_recurrent_layers
    feeds = arch.n_dense_mlp_layers + arch.n_moe_layers
    yield Elementwise(part="elementwise", axis="tokens", per_row=4.0 * hidden, count=1)
    yield Elementwise(part="elementwise", axis="tokens", per_row=8.0 * hidden, count=layers + feeds)
    if arch.n_attention_layers:
        yield from _latent(shape) if arch.is_mla else _grouped(shape)
    if arch.n_recurrent_layers:
        yield from _recurrent(shape)
    if arch.n_dense_mlp_layers:
        yield from _mlp(
            shape, "mlp", arch.n_dense_mlp_layers, float(arch.ffn_dim), shape.mlp_format, gated=arch.gated_mlp
        )
    if arch.n_moe_layers:
        yield from _experts(shape)
    yield from _head(shape)
    if shape.tensor_parallel > 1:
        yield Call(
            part="communication",
            kind="collective",
            axis="tokens",
            sizes={"n_gpus": shape.tensor_parallel, "operation": 0.0},
            growing={"message_bytes": 2.0 * hidden},
            count=layers + feeds + 1,
        )


def _gemm(part: Part, n: float, k: float, count: float, form: str, *, beside: bool = False) -> Call:
    sizes = {"n": max(n, 8.0), "k": max(k, 8.0)}
    return Call(
        part=part,
        kind="gemm",
        axis="tokens",
        sizes=sizes,
        growing={"m": 1.0},
        count=count,
        format=form,
        beside=beside,
    )


def _grouped(shape: StepShape) -> Iterator[Call | Elementwise]:
    arch, tp = shape.architecture, shape.tensor_parallel
    own = (arch.sliding_n_heads or arch.n_heads, arch.sliding_n_kv_heads or arch.n_kv_heads)
    reaches = (
        (arch.n_full_attention_layers, 0.0, arch.n_heads, arch.n_kv_heads, arch.head_dim),
        (
            arch.n_sliding_attention_layers,
            float(arch.sliding_window_tokens),
            *own,
            arch.sliding_head_dim or arch.head_dim,
        ),
    )
    for layers, window, n_heads, n_kv_heads, head_dim in reaches:
        if not layers:
            continue
        heads, kv_heads = max(n_heads / tp, 1.0), max(n_kv_heads / tp, 1.0)
        query = heads * head_dim
        out = query * (2.0 if arch.gated_attention_output else 1.0) + 2.0 * kv_heads * head_dim
        yield _gemm("projections", out, arch.hidden_dim, layers, shape.attention_format)
        yield _gemm("projections", arch.hidden_dim, query, layers, shape.attention_format)
        sizes = {
            "n_heads": heads,
            "n_kv_heads": kv_heads,
            "head_dim": float(head_dim),
            "window": window,
            "kv_bytes": shape.kv_bytes,
        }
        yield Call(
            part="attention",
            kind="decode_attention",
            axis="decode",
            sizes=sizes,
            count=layers,
            context_share=1.0 if window else 1.0 / max(arch.kv_compression, 1.0),
        )
        narrow = float(shape.narrow_attention)
        yield Call(
            part="attention",
            kind="prefill_attention",
            axis="prefill",
            sizes={**sizes, "narrow": narrow},
            count=layers,
        )


def _latent(shape: StepShape) -> Iterator[Call | Elementwise]:
    arch, tp = shape.architecture, shape.tensor_parallel
    layers, hidden = arch.n_attention_layers, float(arch.hidden_dim)
    heads = max(arch.n_heads / tp, 1.0)
    key = arch.qk_nope_head_dim + arch.qk_rope_head_dim
    latent = float(arch.kv_lora_rank + arch.qk_rope_head_dim)
    form = shape.attention_format
    if arch.q_lora_rank:
        yield _gemm("projections", arch.q_lora_rank + latent, hidden, layers, form)
        yield _gemm("projections", heads * key, arch.q_lora_rank, layers, form)
    else:
        yield _gemm("projections", heads * key + latent, hidden, layers, form)
    yield _gemm("projections", hidden, heads * arch.v_head_dim, layers, form)
    narrow = float(form != "16bit")
    for before in (1.0, 0.0):
        yield Call(
            part="projections",
            kind="mla_absorb",
            axis="sequences",
            sizes={"n_heads": heads, "before": before, "narrow": narrow},
            growing={"tokens": 1.0},
            count=layers,
        )
    sizes = {"n_heads": heads, "kv_bytes": shape.kv_bytes}
    limit = float(arch.index_topk_tokens)
    yield Call(
        part="attention", kind="mla_decode", axis="decode", sizes=sizes, count=layers, context_limit=limit
    )
    yield Call(part="attention", kind="mla_prefill", axis="prefill", sizes=sizes, count=layers)
    if arch.n_index_layers:
        # The indexer scores every cached token by one 8-bit key; it is replicated on every rank.
        yield Elementwise(
            part="attention", axis="decode", per_row=float(arch.index_head_dim), count=arch.n_index_layers
        )


def _recurrent(shape: StepShape) -> Iterator[Call | Elementwise]:
    arch, tp = shape.architecture, shape.tensor_parallel
    layers, hidden = arch.n_recurrent_layers, float(arch.hidden_dim)
    inner, conv = arch.recurrent_inner_dim / tp, arch.recurrent_conv_dim / tp
    form = shape.recurrent_format
    yield _gemm("recurrent", arch.recurrent_in_dim / tp, hidden, layers, form)
    yield _gemm("recurrent", hidden, inner, layers, form)
    yield Elementwise(part="recurrent", axis="tokens", per_row=6.0 * inner, count=layers)
    heads = delta_net_heads(arch)
    if heads is None:
        # No measured kernel: the state is read and written once a step, the convolution streams its channels.
        state = 8.0 * arch.recurrent_state_elements / tp
        yield Elementwise(part="recurrent", axis="sequences", per_row=state, count=layers)
        yield Elementwise(part="recurrent", axis="tokens", per_row=4.0 * conv + 4.0 * inner, count=layers)
        return
    keys, values = heads
    sizes = {
        "hidden_dim": hidden,
        "n_key_heads": max(keys / tp, 1.0),
        "n_value_heads": max(values / tp, 1.0),
    }
    for convolution in (1.0, 0.0):
        own = {**sizes, "convolution": convolution}
        yield Call(
            part="recurrent",
            kind="delta_net",
            axis="decode",
            sizes={**own, "decode": 1.0, "tokens": 1.0},
            count=layers,
        )
        yield Call(
            part="recurrent", kind="delta_net", axis="prefill", sizes={**own, "decode": 0.0}, count=layers
        )


def delta_net_heads(arch: Architecture) -> tuple[float, float] | None:
    """Return key and value heads of a gated delta net (Qwen3-Next and its kin); None for other recurrences.

    Told by its widths: projections make the convolution's channels, an output gate and two numbers a value head.
    """
    values = arch.recurrent_inner_dim / _HEAD_DIM
    keys = (arch.recurrent_conv_dim / _HEAD_DIM - values) / 2.0
    whole = keys >= 1.0 and keys == int(keys) and values == int(values)
    made = arch.recurrent_conv_dim + arch.recurrent_inner_dim + 2.0 * values
    return (keys, values) if whole and made == arch.recurrent_in_dim else None


def _mlp(
    shape: StepShape, part: Part, layers: float, width: float, form: str, *, gated: bool, beside: bool = False
) -> Iterator[Call | Elementwise]:
    hidden, own = float(shape.architecture.hidden_dim), width / shape.tensor_parallel
    up = own * (2.0 if gated else 1.0)
    yield _gemm(part, up, hidden, layers, form, beside=beside)
    yield Elementwise(part=part, axis="tokens", per_row=2.0 * (up + own), count=layers, beside=beside)
    yield _gemm(part, hidden, own, layers, form, beside=beside)


def _experts(shape: StepShape) -> Iterator[Call | Elementwise]:
    arch = shape.architecture
    layers, hidden = arch.n_moe_layers, float(arch.hidden_dim)
    yield _gemm("experts", arch.n_experts, hidden, layers, "16bit")
    sizes = {
        "hidden_dim": hidden,
        "ffn_dim": float(arch.expert_ffn_dim),
        "top_k": float(arch.experts_per_token),
        "n_experts": float(arch.n_experts),
        "tp": shape.tensor_parallel / shape.expert_parallel,
        "ep": float(shape.expert_parallel),
        "skew": 1.01 if arch.n_experts >= 256 else 1.2,
        "matrices": 3.0 if arch.gated_experts else 2.0,
    }
    yield Call(
        part="experts",
        kind="experts",
        axis="tokens",
        sizes=sizes,
        growing={"tokens": 1.0},
        count=layers,
        format=shape.expert_format,
    )
    if arch.shared_expert_ffn_dim:
        width = float(arch.shared_expert_ffn_dim)
        yield from _mlp(
            shape, "experts", layers, width, shape.shared_format, gated=arch.gated_experts, beside=True
        )


def _head(shape: StepShape) -> Iterator[Call | Elementwise]:
    arch = shape.architecture
    vocab = arch.vocab_size / shape.tensor_parallel
    yield Call(
        part="head",
        kind="gemm",
        axis="sequences",
        sizes={"n": vocab, "k": float(arch.hidden_dim)},
        growing={"m": 1.0},
        count=1,
        format="16bit",
    )
    yield Elementwise(part="head", axis="sequences", per_row=10.0 * vocab, count=1)
