"""What cannot be is refused in one line (what, got, expected, remedy), alone and in a table alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmco2.errors import InputError, RequestError, UnknownNameError
from llmco2.predictor.api import predict, predict_frame

SOUND: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B", "gpu": "H100-SXM5-80GB"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": "Llama-3.1-9B"}, r"unknown model: got 'Llama-3.1-9B'; did you mean .*Llama-3.1-8B"),
    ({"gpu": "H100-SXN"}, r"unknown GPU: got 'H100-SXN'; did you mean .*H100"),
    ({"engine": "vlm"}, r"unknown engine: got 'vlm'; did you mean vllm"),
    ({"precision": "bf61"}, r"unknown precision: got 'bf61'; did you mean bf16"),
    ({"kv_precision": "fp9"}, r"unknown precision: got 'fp9'; did you mean .*fp"),
    ({"kv_precision": "nf4"}, r"no engine caches keys and values so: got nf4, expected .*fp8"),
    ({"gpu": "V100-SXM2-32GB", "precision": "bf16"}, r"V100-SXM2-32GB has no bf16 .*use --precision fp16"),
    ({"gpu": "A100-SXM4-80GB", "precision": "nvfp4"}, r"has no nvfp4 arithmetic: .*use --precision"),
    (
        {"tensor_parallel": 3},
        r"does not divide the 32 attention heads .* got 3, expected one of 1 2 4 8 16 32",
    ),
    (
        {"expert_parallel": 2},
        r"has no experts to spread: got expert_parallel 2, expected 1; use --tensor-par",
    ),
    ({"pipeline_parallel": 33}, r"more pipeline stages than the 32 layers .*: got 33, expected 1 to 32"),
    (
        {"tensor_parallel": 0},
        r"tensor_parallel is out of range: got 0, expected a whole number from 1 to 1,024",
    ),
    ({"tensor_parallel": 1.5}, r"tensor_parallel is out of range: got 1.5, expected a whole number"),
    ({"batch_size": 0}, r"batch_size is out of range: got 0, expected from 1 to 65,536"),
    ({"batch_size": 1e9}, r"batch_size is out of range: got 1e\+09"),
    ({"prompt_tokens": -5}, r"prompt_tokens is out of range: got -5"),
    ({"prompt_tokens": float("inf")}, r"prompt_tokens is (not a number|out of range): got inf"),
    ({"output_tokens": 0.5}, r"output_tokens is out of range: got 0.5"),
    ({"output_tokens": 10**30}, r"output_tokens is out of range: got 1e\+30, expected from 1 to 10,000,000"),
    ({"output_tokens": "many"}, r"output_tokens is not a number: got 'many'"),
    ({"output_tokens": True}, r"output_tokens is not a number: got True"),
    ({"serving": "batched"}, r"unknown serving mode: got 'batched', expected static or continuous"),
    ({"model": "mistralai/Mixtral-8x7B-v0.1", "expert_parallel": 3, "tensor_parallel": 2}, r"do not nest"),
    ({"model": "mistralai/Mixtral-8x7B-v0.1", "expert_parallel": 16}, r"does not divide the 8 experts"),
]


def refusal(request: dict[str, Any], checkpoint: Path) -> str:
    with pytest.raises(InputError) as refused:
        predict(**request, checkpoint=str(checkpoint))
    return str(refused.value)


@pytest.mark.parametrize(("change", "message"), BAD, ids=lambda value: str(value)[:60])
def test_what_cannot_be_is_refused_in_one_line(
    change: dict[str, Any], message: str, random_checkpoint_path: Path
) -> None:
    said = refusal({**SOUND, **change}, random_checkpoint_path)
    assert re.search(message, said), said
    assert "\n" not in said


def test_a_table_says_the_same_in_the_row_and_answers_the_others(random_checkpoint_path: Path) -> None:
    rows = [SOUND, *({**SOUND, **change} for change, _ in BAD), SOUND]
    table = pd.DataFrame([{**{"batch_size": 1}, **row} for row in rows], dtype=object)
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["error"].iloc[0] == answers["error"].iloc[-1] == ""
    assert answers["energy_j"].iloc[0] == answers["energy_j"].iloc[-1] > 0
    for (_, message), said in zip(BAD, answers["error"].iloc[1:-1], strict=True):
        assert re.search(message, said), said
        assert "\n" not in said
    assert answers["energy_j"].iloc[1:-1].isna().all()


def test_not_a_number_is_refused_though_an_empty_cell_is_not(random_checkpoint_path: Path) -> None:
    said = refusal({**SOUND, "prompt_tokens": float("nan")}, random_checkpoint_path)
    assert said.startswith("prompt_tokens is not a number: got nan")
    answers = predict_frame(
        pd.DataFrame([{**SOUND, "prompt_tokens": "nan"}, {**SOUND, "prompt_tokens": None}]),
        checkpoint=str(random_checkpoint_path),
    )
    assert answers["error"].tolist() == [said, ""]


@pytest.mark.parametrize("name", ["model", "gpu", "engine", "precision", "kv_precision"])
def test_a_name_must_be_text(name: str, random_checkpoint_path: Path) -> None:
    with pytest.raises(RequestError, match=f"^{name} is not a name: got 5"):
        predict(**{**SOUND, name: 5}, checkpoint=str(random_checkpoint_path))


def test_suggestions_are_names_that_resolve(random_checkpoint_path: Path) -> None:
    with pytest.raises(UnknownNameError) as refused:
        predict(model="Qwen3-8b-typo", gpu="H100-SXM5-80GB")
    for suggestion in refused.value.suggestions:
        predict(
            model=suggestion, gpu="B200-SXM-180GB", tensor_parallel=1, checkpoint=str(random_checkpoint_path)
        )


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        ({"zone": "Atlantis"}, "unknown .*Atlantis"),
        ({"pue": 0.9}, "pue is out of range: got 0.9, expected a number at least 1"),
        ({"carbon_intensity_gco2e_per_kwh": float("nan")}, "carbon_intensity is out of range: got nan"),
        ({"lifetime_years": 0}, "lifetime is out of range"),
        ({"utilization": 1.5}, "utilization is out of range"),
    ],
)
def test_a_carbon_factor_that_cannot_be_is_the_calls_error_even_for_an_empty_table(
    factor: dict[str, Any], message: str, random_checkpoint_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        predict(**SOUND, **factor, checkpoint=str(random_checkpoint_path))
    empty = pd.DataFrame({"model": [], "gpu": []})
    with pytest.raises(InputError, match=message):
        predict_frame(empty, **factor, checkpoint=str(random_checkpoint_path))
