"""Parameters counted from shapes equal the published counts, and the parts add up to the whole."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.catalog.models import architecture_from_shape, load_models, resolve_model
from llmco2.catalog.params import (
    active_parameter_count,
    attention_params_per_layer,
    bytes_read_per_token,
    kv_bytes_per_token,
    parameter_count,
    recurrent_params_per_layer,
    weight_bytes,
    weight_elements,
)
from llmco2.catalog.part_precisions import StoredPart
from llmco2.catalog.precisions import resolve_precision
from llmco2.catalog.stored import parts_under

# Published checkpoint sizes in elements.
PUBLISHED = {
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen1.5-7B": 7_721_324_544,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "google/gemma-2-9b": 9_241_705_984,
    "deepseek-ai/DeepSeek-V3": 671_026_419_200,
    "openai/gpt-oss-120b": 116_829_156_672,
    "EleutherAI/pythia-6.9b": 6_857_302_016,
    "bigcode/starcoder2-15b": 15_957_889_024,
    "state-spaces/mamba-2.8b-hf": 2_768_345_600,
    "ai21labs/Jamba-v0.1": 51_570_323_328,
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": 8_888_227_328,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": 79_674_391_296,
    "microsoft/Phi-3-small-8k-instruct": 7_392_272_384,
}


@pytest.mark.parametrize(("model_id", "published"), PUBLISHED.items())
def test_counts_equal_the_published_ones_exactly(model_id, published):
    assert parameter_count(load_models()[model_id]) == published


def test_every_row_with_a_stated_count_agrees_within_a_thousandth():
    stated = [model for model in load_models().values() if model.stated_params]
    assert len(stated) >= 150
    wrong = {
        model.model_id: parameter_count(model) / model.stated_params - 1
        for model in stated
        if abs(parameter_count(model) / model.stated_params - 1) > 1e-3
    }
    assert wrong == {}


def test_llama_2_7b_by_hand():
    model = load_models()["meta-llama/Llama-2-7b-hf"]
    parts = weight_elements(model)
    assert parts.embedding == parts.lm_head == 32_000 * 4096
    assert parts.attention == 32 * 4 * 4096 * 4096
    assert parts.dense_mlp == 32 * 3 * 4096 * 11_008
    assert parts.other == 65 * 4096  # two norms a layer and the last one
    assert parts.router == parts.experts == parts.shared_experts == parts.recurrent == 0


def test_grouped_query_attention_by_hand():
    qwen = load_models()["Qwen/Qwen2.5-7B"]  # 28 query heads, 4 key-value heads of 128
    assert attention_params_per_layer(qwen) == 3584 * (3584 + 2 * 512) + 3584 * 3584
    assert qwen.other_params == 57 * 3584 + 28 * (3584 + 2 * 512)  # norms, and Q, K, V biases


def test_latent_attention_by_hand():
    deepseek = load_models()["deepseek-ai/DeepSeek-V3"]
    query = 7168 * 1536 + 1536 * 128 * 192
    latent = 7168 * (512 + 64) + 512 * 128 * (128 + 128)
    assert attention_params_per_layer(deepseek) == query + latent + 128 * 128 * 7168


def test_mamba_2_layer_by_hand():
    nemotron = load_models()["nvidia/NVIDIA-Nemotron-Nano-9B-v2"]  # 128 heads of 80, 8 groups, state 128
    inner, conv = 10_240, 10_240 + 2 * 8 * 128
    assert nemotron.recurrent_in_dim == 2 * inner + 2 * 8 * 128 + 128
    assert nemotron.recurrent_state_elements == 128 * 80 * 128
    assert recurrent_params_per_layer(nemotron) == 4480 * (nemotron.recurrent_in_dim + inner) + 4 * conv


def test_active_parameters_of_mixtures():
    models = load_models()
    mixtral = models["mistralai/Mixtral-8x7B-v0.1"]
    assert active_parameter_count(mixtral) == 46_702_792_704 - 32 * 6 * 3 * 4096 * 14_336
    assert active_parameter_count(models["deepseek-ai/DeepSeek-V3"]) == pytest.approx(37.5e9, rel=0.01)
    assert active_parameter_count(models["Qwen/Qwen3-235B-A22B"]) == pytest.approx(22.2e9, rel=0.01)
    super_120b = models["nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"]  # experts in a latent space
    assert parameter_count(super_120b) == pytest.approx(120.6e9, rel=0.01)
    assert active_parameter_count(super_120b) == pytest.approx(12.7e9, rel=0.01)


def test_dense_models_are_active_in_full_and_parts_add_up():
    for model in load_models().values():
        parts = weight_elements(model)
        assert sum(dataclasses.astuple(parts)) == parts.total == parameter_count(model)
        assert active_parameter_count(model) <= parameter_count(model)
        if not model.n_moe_layers:
            assert active_parameter_count(model) == parameter_count(model)


@given(
    hidden=st.integers(1, 64).map(lambda n: 64 * n),
    layers=st.integers(1, 120),
    ffn=st.integers(1, 50_000),
    vocab=st.integers(1, 300_000),
)
def test_more_layers_and_wider_layers_have_more_parameters(hidden, layers, ffn, vocab):
    def count(**changes):
        shape = {"hidden_dim": hidden, "n_layers": layers, "n_heads": 4, "ffn_dim": ffn, "vocab_size": vocab}
        return parameter_count(architecture_from_shape(**(shape | changes)))

    base = count()
    assert count(n_layers=layers + 1) - base == 4 * hidden**2 + 3 * hidden * ffn + 2 * hidden
    assert count(ffn_dim=ffn + 1) - base == 3 * layers * hidden
    assert base - count(tied_embeddings=True) == vocab * hidden
    assert base - count(gated_mlp=False) == layers * hidden * ffn


def bytes_under(model, precision):
    return weight_bytes(model, parts_under(model, resolve_precision(precision)))


def test_weight_bytes_by_format():
    llama = load_models()["meta-llama/Llama-3.1-70B"]
    assert bytes_under(llama, "bf16") == 2 * parameter_count(llama)
    assert bytes_under(llama, "fp32") == 4 * parameter_count(llama)
    parts = weight_elements(llama)
    kept = parts.embedding + parts.lm_head + parts.other
    assert bytes_under(llama, "fp8") == parameter_count(llama) + kept
    # published safetensors of gpt-oss-120b: 65.2 GB, experts in MXFP4 and the rest in bf16
    assert bytes_under(resolve_model("gpt-oss-120b"), "mxfp4") == pytest.approx(65.25e9, rel=0.002)
    # published AWQ checkpoints of Qwen2.5-7B: 5.57 GB
    assert bytes_under(resolve_model("Qwen/Qwen2.5-7B"), "awq") == pytest.approx(5.57e9, rel=0.01)


def test_a_token_reads_its_experts_the_head_and_one_row_of_the_table():
    mixtral = load_models()["mistralai/Mixtral-8x7B-v0.1"]
    parts = dataclasses.replace(
        parts_under(mixtral, resolve_precision("bf16")),
        experts=StoredPart(precision="int4", weight_bytes_per_element=0.5),
    )
    elements = weight_elements(mixtral)
    rest = elements.total - elements.experts - elements.embedding
    assert bytes_read_per_token(mixtral, parts) == 2 * rest + 2 * 4096 + 0.5 * elements.experts * 2 / 8
    gemma = load_models()["google/gemma-2-9b"]  # the table is the head
    wide = parts_under(gemma, resolve_precision("bf16"))
    assert bytes_read_per_token(gemma, wide) == 2 * parameter_count(gemma) + 2 * gemma.hidden_dim


def test_cache_bytes_per_token():
    models = load_models()
    assert kv_bytes_per_token(models["meta-llama/Llama-3.1-8B"], 2.0) == 32 * 2 * 8 * 128 * 2
    assert kv_bytes_per_token(models["deepseek-ai/DeepSeek-V3"], 1.0) == 61 * (512 + 64)
