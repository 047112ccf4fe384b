"""Opt-in: compare the tables with public packages that carry the same facts.

``aiconfigurator-core`` has published model configurations and GPU peaks, ``litgpt`` its own table of
shapes, and ``transformers`` the model classes themselves, whose parameters are counted on the meta device
(no memory).
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.hf_config import architecture_from_hf_config
from llmco2.catalog.models import load_models, resolve_model
from llmco2.catalog.params import parameter_count
from llmco2.errors import InputError, UnknownNameError

pytestmark = pytest.mark.slow

NO_TRANSFORMERS = "transformers is not installed: pip install llmco2[measure]"
SYSTEMS = {
    "a30": "A30",
    "a100_pcie": "A100-PCIe-80GB",
    "a100_sxm": "A100-SXM4-80GB",
    "b200_sxm": "B200-SXM-180GB",
    "b300_sxm": "B300-SXM-288GB",
    "gb200": "GB200-186GB",
    "gb300": "GB300-288GB",
    "h100_pcie": "H100-PCIe-80GB",
    "h100_sxm": "H100-SXM5-80GB",
    "h200_sxm": "H200-SXM-141GB",
    "l4": "L4",
    "l40s": "L40S",
    "rtx_pro_6000_server": "RTX-PRO-6000-BSE",
}
SYSTEM_PEAKS = {
    "bf16": "bfloat16_tc_flops",
    "int8": "int8_tc_flops",
    "fp8": "fp8_tc_flops",
    "fp4": "fp4_tc_flops",
}
# That file takes the workstation board's memory rate for the server board.
OTHER_BANDWIDTH = {"RTX-PRO-6000-BSE"}
NOT_SHAPE = {
    *("model_id", "family", "checkpoint_precision", "stated_params", "source", "retrieved", "confidence"),
    *("fp8_in_blocks", "stored", "assumptions"),  # of another checkpoint of the same shape
    "max_context_tokens",  # lengthened by later releases of the same shape
}


def package_folder(name: str) -> Path:
    pytest.importorskip(name, reason=f"{name} is not installed; it holds the facts to compare with")
    return Path(str(importlib.resources.files(name)))


def shape(model: Architecture) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(model).items() if key not in NOT_SHAPE}


@pytest.mark.parametrize(("system", "gpu_id"), SYSTEMS.items())
def test_gpu_peaks_against_aiconfigurator(system, gpu_id):
    file = package_folder("aiconfigurator_core") / "systems" / f"{system}.yaml"
    theirs = yaml.safe_load(file.read_text(encoding="utf-8"))["gpu"]
    ours = load_gpus()[gpu_id]
    for precision, key in SYSTEM_PEAKS.items():
        if key in theirs and precision in ours.peak_flops_per_s:
            assert ours.peak_flops_per_s[precision] == pytest.approx(theirs[key], rel=0.005), precision
    if gpu_id not in OTHER_BANDWIDTH:
        assert ours.memory_bandwidth_bytes_per_s == pytest.approx(theirs["mem_bw"], rel=0.005)
    assert ours.tdp_w == theirs["power"]
    assert ours.memory_bytes == pytest.approx(theirs["mem_capacity"], rel=0.07)


def test_models_against_published_configurations():
    folder = package_folder("aiconfigurator_core") / "model_configs"
    compared = []
    for file in sorted(folder.glob("*_config.json")):
        name = file.name.removesuffix("_config.json").replace("--", "/", 1)
        if name.endswith("hf_quant"):
            continue
        config = json.loads(file.read_text(encoding="utf-8"))
        try:
            ours = resolve_model(name)
            theirs = architecture_from_hf_config(config, model_id=name, where=file.name)
        except (UnknownNameError, InputError):
            continue  # a model this catalog does not claim to know
        assert shape(ours) == shape(theirs), name
        compared.append(name)
    assert len(compared) >= 60


# Which leaves out that this fine-tune of Llama 2 70B has eight key-value heads, as its base has.
WITHOUT_GROUPS = {"garage-bAInd/Platypus2-70B"}


# litgpt pads vocabularies and gives one Mixtral its successor's, hence 3 %; the layers must agree exactly.
def test_models_against_litgpt():
    pytest.importorskip("litgpt", reason="litgpt is not installed; it holds the shapes to compare with")
    from litgpt.config import Config, configs  # noqa: PLC0415 - optional package

    compared, differing = 0, {}
    for entry in configs:
        hub = entry.get("hf_config") or {}
        name = f"{hub.get('org')}/{hub.get('name')}"
        try:
            ours = resolve_model(name)
        except UnknownNameError:
            continue
        theirs = Config(**entry)
        pairs = {
            "hidden_dim": (ours.hidden_dim, theirs.n_embd),
            "layers": (ours.n_attention_layers, theirs.n_layer),
            "n_heads": (ours.n_heads, theirs.n_head),
        }
        if not ours.is_mla:
            pairs |= {
                "n_kv_heads": (ours.n_kv_heads, theirs.n_query_groups),
                "head_dim": (ours.head_dim, theirs.head_size),
            }
        if not ours.n_moe_layers:
            pairs["ffn_dim"] = (ours.ffn_dim, theirs.intermediate_size)
        wrong = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
        if name in WITHOUT_GROUPS:
            wrong.pop("n_kv_heads")
        vocab_ratio = ours.vocab_size / theirs.padded_vocab_size
        if wrong or not 0.97 < vocab_ratio < 1.03:
            differing[name] = wrong | {"vocab_size": (ours.vocab_size, theirs.padded_vocab_size)}
        compared += 1
    assert differing == {}
    assert compared >= 100


def _tiny(model_type: str, **changes: Any) -> dict[str, Any]:
    base = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 128,
        "max_position_embeddings": 32,
        "tie_word_embeddings": False,
    }
    experts = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2}
    if changes.pop("moe", False):
        base |= experts | {
            "moe_intermediate_size": 32
        }  # 96 below: types whose experts are intermediate_size wide
    return {"model_type": model_type} | base | changes


_LATENT = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 2,
    "num_key_value_heads": 8,
    "n_group": 1,
    "topk_group": 1,
}
_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 3,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"] * 2,
    "shared_expert_intermediate_size": 16,
}
_JAMBA = {
    "attn_layer_period": 3,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "mamba_d_state": 4,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": 4,
    "use_mamba_kernels": False,
}
_MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 4,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_d_head": 16,
}
_GRANITE_HYBRID = _MAMBA2 | {
    "shared_intermediate_size": 48,
    "layer_types": ["mamba", "mamba", "attention"] * 2,
}
_SHORT_CONVOLUTIONS = {
    "layer_types": ["conv", "conv", "full_attention"] * 2,
    "conv_L_cache": 3,
    "block_multiple_of": 16,
}
_KIMI = {
    "layer_types": ["linear_attention", "linear_attention", "full_attention"] * 2,
    "linear_num_heads": 4,
    "linear_head_dim": 8,
    "first_k_dense_replace": 1,
    "mlp_layer_types": ["dense", *["sparse"] * 5],
}
_ERNIE = {
    "moe_num_experts": 4,
    "moe_k": 2,
    "moe_num_shared_experts": 2,
    "moe_layer_start_index": 1,
    "moe_intermediate_size": 32,
}
_ROUTED = {"n_shared_experts": 2, "first_k_dense_replace": 1}
TINY = [
    _tiny("llama"),
    _tiny("llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    _tiny("mistral", sliding_window=8),
    _tiny("mixtral", moe=True, moe_intermediate_size=96),
    _tiny("qwen2"),
    _tiny("qwen2_moe", moe=True, shared_expert_intermediate_size=48, decoder_sparse_step=2),
    _tiny("qwen3"),
    _tiny("qwen3_moe", moe=True, mlp_only_layers=[0]),
    _tiny("qwen3_next", moe=True, **_DELTA),
    _tiny("gemma", tie_word_embeddings=True),
    _tiny("gemma2", tie_word_embeddings=True, sliding_window=8),
    _tiny("gemma3_text", tie_word_embeddings=True, sliding_window=8),
    _tiny("phi", num_key_value_heads=8),
    _tiny("phi3", pad_token_id=0),
    _tiny("phimoe", moe=True, moe_intermediate_size=96, attention_bias=True, lm_head_bias=True),
    _tiny("gpt_neox", num_key_value_heads=8),
    _tiny("stablelm", use_qkv_bias=True),
    _tiny("stablelm", use_parallel_residual=True, qk_layernorm=True),
    _tiny("starcoder2"),
    _tiny("olmo"),
    _tiny("olmo2"),
    _tiny("olmoe", moe=True, moe_intermediate_size=96),
    _tiny("cohere", tie_word_embeddings=True, use_qk_norm=True),
    _tiny("cohere2", tie_word_embeddings=True, sliding_window=8),
    _tiny("granite"),
    _tiny("granitemoe", moe=True, moe_intermediate_size=96),
    _tiny("nemotron"),
    _tiny("glm", attention_bias=True, pad_token_id=0),
    _tiny("glm4", attention_bias=True, pad_token_id=0),
    _tiny("glm4_moe", moe=True, use_qk_norm=True, n_shared_experts=1, first_k_dense_replace=1),
    _tiny("deepseek_v2", moe=True, **_LATENT),
    _tiny("deepseek_v3", moe=True, **_LATENT),
    _tiny("gpt_oss", moe=True, moe_intermediate_size=96, sliding_window=8),
    _tiny("jamba", moe=True, **_JAMBA),
    _tiny("arcee", mlp_bias=True),
    _tiny("apertus"),
    _tiny("ministral3"),
    _tiny("hunyuan_v1_dense"),
    _tiny(
        "hunyuan_v1_moe", moe=True, moe_intermediate_size=None, moe_topk=[2] * 6, num_shared_expert=[1] * 6
    ),
    _tiny("ernie4_5_moe", **_ERNIE),
    _tiny("dots1", moe=True, **_ROUTED, use_sliding_window=False),
    _tiny("exaone_moe", moe=True, num_shared_experts=1, first_k_dense_replace=1, sliding_window=8),
    _tiny("minicpm3", **_LATENT),
    _tiny("glm4_moe_lite", moe=True, **_LATENT, head_dim=4, mlp_layer_types=["dense"] * 2 + ["sparse"] * 4),
    _tiny("granitemoehybrid", **_GRANITE_HYBRID, num_local_experts=0),
    _tiny("granitemoehybrid", moe=True, **_GRANITE_HYBRID),
    _tiny("falcon_h1", **_MAMBA2, mamba_d_ssm=128),
    _tiny("falcon_h1", **_MAMBA2, mamba_d_ssm=96, mamba_rms_norm=True)
    | {"mamba_d_head": 12, "tie_word_embeddings": True},
    _tiny("lfm2", **_SHORT_CONVOLUTIONS, tie_word_embeddings=True, num_key_value_heads=4),
    _tiny("lfm2_moe", moe=True, **_SHORT_CONVOLUTIONS, num_dense_layers=2, tie_word_embeddings=True),
    _tiny("kimi_linear", moe=True, **_LATENT | _KIMI | {"q_lora_rank": None, "pad_token_id": 0}),
    {"model_type": "gpt_neo", "hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 128}
    | {"attention_types": [[["global", "local"], 2]], "max_position_embeddings": 32, "window_size": 8},
    {"model_type": "gpt_bigcode", "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 32}
    | {"vocab_size": 128},
    {"model_type": "codegen", "n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 128, "rotary_dim": 8}
    | {"n_positions": 32},
    {"model_type": "gpt2", "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 32, "vocab_size": 128},
    {"model_type": "gptj", "n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 128, "rotary_dim": 8},
    {"model_type": "bloom", "hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 128},
    {
        "model_type": "falcon",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 128,
    },
    {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 3, "state_size": 4, "vocab_size": 128}
    | {"conv_kernel": 4, "expand": 2, "time_step_rank": 4},
    {"model_type": "mamba2", "hidden_size": 64, "num_hidden_layers": 3, "state_size": 4, "vocab_size": 128}
    | {"conv_kernel": 4, "expand": 2, "num_heads": 8, "head_dim": 16, "n_groups": 2},
]


@pytest.mark.filterwarnings("ignore")  # transformers warns about its own defaults
@pytest.mark.parametrize("config", TINY, ids=[f"{i}-{c['model_type']}" for i, c in enumerate(TINY)])
def test_counts_against_the_transformers_classes(config):
    transformers = pytest.importorskip("transformers", reason=NO_TRANSFORMERS)
    torch = pytest.importorskip("torch")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    given = {key: value for key, value in config.items() if key != "model_type"}
    hf_config = transformers.AutoConfig.for_model(config["model_type"], **given)
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(hf_config)
    counted = sum(parameter.numel() for parameter in network.parameters())
    counted += sum(
        buffer.numel()
        for name, buffer in network.named_buffers()
        if "e_score" in name or "expert_bias" in name
    )
    assert parameter_count(architecture_from_hf_config(config, model_id="tiny")) == counted


def test_an_unknown_type_takes_its_defaults_from_transformers(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install llmco2[measure]")
    config = {
        "model_type": "helium",
        "architectures": ["HeliumForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = resolve_model(tmp_path)
    assert (model.vocab_size, model.confidence) == (48_000, "low")  # the class's own vocabulary


def test_every_row_names_a_known_lineage():
    assert {model.family for model in load_models().values()} >= {
        "llama",
        "qwen",
        "gemma",
        "mistral",
        "deepseek",
    }


# Their class holds a vision or cross-attention part as well, or experts that do nothing as if they were matrices.
MORE_THAN_THE_LANGUAGE_MODEL = {"gemma3", "got_ocr2", "mllama", "moss_transcribe_diarize", "longcat_flash"}


@pytest.mark.filterwarnings("ignore")
def test_defaults_of_every_class_are_counted_within_one_percent_or_refused():
    transformers = pytest.importorskip("transformers", reason=NO_TRANSFORMERS)
    torch = pytest.importorskip("torch")
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # noqa: PLC0415

    logging.getLogger("transformers").setLevel(logging.ERROR)
    answered, wrong = 0, {}
    for model_type, names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        name = names if isinstance(names, str) else names[0]
        try:
            config = transformers.AutoConfig.for_model(model_type)
            with torch.device("meta"):
                network = transformers.AutoModelForCausalLM.from_config(config)
        except Exception:
            continue
        values = config.to_dict() | {"architectures": [name], "model_type": model_type}
        try:
            model = architecture_from_hf_config(values, model_id=model_type)
        except InputError:
            continue
        answered += 1
        counted = sum(parameter.numel() for parameter in network.parameters())
        if (
            abs(parameter_count(model) / counted - 1) > 0.01
            and model_type not in MORE_THAN_THE_LANGUAGE_MODEL
        ):
            wrong[model_type] = (parameter_count(model), counted)
    assert wrong == {}
    assert answered >= 100


def test_every_published_configuration_is_answered_or_refused_in_one_line():
    folder = package_folder("aiconfigurator_core") / "model_configs"
    refused = []
    for file in sorted(folder.glob("*_config.json")):
        if file.name.endswith("hf_quant_config.json"):
            continue
        config = json.loads(file.read_text(encoding="utf-8"))
        try:
            model = architecture_from_hf_config(config, model_id=file.name, where=file.name)
        except InputError as error:
            refused.append((file.name, str(error)))
            continue
        assert model.confidence == "high", file.name
    assert len(refused) <= 2
    assert all("\n" not in text for _, text in refused)
