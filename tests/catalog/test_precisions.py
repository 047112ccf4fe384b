"""A number format costs bytes by its packing and computes at the peak its operands have on the GPU."""

from __future__ import annotations

import dataclasses

import pytest

from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.catalog.precisions import (
    PRECISIONS,
    compute_peak_flops_per_s,
    default_precision,
    resolve_precision,
    served_precision,
    supported_precisions,
    supports,
)
from llmco2.errors import RequestError, UnknownNameError


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("float16", "fp16"),
        ("half", "fp16"),
        ("torch.bfloat16", "bf16"),
        ("BF16", "bf16"),
        ("w8a8-fp8", "fp8"),
        ("fp8_e4m3", "fp8"),
        ("w8a8", "int8"),
        ("AWQ", "int4"),
        ("gptq", "int4"),
        ("W4A16", "int4"),
        ("nf4", "nf4"),
        ("mxfp4", "mxfp4"),
        ("NVFP4", "nvfp4"),
        ("fp4", "nvfp4"),
    ],
)
def test_aliases(alias, name):
    assert resolve_precision(alias).name == name


def test_no_two_precisions_share_a_name():
    names = [name for precision in PRECISIONS for name in (precision.name, *precision.aliases)]
    for precision in PRECISIONS:
        for name in (precision.name, *precision.aliases):
            assert resolve_precision(name) is precision
    assert len(names) == len(set(names))


def test_an_unknown_precision_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"did you mean (bf16|fp16)"):
        resolve_precision("bfp16")


def test_bits_per_weight_with_scales_by_hand():
    bits = {precision.name: 8 * precision.weight_bytes_per_element for precision in PRECISIONS}
    assert bits["int4"] == 4 + 16 / 128 + 4 / 128
    assert bits["mxfp4"] == 4.25
    assert bits["nvfp4"] == 4.5
    assert bits["nf4"] == 4.5
    assert (bits["fp8"], bits["int8"], bits["bf16"], bits["fp32"]) == (8, 8, 16, 32)


def test_weight_only_formats_save_bytes_and_never_flops():
    gpu = resolve_gpu("B200")
    for precision in PRECISIONS:
        if precision.weight_only:
            assert compute_peak_flops_per_s(gpu, precision) == gpu.peak_flops_per_s["bf16"], precision.name
    assert {p.name for p in PRECISIONS if p.weight_only} == {
        *("fp8-w8a16", "int8-w8a16", "int4", "nf4", "mxfp4", "nvfp4-w4a16")
    }


def test_peaks_by_precision():
    h100 = resolve_gpu("H100")
    assert compute_peak_flops_per_s(h100, "bf16") == pytest.approx(989.4e12)
    assert compute_peak_flops_per_s(h100, "fp8") == pytest.approx(1978.9e12)
    assert compute_peak_flops_per_s(h100, "fp32") == pytest.approx(67e12)
    assert compute_peak_flops_per_s(resolve_gpu("V100"), "int4") == pytest.approx(125e12)  # fp16 products
    assert compute_peak_flops_per_s(resolve_gpu("B200"), "nvfp4") == pytest.approx(9000e12)


@pytest.mark.parametrize(
    ("gpu", "precision", "remedy"),
    [
        ("V100", "bf16", "--precision fp16"),
        ("T4", "bf16", "--precision fp16"),
        ("A100", "fp8", "--precision fp8-w8a16"),
        ("V100", "fp8", "--precision fp16"),
        ("V100", "mxfp4", "--precision fp16"),
        ("H100", "nvfp4", "--precision nvfp4-w4a16"),
        ("V100", "int8", "--precision int8-w8a16"),
    ],
)
def test_a_precision_the_gpu_lacks_is_refused_with_a_remedy(gpu, precision, remedy):
    with pytest.raises(RequestError, match=f"has no {precision} arithmetic.*{remedy}") as caught:
        compute_peak_flops_per_s(resolve_gpu(gpu), precision)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "gpu", "expected"),
    [
        ("meta-llama/Llama-3.1-8B", "H100", "bf16"),
        ("meta-llama/Llama-3.1-8B", "V100", "fp16"),
        ("meta-llama/Llama-3.1-8B", "T4", "fp16"),
        ("meta-llama/Llama-2-7b-hf", "A100", "fp16"),
        ("deepseek-ai/DeepSeek-V3", "H200", "fp8-block"),
        ("Qwen/Qwen3-32B-FP8", "H100", "fp8-block"),
        ("Qwen/Qwen3-32B-FP8-dynamic", "H100", "fp8"),
        ("RedHatAI/Qwen3-8B-FP8_static", "L40S", "fp8"),
        ("meta-llama/Llama-3.1-405B-FP8", "H100", "fp8"),
        ("deepseek-ai/DeepSeek-V3", "A100", "fp8-w8a16"),
        ("openai/gpt-oss-120b", "A100", "mxfp4"),
        ("openai/gpt-oss-120b", "H100", "mxfp4"),
        ("openai/gpt-oss-20b", "T4", "fp16"),
        ("openai-community/gpt2", "A100", "bf16"),
        ("Qwen/Qwen3-32B-FP8", "A100", "fp8-w8a16"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "V100", "int4"),
        ("nvidia/DeepSeek-R1-NVFP4", "H100", "nvfp4-w4a16"),
        ("nvidia/DeepSeek-R1-NVFP4", "B200", "nvfp4"),
    ],
)
def test_the_default_is_the_checkpoints_own_where_the_gpu_has_it(model, gpu, expected):
    assert default_precision(resolve_model(model), resolve_gpu(gpu)).name == expected


def test_the_default_always_runs_on_every_gpu_and_for_every_format():
    llama = resolve_model("meta-llama/Llama-3.1-8B")
    for gpu in load_gpus().values():
        for precision in PRECISIONS:
            stored = dataclasses.replace(llama, checkpoint_precision=precision.name)
            chosen = default_precision(stored, gpu)
            assert supports(gpu, chosen), (gpu.gpu_id, precision.name)
            assert chosen.name in supported_precisions(gpu)


def test_the_cache_stays_at_16_bit_under_8_bit_weights():
    assert resolve_precision("fp8").kv_bytes_per_element == 2.0
    assert resolve_precision("fp32").kv_bytes_per_element == 4.0


@pytest.mark.parametrize(
    ("model", "asked", "served"),
    [
        ("Qwen/Qwen3-8B", "fp8", "fp8-block"),
        ("Qwen/Qwen3-8B", "fp8-dynamic", "fp8"),
        ("Qwen/Qwen3-8B", "fp8-channel", "fp8"),
        ("meta-llama/Llama-3.1-8B", "fp8-dynamic", "fp8"),
        ("meta-llama/Llama-3.1-8B", "fp8-block", "fp8-block"),
    ],
)
def test_a_format_that_names_its_scales_keeps_them(model, asked, served):
    assert served_precision(resolve_model(model), resolve_precision(asked)).name == served
