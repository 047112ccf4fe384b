"""Number formats: bytes per element, and which of a GPU's peak rates matrix products run at.

Invariant: a format whose weights are packed but whose products run in 16 bit (``weight_only``) uses the
16-bit peak; it saves bytes, never FLOPs. Bytes per element include the scales and zeros beside the weights.

What runs where (vLLM's and TensorRT-LLM's practice): 8-bit floats need Ada, Hopper or newer; on Ampere an FP8
checkpoint runs weight-only (Marlin). 4-bit floats as operands need Blackwell; 4-bit float weights under
16-bit activations need bf16 tensor cores. Integer and NF4 weight-only kernels run on any 16-bit tensor cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpu import Gpu
from llmco2.errors import RequestError, UnknownNameError, explain

QuantisedPart = Literal["everything", "layers", "experts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A number format of weights with the activations that go with it."""

    name: str
    weight_bytes_per_element: float  # of the quantised weights, scales included
    activation_bytes_per_element: float
    compute_peaks: tuple[str, ...]  # keys of Gpu.peak_flops_per_s, first choice first
    quantised: QuantisedPart = "everything"  # the rest of the weights stays at the activations' width
    aliases: tuple[str, ...] = ()
    fallback: str = ""  # what to ask for where the GPU has none of compute_peaks

    @property
    def weight_only(self) -> bool:
        """Whether weights are narrower than the operands of the products, which are 16 bit or wider."""
        return self.weight_bytes_per_element < self.activation_bytes_per_element >= _SIXTEEN_BIT_BYTES

    @property
    def kv_bytes_per_element(self) -> float:
        """Bytes of a cached key or value element unless asked otherwise: 2, or 4 under fp32.

        Engines keep the cache at the model's activation type unless told otherwise, also under 8-bit weights.
        """
        return 4.0 if self.name in {"fp32", "tf32"} else 2.0


_BITS: Final = 8.0
_GROUP_128: Final = (
    4 + 16 / 128 + 4 / 128
) / _BITS  # AWQ, GPTQ: a 16-bit scale and a 4-bit zero per 128 weights
_GROUP_64_NF4: Final = (4 + 32 / 64) / _BITS  # QLoRA (arXiv 2305.14314): a 32-bit scale per 64 weights
_SIXTEEN_BIT_BYTES: Final = 2.0
_BLOCK_SCALE_BYTES: Final = (
    4.0  # DeepSeek-V3 (arXiv 2412.19437, 3.3.2): fp32, per 128x128 weights and per 128 inputs
)
_MXFP4: Final = (4 + 8 / 32) / _BITS  # OCP MX specification: an 8-bit scale per 32 elements
_MXFP8: Final = (8 + 8 / 32) / _BITS
_NVFP4: Final = (4 + 8 / 16) / _BITS  # an 8-bit (E4M3) scale per 16 elements

