"""A config.json is read as plain JSON into the architecture it describes, or refused in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.catalog.hf_config import architecture_from_hf_config, known_model_types
from llmco2.catalog.models import load_models, resolve_model
from llmco2.catalog.params import parameter_count
from llmco2.errors import FileFormatError, InputError

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}
GEMMA3 = {  # published multimodal files leave heads and vocabulary to the class
    "model_type": "gemma3",
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152},
    "torch_dtype": "bfloat16",
}
LLAVA = {
    "model_type": "llava",
    "architectures": ["LlavaForConditionalGeneration"],
    "text_config": {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096},
}


def write_config(folder, config):
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def test_a_directory_a_file_and_a_name_agree(tmp_path):
    folder = write_config(tmp_path, LLAMA)
    known = load_models()["meta-llama/Llama-3.1-8B"]
    for source in (folder, str(folder), folder / "config.json", str(folder / "config.json")):
        model = resolve_model(source)
        assert model.model_id == tmp_path.name
        assert parameter_count(model) == parameter_count(known) == 8_030_261_248
        assert (model.n_kv_heads, model.head_dim, model.max_context_tokens) == (8, 128, 131072)


def test_historic_key_names():
    assert parameter_count(architecture_from_hf_config(GPT2, model_id="gpt2")) == 124_439_808


def test_the_language_tower_of_a_multimodal_model_with_its_class_defaults():
    gemma = architecture_from_hf_config(GEMMA3, model_id="gemma")
    assert parameter_count(gemma) == 3_880_263_168
    assert (gemma.n_sliding_attention_layers, gemma.n_heads, gemma.tied_embeddings) == (29, 8, True)
    llava = architecture_from_hf_config(LLAVA, model_id="llava")
    assert parameter_count(llava) == 6_738_415_616 + 2 * 64 * 4096


@pytest.mark.parametrize(
    ("record", "precision"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "gptq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8-w8a16"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "W4A16_NVFP4"}}
                | {"c": {"quant_algo": "W4A16_NVFP4"}},
            },
            "nvfp4-w4a16",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "weights": {"num_bits": 8, "type": "int"},
                        "input_activations": {"num_bits": 8},
                    }
                },
            },
            "int8",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "int4",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "weights": {"num_bits": 8, "type": "float"},
                        "input_activations": {"num_bits": 8},
                    }
                },
            },
            "fp8",
        ),
    ],
)
def test_the_quantisation_record_decides_the_checkpoint_precision(record, precision):
    model = architecture_from_hf_config(LLAMA | {"quantization_config": record}, model_id="x")
    assert model.checkpoint_precision == precision


def test_a_quantisation_record_in_its_own_file(tmp_path):
    write_config(tmp_path, LLAMA)
    side = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(side), encoding="utf-8")
    assert resolve_model(tmp_path).checkpoint_precision == "nvfp4"


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float16", "fp16"), ("float32", "fp32"), ("bfloat16", "bf16")]
)
def test_the_dtype_decides_where_nothing_is_quantised(dtype, precision):
    assert (
        architecture_from_hf_config(LLAMA | {"torch_dtype": dtype}, model_id="x").checkpoint_precision
        == precision
    )
    newer = {key: value for key, value in LLAMA.items() if key != "torch_dtype"} | {"dtype": dtype}
    assert architecture_from_hf_config(newer, model_id="x").checkpoint_precision == precision


# Published totals of types that transformers itself does not carry, or that have keys of their own.
CHATGLM3 = {
    "model_type": "chatglm",
    "hidden_size": 4096,
    "num_layers": 28,
    "num_attention_heads": 32,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "kv_channels": 128,
    "ffn_hidden_size": 13696,
    "padded_vocab_size": 65024,
    "add_qkv_bias": True,
}
DEEPSEEK_MOE = LLAMA | {
    "model_type": "deepseek",
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 102400,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1408,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
}
LING_MINI = LLAMA | {
    "model_type": "bailing_moe_v2",
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 157184,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "moe_intermediate_size": 512,
    "first_k_dense_replace": 1,
    "use_qk_norm": True,
}
MINICPM = LLAMA | {
    "model_type": "minicpm",
    "hidden_size": 2304,
    "intermediate_size": 5760,
    "num_hidden_layers": 40,
    "num_attention_heads": 36,
    "num_key_value_heads": 36,
    "vocab_size": 122753,
}


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (CHATGLM3, 6_243_584_000),
        (DEEPSEEK_MOE, 16_375_728_128),
        (LING_MINI, 16_255_643_392),
        (MINICPM, 2_724_880_896),
    ],
    ids=["chatglm3", "deepseek-moe", "ling-mini", "minicpm"],
)
def test_types_with_code_of_their_own_have_their_published_parameters(config, published):
    assert parameter_count(architecture_from_hf_config(config, model_id="x")) == published


def test_a_falcon_h1_layer_is_attention_beside_mamba_and_an_lfm2_layer_may_only_convolve():
    falcon = load_models()["tiiuae/Falcon-H1-0.5B-Instruct"]
    assert falcon.n_attention_layers == falcon.n_recurrent_layers == falcon.n_dense_mlp_layers == 36
    lfm = load_models()["LiquidAI/LFM2-1.2B"]
    assert (lfm.n_attention_layers, lfm.n_recurrent_layers, lfm.n_dense_mlp_layers) == (6, 10, 16)
    assert (lfm.recurrent_state_elements, lfm.ffn_dim) == (3 * 2048, 8192)  # two thirds of 12,288


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "gpt_neo", "attention_types": [["global", "local"]]},
            "attention_types is unreadable",
        ),
        ({"model_type": "lfm2", "full_attn_idxs": [2], "block_ffn_dim_multiplier": "wide"}, "is no factor"),
        ({"model_type": "lfm2", "layer_types": ["conv"]}, "layer_types does not name the layers"),
        ({"model_type": "granitemoehybrid", "layer_types": None}, "layer_types does not name the layers"),
    ],
)
def test_a_hybrid_that_does_not_say_its_layers_is_refused_in_one_line(changes, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        architecture_from_hf_config(LLAMA | changes, model_id="x")
    assert "\n" not in str(caught.value)


def test_an_unknown_llama_like_type_is_read_with_low_confidence():
    model = architecture_from_hf_config(
        LLAMA | {"model_type": "brandnew", "architectures": ["BrandNewForCausalLM"]}, model_id="x"
    )
    assert (model.family, model.confidence) == ("brandnew", "low")
    assert parameter_count(model) == 8_030_261_248


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model_type": "llama", "hidden_si', "not valid JSON.*is the file complete"),
        ("", "not valid JSON"),
        ("[1, 2]", "holds no JSON object"),
        ("{}", "names no causal language model"),
        (
            {**LLAMA, "hidden_size": None, "model_type": "qwen3"},
            "hidden_size is null",
        ),
        ({**LLAMA, "hidden_size": "wide"}, "hidden_size is out of range: got 'wide'"),
        ({**LLAMA, "num_hidden_layers": -3}, "num_hidden_layers is out of range: got -3"),
        ({**LLAMA, "vocab_size": 1e30}, "vocab_size is out of range"),
        ({**LLAMA, "num_attention_heads": 0}, "num_attention_heads is out of range"),
        ({**LLAMA, "num_key_value_heads": 5}, "key-value heads do not divide"),
        ({**LLAMA, "torch_dtype": "float7"}, "unknown dtype: got 'float7'"),
        ({**LLAMA, "quantization_config": {"quant_method": "magic"}}, "unknown quantisation: got 'magic'"),
        ({**LLAMA, "tie_word_embeddings": "yes"}, "tie_word_embeddings is no boolean"),
        (
            {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "x"]},
            "no decoder-only language model",
        ),
        (
            {
                "model_type": "bert",
                "architectures": ["BertForMaskedLM"],
                "hidden_size": 768,
                "type_vocab_size": 2,
            },
            "no decoder-only language model: got model type 'bert'",
        ),
        ({"model_type": "t5", "is_encoder_decoder": True, "d_model": 512}, "no decoder-only language model"),
        (
            {"model_type": "vit", "architectures": ["ViTForImageClassification"]},
            "names no causal language model",
        ),
        (
            {**LLAMA, "model_type": "odd", "architectures": ["OddForCausalLM"], "ssm_state_size": 16},
            "model type 'odd' is not known here: got the key 'ssm_state_size'",
        ),
        (
            {"model_type": "nemotron_h", "hidden_size": 64, "hybrid_override_pattern": "M?"},
            "pattern is unreadable",
        ),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_in_one_line(tmp_path, config, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        resolve_model(write_config(tmp_path, config))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_config_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(FileFormatError, match="cannot read"):
        resolve_model(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00weights")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        resolve_model(tmp_path)


@given(cut=st.integers(0, len(json.dumps(LLAMA)) - 1))
def test_a_file_cut_anywhere_is_refused(tmp_path_factory, cut):
    folder = write_config(tmp_path_factory.mktemp("cut"), json.dumps(LLAMA)[:cut])
    with pytest.raises(FileFormatError):
        resolve_model(folder)


@given(
    key=st.sampled_from(sorted(LLAMA)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
    model_type=st.sampled_from(sorted(known_model_types())),
)
def test_a_nonsense_value_never_leaves_a_traceback_of_another_kind(key, value, model_type):
    config = LLAMA | {"model_type": model_type} | {key: value}
    said = None
    try:
        architecture_from_hf_config(config, model_id="x")
    except InputError as error:
        said = str(error)
    assert said is None or len(said.splitlines()) == 1


def test_a_hybrids_layers_are_read_by_letters_and_by_the_names_of_old_and_new_releases():
    shape = {"model_type": "nemotron_h", "hidden_size": 64, "vocab_size": 128, "num_attention_heads": 4}
    shape |= {"mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 8, "n_groups": 2}
    shape |= {"conv_kernel": 4, "intermediate_size": 96}
    written = [
        {"hybrid_override_pattern": "M-M*"},
        {"layers_block_type": ["mamba", "mlp", "mamba", "attention"]},
        {"layers_block_type": ["linear_attention", "mlp", "linear_attention", "full_attention"]},
    ]
    first, *others = (architecture_from_hf_config(shape | keys, model_id="x") for keys in written)
    assert (first.n_recurrent_layers, first.n_attention_layers, first.n_dense_mlp_layers) == (2, 1, 1)
    assert others == [first, first]
