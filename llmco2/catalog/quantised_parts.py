"""From the rules of a quantisation record to the format and the bytes of each part of a model.

Invariant: bytes are counted over elements, never over names: a rule for one of thirty layers weighs a thirtieth of
its part, one for key projections as much as their width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.params import weight_elements
from llmco2.catalog.part_precisions import LINEAR_PARTS, WEIGHT_PARTS, PartPrecisions, StoredPart
from llmco2.catalog.quantisation_rules import Rules
from llmco2.catalog.quantisation_schemes import Scheme
from llmco2.catalog.quantised_names import Cell, cells_of

_Assigned = dict[tuple[str, str], dict[int | None, Scheme]]
_EVERY: Final = None
_WIDE: Final = frozenset({"bf16", "fp16", "fp32"})
# Where linear attention goes by the name of attention: its modules by those of attention.
_SHARED_NAME: Final = MappingProxyType({"q": "in", "k": "in", "v": "in", "o": "out", "kv_b": "gate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """How many layers a decoder has, which of them have a part, and what linear attention is called."""

    n_layers: int
    layers: Mapping[str, frozenset[int]] = field(
        default_factory=dict
    )  # by part; one that is missing is not known
    linear_attention_is_self_attn: bool = False
    experts_beside_mlp: bool = False  # a layer has both, and "mlp" names the MLP alone


def parts_of_rules(
    arch: Architecture, rules: Rules, wide: Scheme, plan: LayerPlan
) -> tuple[PartPrecisions, tuple[str, ...]]:
    """Return the parts of a checkpoint with such a record, and what had to be assumed.

    ``wide`` is the format of what is not quantised.
    """
    base, assumed = _base(rules, plan)
    assigned = _assigned(rules, wide, plan)
    narrow = ("experts",) if rules.experts_only and arch.n_moe_layers else LINEAR_PARTS
    parts = {}
    for part in WEIGHT_PARTS:
        default = base if base is not None and part in narrow else wide
        parts[part] = _stored(arch, part, default, assigned, plan)
    if arch.tied_embeddings:
        parts["lm_head"] = parts["embedding"]
    return PartPrecisions(**parts, kv_cache=rules.kv_cache), assumed


def named_precision(arch: Architecture, parts: PartPrecisions) -> str:
    """Return the precision by which the checkpoint is called: what most elements narrower than 16 bit are in."""
    elements = weight_elements(arch)
    weights: dict[str, float] = {}
    for part in LINEAR_PARTS:
        stored: StoredPart = getattr(parts, part)
        narrow = stored.weight_bytes_per_element < 2.0
        name = stored.precision if stored.precision not in _WIDE or not stored.also else stored.also[0]
        if narrow:
            weights[name] = weights.get(name, 0.0) + getattr(elements, part)
    return max(weights, key=lambda name: (weights[name], name)) if weights else parts.embedding.precision


def _base(rules: Rules, plan: LayerPlan) -> tuple[Scheme | None, tuple[str, ...]]:
    """Return the base; where no name of the record is a module of a decoder, what most of them have, as assumed."""
    if rules.base is not None or not rules.rules:
        return rules.base, ()
    if any(cells_of(rule.pattern, plan.n_layers) for rule in rules.rules):
        return None, ()
    schemes = [rule.scheme for rule in rules.rules if rule.scheme is not None]
    if not schemes:
        return None, ()
    most = max(schemes, key=lambda scheme: (schemes.count(scheme), scheme.precision))
    line = f"the modules in the quantisation record have unknown names; all linear layers are taken as {most.precision}"
    return most, (line,)


def _assigned(rules: Rules, wide: Scheme, plan: LayerPlan) -> _Assigned:
    """Return the formats that rules give to cells: the longest name decides, and an exclusion over all."""
    ranked = [
        ((0, cell.layer is not None, len(rule.pattern), rule.pattern), cell, rule.scheme or wide)
        for rule in rules.rules
        for cell in _cells(rule.pattern, plan)
    ]
    ranked += [
        ((1, cell.layer is not None, 0, ""), cell, wide)
        for pattern in rules.excluded
        for cell in _cells(pattern, plan)
    ]
    ranked.sort(key=lambda entry: entry[0])
    assigned: _Assigned = {}
    for _, cell, scheme in ranked:
        _assign(assigned, cell, scheme)
    return assigned


def _cells(pattern: str, plan: LayerPlan) -> Iterator[Cell]:
    mlp_alone = plan.experts_beside_mlp and "mlp" in pattern and "expert" not in pattern
    for cell in cells_of(pattern, plan.n_layers):
        if mlp_alone and cell.part in {"experts", "shared_experts"}:
            continue
        yield cell
        if plan.linear_attention_is_self_attn and cell.part == "attention" and cell.module in _SHARED_NAME:
            yield Cell("recurrent", _SHARED_NAME[cell.module], cell.layer)


def _assign(assigned: _Assigned, cell: Cell, scheme: Scheme) -> None:
    by_layer = assigned.setdefault((cell.part, cell.module), {})
    if cell.layer is _EVERY:
        by_layer.clear()
    by_layer[cell.layer] = scheme


def _stored(
    arch: Architecture, part: str, default: Scheme, assigned: _Assigned, plan: LayerPlan
) -> StoredPart:
    shares: dict[Scheme, float] = {}
    for module, weight in _module_weights(arch, part).items():
        by_layer = assigned.get((part, module), {})
        rest = by_layer.get(_EVERY, default)
        there = plan.layers.get(part)
        named = {
            layer: scheme
            for layer, scheme in by_layer.items()
            if layer is not None and (there is None or layer in there)
        }
        count = max(_layer_count(arch, part, plan.n_layers), 1)
        each = 1.0 / max(count, len(named))
        for scheme in named.values():
            shares[scheme] = shares.get(scheme, 0.0) + weight * each
        shares[rest] = shares.get(rest, 0.0) + weight * (1.0 - each * len(named))
    total = sum(shares.values())
    kept = {scheme: share / total for scheme, share in shares.items() if share / total > 1e-6}
    by_name: dict[str, float] = {}
    for scheme, share in kept.items():
        by_name[scheme.precision] = by_name.get(scheme.precision, 0.0) + share
    first, *others = sorted(by_name, key=lambda name: (-by_name[name], name))
    mean = sum(scheme.weight_bytes_per_element * share for scheme, share in kept.items())
    return StoredPart(precision=first, weight_bytes_per_element=mean, also=tuple(others))


def _layer_count(arch: Architecture, part: str, n_layers: int) -> int:
    return {
        "attention": arch.n_attention_layers,
        "recurrent": arch.n_recurrent_layers,
        "dense_mlp": arch.n_dense_mlp_layers,
        "experts": arch.n_moe_layers,
        "shared_experts": arch.n_moe_layers,
        "router": arch.n_moe_layers,
    }.get(part, n_layers)


def _module_weights(arch: Architecture, part: str) -> dict[str, float]:
    """Return the relative size of each module of a part; a part that the model lacks counts as one module."""
    weights: dict[str, float] = {"all": 1.0}
    if part == "attention" and arch.is_mla:
        weights = _latent_weights(arch)
    elif part == "attention" and arch.n_heads:
        query, key = arch.n_heads * arch.head_dim, arch.n_kv_heads * arch.head_dim
        weights = {"q": query * (1.0 + arch.gated_attention_output), "k": key, "v": key, "o": query}
    elif part == "recurrent" and arch.n_recurrent_layers:
        inner = min(arch.recurrent_conv_dim, arch.recurrent_in_dim) or arch.recurrent_in_dim
        weights = {"in": inner, "gate": arch.recurrent_in_dim - inner, "out": arch.recurrent_inner_dim}
    elif part in {"dense_mlp", "experts", "shared_experts"}:
        gated = arch.gated_mlp if part == "dense_mlp" else arch.gated_experts
        weights = {"gate": float(gated), "up": 1.0, "down": 1.0}
    return weights if sum(weights.values()) > 0.0 else {"all": 1.0}


def _latent_weights(arch: Architecture) -> dict[str, float]:
    qk = arch.qk_nope_head_dim + arch.qk_rope_head_dim
    low_rank = arch.q_lora_rank > 0
    return {
        "q_a": arch.hidden_dim * arch.q_lora_rank,
        "q_b": (arch.q_lora_rank if low_rank else arch.hidden_dim) * arch.n_heads * qk,
        "kv_a": arch.hidden_dim * (arch.kv_lora_rank + arch.qk_rope_head_dim),
        "kv_b": arch.kv_lora_rank * arch.n_heads * (arch.qk_nope_head_dim + arch.v_head_dim),
        "o": arch.n_heads * arch.v_head_dim * arch.hidden_dim,
    }
