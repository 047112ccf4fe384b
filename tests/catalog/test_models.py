"""Any spelling of a model's name finds its architecture; a wrong one is answered with the nearest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.catalog import model_names, tables, uncovered
from llmco2.catalog.models import ALIAS_COLUMNS, architecture_from_shape, load_models, resolve_model
from llmco2.catalog.precisions import resolve_precision
from llmco2.errors import FileFormatError, InputError, UnknownNameError


@pytest.mark.parametrize(
    ("name", "model_id", "precision"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B", "bf16"),
        ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B", "bf16"),
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B", "bf16"),
        ("llama3.1:8b", "meta-llama/Llama-3.1-8B", "int4"),
        ("meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-hf", "fp16"),
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.1-70B", "bf16"),
        ("lmsys/vicuna-13b-v1.5", "meta-llama/Llama-2-13b-hf", "fp16"),
        ("Qwen/Qwen3-32B-FP8", "Qwen/Qwen3-32B", "fp8"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "Qwen/Qwen3-30B-A3B", "fp8"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B", "int4"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B", "int4"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "Qwen/Qwen2.5-7B", "int8-w8a16"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "meta-llama/Llama-3.1-8B", "fp8-channel"),
        ("neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w8a8", "meta-llama/Llama-3.1-70B", "int8"),
        ("neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w4a16", "meta-llama/Llama-3.1-70B", "int4"),
        ("TheBloke/Mixtral-8x7B-Instruct-v0.1-GPTQ", "mistralai/Mixtral-8x7B-v0.1", "int4"),
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "meta-llama/Llama-3.2-1B", "nf4"),
        ("nvidia/DeepSeek-R1-NVFP4", "deepseek-ai/DeepSeek-V3", "nvfp4"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-V3", "fp8"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "Qwen/Qwen2.5-32B", "bf16"),
        ("gpt-oss-120b", "openai/gpt-oss-120b", "mxfp4"),
        ("moonshotai/Kimi-K2-Thinking", "moonshotai/Kimi-K2-Instruct", "int4"),
        ("Qwen/Qwen3-VL-32B-Thinking", "Qwen/Qwen3-32B", "bf16"),
        ("google/gemma-2-9b-it", "google/gemma-2-9b", "bf16"),
        ("EleutherAI/pythia-2.8b-deduped", "EleutherAI/pythia-2.8b", "fp16"),
        ("facebook/opt-13b", "facebook/opt-13b", "fp16"),
        ("THUDM/chatglm3-6b", "zai-org/chatglm3-6b", "fp16"),
        ("HuggingFaceTB/SmolLM-360M-Instruct", "HuggingFaceTB/SmolLM2-360M", "bf16"),
        ("CohereLabs/aya-23-35B", "CohereForAI/c4ai-command-r-v01", "bf16"),
        ("ibm-granite/granite-3.3-8b-instruct", "ibm-granite/granite-3.1-8b-instruct", "bf16"),
        ("bigcode/starcoderbase", "bigcode/starcoder", "fp32"),
        ("deepseek-ai/deepseek-moe-16b-chat", "deepseek-ai/deepseek-moe-16b-base", "bf16"),
        ("Qwen/Qwen-7B-Chat", "Qwen/Qwen1.5-7B", "bf16"),
        ("deepseek-r1:14b", "Qwen/Qwen2.5-14B", "int4"),
        ("llama3.2", "meta-llama/Llama-3.2-3B", "bf16"),
        ("gemma2:9b", "google/gemma-2-9b", "int4"),
        ("phi3:mini", "microsoft/Phi-3-mini-4k-instruct", "int4"),
        ("starcoder:3b", "bigcode/starcoderbase-3b", "int4"),
        ("granite-code:20b", "ibm-granite/granite-20b-code-base", "int4"),
        ("WizardLM/WizardLM-13B-V1.2", "meta-llama/Llama-2-13b-hf", "fp16"),
        ("openchat/openchat-3.5-0106", "mistralai/Mistral-7B-v0.1", "bf16"),
        ("mlx-community/Llama-3.2-3B-Instruct-4bit", "meta-llama/Llama-3.2-3B", "int4"),
        ("bartowski/Llama-3.2-3B-Instruct-GGUF", "meta-llama/Llama-3.2-3B", "int4"),
        ("google/gemma-3-27b-it-qat-q4_0-gguf", "google/gemma-3-27b-it", "int4"),
        ("ISTA-DASLab/gemma-3-27b-it-GPTQ-4b-128g", "google/gemma-3-27b-it", "int4"),
        ("facebook/opt-1.3b", "facebook/opt-1.3b", "fp16"),
    ],
)
def test_names_people_use(name, model_id, precision):
    model = resolve_model(name)
    assert (model.model_id, model.checkpoint_precision) == (model_id, precision)


def test_every_id_finds_its_own_row_with_and_without_organisation():
    for model_id, model in load_models().items():
        assert resolve_model(model_id) is model
        assert resolve_model(model_id.rsplit("/", 1)[-1].upper()) == model, model_id


def test_every_alias_finds_the_row_it_names():
    rows = tables.read_table("model_aliases.csv", ALIAS_COLUMNS)
    for row in rows:
        model = resolve_model(row["alias"])
        assert model.model_id == row["model_id"], row["alias"]
        if row["checkpoint_precision"]:
            assert model.checkpoint_precision in {row["checkpoint_precision"], "int4"}  # of an Ollama tag


def test_no_two_rows_fold_to_one_key():
    keys = [model_names.folded(model_id) for model_id in load_models()]
    assert len(keys) == len(set(keys))


def test_a_decimal_point_or_a_dash_between_digits_is_kept():
    assert len({model_names.folded(name) for name in ("opt-1.3b", "opt-13b", "opt-1-3b")}) == 3
    assert model_names.folded("Llama-3-8B") == model_names.folded("llama3:8b") == "llama3-8b"


@given(data=st.data())
def test_case_organisation_and_underscores_never_matter(data):
    model_id = data.draw(st.sampled_from(sorted(load_models())))
    bare = model_id.rsplit("/", 1)[-1]
    mangled = "".join(data.draw(st.sampled_from([c.lower(), c.upper()])) for c in bare).replace("-", "_")
    prefix = data.draw(st.sampled_from(["", "someone/", "mirror.example/cache/"]))
    assert resolve_model(prefix + mangled).model_id == model_id


@given(data=st.data())
def test_a_quantised_suffix_sets_the_precision_and_nothing_else(data):
    model = load_models()[data.draw(st.sampled_from(sorted(load_models())))]
    suffix, precision = data.draw(
        st.sampled_from(
            [("-FP8", "fp8"), ("-AWQ", "int4"), ("-GPTQ", "int4"), ("-NVFP4", "nvfp4"), ("-bnb-4bit", "nf4")]
        )
    )
    variant = resolve_model(model.model_id + suffix)
    assert variant.checkpoint_precision == precision
    assert (variant.model_id, variant.n_heads, variant.other_params) == (
        model.model_id,
        model.n_heads,
        model.other_params,
    )


@pytest.mark.parametrize(
    ("typo", "nearest"), [("gtp2", "gpt2"), ("Qwen3-31B", "Qwen3-32B"), ("mixtrl-8x7b", "Mixtral-8x7B-v0.1")]
)
def test_a_typo_is_answered_with_the_nearest(typo, nearest):
    with pytest.raises(UnknownNameError, match=f"did you mean .*{nearest}") as caught:
        resolve_model(typo)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("google/flan-t5-xxl", "it is an encoder-decoder: only decoder-only language models are covered"),
        ("facebook/bart-large-cnn", "it is an encoder-decoder"),
        ("bert-base-uncased", "it is an encoder: only decoder-only language models are covered"),
        ("FacebookAI/roberta-large", "it is an encoder:"),
        ("sentence-transformers/all-MiniLM-L6-v2", "it is an encoder:"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "it generates no text"),
        ("gpt-4o", "it has no published shape"),
        ("RWKV/rwkv-4-7b-pile", "it has layers that no row of the catalog can describe"),
        ("apple/OpenELM-3B", "it has layers of several widths"),
        ("Qwen/Qwen3-Embedding-8B", "it embeds texts and generates none"),
        ("Qwen/Qwen3-Reranker-4B", "it ranks texts and generates none"),
        ("nvidia/Llama-3.1-Nemotron-70B-Reward-HF", "it gives scores and generates no text"),
        ("yuhuili/EAGLE3-LLaMA3.1-Instruct-8B", "it drafts tokens for another model"),
        ("mistral-7b-instruct-v0.2.Q5_K_M.gguf", "weights of 2, 3, 5 or 6 bits; give the plain name"),
        ("llama3.1:8b-instruct-q6_K", "weights of 2, 3, 5 or 6 bits"),
    ],
)
def test_a_model_of_another_kind_is_refused_for_what_it_is(name, reason):
    with pytest.raises(UnknownNameError, match=reason) as caught:
        resolve_model(name)
    assert "did you mean" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_row_and_no_alias_is_a_name_that_would_be_refused_by_its_kind():
    names = [*load_models(), *(row["alias"] for row in tables.read_table("model_aliases.csv", ALIAS_COLUMNS))]
    for why in (uncovered.why_no_model, uncovered.why_no_generator):
        assert {name: why(name) for name in names if why(name)} == {}


@given(st.text(max_size=60))
def test_any_text_resolves_or_is_refused_in_one_line(name):
    said = None
    try:
        resolve_model(name)
    except InputError as error:
        said = str(error)
    assert said is None or len(said.splitlines()) == 1


def test_every_row_is_a_complete_decoder_with_a_source():
    for model in load_models().values():
        mixers = model.n_attention_layers + model.n_recurrent_layers
        blocks = model.n_dense_mlp_layers + model.n_moe_layers
        assert mixers > 0, model.model_id
        side_by_side = model.n_attention_layers == model.n_recurrent_layers == blocks
        side_by_side |= model.n_dense_mlp_layers == model.n_moe_layers == mixers  # experts beside an MLP
        side_by_side |= model.family == "longcat"
        assert blocks in {0, mixers} or side_by_side or "Nemotron" in model.model_id, model.model_id
        assert resolve_precision(model.checkpoint_precision).name == model.checkpoint_precision
        assert model.family, model.model_id
        assert model.source, model.model_id
        assert model.confidence in {"high", "medium", "low"}, model.model_id
        assert len(model.retrieved) == len("2026-11-22"), model.model_id
        if model.n_attention_layers:
            assert model.n_heads % model.n_kv_heads == 0, model.model_id
        if model.n_moe_layers:
            assert 0 < model.experts_per_token <= model.n_experts, model.model_id
        assert bool(model.n_sliding_attention_layers) == bool(model.sliding_window_tokens), model.model_id


def test_layer_kinds_of_known_hybrids():
    models = load_models()
    gemma3 = models["google/gemma-3-27b-it"]
    assert (gemma3.n_full_attention_layers, gemma3.n_sliding_attention_layers) == (10, 52)
    oss = models["openai/gpt-oss-120b"]
    assert (oss.n_sliding_attention_layers, oss.sliding_window_tokens, oss.n_moe_layers) == (18, 128, 36)
    maverick = models["meta-llama/Llama-4-Maverick-17B-128E-Instruct"]
    assert (maverick.n_dense_mlp_layers, maverick.n_moe_layers, maverick.ffn_dim) == (24, 24, 16_384)
    qwen_next = models["Qwen/Qwen3-Next-80B-A3B-Instruct"]
    assert (qwen_next.n_full_attention_layers, qwen_next.n_recurrent_layers) == (12, 36)
    assert qwen_next.gated_attention_output
    nano = models["nvidia/NVIDIA-Nemotron-Nano-12B-v2"]
    assert (nano.n_full_attention_layers, nano.n_recurrent_layers, nano.n_dense_mlp_layers) == (6, 28, 28)


def test_a_shape_alone_makes_an_architecture():
    llama = load_models()["meta-llama/Llama-3.1-8B"]
    made = architecture_from_shape(
        hidden_dim=4096, n_layers=32, n_heads=32, n_kv_heads=8, ffn_dim=14_336, vocab_size=128_256
    )
    for name in (
        "hidden_dim",
        "n_full_attention_layers",
        "head_dim",
        "n_kv_heads",
        "ffn_dim",
        "other_params",
    ):
        assert getattr(made, name) == getattr(llama, name), name


def test_a_shape_with_experts_and_windows_takes_them_from_the_layers():
    made = architecture_from_shape(
        hidden_dim=512,
        n_layers=8,
        n_heads=8,
        ffn_dim=1024,
        vocab_size=1000,
        n_experts=4,
        experts_per_token=2,
        n_sliding_attention_layers=6,
        sliding_window_tokens=128,
    )
    assert (made.n_full_attention_layers, made.n_sliding_attention_layers) == (2, 6)
    assert (made.n_dense_mlp_layers, made.n_moe_layers, made.expert_ffn_dim) == (0, 8, 1024)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim is impossible: got 0"),
        ({"n_layers": -1}, "n_layers is impossible"),
        ({"n_heads": 2.5}, "n_heads is impossible"),
        ({"n_heads": 3}, "does not divide hidden_dim"),
        ({"n_kv_heads": 3}, "n_kv_heads does not divide n_heads"),
        ({"n_hands": 3}, "unknown shape argument: got n_hands"),
        ({"n_recurrent_layers": 9}, "more special layers than layers"),
        ({"ffn_dim": True}, "ffn_dim is impossible"),
    ],
)
def test_an_impossible_shape_is_refused_in_one_line(changes, message):
    shape = {"hidden_dim": 512, "n_layers": 8, "n_heads": 8, "ffn_dim": 1024, "vocab_size": 1000}
    with pytest.raises(InputError, match=message):
        architecture_from_shape(**(shape | changes))


def test_a_path_that_is_not_there_is_refused():
    for path in (Path("nowhere") / "config.json", "~nobody-of-that-name/x", "/\0", "/" + "x" * 5000):
        with pytest.raises(FileFormatError, match="cannot read"):
            resolve_model(path)
    with pytest.raises(UnknownNameError):
        resolve_model("x" * 5000)


def test_the_catalog_imports_nothing_heavy():
    code = (
        "import sys; from llmco2.catalog.models import resolve_model;"
        "from llmco2.catalog.gpus import resolve_gpu;"
        "resolve_model('llama-3.1-8b'); resolve_gpu('H100');"
        "print(sorted({'numpy', 'pandas', 'torch', 'transformers', 'ecologits'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
