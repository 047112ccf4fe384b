"""Answers say what was assumed: the engine, the window, the servers, the memory engines keep, the GPUs of a name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmco2.catalog.models import resolve_model
from llmco2.errors import InputError
from llmco2.predictor.api import predict, predict_frame
from llmco2.predictor.remarks import UNNAMED_ENGINE, assumed_of_the_model
from llmco2.records.footprint import Footprint
from llmco2.report.table import footprint_text

MODEL = "Qwen/Qwen3-8B"


def notes(answer: Footprint) -> str:
    return "; ".join(answer.notes)


@pytest.fixture
def answered(random_checkpoint_path: Path) -> Any:
    def answer(**request: Any) -> Footprint:
        given = {"model": MODEL, "gpu": "H100", "engine": "vllm", **request}
        return predict(**given, checkpoint=str(random_checkpoint_path))

    return answer


def test_an_unnamed_engine_is_said_and_does_not_bear_on_the_domain(answered: Any) -> None:
    assert UNNAMED_ENGINE in notes(answered(engine="unknown"))
    assert UNNAMED_ENGINE not in notes(answered())
    assert answered(engine="unknown").in_domain == answered().in_domain


def test_a_context_longer_than_the_window_is_said_with_both_numbers(answered: Any) -> None:
    window = resolve_model(MODEL).max_context_tokens
    assert window == 40_960
    said = notes(answered(prompt_tokens=window, output_tokens=1))
    assert "prompt and output, 40,961 tokens, are longer than the model's window of 40,960" in said
    assert "window" not in notes(answered(prompt_tokens=window - 1, output_tokens=1))


def test_layers_shared_by_more_gpus_than_a_server_has_are_said(answered: Any) -> None:
    assert "shared by 16 GPUs, more than the 8 of a server" in notes(answered(tensor_parallel=16))
    assert "of a server" not in notes(answered(tensor_parallel=8))
    assert "of a server" not in notes(answered(tensor_parallel=8, pipeline_parallel=2))


def test_memory_that_engines_keep_free_is_said_where_it_is_filled(answered: Any) -> None:
    by_batch = {batch: answered(batch_size=batch, prompt_tokens=4000) for batch in range(40, 130, 5)}
    full = {batch: one for batch, one in by_batch.items() if "engines keep 10 % free" in notes(one)}
    assert 0 < len(full) < len(by_batch)
    for one in by_batch.values():
        share = one.memory_needed_bytes / one.memory_available_bytes
        assert (0.9 < share <= 1.0) == ("engines keep 10 % free" in notes(one))


NAMED_GPUS: list[tuple[str, dict[str, Any], int, str]] = [
    ("p5.48xlarge", {}, 8, "p5.48xlarge (aws) is 8 GPUs, which share one copy"),
    ("gpu:h100:4", {}, 4, "gpu:h100:4 is 4 GPUs, which share one copy"),
    ("8xH100", {"tensor_parallel": 2}, 2, "8xH100 is 8 GPUs, of which the request uses 2"),
    ("p5.48xlarge", {"pipeline_parallel": 2}, 8, "p5.48xlarge (aws) is 8 GPUs, which share one copy"),
    ("g6e.12xlarge", {"tensor_parallel": 8}, 8, "is 4 GPUs, so 8 of them take 2 and cross servers"),
    ("gpu_1x_gh200", {}, 1, "gpu_1x_gh200 (lambda) is 1 GPU"),
]


@pytest.mark.parametrize("case", NAMED_GPUS, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_name_of_several_gpus_uses_them_all_unless_told_otherwise(
    answered: Any, random_checkpoint_path: Path, case: tuple[str, dict[str, Any], int, str]
) -> None:
    gpu, given, n_gpus, said = case
    alone = answered(gpu=gpu, **given)
    assert alone.n_gpus == n_gpus
    assert said in notes(alone)
    table = pd.DataFrame([{"model": MODEL, "gpu": gpu, "engine": "vllm", **given}])
    row = predict_frame(table, checkpoint=str(random_checkpoint_path)).iloc[0]
    assert (row["resolved_n_gpus"], row["error"]) == (n_gpus, "")
    assert said in row["notes"]
    assert row["energy_j"] == pytest.approx(alone.total.energy_j, rel=1e-6)
    asked = given | {"gpu": alone.request.gpu, "tensor_parallel": alone.request.tensor_parallel}
    assert answered(**asked).total.energy_j == alone.total.energy_j


def test_an_empty_cell_beside_one_that_says_it_is_told_apart(random_checkpoint_path: Path) -> None:
    table = pd.DataFrame(
        {"model": MODEL, "gpu": ["p5.48xlarge", "p5.48xlarge", "H100"], "tensor_parallel": [None, 4, None]}
    )
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["resolved_n_gpus"].tolist() == [8, 4, 1]


def test_every_row_says_what_its_names_were_taken_to_mean(random_checkpoint_path: Path) -> None:
    table = pd.DataFrame(
        {
            "model": ["qwen3-8b", "Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-4B", "no such model"],
            "gpu": ["NVIDIA A100-SXM4-80GB", "h100", "V100", "H100"],
            "engine": ["transformers", "vLLM 0.11.2", None, None],
        }
    )
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["resolved_model"].tolist() == [MODEL, MODEL, "Qwen/Qwen3-4B", ""]
    assert answers["resolved_gpu"].tolist() == ["A100-SXM4-80GB", "H100-SXM5-80GB", "V100-SXM2-16GB", ""]
    assert answers["resolved_engine"].tolist() == ["hf-eager", "vllm-0.11", "unknown", ""]
    assert answers["resolved_precision"].tolist() == ["bf16", "fp8-block", "fp16", ""]
    assert answers["resolved_kv_precision"].tolist() == ["bf16", "bf16", "fp16", ""]
    assert answers["resolved_n_gpus"].isna().tolist() == [False, False, False, True]
    assert "fp8-block" in answers["precision_by_part"][1]
    assert "KV bf16" in answers["precision_by_part"][1]
    assert UNNAMED_ENGINE in answers["notes"][2]


@pytest.mark.parametrize("stages", ["two", None, float("nan"), 0, True])
def test_a_name_of_several_gpus_with_stages_that_cannot_be_is_refused(answered: Any, stages: Any) -> None:
    with pytest.raises(InputError, match="pipeline_parallel"):
        answered(gpu="p5.48xlarge", pipeline_parallel=stages)


def test_stages_that_do_not_divide_the_gpus_use_one_each_and_say_so(answered: Any) -> None:
    answer = answered(gpu="p5.48xlarge", pipeline_parallel=3)
    assert answer.n_gpus == 3
    assert "of which the request uses 3" in notes(answer)


def test_what_was_assumed_of_a_model_comes_first_with_its_size(answered: Any) -> None:
    plain = resolve_model(MODEL)
    assert assumed_of_the_model(plain) == []
    told = dataclasses.replace(plain, assumptions=("no bias", "an MLP with a gate"))
    assert assumed_of_the_model(told) == [
        "the model was taken to have 8.19B parameters, assuming: no bias, an MLP with a gate"
    ]
    footprint = dataclasses.replace(answered(), notes=("else", *assumed_of_the_model(told)))
    first, _, rest = footprint_text(footprint, 120).partition("\n")
    assert first == assumed_of_the_model(told)[0]
    assert "taken to have" not in rest


def test_the_formats_of_all_parts_and_of_the_cache_are_named(answered: Any) -> None:
    request = {"model": "deepseek-ai/DeepSeek-V3", "gpu": "H200", "tensor_parallel": 8}
    parts = dict(part.rsplit(" ", 1) for part in answered(**request).precision_by_part.split(", "))
    assert parts == {
        "attention": "fp8-block",
        "dense_mlp": "fp8-block",
        "experts": "fp8-block",
        "shared_experts": "fp8-block",
        "router": "bf16",
        "lm_head": "bf16",
        "embedding": "bf16",
        "KV": "bf16",
    }
    assert answered(kv_precision="fp8").precision_by_part.endswith("KV fp8")
    assert answered(gpu="V100-32GB", prompt_tokens=64).precision_by_part.endswith("KV fp16")
