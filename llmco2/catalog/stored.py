"""The number format of each part: as published, as one named format means it, and as a GPU can run it."""

from __future__ import annotations

from typing import Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpu import Gpu
from llmco2.catalog.params import weight_elements
from llmco2.catalog.part_precisions import LINEAR_PARTS, WEIGHT_PARTS, PartPrecisions, StoredPart
from llmco2.catalog.precisions import (
    Precision,
    default_precision,
    first_supported,
    resolve_precision,
    served_precision,
)

_SIXTEEN_BIT_BYTES: Final = 2.0
_WIDE: Final = frozenset({"fp32", "tf32"})


def parts_under(architecture: Architecture, precision: Precision, kv_cache: str = "") -> PartPrecisions:
    """Return the parts of ``architecture`` where nothing but one format's name is known.

    Quantised formats leave embeddings, LM head and routers at 16 bit. A format whose published checkpoints pack
    only experts (MXFP4 of gpt-oss) packs the layers of a model without experts.
    """
    narrow = _part(precision)
    wide = (
        _part(resolve_precision("bf16"))
        if precision.weight_bytes_per_element < _SIXTEEN_BIT_BYTES
        else narrow
    )
    packed: tuple[str, ...] = WEIGHT_PARTS if precision.quantised == "everything" else LINEAR_PARTS
    if precision.quantised == "experts" and architecture.n_moe_layers:
        packed = ("experts",)
    chosen = {name: narrow if name in packed else wide for name in WEIGHT_PARTS}
    return PartPrecisions(**chosen, kv_cache=kv_cache)


def stored_parts(architecture: Architecture) -> PartPrecisions:
    """Return the parts as the checkpoint is published: by its own record, else by the name of its format."""
    if architecture.stored is not None:
        return architecture.stored
    named = resolve_precision(architecture.checkpoint_precision)
    return parts_under(architecture, served_precision(architecture, named))


def served_parts(architecture: Architecture, gpu: Gpu, precision: Precision | None = None) -> PartPrecisions:
    """Return the parts as an engine loads them on ``gpu``: as stored, or under the ``precision`` asked for.

    Asking for what the engine would pick by itself changes nothing. fp32 is loaded at 16 bit unless asked for; a
    format that the GPU lacks becomes the one that engines fall back on.
    """
    own = precision is None or precision.name == default_precision(architecture, gpu).name
    if precision is None or own:
        parts, wide = stored_parts(architecture), False
    else:
        parts, wide = parts_under(architecture, precision), precision.name in _WIDE
    chosen = {name: _on_gpu(getattr(parts, name), gpu, keep_wide=wide) for name in WEIGHT_PARTS}
    return PartPrecisions(**chosen, kv_cache=parts.kv_cache)


def _part(precision: Precision) -> StoredPart:
    return StoredPart(precision=precision.name, weight_bytes_per_element=precision.weight_bytes_per_element)


def _on_gpu(part: StoredPart, gpu: Gpu, *, keep_wide: bool) -> StoredPart:
    narrowed = part.precision in _WIDE and not keep_wide
    named = resolve_precision("bf16" if narrowed else part.precision)
    served = first_supported(named, gpu)
    if served.name == part.precision:
        return part
    kept = served.weight_bytes_per_element == resolve_precision(part.precision).weight_bytes_per_element
    n_bytes = part.weight_bytes_per_element if kept else served.weight_bytes_per_element
    return StoredPart(precision=served.name, weight_bytes_per_element=n_bytes, also=part.also)


def part_names(architecture: Architecture, parts: PartPrecisions) -> dict[str, str]:
    """Return the format of each part of the weights that the model has, by the part's name."""
    elements = weight_elements(architecture)
    return {
        part: getattr(parts, part).text
        for part in WEIGHT_PARTS
        if getattr(elements, part) or part == "lm_head"  # a tied head reads the embedding
    }
