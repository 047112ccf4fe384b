"""Number formats as kernels see them: bytes of weights and operands, and the unit that multiplies.

Invariant: bf16 and fp16 are one format here, because tensor cores run them at one rate over equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ComputeClass = Literal["16", "8", "4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFormat:
    """One format of a matrix product: bytes per weight and per operand element, and the width of its arithmetic."""

    name: str
    weight_bytes: float
    operand_bytes: float
    compute: ComputeClass


FORMATS: Final = (
    KernelFormat(name="16bit", weight_bytes=2.0, operand_bytes=2.0, compute="16"),
    KernelFormat(name="fp8", weight_bytes=1.0, operand_bytes=1.0, compute="8"),
    KernelFormat(
        name="fp8_block", weight_bytes=1.0 + 4.0 / 128**2, operand_bytes=1.0 + 4.0 / 128, compute="8"
    ),
    KernelFormat(name="nvfp4", weight_bytes=0.5625, operand_bytes=0.5625, compute="4"),
    KernelFormat(name="w8a16", weight_bytes=1.0, operand_bytes=2.0, compute="16"),
    KernelFormat(name="w4a16", weight_bytes=0.53, operand_bytes=2.0, compute="16"),
    KernelFormat(name="int8", weight_bytes=1.0, operand_bytes=1.0, compute="8"),
    KernelFormat(name="mxfp4_w4a8", weight_bytes=0.53125, operand_bytes=1.0, compute="8"),
    KernelFormat(name="mxfp4_w4a16", weight_bytes=0.53125, operand_bytes=2.0, compute="16"),
    KernelFormat(name="w4a8", weight_bytes=0.53, operand_bytes=1.0, compute="8"),
)
FORMAT_INDEX: Final = {kernel_format.name: i for i, kernel_format in enumerate(FORMATS)}

# The kernel format of each precision of llmco2.catalog.precisions. Where no kernel of it was measured, the nearest
# one with the same arithmetic stands in: NF4 and weight-only NVFP4 run 16-bit products over 4-bit weights.
FORMAT_OF_PRECISION: Final = {
    "fp32": "16bit",
    "tf32": "16bit",
    "fp16": "16bit",
    "bf16": "16bit",
    "fp8": "fp8",
    "fp8-channel": "fp8",
    "fp8-block": "fp8_block",
    "fp8-w8a16": "w8a16",
    "int8": "int8",
    "int8-w8a16": "w8a16",
    "int4": "w4a16",
    "w4a8": "w4a8",
    "w4a8-int8": "w4a8",
    "nf4": "w4a16",
    "mxfp4": "mxfp4_w4a16",
    "mxfp4-w4a8": "mxfp4_w4a8",
    "mxfp4-w4a4": "mxfp4_w4a8",
    "mxfp8": "fp8_block",
    "nvfp4": "nvfp4",
    "nvfp4-w4a8": "mxfp4_w4a8",
    "nvfp4-w4a16": "w4a16",
}
