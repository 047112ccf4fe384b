"""Which transformers classes a lineage of the catalog has had, and how each writes its shape.

Invariant: a lineage that is not here, or whose class transformers itself does not carry (Baichuan, InternLM,
EXAONE 3.5 and others run code of their own), is not rebuilt. Facts of single models stand here only where the
record cannot tell them and a class would choose otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Final

from llmco2.catalog.architecture import Architecture
from llmco2.measurement.workloads import config_keys as write
from llmco2.measurement.workloads.config_keys import Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """One transformers model type that a family's models may have."""

    model_type: str
    keys: Callable[[Architecture], Keys]
    suits: Callable[[Architecture], bool]
    options: tuple[Keys, ...] = ({},)  # what the biases and norms of the record must decide between


def _dense(arch: Architecture) -> bool:
    return not (arch.n_moe_layers or arch.n_recurrent_layers or arch.is_mla)


def _experts(arch: Architecture) -> bool:
    return bool(arch.n_moe_layers) and not (arch.n_recurrent_layers or arch.is_mla)


def _latent(arch: Architecture) -> bool:
    return arch.is_mla and bool(arch.n_moe_layers)


def _pure_recurrent(arch: Architecture) -> bool:
    return bool(arch.n_recurrent_layers) and not arch.n_attention_layers


def _hybrid(arch: Architecture) -> bool:
    return bool(arch.n_recurrent_layers and arch.n_attention_layers)


def _flags(*names: str) -> tuple[Keys, ...]:
    """Return every combination of the boolean keys ``names``, all off first."""
    return tuple(
        dict(zip(names, values, strict=True)) for values in product((False, True), repeat=len(names))
    )


def _dense_type(
    model_type: str,
    keys: Callable[[Architecture], Keys] = write.decoder,
    options: tuple[Keys, ...] = ({},),
) -> Lineage:
    return Lineage(model_type=model_type, keys=keys, suits=_dense, options=options)


# The latent width of experts that work in one; the record folds it into their widths.
LATENT_EXPERTS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 0,
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16": 1024,
    }
)
# Published values of single models, where they change kernels and neither shape nor class tells them.
PUBLISHED: Final[Mapping[str, Keys]] = MappingProxyType(
    {
        "togethercomputer/RedPajama-INCITE-7B-Chat": {"use_parallel_residual": False},
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct": {"use_qk_norm": False},
        "deepseek-ai/DeepSeek-V2": {"n_group": 8, "topk_group": 3, "topk_method": "group_limited_greedy"},
    }
)

_LLAMA: Final = _dense_type("llama", write.headed, _flags("attention_bias", "mlp_bias"))
_NEOX: Final = _dense_type("gpt_neox", write.all_heads)
_FALCON_STYLES: Final[tuple[Keys, ...]] = (
    {"multi_query": True},
    {"new_decoder_architecture": True},
    {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1},
)
_UNGROUPED: Final[Keys] = {"n_group": 1, "topk_group": 1}  # the router chooses among all experts at once


def _nemotron_experts(arch: Architecture) -> Keys:
    return write.nemotron_h_experts(arch, LATENT_EXPERTS[arch.model_id])


_QWEN: Final = (
    _dense_type("qwen2"),
    _dense_type("qwen3", write.headed, _flags("attention_bias")),
    Lineage(
        model_type="qwen2_moe",
        keys=write.qwen2_moe,
        suits=lambda arch: _experts(arch) and arch.shared_expert_ffn_dim > 0,
    ),
    Lineage(
        model_type="qwen3_moe",
        keys=write.qwen3_moe,
        suits=lambda arch: _experts(arch) and not arch.shared_expert_ffn_dim,
    ),
    # Of one shape and with other kernels: Qwen3-Next projects in two products what Qwen3.5 does in four.
    Lineage(
        model_type="qwen3_next",
        keys=write.delta_net_experts,
        suits=lambda arch: _hybrid(arch) and "Qwen3-Next" in arch.model_id,
    ),
    Lineage(
        model_type="qwen3_5_moe_text",
        keys=write.delta_net_experts,
        suits=lambda arch: _hybrid(arch) and "Qwen3.5" in arch.model_id and arch.n_moe_layers > 0,
    ),
    Lineage(
        model_type="qwen3_5_text",
        keys=write.delta_net,
        suits=lambda arch: _hybrid(arch) and "Qwen3.5" in arch.model_id and not arch.n_moe_layers,
    ),
)
_MISTRAL: Final = (
    _dense_type("mistral", write.headed_windowed),
    Lineage(
        model_type="ministral",
        keys=write.ministral,
        suits=lambda arch: _dense(arch) and 0 < arch.n_full_attention_layers < arch.n_attention_layers,
    ),
    Lineage(model_type="mixtral", keys=write.headed_wide_experts, suits=_experts),
)
_PHI: Final = (
    _dense_type("phi"),
    _dense_type("phi3", write.windowed),
    Lineage(
        model_type="phimoe",
        keys=write.wide_experts,
        suits=_experts,
        options=_flags("attention_bias", "lm_head_bias"),
    ),
)
_DEEPSEEK: Final = (
    _LLAMA,
    Lineage(model_type="deepseek_v2", keys=write.latent, suits=_latent),
    Lineage(model_type="deepseek_v3", keys=write.latent, suits=_latent),
    Lineage(model_type="deepseek_v32", keys=write.latent, suits=_latent),
)
_GLM: Final = (
    _dense_type("glm", write.headed, _flags("attention_bias")),
    _dense_type("glm4", write.headed, _flags("attention_bias")),
    Lineage(
        model_type="glm4_moe",
        keys=write.headed_routed,
        suits=_experts,
        options=_flags("attention_bias", "use_qk_norm"),
    ),
    Lineage(model_type="glm_moe_dsa", keys=write.latent, suits=_latent),
)
_NEMOTRON: Final = (
    _dense_type("nemotron", write.headed),
    Lineage(
        model_type="nemotron_h",
        keys=write.nemotron_h,
        suits=lambda arch: _hybrid(arch) and not arch.n_moe_layers,
    ),
    Lineage(
        model_type="nemotron_h",
        keys=_nemotron_experts,
        suits=lambda arch: _hybrid(arch) and arch.model_id in LATENT_EXPERTS,
    ),
)
_MAMBA: Final = (
    # One shape, and a norm without weights between: the class that is published with a tied table has none.
    Lineage(
        model_type="mamba",
        keys=write.mamba,
        suits=lambda arch: _pure_recurrent(arch) and arch.tied_embeddings,
    ),
    Lineage(
        model_type="falcon_mamba",
        keys=write.mamba,
        suits=lambda arch: _pure_recurrent(arch) and arch.model_id.startswith("tiiuae/"),
    ),
    Lineage(
        model_type="mamba2",
        keys=write.mamba2,
        suits=lambda arch: _pure_recurrent(arch) and not arch.tied_embeddings,
    ),
)

