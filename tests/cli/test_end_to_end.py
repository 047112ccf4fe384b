"""The command line over the predictor that ships: names, refusals, and one answer by two ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from llmco2.records.columns import FRAME_COLUMNS
from llmco2.report.json_format import footprint_from_json
from llmco2.report.table import footprint_text
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
REQUEST = ("meta-llama/Llama-3.1-8B-Instruct", "--gpu", "H100-SXM5-80GB", "--batch-size", "8")
SIZES = ("--prompt-tokens", "512", "--output-tokens", "256")
EXAMPLE = ("predict", *REQUEST, *SIZES, "--zone", "FRA")


def test_the_table_and_the_json_are_the_same_answer(llmco2: Run) -> None:
    answer = footprint_from_json(llmco2(*EXAMPLE, "--format", "json").out)
    assert llmco2(*EXAMPLE) == Outcome(0, footprint_text(answer), "")
    assert answer.total.energy_j == pytest.approx(answer.prefill.energy_j + answer.decode.energy_j)
    bounds, interval = answer.total.energy_bounds_j, answer.total.energy_interval_j
    assert bounds.low <= interval.low <= answer.total.energy_j <= interval.high <= bounds.high
    assert {factor.name for factor in answer.carbon.factors} >= {
        "carbon_intensity",
        "pue",
        "lifetime",
        "utilization",
    }
    assert all(factor.source for factor in answer.carbon.factors)


def test_a_table_row_answers_as_the_single_request_does(llmco2: Run, tmp_path: Path) -> None:
    (single,) = json.loads(llmco2(*EXAMPLE, "--format", "json").out)
    row = {
        "model": REQUEST[0],
        "gpu": REQUEST[2],
        "batch_size": 8,
        "prompt_tokens": 512,
        "output_tokens": 256,
    }
    pd.DataFrame([row]).to_csv(tmp_path / "r.csv", index=False)
    table = llmco2("predict", "--requests", str(tmp_path / "r.csv"), "--zone", "FRA", "--format", "json")
    assert table.status == 0
    (answered,) = json.loads(table.out)
    columns = [*row, *(column for column in FRAME_COLUMNS if column not in row)]
    assert list(answered) == [*columns, "details"]
    assert set(answered) == set(single)
    for column, value in answered.items():
        if isinstance(value, float):
            assert value == pytest.approx(single[column], rel=1e-9), column
    assert answered["in_domain"] == single["in_domain"]
    assert (answered["notes"] or "") == single["notes"]


def test_overrides_reach_the_arithmetic(llmco2: Run) -> None:
    def carbon(*more: str) -> dict[str, float]:
        (answer,) = json.loads(llmco2(*EXAMPLE, *more, "--format", "json").out)
        return answer  # type: ignore[no-any-return]

    base, double = carbon("--carbon-intensity", "100"), carbon("--carbon-intensity", "200")
    assert double["operational_gco2e"] == pytest.approx(2 * base["operational_gco2e"])
    assert double["embodied_gco2e"] == base["embodied_gco2e"]
    short, long = carbon("--lifetime-years", "3"), carbon("--lifetime-years", "6")
    assert short["embodied_gco2e"] == pytest.approx(2 * long["embodied_gco2e"])
    low, high = carbon("--pue", "1.0"), carbon("--pue", "1.5")
    assert high["operational_gco2e"] == pytest.approx(1.5 * low["operational_gco2e"])
    assert carbon("--utilization", "0.25")["embodied_gco2e"] == pytest.approx(
        2 * carbon("--utilization", "0.5")["embodied_gco2e"]
    )


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ("meta-llama/Lama-3.1-8B", "--gpu", "H100-SXM5-80GB"),
            ("unknown model", "did you mean", "Llama-3.1-8B"),
        ),
        (("Qwen/Qwen3-8B", "--gpu", "H100-SXM6"), ("unknown GPU", "did you mean", "H100-SXM5")),
        (
            ("meta-llama/Llama-3.1-405B", "--gpu", "H100-SXM5-80GB"),
            ("does not fit", "are missing", "would fit"),
        ),
        (
            ("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--tensor-parallel", "3"),
            ("does not divide", "got 3"),
        ),
        (("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--precision", "fp8"), ("fp8", "expected", "A100")),
        (("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--engine", "wllm"), ("unknown engine", "vllm")),
        (
            ("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--batch-size", "0"),
            ("batch_size is out of range", "got 0"),
        ),
        (
            ("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--prompt-tokens", "nan"),
            ("prompt_tokens", "got nan"),
        ),
        (
            ("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--output-tokens", "1e12"),
            ("output_tokens", "10,000,000"),
        ),
        (
            ("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--serving", "batch"),
            ("serving", "static or continuous"),
        ),
        (
            ("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--zone", "Frankrich"),
            ("unknown grid zone", "did you mean"),
        ),
        (("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--pue", "0.5"), ("pue is out of range", "at least 1")),
        (("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--utilization", "50"), ("utilization", "at most 1")),
        (
            ("Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--calibration", "none.json"),
            ("none.json", "no calibration"),
        ),
        (("./none/config.json", "--gpu", "A100-SXM4-80GB"), ("none/config.json",)),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    llmco2: Run, argv: tuple[str, ...], says: tuple[str, ...]
) -> None:
    outcome = llmco2("predict", *argv)
    assert outcome.status == 2, outcome.err
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert all(words in outcome.err for words in says), outcome.err


def test_each_bad_row_says_why_and_the_good_ones_are_answered(llmco2: Run, tmp_path: Path) -> None:
    rows = {
        ",A100-SXM4-80GB,1,100,": "model is missing",
        "Qwen/Qwen3-8B,H1O0,1,100,": "unknown GPU",
        "Qwen/Qwen3-8B,A100-SXM4-80GB,nan,100,": "batch_size is not a number: got nan",
        "Qwen/Qwen3-8B,A100-SXM4-80GB,0,100,": "batch_size is out of range",
        "Qwen/Qwen3-8B,A100-SXM4-80GB,1,many,": "prompt_tokens is not a number: got 'many'",
        "Qwen/Qwen3-8B,A100-SXM4-80GB,1,100,3": "does not divide",
        "Qwen/Qwen3-8B,A100-SXM4-80GB,1,100,1.5": "tensor_parallel is out of range: got 1.5",
        "Qwen/Qwen3-8B,A100-SXM4-80GB,,,": "",
        "Qwen/Qwen3-8B,A100-SXM4-80GB,8,1e3,2": "",
    }
    path, output = tmp_path / "r.csv", tmp_path / "a.parquet"
    path.write_text("\n".join(["model,gpu,batch_size,prompt_tokens,tensor_parallel", *rows]) + "\n")
    outcome = llmco2("predict", "--requests", str(path), "--output", str(output))
    assert outcome.status == 0
    assert "2 of 9 requests" in outcome.err
    assert "7 failed" in outcome.err
    answers = pd.read_parquet(output)
    assert answers["batch_size"].tolist()[3:5] == [0.0, 1.0]
    assert answers["prompt_tokens"].isna().sum() == 1  # "many", which is no number
    for (row, reason), error, energy_j in zip(
        rows.items(), answers["error"], answers["energy_j"], strict=True
    ):
        assert reason in error, row
        assert bool(error) == bool(reason) == (energy_j != energy_j), row  # noqa: PLR0124 - NaN
