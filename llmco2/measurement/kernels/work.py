"""What one launch of a kernel has to do: FLOPs, and the bytes it cannot avoid to move.

Invariant: a multiply-add counts as 2 FLOP; bytes are the least there can be, each operand read once and the
result written once. Between kernels that a framework launches for one of these kinds, more may move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from llmco2.measurement.kernels import shapes
from llmco2.measurement.kernels.shapes import KernelShape

_INDEX_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of one launch."""

    flops: float
    read_bytes: float  # operands
    written_bytes: float  # the result
    stored_bytes: float | None = None  # operands in memory, where only a part of them is read

    @property
    def bytes_moved(self) -> float:
        """Operands and result."""
        return self.read_bytes + self.written_bytes

    @property
    def memory_bytes(self) -> float:
        """Memory that one set of operands and its result take."""
        return self.written_bytes + (self.read_bytes if self.stored_bytes is None else self.stored_bytes)


def work_of(shape: KernelShape) -> Work:
    """Return the work of one launch of ``shape``."""
    return _WORK[shape.kind](shape)


def _gemm(shape: KernelShape) -> Work:
    """``2·m·n·k`` FLOP; both factors in, the product out."""
    m, n, k, element = shape.size("m"), shape.size("n"), shape.size("k"), shape.element_bytes
    return Work(flops=2.0 * m * n * k, read_bytes=element * (m * k + n * k), written_bytes=element * (m * n))


def _prefill_attention(shape: KernelShape) -> Work:
    """``4·heads·head_dim`` FLOP for each of ``S·(S+1)/2`` pairs of a query and a key at or before it."""
    batch, tokens = shape.size("batch_size"), shape.size("context_tokens")
    heads, kv_heads, width = shape.size("n_heads"), shape.size("n_kv_heads"), shape.size("head_dim")
    pairs = batch * tokens * (tokens + 1) / 2.0
    rows = shape.element_bytes * batch * tokens * width
    return Work(
        flops=4.0 * heads * width * pairs,
        read_bytes=rows * (heads + 2 * kv_heads),
        written_bytes=rows * heads,
    )


def _decode_attention(shape: KernelShape) -> Work:
    """``4·heads·head_dim`` FLOP for each of a sequence's keys; the cache of keys and values is read once."""
    batch, tokens = shape.size("batch_size"), shape.size("context_tokens")
    heads, kv_heads, width = shape.size("n_heads"), shape.size("n_kv_heads"), shape.size("head_dim")
    query = shape.element_bytes * batch * heads * width
    return Work(
        flops=4.0 * batch * heads * width * tokens,
        read_bytes=query + shape.element_bytes * 2 * batch * tokens * kv_heads * width,
        written_bytes=query,
    )


def _moe(shape: KernelShape) -> Work:
    """Gate, up and down projections: ``6·m·experts_per_token·n·k`` FLOP; weights of the experts in use.

    Between the products the gate and up halves are written and read, and their gated product too.
    """
    n, k, element = shape.size("n"), shape.size("k"), shape.element_bytes
    rows = shape.size("m") * shape.size("experts_per_token")
    between = rows * 3 * n
    return Work(
        flops=6.0 * rows * n * k,
        read_bytes=element * (shape.experts_in_use * 3 * n * k + rows * k + between),
        written_bytes=element * (rows * k + between),
    )


def _rms_norm(shape: KernelShape) -> Work:
    """Square, add, scale, weight: 4 FLOP an element."""
    elements, element = shape.size("m") * shape.size("n"), shape.element_bytes
    return Work(
        flops=4.0 * elements,
        read_bytes=element * (elements + shape.size("n")),
        written_bytes=element * elements,
    )


def _layer_norm(shape: KernelShape) -> Work:
    """Mean, difference, square, add, scale, weight, bias: 7 FLOP an element."""
    elements, element = shape.size("m") * shape.size("n"), shape.element_bytes
    return Work(
        flops=7.0 * elements,
        read_bytes=element * (elements + 2 * shape.size("n")),
        written_bytes=element * elements,
    )


def _gated_activation(shape: KernelShape) -> Work:
    """8 FLOP an element, as kernels inside models are counted; gate and up in, their product out."""
    elements, element = shape.size("m") * shape.size("n"), shape.element_bytes
    return Work(flops=8.0 * elements, read_bytes=element * 2 * elements, written_bytes=element * elements)


def _embedding(shape: KernelShape) -> Work:
    """Rows of the table and their numbers in, the rows out; the table is stored whole."""
    rows, width, element = shape.size("m"), shape.size("n"), shape.element_bytes
    return Work(
        flops=0.0,
        read_bytes=element * rows * width + _INDEX_BYTES * rows,
        written_bytes=element * rows * width,
        stored_bytes=element * shape.size("k") * width + _INDEX_BYTES * rows,
    )


def _copy(shape: KernelShape) -> Work:
    """Every element in and out."""
    size = shape.element_bytes * shape.size("m") * shape.size("n")
    return Work(flops=0.0, read_bytes=size, written_bytes=size)


_WORK: Final[Mapping[str, Callable[[KernelShape], Work]]] = {
    shapes.GEMM: _gemm,
    shapes.PREFILL_ATTENTION: _prefill_attention,
    shapes.DECODE_ATTENTION: _decode_attention,
    shapes.MOE: _moe,
    shapes.RMS_NORM: _rms_norm,
    shapes.LAYER_NORM: _layer_norm,
    shapes.GATED_ACTIVATION: _gated_activation,
    shapes.EMBEDDING: _embedding,
    shapes.COPY: _copy,
}
