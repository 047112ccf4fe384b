"""Which weights a module's name or pattern in a quantisation record means.

A name is that of a linear layer, of a module that holds several, or of a whole decoder layer, as the checkpoints of
any lineage spell them; towers for images and sound and layers for speculative drafts are left out.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from llmco2.catalog.part_precisions import LINEAR_PARTS
from llmco2.catalog.quantisation_rules import compiled, regex_of

_FEED_FORWARD: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "gate_proj": ("gate",),
        "w1": ("gate",),
        "up_proj": ("up",),
        "w3": ("up",),
        "gate_up_proj": ("gate", "up"),
        "w13": ("gate", "up"),
        "linear_fc1": ("gate", "up"),
        "fc1": ("up",),
        "c_fc": ("up",),
        "dense_h_to_4h": ("up",),
        "down_proj": ("down",),
        "w2": ("down",),
        "fc2": ("down",),
        "linear_fc2": ("down",),
        "dense_4h_to_h": ("down",),
    }
)
# By part: the linear layers as checkpoints name them, with the modules that each is.
LINEAR_NAMES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "attention": {
            "q_proj": ("q", "q_a", "q_b"),
            "k_proj": ("k",),
            "v_proj": ("v",),
            "qkv_proj": ("q", "k", "v"),
            "query_key_value": ("q", "k", "v"),
            "c_attn": ("q", "k", "v"),
            "o_proj": ("o",),
            "out_proj": ("o",),
            "dense": ("o",),
            "q_a_proj": ("q_a",),
            "wq_a": ("q_a",),
            "q_b_proj": ("q_b",),
            "wq_b": ("q_b",),
            "kv_a_proj_with_mqa": ("kv_a",),
            "fused_qkv_a_proj_with_mqa": ("q_a", "kv_a"),
            "wkv": ("kv_a",),
            "kv_b_proj": ("kv_b",),
            "wo": ("o",),
            "wo_a": ("o",),
            "wo_b": ("o",),
        },
        "recurrent": {
            "in_proj": ("in", "gate"),
            "in_proj_qkvz": ("in", "gate"),
            "in_proj_qkv": ("in",),
            "in_proj_z": ("gate",),
            "out_proj": ("out",),
            "q_proj": ("in",),
            "k_proj": ("in",),
            "v_proj": ("in",),
            "o_proj": ("out",),
        },
        "dense_mlp": _FEED_FORWARD,
        "experts": _FEED_FORWARD,
        "shared_experts": _FEED_FORWARD,
    }
)
_CONTEXTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("self_attn", "attn", "attention", "self_attention"), ("attention",)),
        **dict.fromkeys(
            ("linear_attn", "mamba", "ssm", "delta_net", "kda", "gdn", "short_conv"), ("recurrent",)
        ),
        **dict.fromkeys(("experts", "routed_experts"), ("experts",)),
        **dict.fromkeys(
            ("shared_experts", "shared_expert", "shared_mlp", "share_expert"), ("shared_experts",)
        ),
        **dict.fromkeys(
            ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe"),
            ("dense_mlp", "experts", "shared_experts"),
        ),
        "mixer": LINEAR_PARTS,
    }
)
_MLP_WORDS: Final = frozenset({"mlp", "feed_forward", "ffn", "block_sparse_moe", "moe"})
_ROUTER_WORDS: Final = frozenset({"gate", "router", "wg"})
_HEAD_WORDS: Final = frozenset({"lm_head", "head", "output_layer", "embed_out", "output"})
_TABLE_WORDS: Final = frozenset(
    {"embed_tokens", "wte", "embeddings", "word_embeddings", "tok_embeddings", "embed", "embed_in"}
)
_OUTSIDE: Final = re.compile(
    r"(?:^|\.|_)(?:visual|vision\w*|image\w*|audio\w*|mtp|multi_modal_projector|mm_projector|patch\w*|connector"
    r"|embed_vision|embed_audio|talker|code2wav|indexer\w*)(?:\.|\*|$)"
)
_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d{1,5})(?=\.|$)")
_OPEN_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d{1,5})\*$")
_PREFIXES: Final = (
    "model.layers",
    "model.language_model.layers",
    "language_model.model.layers",
    "backbone.layers",
    "transformer.h",
    "layers",
)
_PREFIX_WORDS: Final = frozenset(
    {"model", "language_model", "transformer", "backbone", "decoder", "text_model", "layers", "h"}
)
_MODULES: Final = {
    part: sorted({m for names in LINEAR_NAMES[part].values() for m in names}) for part in LINEAR_PARTS
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of matrix in one layer; a layer of None is every layer, or none where the part has no layers."""

    part: str
    module: str
    layer: int | None


