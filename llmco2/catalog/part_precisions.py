"""In which number format each part of a model's weights is stored, and its KV cache.

Invariant: a part that is stored in several formats has the bytes per element of their mean, so bytes add up; its
name is the format of most of its elements, and ``also`` names the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """The format of one part of the weights."""

    precision: str  # a name of catalog.precisions: what most of the part's elements are in
    weight_bytes_per_element: float  # mean over the part, scales and zeros included
    also: tuple[str, ...] = ()  # names of the formats of the other elements

    @property
    def text(self) -> str:
        """The formats by name, the most common first."""
        return " + ".join((self.precision, *self.also))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPrecisions:
    """The format of every part of a model; the names are those of :class:`llmco2.catalog.params.WeightElements`."""

    attention: StoredPart  # projections of queries, keys, values and outputs
    recurrent: StoredPart  # projections of Mamba, linear attention, gated convolutions
    dense_mlp: StoredPart
    experts: StoredPart  # routed
    shared_experts: StoredPart
    router: StoredPart
    lm_head: StoredPart
    embedding: StoredPart
    kv_cache: str = ""  # "": as the engine keeps it, which is the activations' own type


WEIGHT_PARTS: Final = tuple(field.name for field in fields(PartPrecisions) if field.name != "kv_cache")
# What quantisers take for linear layers; the others stay at 16 bit unless a record names them.
LINEAR_PARTS: Final = ("attention", "recurrent", "dense_mlp", "experts", "shared_experts")
