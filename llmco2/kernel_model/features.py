"""Roofline and physical features of measured kernel kinds.

Each kind has one function from sizes (columns of shape ``(n_kernels,)``, floats) and a :class:`KernelDevice` to
:class:`KernelInputs`. FLOPs count a multiply-add as two; bytes are those of device memory. Sources: Williams et al.,
"Roofline" (CACM 52(4), 2009) for the bound; tiles and waves follow CUDA's launch model (a wave is one tile on each SM).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmco2.errors import UnknownNameError
from llmco2.kernel_model.device import FAMILIES, KernelDevice
from llmco2.kernel_model.formats import FORMATS

Column = NDArray[np.float64]  # (n_kernels,)
Sizes = Mapping[str, Column]
LAUNCH_S: Final = 2e-6  # a kernel that does nothing takes about this long (CUDA graph replay)
STACKS: Final = ("vllm", "sglang", "trtllm")  # whose kernels were measured
LIBRARIES: Final = (
    "triton", "cutlass", "trtllm", "flashinfer", "fa2", "fa3", "marlin", "deepgemm", "torch", "min_latency", "nccl",
)  # fmt: skip
_WEIGHT_BYTES: Final = np.array([f.weight_bytes for f in FORMATS])
_OPERAND_BYTES: Final = np.array([f.operand_bytes for f in FORMATS])
_COMPUTE: Final = np.array([("16", "8", "4").index(f.compute) for f in FORMATS])
_MLA_LATENT: Final = (
    576.0  # elements of a latent cache entry: 512 and 64 rotary (DeepSeek-V2, arXiv 2405.04434)
)
_MLA_HEAD: Final = 192.0  # query-key width of a head: 128 and 64 rotary
_MLA_VALUE: Final = 128.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelInputs:
    """What a node function reads of kernels, and what its answer multiplies."""

    features: NDArray[np.float32]  # (n_kernels, n_features of the kind)
    roofline_s: Column  # (n_kernels,) the slower of arithmetic and memory at peak rates
    flops: Column
    bytes_moved: Column


def _log(x: Column) -> Column:
    return np.log(np.maximum(x, 1e-30))


def _ceil(a: Column, b: float) -> Column:
    return np.ceil(a / b)


def _padding(a: Column, tile: float) -> Column:
    """Return the log of how much rounding up to whole tiles inflates ``a``."""
    return _log(_ceil(a, tile) * tile / np.maximum(a, 1e-30))


def _peak(device: KernelDevice, compute: NDArray[np.intp]) -> Column:
    peaks = np.stack([device.peak16_flops_per_s, device.peak8_flops_per_s, device.peak4_flops_per_s])
    return peaks[compute, np.arange(peaks.shape[1])]


def _one_hot(index: NDArray[np.intp], n: int) -> list[Column]:
    return [(index == i) * 1.0 for i in range(n)]


def _inputs(
    sizes: Sizes,
    device: KernelDevice,
    *,
    flops: Column,
    bytes_moved: Column,
    compute: NDArray[np.intp],
    own: Sequence[NDArray[Any]],
    tiles: list[Column],
    working_set: Column | None = None,
) -> KernelInputs:
    """Append what every kind shares (roofline, cache, waves, family, stack, library) to a kind's ``own`` features."""
    compute_s = flops / _peak(device, compute)
    memory_s = bytes_moved / device.bandwidth_bytes_per_s
    roofline = np.maximum(compute_s, memory_s)
    in_l2 = bytes_moved if working_set is None else working_set
    columns = [
        *own,
        _log(compute_s + 1e-8),
        _log(memory_s + 1e-8),
        _log(roofline + LAUNCH_S),
        np.clip(_log(compute_s) - _log(memory_s), -8.0, 8.0),
        _log(roofline / LAUNCH_S + 1.0),
        np.clip(_log(in_l2 / device.l2_bytes), -8.0, 8.0),
    ]
    for tile in tiles:
        waves = tile / device.n_sms
        columns += [_log(waves), np.where(waves < 64.0, _log(np.ceil(waves) / np.maximum(waves, 1e-30)), 0.0)]
    columns += _one_hot(device.family.astype(np.intp), len(FAMILIES))
    columns += _one_hot(sizes["stack"].astype(np.intp), len(STACKS))
    columns += _one_hot(sizes["library"].astype(np.intp), len(LIBRARIES))
    return KernelInputs(
        features=np.stack(columns, axis=1).astype(np.float32),
        roofline_s=roofline,
        flops=flops,
        bytes_moved=bytes_moved,
    )


