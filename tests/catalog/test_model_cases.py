"""Configurations of published models and of what is no generator: the right size, or a refusal in one line.

``cases/configurations.jsonl`` holds one reduced configuration a line, with the published figure or that of the model's
own class on the meta device.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.catalog import hf_transformers
from llmco2.catalog.hf_config import architecture_from_hf_config
from llmco2.catalog.models import resolve_model
from llmco2.catalog.params import bytes_read_per_token, kv_bytes_per_token, parameter_count, weight_bytes
from llmco2.catalog.stored import stored_parts
from llmco2.cli.model_facts import touched_parameters
from llmco2.errors import FileFormatError, InputError
from tests.catalog.test_quantisation import NONSENSE, exchanged, places

FILE = Path(__file__).parent / "cases" / "configurations.jsonl"
CASES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
FIGURES = {
    "total_parameters": parameter_count,
    "active_parameters": touched_parameters,
    "weight_bytes": lambda model: weight_bytes(model, stored_parts(model)),
    "bytes_read_per_token": lambda model: bytes_read_per_token(model, stored_parts(model)),
    "kv_bytes_per_token": lambda model: kv_bytes_per_token(model, 2.0),
}
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
UNKNOWN = LLAMA | {"model_type": "brandnew", "architectures": ["BrandNewForCausalLM"]}


def named(*, refused):
    return [pytest.param(c, id=c["name"]) for c in CASES if c["expected"].get("refuse", False) is refused]


@pytest.fixture
def without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)


@pytest.mark.parametrize("case", named(refused=False))
@pytest.mark.usefixtures("without_transformers")
def test_a_published_configuration_has_its_size(case):
    model = architecture_from_hf_config(case["config"], model_id=case["name"])
    expected = {key: value for key, value in case["expected"].items() if key in FIGURES}
    assert {key: FIGURES[key](model) for key in expected} == pytest.approx(
        expected, rel=case["expected"]["tol"]
    )
    assert (model.confidence, model.assumptions) == ("high", ())


@pytest.mark.parametrize("case", named(refused=True))
@pytest.mark.usefixtures("without_transformers")
def test_what_generates_no_text_or_is_not_understood_is_refused_in_one_line(case):
    with pytest.raises(FileFormatError) as caught:
        architecture_from_hf_config(case["config"], model_id=case["name"])
    assert "\n" not in str(caught.value)


def test_an_unknown_type_says_what_it_was_taken_for_with_and_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    alone = architecture_from_hf_config(UNKNOWN, model_id="x")
    assert alone.assumptions == (
        "model type 'brandnew' is not known here and is read as a Llama-like decoder of 8.03B parameters",
    )
    facts = hf_transformers.ClassFacts(values=UNKNOWN, n_parameters=8_030_261_248, source="transformers 9.9")
    monkeypatch.setattr("llmco2.catalog.hf_config.class_facts", lambda _: facts)
    counted = architecture_from_hf_config(UNKNOWN, model_id="x")
    assert "transformers 9.9 counts 8.03B parameters" in counted.assumptions[0]
    other = dataclasses.replace(facts, n_parameters=9_000_000_000)
    monkeypatch.setattr("llmco2.catalog.hf_config.class_facts", lambda _: other)
    with pytest.raises(
        FileFormatError, match=r"8\.03B parameters as a Llama-like decoder, 9B in transformers"
    ):
        architecture_from_hf_config(UNKNOWN, model_id="x")


def test_a_folder_of_a_sentence_embedder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert parameter_count(resolve_model(tmp_path)) == 8_030_261_248
    (tmp_path / "config_sentence_transformers.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileFormatError, match="embeds texts"):
        resolve_model(tmp_path)


def test_two_widths_of_attention_are_two_kinds_of_layers():
    (case,) = (c for c in CASES if c["name"] == "gemma-4-26B-A4B")
    model = architecture_from_hf_config(case["config"], model_id="x")
    assert (model.n_full_attention_layers, model.n_kv_heads, model.head_dim) == (5, 2, 512)
    assert (model.n_sliding_attention_layers, model.sliding_n_kv_heads, model.sliding_head_dim) == (
        25,
        8,
        256,
    )
    assert (model.n_dense_mlp_layers, model.n_moe_layers) == (30, 30)  # side by side


def test_experts_beside_an_mlp_are_not_what_a_record_calls_mlp():
    (case,) = (c for c in CASES if c["name"] == "gemma-4-26B-A4B")
    weights = {"num_bits": 4, "type": "float", "group_size": 16}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": weights}
    ignore = [f"model.language_model.layers.{i}.mlp*" for i in range(30)]
    record = {"quant_method": "modelopt", "config_groups": {"group_0": group}, "ignore": ignore}
    parts = stored_parts(
        architecture_from_hf_config(case["config"] | {"quantization_config": record}, model_id="x")
    )
    assert (parts.dense_mlp.text, parts.experts.text) == ("bf16", "nvfp4")


def test_linear_attention_that_goes_by_the_name_of_attention_stays_at_16_bit_with_it():
    (case,) = (c for c in CASES if c["name"] == "latent-moe-kimi-k3")
    parts = stored_parts(architecture_from_hf_config(case["config"], model_id="x"))
    assert (parts.attention.text, parts.recurrent.text, parts.experts.text) == ("bf16", "bf16", "mxfp4")


def test_expert_types_of_a_file_without_a_record_of_modules():
    (case,) = (c for c in CASES if c["name"] == "DeepSeek-V4-Flash")
    parts = stored_parts(architecture_from_hf_config(case["config"], model_id="x"))
    assert (parts.experts.text, parts.attention.text) == ("mxfp4-w4a8", "fp8-block")


@pytest.mark.parametrize(
    "changes",
    [
        {"moe_num_experts": 8},
        {"num_key_value_heads_per_layer": [4] * 32},
        {"cross_attention_layers": [3]},
        {"attn_type_list": [1, 0] * 16},
        {"block_types": ["recurrent", "attention"]},
        {"routed_expert_hidden_size": 512},
        {"linear_attn_config": {"num_heads": 32}},
        {"num_attention_groups": 8},
        {"sparse_attention_config": {"sparse_topk_blocks": 16}},
        {"model_type": "qwen3", "mamba_d_state": 16},
        {"model_type": "mistral", "hidden_size_per_layer_input": 256},
        {"model_type": "opt", "word_embed_proj_dim": 512, "ffn_dim": 16384, "max_position_embeddings": 2048},
    ],
)
def test_a_known_type_with_the_key_of_another_mechanism_is_refused(changes):
    config = LLAMA | changes
    with pytest.raises(FileFormatError, match=r"is not known with such layers|narrower than the layers"):
        architecture_from_hf_config(config, model_id="x")


def test_a_list_that_says_that_all_layers_are_plain_changes_nothing():
    plain = architecture_from_hf_config(LLAMA, model_id="x")
    assert architecture_from_hf_config(LLAMA | {"attn_type_list": [1] * 32}, model_id="x") == plain
    for nothing in ({"moe_num_experts": 0}, {"cross_attention_layers": []}, {"lru_width": None}):
        assert architecture_from_hf_config(LLAMA | nothing, model_id="x") == plain


ANSWERED = [case["config"] for case in CASES if not case["expected"].get("refuse")]


@given(data=st.data(), new=NONSENSE)
def test_a_configuration_with_any_value_exchanged_is_read_or_refused_in_one_line(data, new):
    config = data.draw(st.sampled_from(ANSWERED))
    path = data.draw(st.sampled_from(list(places(config))))
    said = ""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "transformers", None)
        try:
            model = architecture_from_hf_config(exchanged(config, path, new), model_id="x")
        except InputError as error:
            said = str(error)
        else:
            assert weight_bytes(model, stored_parts(model)) > 0
    assert "\n" not in said