LINEAGES: Final[Mapping[str, tuple[Lineage, ...]]] = MappingProxyType(
    {
        "llama": (_LLAMA, Lineage(model_type="llama4_text", keys=write.llama4, suits=_experts)),
        "yi": (_LLAMA,),
        "xgen": (_LLAMA,),
        "mistral": _MISTRAL,
        "qwen": _QWEN,
        "gemma": (
            _dense_type("gemma", write.headed),
            _dense_type("gemma2", write.headed_windowed),
            _dense_type("gemma3_text", write.headed_windowed),
        ),
        "phi": _PHI,
        "gpt2": (_dense_type("gpt2", write.gpt),),
        "gptj": (_dense_type("gptj", write.gpt),),
        "pythia": (_NEOX,),
        "opt": (_dense_type("opt", write.opt),),
        "bloom": (_dense_type("bloom", write.bloom),),
        "falcon": (_LLAMA, _dense_type("falcon", write.falcon, _FALCON_STYLES)),
        "mpt": (_dense_type("mpt", write.mpt),),
        "stablelm": (
            _dense_type("stablelm", options=_flags("use_qkv_bias", "use_parallel_residual", "qk_layernorm")),
            _NEOX,
        ),
        "starcoder": (_dense_type("starcoder2", write.windowed, _flags("use_bias")),),
        "olmo": (
            _dense_type("olmo"),
            _dense_type("olmo2"),
            _dense_type("olmo3", write.windowed),
            Lineage(model_type="olmoe", keys=write.olmoe, suits=_experts),
        ),
        "cohere": (
            _dense_type("cohere", options=_flags("use_qk_norm")),
            _dense_type("cohere2", write.headed_windowed),
        ),
        "granite": (
            _dense_type("granite", options=_flags("attention_bias", "mlp_bias")),
            Lineage(model_type="granitemoe", keys=write.wide_experts, suits=_experts),
        ),
        "nemotron": _NEMOTRON,
        "dbrx": (Lineage(model_type="dbrx", keys=write.dbrx, suits=_experts),),
        "glm": _GLM,
        "exaone": (  # before the fourth generation it ran code of its own
            Lineage(
                model_type="exaone4",
                keys=write.windowed,
                suits=lambda arch: _dense(arch) and arch.n_sliding_attention_layers > 0,
            ),
        ),
        "smollm": (_LLAMA, _dense_type("smollm3")),
        "ernie": (_dense_type("ernie4_5", write.headed),),
        "seed": (
            _dense_type("seed_oss", write.headed, _flags("attention_bias", "attention_out_bias", "mlp_bias")),
        ),
        "deepseek": _DEEPSEEK,
        "kimi": (Lineage(model_type="deepseek_v3", keys=write.latent, suits=_latent, options=(_UNGROUPED,)),),
        "gpt-oss": (Lineage(model_type="gpt_oss", keys=write.gpt_oss, suits=_experts),),
        "minimax": (Lineage(model_type="minimax_m2", keys=write.headed_wide_experts, suits=_experts),),
        "mamba": _MAMBA,
        "jamba": (Lineage(model_type="jamba", keys=write.jamba, suits=_hybrid),),
    }
)