N_CONTEXT_FEATURES: Final = len(FAMILIES) + len(STACKS) + len(LIBRARIES)  # the last columns of every kind


def gemm(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """Matrix product ``(m, k) × (k, n)``; sizes ``m, n, k, format``."""
    m, n, k = sizes["m"], sizes["n"], sizes["k"]
    form = sizes["format"].astype(np.intp)
    weights = n * k * _WEIGHT_BYTES[form]
    moved = m * k * _OPERAND_BYTES[form] + weights + m * n * 2.0
    own = [
        _log(m), _log(n), _log(k), _padding(m, 16), _padding(m, 64), _padding(m, 128), _padding(n, 128),
        _padding(k, 128), np.clip(_log(weights / device.l2_bytes), -8.0, 8.0), *_one_hot(form, 7),
    ]  # fmt: skip
    tiles = [
        _ceil(m, 128) * _ceil(n, 128), _ceil(m, 64) * _ceil(n, 64), _ceil(m, 256) * _ceil(n, 128),
        _ceil(n, 64) * _ceil(k, 256),
    ]  # fmt: skip
    return _inputs(
        sizes, device, flops=2.0 * m * n * k, bytes_moved=moved, compute=_COMPUTE[form], own=own, tiles=tiles
    )


def _head_features(sizes: Sizes) -> list[Column]:
    heads, kv_heads, width = sizes["n_heads"], sizes["n_kv_heads"], sizes["head_dim"]
    group = heads / kv_heads
    return [
        _log(sizes["batch_size"]), _log(heads), _log(kv_heads), _log(group), _padding(group, 16), _log(width),
        (width == 64) * 1.0, (width == 128) * 1.0, (width == 192) * 1.0, (width == 256) * 1.0,
        (sizes["kv_bytes"] == 1.0) * 1.0, (sizes["window"] > 0) * 1.0,
    ]  # fmt: skip


def decode_attention(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """One new token of each sequence against its cache.

    Sizes ``batch_size, n_heads, n_kv_heads, head_dim, context_tokens, window, kv_bytes``; window 0 is none.
    """
    batch, heads, kv_heads, width = (sizes[c] for c in ("batch_size", "n_heads", "n_kv_heads", "head_dim"))
    context, window = sizes["context_tokens"], sizes["window"]
    read = np.where(window > 0, np.minimum(context, window), context)
    flops = 4.0 * batch * heads * width * read
    moved = 2.0 * batch * kv_heads * width * read * sizes["kv_bytes"] + 4.0 * batch * heads * width
    own = [*_head_features(sizes), _log(context), _log(read)]
    tiles = [
        batch * kv_heads,
        batch * kv_heads * _ceil(read, 128),
        batch * kv_heads * _ceil(read, 512),
        batch * heads,
    ]
    compute = np.zeros(len(batch), dtype=np.intp)
    return _inputs(sizes, device, flops=flops, bytes_moved=moved, compute=compute, own=own, tiles=tiles)


def prefill_attention(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """Causal attention of new tokens among themselves.

    Sizes ``batch_size, n_heads, n_kv_heads, head_dim, tokens, window, kv_bytes, narrow`` (1: 8-bit arithmetic).
    """
    batch, heads, kv_heads, width = (sizes[c] for c in ("batch_size", "n_heads", "n_kv_heads", "head_dim"))
    tokens, window = sizes["tokens"], sizes["window"]
    reach = np.where(window > 0, np.minimum(window, tokens), tokens)
    pairs = tokens * reach - reach * (reach - 1.0) / 2.0
    flops = 4.0 * batch * heads * width * pairs
    moved = batch * tokens * width * (4.0 * heads + 2.0 * kv_heads * (2.0 + sizes["kv_bytes"]))
    own = [*_head_features(sizes), _log(tokens), _log(reach), sizes["narrow"], _padding(tokens, 128)]
    tiles = [
        batch * heads * _ceil(tokens, 128),
        batch * heads * _ceil(tokens, 64),
        batch * heads,
        batch * tokens / 64,
    ]
    compute = sizes["narrow"].astype(np.intp)
    return _inputs(sizes, device, flops=flops, bytes_moved=moved, compute=compute, own=own, tiles=tiles)


def mla_decode(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """Latent attention of one new token of each sequence; sizes ``batch_size, n_heads, context_tokens, kv_bytes``."""
    batch, heads, context, kv = (sizes[c] for c in ("batch_size", "n_heads", "context_tokens", "kv_bytes"))
    width = 2.0 * _MLA_LATENT - 64.0  # scores over 576, values over 512
    flops = 2.0 * batch * heads * context * width
    moved = batch * context * _MLA_LATENT * kv + batch * heads * width * 2.0
    own = [
        _log(batch),
        _log(context),
        _log(heads),
        (kv == 1.0) * 1.0,
        _padding(heads, 64),
        _padding(heads, 16),
    ]
    tiles = [
        batch,
        batch * _ceil(context, 64) * _ceil(heads, 64),
        batch * _ceil(context, 512) * _ceil(heads, 16),
    ]
    compute = np.zeros(len(batch), dtype=np.intp)
    return _inputs(sizes, device, flops=flops, bytes_moved=moved, compute=compute, own=own, tiles=tiles)


def mla_prefill(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """Causal attention over decompressed latent heads; sizes ``batch_size, n_heads, tokens, kv_bytes``."""
    batch, heads, tokens, kv = (sizes[c] for c in ("batch_size", "n_heads", "tokens", "kv_bytes"))
    flops = batch * heads * (_MLA_HEAD + _MLA_VALUE) * tokens * (tokens + 1.0)
    moved = batch * tokens * (heads * 4.0 * (_MLA_HEAD + _MLA_VALUE) + _MLA_LATENT * kv)
    own = [_log(batch), _log(tokens), _log(heads), (kv == 1.0) * 1.0]
    tiles = [batch * heads * _ceil(tokens, 128), batch * heads]
    compute = np.zeros(len(batch), dtype=np.intp)
    return _inputs(sizes, device, flops=flops, bytes_moved=moved, compute=compute, own=own, tiles=tiles)


def mla_absorb(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """Batched products that absorb latent projections; sizes ``tokens, n_heads, before`` (1: before), ``narrow``."""
    tokens, heads, narrow = sizes["tokens"], sizes["n_heads"], sizes["narrow"]
    element = 2.0 - narrow
    flops = 2.0 * tokens * heads * 128.0 * 512.0
    moved = heads * 128.0 * 512.0 * element + tokens * heads * 640.0 * 2.0
    own = [_log(tokens), _log(heads), sizes["before"], narrow]
    tiles = [heads * _ceil(tokens, 64) * np.where(sizes["before"] > 0, 8.0, 2.0)]
    return _inputs(
        sizes, device, flops=flops, bytes_moved=moved, compute=narrow.astype(np.intp), own=own, tiles=tiles
    )


def expected_active_experts(n_experts: Column, top_k: Column, tokens: Column, skew: Column) -> Column:
    """Return the expected number of distinct experts hit by ``tokens`` tokens.

    Uniform routing: ``E (1 − (1 − k/E)^T)``. A power law of exponent ``skew`` is approached through the mean over
    the ranks of ``1 − (1 − p_r)^T`` with ``p_r ∝ r^-skew``, on twelve representative ranks.
    """
    share = np.minimum(top_k / n_experts, 1.0)
    uniform = n_experts * -np.expm1(tokens * np.log1p(-np.minimum(share, 1.0 - 1e-12)))
    if not np.any(skew > 0):
        return uniform
    quantiles = (np.arange(12) + 0.5) / 12.0
    rank = quantiles[:, None] * n_experts  # (12, n_kernels)
    weight = rank**-skew
    chance = np.minimum(weight / weight.mean(axis=0) * share, 1.0 - 1e-12)
    skewed = n_experts * (-np.expm1(tokens * np.log1p(-chance))).mean(axis=0)
    return np.where(skew > 0, skewed, uniform)


def experts(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """Routed experts of one rank: both products, activation and combination.

    Sizes ``tokens`` (before expert parallelism), ``hidden_dim, ffn_dim, top_k, n_experts, tp, ep, format, skew,
    matrices`` (3 with a gate, else 2); ``ffn_dim`` and ``n_experts`` are those of the whole model.
    """
    tokens, hidden, top_k = sizes["tokens"], sizes["hidden_dim"], sizes["top_k"]
    ep, matrices = sizes["ep"], sizes["matrices"]
    form = sizes["format"].astype(np.intp)
    width = sizes["ffn_dim"] / sizes["tp"]
    local = sizes["n_experts"] / ep
    pairs = tokens * top_k / ep
    active = expected_active_experts(sizes["n_experts"], top_k, tokens, sizes["skew"]) / ep
    active = np.maximum(active, np.minimum(1.0, pairs))
    weights = active * matrices * hidden * width * _WEIGHT_BYTES[form]
    moved = (
        weights
        + pairs * (2.0 * hidden * _OPERAND_BYTES[form] + 2.0 * width * matrices)
        + tokens * hidden * 4.0
    )
    each = pairs / np.maximum(active, 1e-9)
    own = [
        _log(tokens), _log(hidden), _log(width), _log(top_k), _log(sizes["n_experts"]), _log(local), _log(sizes["tp"]),
        _log(ep), _log(active), _log(each), _log(pairs), sizes["skew"], (sizes["skew"] == 0) * 1.0,
        (matrices == 2.0) * 1.0, _padding(each, 16), _padding(each, 64), _padding(each, 128), _padding(width, 128),
        weights / moved, *_one_hot(form, len(FORMATS)),
    ]  # fmt: skip
    up = (matrices - 1.0) * width
    tiles = [
        active * _ceil(each, 128) * _ceil(up, 128), active * _ceil(each, 64) * _ceil(up, 64),
        active * _ceil(each, 16) * _ceil(hidden, 128),
    ]  # fmt: skip
    flops = 2.0 * matrices * hidden * width * pairs
    return _inputs(
        sizes, device, flops=flops, bytes_moved=moved, compute=_COMPUTE[form], own=own, tiles=tiles
    )


def collective(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """Exchange among ``n_gpus`` of one node; sizes ``n_gpus, message_bytes, operation`` (an index of OPERATIONS)."""
    n, message = sizes["n_gpus"], sizes["message_bytes"]
    operation = sizes["operation"].astype(np.intp)
    sent = np.where(operation == 0, 2.0, 1.0) * (n - 1.0) / n * message
    link_s = sent / device.link_bytes_per_s
    own = [
        _log(message), _log(n), np.clip(_log(message / 512e3), -8.0, 8.0), (message <= 512e3) * 1.0,
        _log(device.link_bytes_per_s / 450e9), *_one_hot(operation, len(OPERATIONS)),
    ]  # fmt: skip
    inputs = _inputs(
        sizes,
        device,
        flops=np.ones(len(n)),
        bytes_moved=link_s * device.bandwidth_bytes_per_s,
        compute=np.zeros(len(n), dtype=np.intp),
        own=own,
        tiles=[],
    )
    return KernelInputs(
        features=inputs.features, roofline_s=link_s, flops=np.zeros(len(n)), bytes_moved=2.0 * message
    )


OPERATIONS: Final = ("all_reduce", "all_gather", "reduce_scatter", "alltoall")


def delta_net(sizes: Sizes, device: KernelDevice) -> KernelInputs:
    """Gated delta net's short convolution or scan, of one rank.

    Sizes ``batch_size, tokens`` (of one sequence), ``hidden_dim, n_key_heads, n_value_heads, convolution`` (1: the
    convolution, 0: the scan), ``decode`` (1: one token of each sequence). Heads are 128 wide.
    """
    batch, tokens, keys, values = (sizes[c] for c in ("batch_size", "tokens", "n_key_heads", "n_value_heads"))
    rows, convolution, decode = batch * tokens, sizes["convolution"], sizes["decode"]
    channels = (2.0 * keys + values) * 128.0
    state = batch * values * 128.0 * 128.0
    scan_flops = (
        rows * values * np.where(decode > 0, 128.0 * 128.0 * 8.0, 128.0 * 128.0 * 4.0 + 64.0 * 128.0 * 6.0)
    )
    flops = np.where(convolution > 0, 8.0 * rows * channels, scan_flops)
    conv_bytes = rows * channels * 4.0 + batch * channels * 12.0
    moved = np.where(convolution > 0, conv_bytes, rows * (channels + values * 128.0) * 2.0 + state * 8.0)
    own = [
        _log(batch), _log(tokens), _log(rows), _log(keys), _log(values), _log(sizes["hidden_dim"]), convolution, decode,
        _log(values / keys), _padding(tokens, 64),
    ]  # fmt: skip
    tiles = [batch * values * _ceil(tokens, 64), batch * values, rows * channels / 8192.0]
    compute = np.zeros(len(batch), dtype=np.intp)
    return _inputs(sizes, device, flops=flops, bytes_moved=moved, compute=compute, own=own, tiles=tiles)


KINDS: Final[Mapping[str, Callable[[Sizes, KernelDevice], KernelInputs]]] = {
    "gemm": gemm,
    "decode_attention": decode_attention,
    "prefill_attention": prefill_attention,
    "mla_decode": mla_decode,
    "mla_prefill": mla_prefill,
    "mla_absorb": mla_absorb,
    "experts": experts,
    "collective": collective,
    "delta_net": delta_net,
}
SIZES: Final[Mapping[str, tuple[str, ...]]] = {
    "gemm": ("m", "n", "k", "format"),
    "decode_attention": (
        "batch_size",
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "context_tokens",
        "window",
        "kv_bytes",
    ),
    "prefill_attention": (
        "batch_size",
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "tokens",
        "window",
        "kv_bytes",
        "narrow",
    ),
    "mla_decode": ("batch_size", "n_heads", "context_tokens", "kv_bytes"),
    "mla_prefill": ("batch_size", "n_heads", "tokens", "kv_bytes"),
    "mla_absorb": ("tokens", "n_heads", "before", "narrow"),
    "experts": (
        "tokens",
        "hidden_dim",
        "ffn_dim",
        "top_k",
        "n_experts",
        "tp",
        "ep",
        "format",
        "skew",
        "matrices",
    ),
    "collective": ("n_gpus", "message_bytes", "operation"),
    "delta_net": (
        "batch_size",
        "tokens",
        "hidden_dim",
        "n_key_heads",
        "n_value_heads",
        "convolution",
        "decode",
    ),
}
CONTEXT: Final = ("stack", "library")  # indices into STACKS and LIBRARIES; -1 where not known


def known_kind(kind: str) -> str:
    """Return ``kind``; raises UnknownNameError where it is none of KINDS."""
    if kind not in KINDS:
        raise UnknownNameError("kernel kind", kind, KINDS)
    return kind


def _n_features(kind: str) -> int:
    one = np.ones(1)
    device = KernelDevice(**dict.fromkeys(KernelDevice.__slots__, one))
    sizes = dict.fromkeys((*SIZES[kind], *CONTEXT), one)
    return int(KINDS[kind](sizes, device).features.shape[1])


N_FEATURES: Final[Mapping[str, int]] = {kind: _n_features(kind) for kind in KINDS}


def feature_counts() -> dict[str, int]:
    """Return the number of features of each kernel kind."""
    return dict(N_FEATURES)