PRECISIONS: Final = (
    Precision(
        name="fp32",
        weight_bytes_per_element=4.0,
        activation_bytes_per_element=4.0,
        compute_peaks=("fp32",),
        aliases=("float32", "f32", "float", "single"),
    ),
    Precision(
        name="tf32",
        weight_bytes_per_element=4.0,
        activation_bytes_per_element=4.0,
        compute_peaks=("tf32",),
        fallback="fp32",
    ),
    Precision(
        name="fp16",
        weight_bytes_per_element=2.0,
        activation_bytes_per_element=2.0,
        compute_peaks=("fp16",),
        aliases=(
            "float16",
            "half",
            "f16",
            "16",
            "16-bit",
            "fp16/bf16",
            "bf16/fp16",
        ),  # 16 bit of whichever kind
        fallback="bf16",
    ),
    Precision(
        name="bf16",
        weight_bytes_per_element=2.0,
        activation_bytes_per_element=2.0,
        compute_peaks=("bf16",),
        aliases=("bfloat16",),
        fallback="fp16",
    ),
    Precision(
        name="fp8",
        weight_bytes_per_element=1.0,
        activation_bytes_per_element=1.0,
        compute_peaks=("fp8",),
        quantised="layers",
        aliases=("e4m3", "float8", "fp8-e4m3", "float8-e4m3fn", "w8a8-fp8", "fp8-w8a8"),
        fallback="fp8-w8a16",
    ),
    Precision(
        name="fp8-channel",  # "fp8" as most models mean it, for those that are published in blocks
        weight_bytes_per_element=1.0,
        activation_bytes_per_element=1.0,
        compute_peaks=("fp8",),
        quantised="layers",
        aliases=("fp8-dynamic", "fp8-per-channel", "fp8-per-tensor"),
        fallback="fp8-w8a16",
    ),
    Precision(
        name="fp8-block",
        weight_bytes_per_element=1.0 + _BLOCK_SCALE_BYTES / 128**2,
        activation_bytes_per_element=1.0 + _BLOCK_SCALE_BYTES / 128,
        compute_peaks=("fp8",),
        quantised="layers",
        aliases=("fp8-blockwise", "fp8-finegrained", "fine-grained-fp8", "block-fp8"),
        fallback="fp8-w8a16",
    ),
    Precision(
        name="fp8-w8a16",
        weight_bytes_per_element=1.0,
        activation_bytes_per_element=2.0,
        compute_peaks=("bf16",),
        quantised="layers",
        aliases=("fp8-weight-only", "fp8-marlin"),
        fallback="fp16",
    ),
    Precision(
        name="int8",
        weight_bytes_per_element=1.0,
        activation_bytes_per_element=1.0,
        compute_peaks=("int8",),
        quantised="layers",
        aliases=("w8a8", "int8-w8a8", "smoothquant", "llm-int8", "bnb-int8", "int8-bnb", "float16-int8"),
        fallback="int8-w8a16",
    ),
    Precision(
        name="int8-w8a16",
        weight_bytes_per_element=1.0,
        activation_bytes_per_element=2.0,
        compute_peaks=("bf16", "fp16"),
        quantised="layers",
        aliases=("w8a16", "int8-weight-only", "gptq-8bit", "q8-0"),
        fallback="fp16",
    ),
    Precision(
        name="int4",
        weight_bytes_per_element=_GROUP_128,
        activation_bytes_per_element=2.0,
        compute_peaks=("bf16", "fp16"),
        quantised="layers",
        aliases=(
            "awq",
            "gptq",
            "w4a16",
            "int4-awq",
            "int4-gptq",
            "gptq-int4",
            "awq-int4",
            "int4-w4a16",
            "autoround",
        ),
        fallback="fp16",
    ),
    Precision(
        name="w4a8",  # int4 weights under FP8 activations
        weight_bytes_per_element=_GROUP_128,
        activation_bytes_per_element=1.0,
        compute_peaks=("fp8",),
        quantised="layers",
        aliases=("w4a8-awq", "w4afp8", "w4a8-fp8", "int4-fp8"),
        fallback="int4",
    ),
    Precision(
        name="w4a8-int8",  # int4 weights under int8 activations
        weight_bytes_per_element=_GROUP_128,
        activation_bytes_per_element=1.0,
        compute_peaks=("int8",),
        quantised="layers",
        aliases=("int4-int8", "qoq"),
        fallback="int4",
    ),
    Precision(
        name="nf4",
        weight_bytes_per_element=_GROUP_64_NF4,
        activation_bytes_per_element=2.0,
        compute_peaks=("bf16", "fp16"),
        quantised="layers",
        aliases=("bnb-4bit", "bnb-nf4", "qlora", "bitsandbytes", "bnb-fp4", "float16-nf4", "nf4-double"),
        fallback="fp16",
    ),
    Precision(
        name="mxfp4",
        weight_bytes_per_element=_MXFP4,
        activation_bytes_per_element=2.0,
        compute_peaks=("bf16",),
        quantised="experts",
        aliases=("mxfp4-w4a16",),
        fallback="fp16",
    ),
    Precision(
        name="mxfp4-w4a8",  # MXFP4 weights under FP8 activations
        weight_bytes_per_element=_MXFP4,
        activation_bytes_per_element=1.0,
        compute_peaks=("fp8",),
        quantised="experts",
        aliases=("w4a8-mxfp4", "w4a8-mxfp4-fp8"),
        fallback="mxfp4",
    ),
    Precision(
        name="mxfp4-w4a4",
        weight_bytes_per_element=_MXFP4,
        activation_bytes_per_element=_MXFP4,
        compute_peaks=("fp4",),
        quantised="layers",
        aliases=("w4a4-mxfp4", "w-mxfp4-a-mxfp4"),
        fallback="mxfp4",
    ),
    Precision(
        name="mxfp8",
        weight_bytes_per_element=_MXFP8,
        activation_bytes_per_element=_MXFP8,
        compute_peaks=("fp8",),
        quantised="layers",
        aliases=("w8a8-mxfp8", "fp8-mx"),
        fallback="fp8-w8a16",
    ),
    Precision(
        name="nvfp4",
        weight_bytes_per_element=_NVFP4,
        activation_bytes_per_element=_NVFP4,
        compute_peaks=("fp4",),
        quantised="layers",
        aliases=("fp4", "nvfp4-w4a4", "w4a4"),
        fallback="nvfp4-w4a16",
    ),
    Precision(
        name="nvfp4-w4a8",  # NVFP4 weights under FP8 activations
        weight_bytes_per_element=_NVFP4,
        activation_bytes_per_element=1.0,
        compute_peaks=("fp8",),
        quantised="layers",
        aliases=("w4a8-nvfp4", "w4a8-nvfp4-fp8"),
        fallback="nvfp4-w4a16",
    ),
    Precision(
        name="nvfp4-w4a16",
        weight_bytes_per_element=_NVFP4,
        activation_bytes_per_element=2.0,
        compute_peaks=("bf16",),
        quantised="layers",
        aliases=("nvfp4-weight-only",),
        fallback="fp16",
    ),
)


