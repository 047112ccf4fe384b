"""Names as people, tools and providers write them, and what lies at a path, are the model that is meant."""

from __future__ import annotations

import dataclasses
import json

import pytest

from llmco2.catalog.models import load_models, load_parts, resolve_model
from llmco2.catalog.params import parameter_count
from llmco2.catalog.provider_names import provider_name
from llmco2.catalog.stored import stored_parts
from llmco2.errors import FileFormatError, UnknownNameError

TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 128,
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("written", "hub"),
    [
        ("us.meta.llama3-3-70b-instruct-v1:0", "llama3.3-70b-instruct"),
        ("mistral.mistral-7b-instruct-v0:2", "mistral-7b-instruct-v0.2"),
        ("openai.gpt-oss-120b-1:0", "gpt-oss-120b"),
        ("deepseek.r1-v1:0", "deepseek-r1"),
        ("ai21.jamba-1-5-large-v1:0", "AI21-jamba-1.5-large"),
        ("bedrock/eu.meta.llama3-1-8b-instruct-v1:0", "llama3.1-8b-instruct"),
        (
            "publishers/meta/models/llama-3.1-405b-instruct-maas",
            "publishers/meta/models/llama-3.1-405b-instruct",
        ),
        ("gemma-3-27b-it@001", "gemma-3-27b-it"),
        ("openai/gpt-oss-120b:nitro", "openai/gpt-oss-120b"),
        (
            "accounts/fireworks/models/llama-v3p1-70b-instruct",
            "accounts/fireworks/models/llama-3.1-70b-instruct",
        ),
        ("https://huggingface.co/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("groq/llama-3.3-70b-versatile", "groq/llama-3.3-70b"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_what_a_provider_adds_is_taken_off(written, hub):
    assert provider_name(written).name == hub
    assert provider_name(written).precision == ""


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("qwen/qwen3-coder", "Qwen/Qwen3-Coder-480B-A35B-Instruct"),
        ("qwen3-coder", "Qwen/Qwen3-30B-A3B"),  # Ollama's
        ("us.meta.llama3-3-70b-instruct-v1:0", "meta-llama/Llama-3.1-70B"),
        ("meta.llama4-maverick-17b-instruct-v1:0", "meta-llama/Llama-4-Maverick-17B-128E-Instruct"),
        ("ai21.jamba-1-5-large-v1:0", "ai21labs/AI21-Jamba-1.5-Large"),
        ("cohere.command-r-plus-v1:0", "CohereForAI/c4ai-command-r-plus"),
        ("meta-llama/llama-3.3-70b-instruct:free", "meta-llama/Llama-3.1-70B"),
        ("vertex_ai/meta/llama-3.1-405b-instruct-maas", "meta-llama/Llama-3.1-405B"),
        ("moonshotai/kimi-k2-0905:exacto", "moonshotai/Kimi-K2-Instruct"),
    ],
)
def test_provider_names_resolve(name, model_id):
    assert resolve_model(name).model_id == model_id


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("mistralai/Mistral-Large-3-675B-Instruct-2512", "fp8"),
        ("mistralai/Mistral-Large-3-675B-Base-2512", "bf16"),
        ("mistralai/Ministral-3-8B-Instruct-2512", "fp8"),
        ("mistralai/Ministral-3-8B-Reasoning-2512", "bf16"),
        ("mistralai/Devstral-2-123B-Instruct-2512", "fp8"),
        ("mistralai/Devstral-Small-2-24B-Instruct-2512", "fp8"),
        ("llama3.1:8b", "int4"),
        ("ollama/llama3.1:70b", "int4"),
        ("llama3.1:8b-instruct-q8_0", "int8-w8a16"),
        ("llama3.1:8b-instruct-fp16", "fp16"),
        ("gpt-oss:20b", "mxfp4"),
        ("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "fp8"),
    ],
)
def test_a_name_means_the_format_that_it_is_published_or_served_in(name, precision):
    assert resolve_model(name).checkpoint_precision == precision


def test_a_format_that_no_name_says_is_said():
    assert resolve_model("llama3.1:8b").assumptions == ("an Ollama tag without a format is Q4_K_M",)
    assert resolve_model("llama3.1:8b-instruct-q4_K_M").assumptions == ()


