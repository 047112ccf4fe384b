"""A quantisation record decides the format of each part of the weights, by bytes and whatever its order."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_config import architecture_from_hf_config
from llmco2.catalog.models import resolve_model
from llmco2.catalog.params import bytes_read_per_token, weight_bytes, weight_elements
from llmco2.catalog.part_precisions import PartPrecisions
from llmco2.catalog.stored import stored_parts
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
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
MOE = LLAMA | {
    "model_type": "qwen3_moe",
    "num_experts": 64,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 768,
    "head_dim": 128,
}
KIMI = {
    "architectures": ["KimiK25ForConditionalGeneration"],
    "model_type": "kimi_k25",
    "text_config": {
        "model_type": "kimi_k2",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "num_hidden_layers": 61,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "vocab_size": 163840,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 384,
        "num_experts_per_tok": 8,
        "n_shared_experts": 1,
    },
}
INT4_GROUP_32 = {"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True}
KIMI_IGNORES = [
    "lm_head",
    "re:.*self_attn.*",
    "re:.*shared_experts.*",
    r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
]
LAYERS = range(32)
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
FFN = ("gate_proj", "up_proj", "down_proj")
FP8_WEIGHTS = {"num_bits": 8, "type": "float"}
NVFP4_WEIGHTS = {"num_bits": 4, "type": "float", "group_size": 16}


def compressed(weights, inputs=None, **more):
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}} | more


def read(record, config=None) -> tuple[Architecture, PartPrecisions]:
    model = architecture_from_hf_config((config or LLAMA) | {"quantization_config": record}, model_id="x")
    return model, stored_parts(model)


def test_a_published_four_bit_mixture_keeps_attention_and_shared_experts_at_16_bit():
    model, parts = read(compressed(INT4_GROUP_32, ignore=KIMI_IGNORES), KIMI)
    assert (parts.experts.precision, parts.experts.weight_bytes_per_element) == ("int4", 4.5 / 8)
    for part in (parts.attention, parts.shared_experts, parts.dense_mlp, parts.lm_head, parts.embedding):
        assert (part.precision, part.weight_bytes_per_element) == ("bf16", 2.0)
    assert weight_bytes(model, parts) == pytest.approx(594e9, rel=0.002)  # as published
    assert bytes_read_per_token(model, parts) == pytest.approx(33e9, rel=0.002)


NAMED = [
    ({}, "bf16"),
    ({"quant_method": "float8_dynamic"}, "fp8"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
    ({"quant_method": "auto-round", "bits": 8, "data_type": "fp8", "act_bits": 8}, "fp8"),
    ({"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp", "group_size": 32}, "mxfp4"),
    ({"quant_method": "auto-round", "bits": 4, "data_type": "nv_fp", "act_bits": 4}, "nvfp4"),
    ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "w4a8"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}, "nvfp4"),
    ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, "mxfp8"),
    ({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, "fp8-block"),
    ({"quant_method": "modelopt", "quant_algo": "W8A8_SQ_PER_CHANNEL"}, "int8"),
    ({"quant_method": "w8a8_int8"}, "int8"),
    (
        {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
        "int4",
    ),
    ({"quant_method": "quanto", "weights": "int8"}, "int8-w8a16"),
    ({"quant_method": "eetq"}, "int8-w8a16"),
    ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "int4"),
    (
        {
            "quant_method": "torchao",
            "quant_type": {"default": {"_type": "Float8DynamicActivationFloat8WeightConfig"}},
        },
        "fp8",
    ),
    ({"quant_method": "torchao", "quant_type": {"_type": "Int8WeightOnlyConfig"}}, "int8-w8a16"),
    (
        {
            "quant_method": "quark",
            "global_quant_config": {
                "weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
                "input_tensors": {"dtype": "fp8_e4m3"},
            },
        },
        "fp8",
    ),
    (
        {
            "quant_method": "quark",
            "global_quant_config": {
                "weight": {"dtype": "fp4", "group_size": 32, "scale_format": "e8m0"},
                "input_tensors": {"dtype": "fp4"},
            },
        },
        "mxfp4-w4a4",
    ),
    (
        compressed(FP8_WEIGHTS | {"strategy": "block", "block_structure": [128, 128]}, FP8_WEIGHTS),
        "fp8-block",
    ),
    (compressed({"num_bits": 4, "type": "float", "group_size": 32, "scale_dtype": "torch.uint8"}), "mxfp4"),
    (compressed(NVFP4_WEIGHTS, NVFP4_WEIGHTS), "nvfp4"),
    (compressed(INT4_GROUP_32, FP8_WEIGHTS), "w4a8"),
    (compressed(INT4_GROUP_32, {"num_bits": 8, "type": "int"}), "w4a8-int8"),
]


@pytest.mark.parametrize(
    ("record", "precision"), NAMED, ids=[f"{i}-{name}" for i, (_, name) in enumerate(NAMED)]
)
def test_records_of_every_tool_have_a_canonical_precision(record, precision):
    model, parts = read(record)
    assert (model.checkpoint_precision, parts.dense_mlp.precision) == (precision, precision)
    assert parts.lm_head.precision == parts.embedding.precision == "bf16"


@pytest.mark.parametrize(
    ("record", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 4 + 16 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False}, 4 + 20 / 32),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": True}, 4),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32, "sym": True}, 8 + 16 / 32),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}, 4 + 20 / 64),
        (compressed(INT4_GROUP_32 | {"symmetric": False}), 4 + 20 / 32),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
            4 + 8 / 64 + 32 / (64 * 256),
        ),
        ({"quant_method": "fp8", "weight_block_size": [1, 128]}, 8 + 32 / 128),
    ],
)
def test_scales_and_zeros_of_each_group_are_counted(record, bits):
    assert 8 * read(record)[1].dense_mlp.weight_bytes_per_element == pytest.approx(bits, rel=1e-12)


AT_16_BIT = [
    (
        {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["self_attn"]},
        "attention",
    ),
    (compressed(NVFP4_WEIGHTS, NVFP4_WEIGHTS, ignore=["lm_head", "model.layers.*.self_attn*"]), "attention"),
    (compressed(NVFP4_WEIGHTS, NVFP4_WEIGHTS, ignore=["*self_attn*"]), "attention"),
    (compressed(NVFP4_WEIGHTS, NVFP4_WEIGHTS, ignore=[r"re:model\.layers\.\d+\.self_attn\..*"]), "attention"),
    (
        {"quant_method": "fp8", "modules_to_not_convert": [f"model.layers.{i}.self_attn" for i in LAYERS]},
        "attention",
    ),
    (
        {"quant_method": "fp8", "ignored_layers": [f"model.layers.{i}.mlp.{m}" for i in LAYERS for m in FFN]},
        "dense_mlp",
    ),
    (
        {"quant_method": "fbgemm_fp8", "modules_to_not_convert": [f"model.layers.{i}.mlp" for i in LAYERS]},
        "dense_mlp",
    ),
    (
        {
            "quant_method": "bitsandbytes",
            "load_in_8bit": True,
            "llm_int8_skip_modules": ["lm_head", "self_attn"],
        },
        "attention",
    ),
    ({"quant_method": "gptq", "bits": 4, "dynamic": {r"-:.*\.self_attn\..*": {}}}, "attention"),
    ({"quant_method": "auto-round", "bits": 4, "extra_config": {".*self_attn.*": {"bits": 16}}}, "attention"),
    (
        {
            "quant_method": "quark",
            "global_quant_config": {"weight": {"dtype": "int4", "group_size": 128}},
            "exclude": ["*self_attn*", "lm_head"],
        },
        "attention",
    ),
    (
        {
            "quant_method": "torchao",
            "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}},
            "modules_to_not_convert": ["self_attn"],
        },
        "attention",
    ),
]


@pytest.mark.parametrize(("record", "part"), AT_16_BIT)
def test_what_a_record_leaves_out_stays_at_16_bit(record, part):
    parts = read(record)[1]
    other = {"attention": "dense_mlp", "dense_mlp": "attention"}[part]
    assert (getattr(parts, part).precision, getattr(parts, part).weight_bytes_per_element) == ("bf16", 2.0)
    assert getattr(parts, other).weight_bytes_per_element < 1.2


def test_a_part_in_several_formats_has_their_mean_by_elements():
    record = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}
    parts = read(record | {"extra_config": {"model.layers.0.mlp": {"bits": 16}}})[1]
    mean = ((4 + 16 / 128) / 8 * 31 + 2.0) / 32
    assert parts.dense_mlp.weight_bytes_per_element == pytest.approx(mean, rel=1e-12)
    assert parts.dense_mlp.text == "int4 + bf16"
    keys = [
        f"model.layers.{i}.self_attn.k_proj" for i in LAYERS
    ]  # a tenth of attention's elements, not a quarter
    attention = read({"quant_method": "fp8", "modules_to_not_convert": keys})[1].attention
    assert attention.weight_bytes_per_element == pytest.approx(1.0 + 1024 / (4096 * 2 + 2 * 1024), rel=1e-12)


def mixed_layers():
    fp8 = {f"model.layers.{i}.self_attn.{m}": {"quant_algo": "FP8"} for i in LAYERS for m in PROJECTIONS}
    nvfp4 = {"quant_algo": "NVFP4", "group_size": 16}
    return fp8 | {f"model.layers.{i}.mlp.{m}": nvfp4 for i in LAYERS for m in FFN}


def test_mixed_records_count_bytes_and_not_names_in_any_order():
    """128 modules of attention in FP8 hold fewer elements than 96 of the MLPs in NVFP4."""
    entries = list(mixed_layers().items())
    answers = set()
    for seed in range(3):
        random.Random(seed).shuffle(entries)
        record = {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": dict(entries),
        }
        model, parts = read(record)
        answers.add((model.checkpoint_precision, parts.attention.text, parts.dense_mlp.text))
        elements = weight_elements(model)
        wide = 2 * (elements.embedding + elements.lm_head + elements.other)
        assert weight_bytes(model, parts) == elements.attention + 4.5 / 8 * elements.dense_mlp + wide
    assert answers == {("nvfp4", "fp8", "nvfp4")}


def test_groups_with_targets_of_their_own_beat_the_class_in_any_order():
    attention = {"targets": ["re:.*self_attn.*"], "weights": FP8_WEIGHTS, "input_activations": FP8_WEIGHTS}
    rest = {"targets": ["Linear"], "weights": INT4_GROUP_32}
    for groups in ({"a": attention, "b": rest}, {"a": rest, "b": attention}):
        parts = read({"quant_method": "compressed-tensors", "config_groups": groups})[1]
        assert (parts.attention.precision, parts.dense_mlp.precision) == ("fp8", "int4")


def test_experts_apart_from_the_rest():
    record = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    parts = read(record, MOE)[1]
    assert (parts.experts.precision, parts.attention.precision) == ("mxfp4", "bf16")
    layers = {
        f"model.layers.{i}.mlp.experts.{e}.{m}": {"quant_algo": "NVFP4"}
        for i in LAYERS
        for e in (0, 63)
        for m in FFN
    }
    record = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    model, parts = read(record, MOE)
    assert (parts.experts.text, parts.attention.text, model.checkpoint_precision) == (
        "nvfp4",
        "bf16",
        "nvfp4",
    )
    over_fp8 = {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "quant_algo": "MIXED_PRECISION",
        "ignore": ["*.attn.*"],  # of the narrower format
        "quantized_layers": {
            f"layers.{i}.ffn.experts": {"quant_algo": "NVFP4", "group_size": 16} for i in LAYERS
        },
    }
    parts = read(over_fp8, MOE)[1]
    assert (parts.experts.text, parts.attention.text) == ("nvfp4", "fp8-block")


def test_names_of_a_tower_or_a_draft_layer_touch_nothing():
    ignore = [
        "visual",
        "vision_tower.blocks.3.attn",
        "model.layers.32.self_attn",
        "mtp*",
        "multi_modal_projector",
    ]
    assert read(compressed(INT4_GROUP_32, ignore=ignore))[1] == read(compressed(INT4_GROUP_32))[1]


def test_a_wildcard_behind_a_layers_number_is_every_number_that_begins_so():
    parts = read(compressed(FP8_WEIGHTS, FP8_WEIGHTS, ignore=["model.layers.1*"]))[1]  # 1 and 10 to 19
    assert parts.attention.weight_bytes_per_element == pytest.approx((11 * 2 + 21) / 32)


def test_a_hybrids_mixers_are_told_apart_by_layer():
    shape = {"model_type": "nemotron_h", "hidden_size": 64, "vocab_size": 128, "num_attention_heads": 4}
    shape |= {"mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 8, "n_groups": 2}
    shape |= {"conv_kernel": 4, "intermediate_size": 96, "hybrid_override_pattern": "M-M*"}
    ignore = ["backbone.layers.0.mixer", "backbone.layers.3.mixer.q_proj"]
    parts = read({"quant_algo": "FP8", "exclude_modules": ignore}, shape)[1]
    assert parts.recurrent.weight_bytes_per_element == 1.5
    assert parts.attention.weight_bytes_per_element == pytest.approx(1 + 16 * 4 / (16 * 4 * 4))
    assert parts.dense_mlp.weight_bytes_per_element == 1.0


@pytest.mark.parametrize(
    ("cache", "precision"),
    [
        ({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "fp8"),
        ({"kv_cache_scheme": {"num_bits": 4, "type": "float"}}, "nvfp4"),
        ({"kv_cache_scheme": "FP8"}, "fp8"),
        ({"kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"kv_cache_quant_algo": "INT8"}, "int8"),
        ({"kv_cache_quant_algo": None}, ""),
        ({"kv_cache_scheme": None}, ""),
    ],
)
def test_the_cache_has_the_format_of_the_record(cache, precision):
    assert read(compressed(FP8_WEIGHTS, FP8_WEIGHTS) | cache)[1].kv_cache == precision
    alone = {"quant_method": "compressed-tensors", "config_groups": {}} | cache
    model, parts = read(alone)
    assert (model.checkpoint_precision, parts.kv_cache) == ("bf16", precision)


def test_a_record_beside_the_configuration_and_one_inside_a_tower(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    side = {
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": "FP8",
        "exclude_modules": ["lm_head", "*self_attn*"],
    }
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": side}), encoding="utf-8")
    parts = stored_parts(resolve_model(tmp_path))
    assert (parts.dense_mlp.precision, parts.attention.precision, parts.kv_cache) == ("nvfp4", "bf16", "fp8")
    tower = KIMI["text_config"] | {"quantization_config": compressed(INT4_GROUP_32, ignore=KIMI_IGNORES)}
    inside = architecture_from_hf_config(KIMI | {"text_config": tower}, model_id="x")
    assert stored_parts(inside) == read(compressed(INT4_GROUP_32, ignore=KIMI_IGNORES), KIMI)[1]


def test_modules_of_unknown_names_are_assumed_and_said():
    layers = {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4"}, "c": {"quant_algo": "NVFP4"}}
    record = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    model, parts = read(record)
    assert parts.dense_mlp.precision == "nvfp4"
    assert "unknown names" in model.assumptions[0]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"quant_method": "magic"}, "unknown quantisation: got 'magic'"),
        ({"quant_method": "gptq", "bits": 3}, "unknown quantisation: got '3 bits"),
        ({"quant_method": "gptq", "bits": 4, "group_size": "all"}, "group_size is out of range"),
        ({"quant_method": "gptq"}, "unknown quantisation: got 'None bits'"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "block of a scale is unreadable"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "without quantized_layers"),
        ({"quant_method": "torchao", "quant_type": "uint3_weight_only"}, "torchao uint3"),
        ({"quant_method": "fp8", "modules_to_not_convert": [3]}, "no list of modules"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["re:(a+)+$"]}, "repeats a repetition"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["re:("]}, "no regular expression"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["x" * 1000]}, "too long"),
        (compressed(FP8_WEIGHTS) | {"kv_cache_scheme": {"num_bits": 3}}, "a cache of 3 bits"),
        ("fp8", "the quantisation record is no object"),
    ],
)
def test_a_record_that_is_damaged_or_unknown_is_refused_in_one_line(record, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        read(record)
    assert "\n" not in str(caught.value)


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
SOUND = [
    compressed(INT4_GROUP_32, FP8_WEIGHTS, ignore=["lm_head", "re:.*attn.*"], kv_cache_scheme=FP8_WEIGHTS),
    compressed(FP8_WEIGHTS | {"strategy": "block", "block_structure": [128, 128]}, FP8_WEIGHTS),
    {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]},
    {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "dynamic": {"-:.*attn.*": {}}},
    {"quant_method": "auto-round", "bits": 4, "data_type": "int", "extra_config": {"lm_head": {"bits": 16}}},
    {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {"mlp": {"quant_algo": "FP8"}},
    },
    {"quant_method": "bitsandbytes", "load_in_4bit": True, "llm_int8_skip_modules": ["lm_head"]},
    {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
    {
        "quant_method": "quark",
        "global_quant_config": {
            "weight": {"dtype": "int4", "group_size": 128},
            "input_tensors": {"dtype": "int8"},
        },
        "layer_quant_config": {"*attn*": {"weight": {"dtype": "fp8_e4m3"}}},
        "exclude": ["lm_head"],
    },
    {
        "quant_method": "torchao",
        "quant_type": {
            "_type": "FqnToConfig",
            "_data": {"fqn_to_config": {"mlp": {"_type": "Int4WeightOnlyConfig"}}},
        },
    },
]


def places(value, path=()):
    """Yield the path of every value within nested mappings and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def exchanged(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = exchanged(copy[path[0]], path[1:], new)
    return copy


@given(data=st.data(), new=NONSENSE)
def test_a_record_with_any_value_exchanged_is_read_or_refused_in_one_line(data, new):
    record = data.draw(st.sampled_from(SOUND))
    path = data.draw(st.sampled_from(list(places(record))))
    said = ""
    try:
        model, parts = read(exchanged(record, path, new))
    except InputError as error:
        said = str(error)
    else:
        assert 0 < weight_bytes(model, parts) <= 4 * weight_elements(model).total
    assert "\n" not in said
