"""What each Hugging Face ``model_type`` fixes in code and therefore does not write into ``config.json``.

Facts about biases, norms and tied tables, read off the public model classes; entries are checked by
instantiating that class on the meta device and comparing the number of parameters (tests/catalog, opt-in).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Habits of one model type; a text names the boolean key of ``config.json`` that decides."""

    family: str
    norm_vectors: int = 1  # 0: no weights; 1: a scale; 2: scale and shift
    norms_per_layer: int = 2
    final_norm: bool = True
    embedding_norm: bool = False
    qkv_bias: bool | str = False
    out_bias: bool | str = False
    mlp_bias: bool | str = False
    lm_head_bias: bool | str = False
    qk_norm: str = (
        ""  # "head": one vector of head_dim each; "width": over all heads; "affine": all heads, with shift
    )
    gated_mlp: bool = True
    tied: bool = False  # the class's default of tie_word_embeddings
    router_bias: bool = False  # a score correction per expert
    shared_expert_gate: bool = False
    learned_positions_extra: int | None = None  # None: none; else positions = max positions + this
    parallel_key: str = ""  # boolean key under which attention and MLP share one norm
    defaults: Mapping[str, Any] = field(
        default_factory=dict
    )  # values that published files leave to the class


_LLAMA_DEFAULTS: Final = MappingProxyType(
    {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"vocab_size": 32_000}
)
_MISTRAL_DEFAULTS: Final = MappingProxyType(
    {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"num_key_value_heads": 8, "vocab_size": 32_000}
)
_QWEN2_DEFAULTS: Final = MappingProxyType(
    {"hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"vocab_size": 151_936}
)
_GEMMA_DEFAULTS: Final = MappingProxyType(
    {"hidden_size": 3072, "intermediate_size": 24_576, "num_hidden_layers": 28, "num_attention_heads": 16}
    | {"head_dim": 256, "vocab_size": 256_000}
)
_GEMMA2_DEFAULTS: Final = MappingProxyType(
    {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8}
    | {"num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256_000, "sliding_window": 4096}
)
_GEMMA3_DEFAULTS: Final = MappingProxyType(
    {"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
)
_LLAMA: Final = Traits(
    family="llama", qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias"
)
_FALCON: Final = Traits(
    family="falcon",
    norm_vectors=2,
    qkv_bias="bias",
    out_bias="bias",
    mlp_bias="bias",
    gated_mlp=False,
    tied=True,
)
_QWEN2: Final = Traits(family="qwen", qkv_bias=True, defaults=_QWEN2_DEFAULTS)
_QWEN3: Final = Traits(family="qwen", qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="head")
_GEMMA3: Final = Traits(
    family="gemma", norms_per_layer=4, qk_norm="head", tied=True, defaults=_GEMMA3_DEFAULTS
)
_LATENT: Final = Traits(family="deepseek", router_bias=True)
_HUNYUAN: Final = Traits(
    family="hunyuan", qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="head"
)
_GLM: Final = Traits(family="glm", qkv_bias="attention_bias")

TRAITS: Final[Mapping[str, Traits]] = MappingProxyType(
    {
        "llama": Traits(
            family="llama",
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            mlp_bias="mlp_bias",
            defaults=_LLAMA_DEFAULTS,
        ),
        "llama4_text": Traits(family="llama"),
        "mistral": Traits(family="mistral", defaults=_MISTRAL_DEFAULTS),
        "mistral4": Traits(family="mistral"),
        "mllama_text_model": Traits(family="llama"),
        "arctic": Traits(family="arctic"),
        "qwen": Traits(family="qwen", qkv_bias=True),
        "qwen2_5_vl_text": _QWEN2,
        "qwen2_vl_text": _QWEN2,
        "qwen2_5_omni_text": _QWEN2,
        "qwen2_5_vl": _QWEN2,
        "qwen2_vl": _QWEN2,
        "qwen3_omni_moe_text": _QWEN3,
        "jais2": Traits(
            family="jais",
            norm_vectors=2,
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            mlp_bias="mlp_bias",
            gated_mlp=False,
        ),
        "persimmon": Traits(
            family="persimmon",
            norm_vectors=2,
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            qk_norm="head-affine",
            gated_mlp=False,
        ),
        "granitemoeshared": Traits(family="granite"),
        "hy_v3": Traits(family="hunyuan", qk_norm="head", router_bias=True),
        "hyperclovax": Traits(
            family="hyperclovax", qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias"
        ),
        "axk1": Traits(family="axk", router_bias=True),
        "youtu": Traits(family="youtu"),
        "RefinedWebModel": _FALCON,
        "RefinedWeb": _FALCON,
        "ministral": Traits(family="mistral"),
        "ministral3": Traits(family="mistral", defaults={"head_dim": 128}),
        "mixtral": Traits(family="mistral"),
        "internlm2": Traits(family="internlm"),
        "internlm3": Traits(family="internlm"),
        "baichuan": Traits(family="baichuan"),
        "aquila": Traits(family="aquila"),
        "qwen2": _QWEN2,
        "qwen2_moe": Traits(family="qwen", qkv_bias=True, shared_expert_gate=True),
        "qwen3": _QWEN3,
        "qwen3_moe": _QWEN3,
        "qwen3_vl_text": _QWEN3,
        "qwen3_vl_moe_text": _QWEN3,
        "mimo": Traits(family="mimo", qkv_bias=True),
        "gemma": Traits(family="gemma", tied=True, defaults=_GEMMA_DEFAULTS),
        "gemma2": Traits(family="gemma", norms_per_layer=4, tied=True, defaults=_GEMMA2_DEFAULTS),
        "gemma3_text": _GEMMA3,
        "phi": Traits(
            family="phi",
            norm_vectors=2,
            norms_per_layer=1,
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            lm_head_bias=True,
            gated_mlp=False,
        ),
        "phi3": Traits(family="phi"),
        "phi3small": Traits(
            family="phi", norm_vectors=2, qkv_bias=True, out_bias=True, mlp_bias=True, tied=True
        ),
        "phimoe": Traits(
            family="phi",
            norm_vectors=2,
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            lm_head_bias="lm_head_bias",
        ),
        "gpt2": Traits(
            family="gpt2",
            norm_vectors=2,
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            gated_mlp=False,
            tied=True,
            learned_positions_extra=0,
        ),
        "gpt_neox": Traits(
            family="pythia",
            norm_vectors=2,
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            mlp_bias=True,
            gated_mlp=False,
            defaults={"attention_bias": True},
        ),
        "gpt_neo": Traits(
            family="gpt-neo",
            norm_vectors=2,
            out_bias=True,
            mlp_bias=True,
            gated_mlp=False,
            tied=True,
            learned_positions_extra=0,
        ),
        "gpt_bigcode": Traits(
            family="starcoder",
            norm_vectors=2,
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            gated_mlp=False,
            tied=True,
            learned_positions_extra=0,
        ),
        "codegen": Traits(
            family="codegen",
            norm_vectors=2,
            norms_per_layer=1,
            mlp_bias=True,
            lm_head_bias=True,
            gated_mlp=False,
        ),
        "gptj": Traits(
            family="gptj",
            norm_vectors=2,
            norms_per_layer=1,
            mlp_bias=True,
            lm_head_bias=True,
            gated_mlp=False,
        ),
        "opt": Traits(
            family="opt",
            norm_vectors=2,
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            gated_mlp=False,
            tied=True,
            learned_positions_extra=2,
        ),
        "bloom": Traits(
            family="bloom",
            norm_vectors=2,
            embedding_norm=True,
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            gated_mlp=False,
            tied=True,
        ),
        "falcon": _FALCON,
        "mpt": Traits(family="mpt", gated_mlp=False, tied=True),
        "stablelm": Traits(
            family="stablelm", norm_vectors=2, qkv_bias="use_qkv_bias", parallel_key="use_parallel_residual"
        ),
        "starcoder2": Traits(
            family="starcoder",
            norm_vectors=2,
            qkv_bias="use_bias",
            out_bias="use_bias",
            mlp_bias="use_bias",
            gated_mlp=False,
            tied=True,
            defaults={"use_bias": True},
        ),
        "olmo": Traits(family="olmo", norm_vectors=0),
        "olmo2": Traits(family="olmo", qk_norm="width"),
        "olmo3": Traits(family="olmo", qk_norm="width"),
        "olmoe": Traits(family="olmo", qk_norm="width"),
        "cohere": Traits(family="cohere", norms_per_layer=1, tied=True),
        "cohere2": Traits(family="cohere", norms_per_layer=1, tied=True),
        "granite": Traits(
            family="granite", qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias"
        ),
        "granitemoe": Traits(family="granite"),
        "nemotron": Traits(family="nemotron", norm_vectors=2, gated_mlp=False),
        "dbrx": Traits(family="dbrx"),
        "glm": _GLM,
        "chatglm": Traits(family="glm", qkv_bias="add_qkv_bias"),
        "glm4_moe_lite": Traits(family="glm", router_bias=True),
        "glm4": Traits(family="glm", qkv_bias="attention_bias", norms_per_layer=4),
        "glm4_moe": Traits(family="glm", qkv_bias="attention_bias", router_bias=True),
        "exaone": Traits(family="exaone"),
        "exaone_moe": Traits(family="exaone", qk_norm="head", router_bias=True),
        "exaone4": Traits(family="exaone", qk_norm="head"),
        "smollm3": Traits(family="smollm", tied=True),
        "ernie4_5": Traits(family="ernie", tied=True),
        "ernie4_5_moe": Traits(family="ernie", tied=True, router_bias=True),
        "minicpm": Traits(family="minicpm", tied=True),
        "minicpm3": Traits(family="minicpm", tied=True),
        "hunyuan_v1_dense": _HUNYUAN,
        "hunyuan_v1_moe": _HUNYUAN,
        "bailing_moe": Traits(family="ling"),
        "bailing_moe_v2": Traits(family="ling", router_bias=True),
        "dots1": Traits(
            family="dots",
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            qk_norm="head",
            router_bias=True,
        ),
        "apertus": Traits(
            family="apertus",
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            qk_norm="head",
            gated_mlp=False,
        ),
        "arcee": Traits(
            family="arcee",
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            mlp_bias="mlp_bias",
            gated_mlp=False,
        ),
        "seed_oss": Traits(family="seed", qkv_bias="attention_bias", out_bias="attention_out_bias"),
        "chameleon": Traits(family="chameleon", qk_norm="affine"),
        "deepseek": Traits(family="deepseek"),
        "deepseek_v2": Traits(family="deepseek"),
        "deepseek_v3": _LATENT,
        "deepseek_v32": _LATENT,
        "kimi_k2": Traits(family="kimi", router_bias=True),
        "glm_moe_dsa": Traits(family="glm", router_bias=True),
        "gpt_oss": Traits(
            family="gpt-oss",
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            defaults={"attention_bias": True},
        ),
        "minimax_m2": Traits(family="minimax", qk_norm="width", router_bias=True),
    }
)
GENERIC: Final = _LLAMA
