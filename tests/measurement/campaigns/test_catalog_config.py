"""Where no config.json is on the machine, the catalog's shape makes the model's config, or says why it cannot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from llmco2.catalog.hf_config import architecture_from_hf_config
from llmco2.catalog.models import load_models, resolve_model
from llmco2.catalog.params import parameter_count
from llmco2.errors import UnknownNameError
from llmco2.measurement.workloads import config_keys, model_loading
from llmco2.measurement.workloads.catalog_config import check_size, config_from_catalog, first_difference
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import WorkloadError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'llmco2[measure]'")

from llmco2.measurement.workloads.transformers_workload import TransformersWorkload  # noqa: E402

pytestmark = pytest.mark.usefixtures("quiet_transformers")
CAMPAIGNS = Path(__file__).parents[3] / "datasets" / "campaigns"
PHASES = [
    model
    for name in ("phases.yaml", "recurrent.yaml")
    for model in yaml.safe_load((CAMPAIGNS / name).read_text(encoding="utf-8"))["focused"]["grid"]["model"]
]
# Lineages that run code of their own, which transformers does not carry, those that no Lineage writes a config for,
# and one whose experts' width is unknown.
REFUSED = {
    "BAAI/Aquila-7B",
    "Deci/DeciLM-7B",
    "EleutherAI/gpt-neo-1.3B",
    "EleutherAI/gpt-neo-125m",
    "EleutherAI/gpt-neo-2.7B",
    "LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct",
    "LGAI-EXAONE/EXAONE-3.5-32B-Instruct",
    "LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct",
    "LGAI-EXAONE/EXAONE-4.0-1.2B",
    "LGAI-EXAONE/K-EXAONE-236B-A23B",
    "LiquidAI/LFM2-1.2B",
    "LiquidAI/LFM2-2.6B",
    "LiquidAI/LFM2-350M",
    "LiquidAI/LFM2-700M",
    "LiquidAI/LFM2-8B-A1B",
    "MiniMaxAI/MiniMax-Text-01",
    "Salesforce/codegen-16B-mono",
    "Salesforce/codegen-2B-mono",
    "Salesforce/codegen-350M-mono",
    "Salesforce/codegen-6B-mono",
    "Snowflake/snowflake-arctic-instruct",
    "arcee-ai/AFM-4.5B",
    "baichuan-inc/Baichuan-13B-Base",
    "baichuan-inc/Baichuan-7B",
    "baichuan-inc/Baichuan2-13B-Base",
    "baichuan-inc/Baichuan2-7B-Base",
    "baidu/ERNIE-4.5-21B-A3B-PT",
    "baidu/ERNIE-4.5-300B-A47B-PT",
    "bigcode/gpt_bigcode-santacoder",
    "bigcode/starcoder",
    "bigcode/starcoderbase-1b",
    "bigcode/starcoderbase-3b",
    "bigcode/starcoderbase-7b",
    "bigcode/tiny_starcoder_py",
    "deepseek-ai/deepseek-moe-16b-base",
    "facebook/chameleon-30b",
    "facebook/chameleon-7b",
    "google/recurrentgemma-2b",
    "google/recurrentgemma-9b",
    "ibm-granite/granite-20b-code-base",
    "ibm-granite/granite-34b-code-base",
    "ibm-granite/granite-4.0-h-1b",
    "ibm-granite/granite-4.0-h-350m",
    "ibm-granite/granite-4.0-h-micro",
    "ibm-granite/granite-4.0-h-small",
    "ibm-granite/granite-4.0-h-tiny",
    "inclusionAI/Ling-1T",
    "inclusionAI/Ling-flash-2.0",
    "inclusionAI/Ling-lite",
    "inclusionAI/Ling-mini-2.0",
    "internlm/internlm-20b",
    "internlm/internlm-7b",
    "internlm/internlm2-1_8b",
    "internlm/internlm2-20b",
    "internlm/internlm2-7b",
    "internlm/internlm2_5-7b-chat",
    "internlm/internlm3-8b-instruct",
    "microsoft/Phi-3-small-8k-instruct",
    "microsoft/Phi-tiny-MoE-instruct",
    "mistralai/Mistral-Large-3-675B-Base-2512",
    "moonshotai/Kimi-Linear-48B-A3B-Instruct",
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
    "openai-community/openai-gpt",
    "openbmb/MiniCPM-1B-sft-bf16",
    "openbmb/MiniCPM-2B-sft-bf16",
    "openbmb/MiniCPM3-4B",
    "rednote-hilab/dots.llm1.base",
    "state-spaces/mamba2-1.3b",
    "state-spaces/mamba2-130m",
    "state-spaces/mamba2-2.7b",
    "state-spaces/mamba2-370m",
    "state-spaces/mamba2-780m",
    "swiss-ai/Apertus-70B-2509",
    "swiss-ai/Apertus-8B-2509",
    "tencent/Hunyuan-0.5B-Instruct",
    "tencent/Hunyuan-1.8B-Instruct",
    "tencent/Hunyuan-7B-Instruct",
    "tencent/Hunyuan-A13B-Instruct",
    "tiiuae/Falcon-H1-0.5B-Instruct",
    "tiiuae/Falcon-H1-1.5B-Deep-Instruct",
    "tiiuae/Falcon-H1-1.5B-Instruct",
    "tiiuae/Falcon-H1-34B-Instruct",
    "tiiuae/Falcon-H1-7B-Instruct",
    "tiiuae/falcon-rw-1b",
    "xai-org/grok-1",
    "zai-org/GLM-4.7-Flash",
}
_TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 97,
    "max_position_embeddings": 256,
}
_LATENT = {"q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8}
_ROUTED = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1}
_MAMBA2 = {"mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2, "ssm_state_size": 4, "conv_kernel": 4}
TINY = {  # lineage: a tiny model of it, as its config.json would say it
    "llama": _TINY | {"model_type": "llama"},
    "gemma": _TINY | {"model_type": "gemma3_text", "sliding_window": 8},
    "falcon": _TINY | {"model_type": "falcon", "ffn_hidden_size": 48, "multi_query": True},
    "deepseek": {key: value for key, value in _TINY.items() if key != "head_dim"}
    | _LATENT
    | _ROUTED
    | {"model_type": "deepseek_v2", "num_key_value_heads": 4, "v_head_dim": 8, "moe_intermediate_size": 16},
    "mamba": {"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 97}
    | {"state_size": 4, "conv_kernel": 4, "expand": 2, "time_step_rank": 2},
    "nemotron": _TINY | _MAMBA2 | {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-M"},
}
PROMPT, OUTPUT, BATCH = 12, 5, 2


def built_parameters(config):
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def is_faithful(arch):
    config = config_from_catalog(arch)
    read = architecture_from_hf_config(config.to_dict(), model_id=arch.model_id)
    assert first_difference(arch, read) == ""
    # Score corrections of experts are no parameters there: one in ten million of a model.
    assert built_parameters(config) == pytest.approx(parameter_count(arch), rel=1e-6)
    assert parameter_count(arch) == pytest.approx(arch.stated_params or parameter_count(arch), rel=1e-3)


@pytest.mark.parametrize("name", PHASES)
def test_every_model_of_the_phases_campaign_is_rebuilt_to_the_parameter(name):
    is_faithful(resolve_model(name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers warns about its own defaults
@pytest.mark.parametrize("name", sorted(set(load_models()) - set(PHASES)))
def test_every_other_model_is_rebuilt_to_the_parameter_or_refused(name):
    if name in REFUSED:
        with pytest.raises(WorkloadError):
            config_from_catalog(load_models()[name])
    else:
        is_faithful(load_models()[name])


@pytest.mark.parametrize("name", ["baichuan-inc/Baichuan2-7B-Base", "microsoft/Phi-3-small-8k-instruct"])
def test_what_no_class_can_be_is_refused_in_one_line(name):
    with pytest.raises(WorkloadError, match=r"got .*, expected .*; set model_path") as caught:
        config_from_catalog(load_models()[name])
    assert caught.value.kind == "no_config"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("meta-llama/Llama-3.2-1B", "other_params", 67585),  # one more than its norms have
        ("meta-llama/Llama-3.2-1B", "n_sliding_attention_layers", 4),
        ("microsoft/phi-2", "head_dim", 64),  # its class divides the width among the heads
        ("microsoft/phi-2", "gated_mlp", True),
        ("bigscience/bloom-3b", "ffn_dim", 8192),  # its class has four times the width
        ("google/gemma-3-1b-it", "n_full_attention_layers", 13),
        ("state-spaces/mamba-2.8b-hf", "recurrent_in_dim", 10_945),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "recurrent_conv_dim", 12_289),
        ("Qwen/Qwen3-30B-A3B", "experts_per_token", 0),
    ],
)
def test_a_shape_that_its_class_cannot_have_is_never_bent_into_one(name, field, value):
    with pytest.raises(WorkloadError, match=f"of {name} does not make a transformers config"):
        config_from_catalog(dataclasses.replace(load_models()[name], **{field: value}))


def test_experts_at_a_latent_width_are_unfolded():
    config = config_from_catalog(load_models()["nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"])
    assert (config.moe_latent_size, config.moe_intermediate_size) == (1024, 2688)
    assert config.moe_shared_expert_intermediate_size == 5376


def test_the_kinds_of_a_hybrid_are_spread_over_its_depth():
    keys = config_keys.nemotron_h(load_models()["nvidia/NVIDIA-Nemotron-Nano-9B-v2"])
    pattern = keys["hybrid_override_pattern"]
    assert [pattern.count(letter) for letter in "M*-E"] == [27, 4, 25, 0]
    assert [pattern[first : first + 14].count("*") for first in range(0, 56, 14)] == [1, 1, 1, 1]
    assert (keys["mamba_num_heads"], keys["mamba_head_dim"]) == (128, 80)
    assert (keys["n_groups"], keys["ssm_state_size"]) == (8, 128)


class StillClock:
    def now_s(self):
        return 0.0

    def sleep(self, seconds):
        raise AssertionError("a workload never waits")


@pytest.fixture
def offline(monkeypatch):
    """Return a function that puts a tiny model of a lineage into the catalog, and on no disk."""

    def catalogued(lineage):
        read = architecture_from_hf_config(TINY[lineage], model_id="nowhere/tiny")
        arch = dataclasses.replace(read, family=lineage)

        def resolve(name):
            if name == arch.model_id:
                return arch
            raise UnknownNameError("model", name, [arch.model_id])

        monkeypatch.setattr(model_loading, "resolve_model", resolve)
        return arch

    return catalogued


def configuration(**changes):
    size = {"precision": "fp32", "batch_size": BATCH, "prompt_tokens": PROMPT, "output_tokens": OUTPUT}
    return RunConfiguration(**({"model": "nowhere/tiny"} | size | changes))


@pytest.mark.parametrize("static_cache", [False, True])
@pytest.mark.parametrize("lineage", TINY)
def test_a_model_without_a_config_here_runs_phase_by_phase_and_says_so(offline, lineage, static_cache):
    arch = offline(lineage)
    workload = TransformersWorkload(
        configuration(static_cache=static_cache), clock=StillClock(), device="cpu"
    )
    workload.load()
    built = sum(parameter.numel() for parameter in workload._model.parameters())
    assert built == parameter_count(arch)
    steps = []
    workload._model.register_forward_hook(
        lambda module, args, output: steps.append((args[0].shape[1], bool(output.logits.isfinite().all())))
    )
    workload.prefill(1)
    workload.decode(2)
    assert steps == [(PROMPT, True)] + [(1, True)] * 2 * (OUTPUT - 1)
    assert workload.step_time_batch1_s() == 0.0
    assert workload.facts.flags[0] == "config_from_catalog"
    assert workload.facts.notes[0].startswith("config of the catalog's shape")
    workload.close()


def test_a_config_on_the_machine_comes_first(offline, tmp_path):
    offline("llama")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(TINY["llama"] | {"num_hidden_layers": 3}))
    found = model_loading.load_config(configuration(model_path=str(file)))
    assert (found.config.num_hidden_layers, found.catalog) == (3, None)
    assert (found.flags, found.notes) == ((), ())
    assert model_loading.load_config(configuration()).config.num_hidden_layers == 6


def test_a_damaged_config_on_the_machine_is_not_papered_over(offline, tmp_path, monkeypatch):
    arch = offline("llama")
    cached = tmp_path / "models--nowhere--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    snapshot = cached / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert model_loading.load_config(configuration()).catalog == arch  # the folder is there, the file is not
    (snapshot / "config.json").write_text("{")
    with pytest.raises(WorkloadError, match="no usable config of 'nowhere/tiny'"):
        model_loading.load_config(configuration())
    (snapshot / "config.json").write_text(json.dumps(TINY["llama"] | {"num_hidden_layers": 3}))
    assert model_loading.load_config(configuration()).config.num_hidden_layers == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "checkpoint"},
        {"model_path": "no/such/folder"},
        {"model": "nowhere/unknown"},
        {"model": "a b"},
    ],
)
def test_the_catalog_stands_in_for_nothing_but_a_known_shape_with_random_weights(offline, changes):
    offline("llama")
    with pytest.raises(WorkloadError, match="no usable config") as caught:
        model_loading.load_config(configuration(**changes))
    assert caught.value.kind == "no_config"


def test_a_class_that_builds_another_size_is_refused(offline):
    arch = offline("llama")
    found = model_loading.load_config(configuration())
    found.config.intermediate_size += 8  # as a release would whose class rounds its widths up
    # Tables 2 x 97 x 32; a layer 3,072 of attention, 4,608 of MLP and 64 of norms; the last norm 32.
    with pytest.raises(WorkloadError, match="got 57,312 parameters, expected 52,704") as caught:
        model_loading.load_model(configuration(), found, torch.device("cpu"))
    assert caught.value.kind == "no_config"
    check_size(transformers.AutoModelForCausalLM.from_config(config_from_catalog(arch)), arch)