def resolve_precision(name: str) -> Precision:
    """Return the precision that ``name`` means, without regard to case, dashes, dots and underscores.

    Raises UnknownNameError with the nearest names.
    """
    precision = _by_key().get(_key(name))
    if precision is None:
        raise UnknownNameError("precision", name, [p.name for p in PRECISIONS])
    return precision


def served_precision(architecture: Architecture, precision: Precision) -> Precision:
    """Return ``precision`` as this model is published in it: FP8 may carry its scales per block.

    Products with a scale per block run on other, slower kernels than those with a scale per channel. A format
    that names its scales (fp8-block, fp8-channel, fp8-dynamic) keeps them; the one per channel is "fp8".
    """
    if precision.name == "fp8-channel":
        return resolve_precision("fp8")
    in_blocks = precision.name == "fp8" and architecture.fp8_in_blocks
    return resolve_precision("fp8-block") if in_blocks else precision


def compute_peak_flops_per_s(gpu: Gpu, precision: Precision | str) -> float:
    """Return the dense peak rate, in FLOP/s, that matrix products run at on ``gpu`` under ``precision``.

    Raises RequestError with a remedy when the GPU has no such path.
    """
    chosen = resolve_precision(precision) if isinstance(precision, str) else precision
    for peak in chosen.compute_peaks:
        if peak in gpu.peak_flops_per_s:
            return gpu.peak_flops_per_s[peak]
    raise RequestError(
        explain(
            f"{gpu.gpu_id} has no {chosen.name} arithmetic",
            got=f"precision {chosen.name}",
            expected="one of " + ", ".join(supported_precisions(gpu)),
            remedy=f"use --precision {first_supported(chosen, gpu).name}",
        )
    )


def supports(gpu: Gpu, precision: Precision) -> bool:
    """Whether ``gpu`` has a peak rate that ``precision`` can use."""
    return any(peak in gpu.peak_flops_per_s for peak in precision.compute_peaks)


def supported_precisions(gpu: Gpu) -> tuple[str, ...]:
    """Return the names of the precisions that ``gpu`` can run."""
    return tuple(precision.name for precision in PRECISIONS if supports(gpu, precision))


def default_precision(architecture: Architecture, gpu: Gpu) -> Precision:
    """Return the precision an engine picks by itself: the checkpoint's own where ``gpu`` has it.

    fp32 checkpoints are served at 16 bit, as engines do. bf16 becomes fp16 on GPUs without bf16 (V100, T4),
    FP8 becomes weight-only FP8 before Ada and Hopper, NVFP4 weight-only before Blackwell.
    """
    stored = served_precision(architecture, resolve_precision(architecture.checkpoint_precision))
    if stored.name in {"fp32", "tf32"}:
        stored = resolve_precision("bf16")
    return first_supported(stored, gpu)


def first_supported(precision: Precision, gpu: Gpu) -> Precision:
    """Return ``precision``, or the first of its fallbacks that ``gpu`` has."""
    chosen = precision
    seen = {chosen.name}
    while not supports(gpu, chosen) and chosen.fallback and chosen.fallback not in seen:
        chosen = resolve_precision(chosen.fallback)
        seen.add(chosen.name)
    if supports(gpu, chosen):
        return chosen
    return next(candidate for candidate in PRECISIONS if supports(gpu, candidate))


def _key(name: str) -> str:
    return "".join(character for character in name.casefold().removeprefix("torch.") if character.isalnum())


@lru_cache(maxsize=1)
def _by_key() -> Mapping[str, Precision]:
    return {
        _key(name): precision for precision in PRECISIONS for name in (precision.name, *precision.aliases)
    }