def test_a_model_that_shares_a_shape_keeps_its_own_name():
    title = resolve_model("meta-llama/Llama-3.3-70B-Instruct").title
    assert title == "meta-llama/Llama-3.3-70B-Instruct (shape of meta-llama/Llama-3.1-70B)"
    assert resolve_model("meta-llama/Llama-3.1-70B-Instruct").title == "meta-llama/Llama-3.1-70B"


def test_an_fp8_cache_is_in_the_name():
    parts = stored_parts(resolve_model("amd/Llama-3.1-70B-Instruct-FP8-KV"))
    assert (parts.dense_mlp.precision, parts.attention.precision, parts.kv_cache) == ("fp8", "fp8", "fp8")
    assert stored_parts(resolve_model("Qwen/Qwen3-32B-FP8")).kv_cache == ""


def test_published_four_bit_mixtures_have_their_parts_by_name():
    kimi = stored_parts(resolve_model("moonshotai/Kimi-K2-Thinking"))
    assert (kimi.experts.text, kimi.attention.text, kimi.shared_experts.text) == ("int4", "bf16", "bf16")
    glm = stored_parts(resolve_model("nvidia/GLM-5.1-NVFP4"))
    assert (glm.experts.text, glm.attention.text, glm.kv_cache) == ("nvfp4", "bf16", "fp8")
    assert (
        stored_parts(resolve_model("moonshotai/Kimi-K3-FP8")).experts.text == "fp8"
    )  # not of that checkpoint


def test_every_row_of_parts_names_formats_that_are_known():
    assert len(load_parts()) >= 30
    for precision, parts in load_parts().values():
        assert precision in {parts.experts.precision, parts.dense_mlp.precision, parts.attention.precision}
        assert 0.5 < parts.attention.weight_bytes_per_element <= 2.0


@pytest.mark.parametrize(
    "name", ["llama-5-70b", "Falcon-70B", "qwen4-72b", "Yi-70B", "meta-llama/Llama-9-70B"]
)
def test_no_model_of_another_family_or_a_tenth_of_the_size_is_suggested(name):
    with pytest.raises(UnknownNameError) as caught:
        resolve_model(name)
    for suggestion in caught.value.suggestions:
        model = next(m for key, m in load_models().items() if key.endswith("/" + suggestion))
        assert model.family in name.casefold()
        assert 20e9 < parameter_count(model) < 220e9


def test_a_folder_that_is_there_wins_over_a_name_and_says_so(here):
    write(here / "models" / "Qwen3-32B", "config.json", TINY)
    model = resolve_model("models/Qwen3-32B")
    assert parameter_count(model) < 1_000_000
    assert "is a folder here" in model.assumptions[0]
    assert parameter_count(resolve_model("Qwen3-32B")) > 30e9
    (here / "gpt2").mkdir()  # without a configuration
    assert resolve_model("gpt2").model_id == "openai-community/gpt2"


def test_an_adapter_answers_with_its_base(here):
    adapter = {"base_model_name_or_path": "meta-llama/Llama-3.1-8B", "r": 16}
    model = resolve_model(str(write(here / "my-lora", "adapter_config.json", adapter)))
    assert model.model_id == "meta-llama/Llama-3.1-8B"
    assert "my-lora is a LoRA adapter: its base meta-llama/Llama-3.1-8B" in model.assumptions[0]
    assert dataclasses.replace(resolve_model("my-lora"), assumptions=()) == dataclasses.replace(
        model, assumptions=()
    )


@pytest.mark.parametrize(
    ("adapter", "message"),
    [({}, "names no base model"), ({"base_model_name_or_path": "."}, "own folder|cannot read")],
)
def test_an_adapter_without_a_base_is_refused(here, adapter, message):
    folder = write(here / "lora", "adapter_config.json", adapter)
    with pytest.raises(FileFormatError, match=message):
        resolve_model(folder)


def test_a_gguf_file_is_refused_in_plain_words(here):
    (here / "llama-3.1-8b.Q4_K_M.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    for path in ("llama-3.1-8b.Q4_K_M.gguf", "./llama-3.1-8b.Q4_K_M.gguf", str(here)):
        with pytest.raises(FileFormatError, match=r"holds GGUF weights.*or its name") as caught:
            resolve_model(path)
        assert "\n" not in str(caught.value)