def cells_of(pattern: str, n_layers: int) -> tuple[Cell, ...]:
    """Return the cells that a name or pattern means in a decoder of ``n_layers``; empty where none is meant."""
    text = regex_of(pattern)
    if text is not None:
        return _by_pattern(text, n_layers, regex=True)
    if _OUTSIDE.search(pattern):
        return ()
    opened = _OPEN_LAYER.search(pattern)
    if opened and "*" not in pattern[:-1]:  # "layers.1*" is every layer whose number begins so
        numbers = [i for i in range(n_layers) if str(i).startswith(opened.group(1))]
        return tuple(cell for layer in numbers for cell in _named("", layer))
    literal = pattern.removesuffix("*").removesuffix(".")
    if "*" in literal or "?" in literal or "[" in literal:
        return _by_pattern(pattern, n_layers, regex=False)
    found = _LAYER.search(literal)
    if found is None:
        return _named(literal, None)
    layer = int(found.group(1))
    return _named(literal[found.end() :], layer) if layer < n_layers else ()


@lru_cache(maxsize=100_000)
def _named(tail: str, layer: int | None) -> tuple[Cell, ...]:
    words = [word for word in tail.split(".") if word and not word.isdigit()]
    if layer is None:
        words = [word for word in words if word not in _PREFIX_WORDS]
    if not words:
        return tuple(_whole(LINEAR_PARTS, layer)) if layer is not None else ()
    last = words[-1]
    contexts = [word for word in words if word in _CONTEXTS]
    parts: tuple[str, ...] = _CONTEXTS[contexts[-1]] if contexts else LINEAR_PARTS
    if contexts and last == contexts[-1]:
        return tuple(_whole(parts, layer))
    if last in _ROUTER_WORDS:
        return (Cell("router", "all", layer),)
    if layer is None and len(words) == 1 and last in _HEAD_WORDS | _TABLE_WORDS:
        return (Cell("lm_head" if last in _HEAD_WORDS else "embedding", "all", None),)
    if contexts and contexts[-1] in _MLP_WORDS:
        parts = ("dense_mlp",)  # experts would be named
    return tuple(Cell(part, module, layer) for part in parts for module in LINEAR_NAMES[part].get(last, ()))


def _whole(parts: tuple[str, ...], layer: int | None) -> Iterator[Cell]:
    for part in parts:
        for module in _MODULES[part]:
            yield Cell(part, module, layer)


@lru_cache(maxsize=2_000)
def _by_pattern(pattern: str, n_layers: int, *, regex: bool) -> tuple[Cell, ...]:
    """Return the cells one of whose names the pattern matches, from its first character on."""
    globs = f"(?:{fnmatch.translate(pattern)}|{fnmatch.translate(pattern + '.*')})"
    matches = compiled(pattern).match if regex else re.compile(globs).match
    prefixes = _PREFIXES[:1] if pattern.startswith((".*", "*")) else _PREFIXES
    everywhere = not any(character.isdigit() for character in re.sub(r"[a-z_]\w*", "", pattern))
    layers = (1,) if everywhere else range(n_layers)
    found: list[Cell] = []
    for (part, module), tails in _spellings().items():
        if part in {"lm_head", "embedding"}:
            if any(matches(tail) for tail in tails):
                found.append(Cell(part, module, None))
            continue
        for layer in layers:
            if any(matches(f"{prefix}.{layer}.{tail}") for prefix in prefixes for tail in tails):
                found.append(Cell(part, module, None if everywhere else layer))
    return tuple(found)


@lru_cache(maxsize=1)
def _spellings() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return full names below a layer, by part and module."""
    holders = {
        "attention": ("self_attn", "attn", "mixer"),
        "recurrent": ("linear_attn", "mixer", "mamba"),
        "dense_mlp": ("mlp", "feed_forward", "mixer", "ffn"),
        "experts": (
            "mlp.experts.0",
            "block_sparse_moe.experts.0",
            "mixer.experts.0",
            "ffn.experts.0",
            "experts.0",
        ),
        "shared_experts": (
            "mlp.shared_experts",
            "mlp.shared_expert",
            "block_sparse_moe.shared_experts",
            "mixer.shared_experts",
            "ffn.shared_experts",
            "feed_forward.shared_expert",
        ),
    }
    spellings: dict[tuple[str, str], list[str]] = {}
    for part, names in LINEAR_NAMES.items():
        for name, modules in names.items():
            if len(modules) == 1 or part == "attention":
                for module in modules:
                    tails = spellings.setdefault((part, module), [])
                    tails += [f"{holder}.{name}" for holder in holders[part]]
    spellings["recurrent", "in"] += [f"{holder}.in_proj" for holder in holders["recurrent"]]
    spellings["recurrent", "gate"] += [f"{holder}.in_proj" for holder in holders["recurrent"]]
    spellings["router", "all"] = [
        "mlp.gate",
        "block_sparse_moe.gate",
        "mlp.router",
        "mixer.gate",
        "ffn.gate",
        "router",
    ]
    spellings["lm_head", "all"] = ["lm_head", "language_model.lm_head", "head"]
    spellings["embedding", "all"] = ["model.embed_tokens", "language_model.model.embed_tokens", "embed"]
    return MappingProxyType({key: tuple(tails) for key, tails in spellings.items()})
