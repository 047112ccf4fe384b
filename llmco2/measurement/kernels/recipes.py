"""How torch makes the operands of each kind of kernel, and how it launches it.

Invariant: operands are random normal noise, never zeros (multiplying zeros draws less), and the launch is
what a model's own layer would call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend

from llmco2.measurement.kernels import shapes
from llmco2.measurement.kernels.shapes import KernelShape

Operands = tuple[Tensor, ...]
_DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class OperandMaker:
    """Makes random operands of one precision on one device, the same for the same seed."""

    def __init__(self, shape: KernelShape, device: torch.device) -> None:
        self._dtype, self._device = _DTYPES[shape.precision], device
        self._generator = torch.Generator(device=device).manual_seed(shape.seed)

    def normal(self, *size: int) -> Tensor:
        """Return standard normal noise."""
        return torch.randn(*size, generator=self._generator, dtype=self._dtype, device=self._device)

    def indices(self, below: int, count: int) -> Tensor:
        """Return ``count`` whole numbers from 0 to ``below`` - 1, drawn evenly."""
        return torch.randint(0, below, (count,), generator=self._generator, device=self._device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One kind of kernel in torch. ``make`` is given the first set of operands when it makes further ones."""

    make: Callable[[KernelShape, OperandMaker, Operands | None], Operands]
    launch: Callable[[Operands], Tensor]
    implementation: Callable[[Operands], str]


def recipe_of(shape: KernelShape) -> Recipe:
    """Return how to make and launch ``shape``."""
    return _RECIPES[shape.kind]


def _make_gemm(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    del first
    return maker.normal(shape.size("m"), shape.size("k")), maker.normal(shape.size("n"), shape.size("k"))


def _launch_gemm(operands: Operands) -> Tensor:
    rows, weight = operands  # (m, k), (n, k)
    return functional.linear(rows, weight)


def _make_attention(shape: KernelShape, maker: OperandMaker, queries: int) -> Operands:
    batch, width = shape.size("batch_size"), shape.size("head_dim")
    cached = (batch, shape.size("n_kv_heads"), shape.size("context_tokens"), width)
    return (
        maker.normal(batch, shape.size("n_heads"), queries, width),
        maker.normal(*cached),
        maker.normal(*cached),
    )


def _make_prefill(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    del first
    return _make_attention(shape, maker, shape.size("context_tokens"))


def _make_decode(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    del first
    return _make_attention(shape, maker, 1)


def _grouped(operands: Operands) -> dict[str, Any]:
    """Return the option that shares a head of keys among heads of queries, where there are fewer."""
    query, key, _ = operands
    return {"enable_gqa": True} if query.shape[1] != key.shape[1] else {}


def _launch_prefill(operands: Operands) -> Tensor:
    query, key, value = operands
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, **_grouped(operands))


def _launch_decode(operands: Operands) -> Tensor:
    query, key, value = operands
    return functional.scaled_dot_product_attention(query, key, value, **_grouped(operands))


def _attention_name(operands: Operands) -> str:
    """Return which of torch's attention kernels these operands get, where torch lets itself be asked."""
    choose: Any = getattr(torch, "_fused_sdp_choice", None)
    if choose is None:
        return "torch_sdpa"
    causal = operands[0].shape[2] > 1
    try:  # neither this function nor its arguments are documented
        number = choose(*operands, None, 0.0, causal, **_grouped(operands))
    except TypeError:
        return "torch_sdpa"
    backends: Mapping[str, Any] = SDPBackend.__members__
    names = {int(backend): name for name, backend in backends.items()}
    return f"torch_sdpa_{names.get(number, 'unknown').lower()}"


def _make_moe(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    del first
    experts, n, k = shape.experts_in_use, shape.size("n"), shape.size("k")
    return (
        maker.normal(experts, shape.rows_per_expert, k),
        maker.normal(experts, 2 * n, k),
        maker.normal(experts, k, n),
    )


def _launch_moe(operands: Operands) -> Tensor:
    rows, gate_and_up, down = operands  # (experts, rows, k), (experts, 2n, k), (experts, k, n)
    gate, up = torch.bmm(rows, gate_and_up.transpose(1, 2)).chunk(2, dim=-1)
    return torch.bmm(functional.silu(gate) * up, down.transpose(1, 2))


def _make_rms_norm(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    del first
    return maker.normal(shape.size("m"), shape.size("n")), maker.normal(shape.size("n"))


def _launch_rms_norm(operands: Operands) -> Tensor:
    rows, weight = operands
    return functional.rms_norm(rows, (rows.shape[-1],), weight)


def _make_layer_norm(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    del first
    width = shape.size("n")
    return maker.normal(shape.size("m"), width), maker.normal(width), maker.normal(width)


def _launch_layer_norm(operands: Operands) -> Tensor:
    rows, weight, bias = operands
    return functional.layer_norm(rows, (rows.shape[-1],), weight, bias)


def _make_two(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    del first
    size = shape.size("m"), shape.size("n")
    return maker.normal(*size), maker.normal(*size)


def _launch_gated(operands: Operands) -> Tensor:
    gate, up = operands
    return functional.silu(gate) * up


def _make_embedding(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    table = maker.normal(shape.size("k"), shape.size("n")) if first is None else first[1]
    return maker.indices(shape.size("k"), shape.size("m")), table


def _launch_embedding(operands: Operands) -> Tensor:
    indices, table = operands
    return functional.embedding(indices, table)


def _make_copy(shape: KernelShape, maker: OperandMaker, first: Operands | None) -> Operands:
    del first
    return (maker.normal(shape.size("m"), shape.size("n")),)


def _launch_copy(operands: Operands) -> Tensor:
    return operands[0].clone()


def _always(name: str) -> Callable[[Operands], str]:
    return lambda _: name


_RECIPES: Final[Mapping[str, Recipe]] = {
    shapes.GEMM: Recipe(make=_make_gemm, launch=_launch_gemm, implementation=_always("torch_linear")),
    shapes.PREFILL_ATTENTION: Recipe(
        make=_make_prefill, launch=_launch_prefill, implementation=_attention_name
    ),
    shapes.DECODE_ATTENTION: Recipe(make=_make_decode, launch=_launch_decode, implementation=_attention_name),
    shapes.MOE: Recipe(make=_make_moe, launch=_launch_moe, implementation=_always("torch_bmm")),
    shapes.RMS_NORM: Recipe(
        make=_make_rms_norm, launch=_launch_rms_norm, implementation=_always("torch_rms_norm")
    ),
    shapes.LAYER_NORM: Recipe(
        make=_make_layer_norm, launch=_launch_layer_norm, implementation=_always("torch_layer_norm")
    ),
    shapes.GATED_ACTIVATION: Recipe(
        make=_make_two, launch=_launch_gated, implementation=_always("torch_silu_mul")
    ),
    shapes.EMBEDDING: Recipe(
        make=_make_embedding, launch=_launch_embedding, implementation=_always("torch_embedding")
    ),
    shapes.COPY: Recipe(make=_make_copy, launch=_launch_copy, implementation=_always("torch_clone")),
}
