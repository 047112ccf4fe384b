"""Which layers of a decoder have attention, a recurrent mixer, an MLP or experts, from its configuration.

Only where a configuration says so layer by layer; what it leaves open is left out, and its layers count as alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_decoders import is_moe_layer
from llmco2.catalog.hf_hybrids import nemotron_layers
from llmco2.catalog.hf_keys import Config
from llmco2.catalog.quantised_parts import LayerPlan

_LINEAR_KINDS: Final = frozenset(
    {"linear_attention", "mamba", "conv", "recurrent", "lightning_attention", "mamba2"}
)
_SHARED_NAME_FAMILIES: Final = frozenset({"kimi_linear", "minimax", "minimax_m1", "minimax_text_01"})
_NEMOTRON_PARTS: Final = {
    "attention": "attention",
    "recurrent": "mamba",
    "dense_mlp": "mlp",
    "experts": "moe",
    "shared_experts": "moe",
    "router": "moe",
}


def layer_plan(config: Config, model_type: str, arch: Architecture) -> LayerPlan:
    """Return the plan of a decoder that was read as ``arch``."""
    if model_type == "nemotron_h":
        kinds = nemotron_layers(config)
        layers = {part: frozenset(_where(kinds, kind)) for part, kind in _NEMOTRON_PARTS.items()}
        return LayerPlan(n_layers=len(kinds), layers=layers)
    mixers = arch.n_attention_layers + arch.n_recurrent_layers
    beside = arch.n_dense_mlp_layers + arch.n_moe_layers > mixers > 0
    n_layers = max(mixers, 1) if beside else max(mixers, arch.n_dense_mlp_layers + arch.n_moe_layers, 1)
    if model_type == "falcon_h1":
        n_layers = max(arch.n_attention_layers, 1)
    return LayerPlan(
        n_layers=n_layers,
        layers={**_mixers(config, n_layers), **({} if beside else _feed_forwards(config, arch, n_layers))},
        linear_attention_is_self_attn=model_type in _SHARED_NAME_FAMILIES,
        experts_beside_mlp=beside,
    )


def _mixers(config: Config, n_layers: int) -> Mapping[str, frozenset[int]]:
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == n_layers and _LINEAR_KINDS & set(map(str, kinds)):
        recurrent = frozenset(i for i, kind in enumerate(kinds) if str(kind) in _LINEAR_KINDS)
        return {"recurrent": recurrent, "attention": frozenset(range(n_layers)) - recurrent}
    full = config.sub("linear_attn_config").get("full_attn_layers")
    if isinstance(full, list) and all(isinstance(i, int) for i in full):  # counted from one
        attention = frozenset(i - 1 for i in full)
        return {"attention": attention, "recurrent": frozenset(range(n_layers)) - attention}
    return {}


def _feed_forwards(config: Config, arch: Architecture, n_layers: int) -> Mapping[str, frozenset[int]]:
    if not arch.n_moe_layers:
        return {}
    sparse = frozenset(i for i in range(n_layers) if is_moe_layer(config, i))
    if len(sparse) != arch.n_moe_layers:  # the type has a rule of its own
        return {}
    dense = frozenset(range(n_layers)) - sparse
    return {"dense_mlp": dense, **dict.fromkeys(("experts", "shared_experts", "router"), sparse)}


def _where(kinds: list[str], kind: str) -> list[int]:
    return [i for i, name in enumerate(kinds) if name == kind]
