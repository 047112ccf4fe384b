"""Number formats as quantisation tools write them, each as a canonical precision and its bytes per element.

Bytes are those of the weights with their scales and zeros: bits, plus a scale of 16 bits (and zeros of as many bits
as a weight, where the scheme is asymmetric) for each group of weights that shares one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from llmco2.catalog.precisions import resolve_precision
from llmco2.errors import FileFormatError, explain

_BITS_PER_BYTE: Final = 8.0
_SCALE_BITS: Final = 16.0
_BLOCK_SCALE_BYTES: Final = 4.0
_DOUBLE_QUANT_NF4: Final = (
    4 + 8 / 64 + 32 / (64 * 256)
) / _BITS_PER_BYTE  # QLoRA, section 3: scales of scales
MAX_GROUP: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A format of weights: the canonical precision it runs as, and the bytes of an element."""

    precision: str
    weight_bytes_per_element: float


def named(precision: str) -> Scheme:
    """Return the scheme of a canonical precision with its usual scales."""
    found = resolve_precision(precision)
    return Scheme(precision=found.name, weight_bytes_per_element=found.weight_bytes_per_element)


# modelopt's quant_algo, vLLM's and SGLang's quant_method, with the precision that their kernels run.
ALGORITHMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fp8": "fp8",
        "fbgemm_fp8": "fp8",
        "ptpc_fp8": "fp8",
        "w8a8_fp8": "fp8",
        "fp8_per_channel_per_token": "fp8",
        "fp8_pb_wo": "fp8-block",
        "fp8_block": "fp8-block",
        "finegrained_fp8": "fp8-block",
        "mxfp8": "mxfp8",
        "mxfp4": "mxfp4",
        "nvfp4": "nvfp4",
        "nvfp4_awq": "nvfp4",
        "nvfp4_svdquant": "nvfp4",
        "modelopt_fp4": "nvfp4",
        "w4a16_nvfp4": "nvfp4-w4a16",
        "nvfp4_w4a16": "nvfp4-w4a16",
        "petit_nvfp4": "nvfp4-w4a16",
        "w4a8_nvfp4_fp8": "nvfp4-w4a8",
        "w4a8_mxfp4_fp8": "mxfp4-w4a8",
        "w4a16_mxfp4": "mxfp4",
        "w4a16": "int4",
        "w4a16_awq": "int4",
        "int4_awq": "int4",
        "w4a16_gptq": "int4",
        "w4a8_awq": "w4a8",
        "w4afp8": "w4a8",
        "w4a8_qserve_per_group": "w4a8-int8",
        "w4a8_qserve_per_channel": "w4a8-int8",
        "qserve": "w4a8-int8",
        "w8a16": "int8-w8a16",
        "w8a16_gptq": "int8-w8a16",
        "int8_wo": "int8-w8a16",
        "eetq": "int8-w8a16",
        "experts_int8": "int8-w8a16",
        "int8": "int8",
        "w8a8_int8": "int8",
        "tpu_int8": "int8",
        "w8a8_sq_per_channel": "int8",
        "w8a8_sq_per_channel_per_tensor_plugin": "int8",
        "w8a8_sq_per_channel_per_token_plugin": "int8",
        "w8a8_sq_per_tensor_plugin": "int8",
    }
)
_GROUPED_INTEGERS: Final = frozenset({"int4", "int8-w8a16", "w4a8", "w4a8-int8"})


def of_algorithm(name: Any, group: Any, where: str) -> Scheme | None:
    """Return the scheme of an algorithm's name (None for "none"); ``group`` is its group size where given.

    Raises FileFormatError, one line, for a name that is not known.
    """
    key = str(name).casefold().replace("-", "_")
    if key in {"", "none", "no_quant", "bf16", "fp16", "bfloat16", "float16"}:
        return None
    if key not in ALGORITHMS:
        raise unknown(where, str(name))
    scheme = named(ALGORITHMS[key])
    if scheme.precision in _GROUPED_INTEGERS and group is not None:
        bits = 8 if scheme.precision == "int8-w8a16" else 4
        zeros = key.endswith(("awq", "gptq")) and "w4a8" not in key
        n_bytes = packed_bytes(bits, group, zeros=zeros, where=where)
        return Scheme(precision=scheme.precision, weight_bytes_per_element=n_bytes)
    return scheme


def packed_bytes(bits: int, group: Any, *, zeros: bool, where: str) -> float:
    """Return the bytes of an element of ``bits`` with a 16-bit scale per ``group`` elements; -1: per channel."""
    if group is None or group in (-1, 0):
        return bits / _BITS_PER_BYTE
    if isinstance(group, bool) or not isinstance(group, int) or not 1 <= group <= MAX_GROUP:
        raise FileFormatError(
            explain(
                f"{where}: group_size is out of range", got=repr(group)[:40], expected="a whole number from 1"
            )
        )
    return (bits + _SCALE_BITS / group + (bits / group if zeros else 0.0)) / _BITS_PER_BYTE


def of_integers(
    bits: Any, group: Any, *, activation_bits: Any = None, zeros: bool, where: str
) -> Scheme | None:
    """Return the scheme of integer weights of ``bits`` (None for 16 and more) under activations of their own bits.

    Raises FileFormatError, one line, for widths that no precision stands for.
    """
    if isinstance(bits, bool) or not isinstance(bits, int):
        raise unknown(where, f"{bits!r} bits")
    if bits >= 16:
        return None
    narrow = isinstance(activation_bits, int) and activation_bits <= 8
    names = {4: "w4a8-int8" if narrow else "int4", 8: "int8" if narrow else "int8-w8a16"}
    if bits not in names:
        raise unknown(where, f"{bits} bits, int")
    return Scheme(
        precision=names[bits], weight_bytes_per_element=packed_bytes(bits, group, zeros=zeros, where=where)
    )


def of_floats(
    bits: Any, group: Any, *, activation_bits: Any, block: Any = None, power_of_two: bool = False, where: str
) -> Scheme | None:
    """Return the scheme of floating-point weights of ``bits``.

    ``block`` is the shape that shares a scale, ``power_of_two`` whether scales are exponents (the MX formats).
    """
    if isinstance(bits, bool) or not isinstance(bits, int):
        raise unknown(where, f"{bits!r} bits")
    if bits >= 16:
        return None
    narrow = isinstance(activation_bits, int) and activation_bits <= 8
    if bits == 8:
        if power_of_two and group == 32:
            return named("mxfp8")
        if block is not None:
            return of_blocks(block, where)
        return named("fp8" if narrow else "fp8-w8a16")
    if bits == 4:
        if power_of_two or group == 32:
            narrow_names = {4: "mxfp4-w4a4", 8: "mxfp4-w4a8"}
            return named(narrow_names.get(activation_bits if narrow else 0, "mxfp4"))
        narrow_names = {4: "nvfp4", 8: "nvfp4-w4a8"}
        return named(narrow_names.get(activation_bits if narrow else 0, "nvfp4-w4a16"))
    raise unknown(where, f"{bits} bits, float")


def of_blocks(block: Any, where: str) -> Scheme:
    """Return FP8 with an fp32 scale per block of ``[rows, columns]`` weights."""
    ok = isinstance(block, list | tuple) and len(block) == 2
    sides = [side for side in block if isinstance(side, int) and not isinstance(side, bool)] if ok else []
    if len(sides) != 2 or not all(1 <= side <= MAX_GROUP for side in sides):
        raise FileFormatError(
            explain(
                f"{where}: the block of a scale is unreadable", got=repr(block)[:40], expected="[128, 128]"
            )
        )
    return Scheme(
        precision="fp8-block", weight_bytes_per_element=1.0 + _BLOCK_SCALE_BYTES / (sides[0] * sides[1])
    )


def of_bitsandbytes(record: Mapping[str, Any]) -> Scheme:
    """Return NF4 (with or without quantised scales) or LLM.int8()."""
    if not record.get("load_in_4bit") and not record.get("_load_in_4bit"):
        return named("int8")
    if record.get("bnb_4bit_use_double_quant"):
        return Scheme(precision="nf4", weight_bytes_per_element=_DOUBLE_QUANT_NF4)
    return named("nf4")


def unknown(where: str, got: str) -> FileFormatError:
    """Return the error that refuses a format."""
    return FileFormatError(
        explain(
            f"{where}: unknown quantisation",
            got=repr(got)[:80],
            expected="fp8, mxfp4, nvfp4, gptq, awq, bitsandbytes, compressed-tensors, modelopt, quark or torchao in "
            "4 or 8 bits",
            remedy="remove quantization_config and give --precision",
        )
    )
