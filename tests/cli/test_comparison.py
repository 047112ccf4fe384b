"""Options with several values: what they mean, what is refused, and that each combination is answered once."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmco2 as package
from llmco2.cli.answer_tables import yearly_columns
from llmco2.cli.arguments import listed, number, whole
from llmco2.decision.candidates import combinations
from llmco2.errors import InputError
from llmco2.records.columns import FRAME_COLUMNS, YEARLY_COLUMNS
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
MODEL = "Qwen/Qwen3-8B"
BASE = ("predict", MODEL, "--engine", "vllm", "--prompt-tokens", "512", "--output-tokens", "128")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (number, "8", 8),
        (number, "1,2,8", (1, 2, 8)),
        (number, "1..8", (1, 2, 4, 8)),
        (number, "1..100", (1, 2, 4, 8, 16, 32, 64, 100)),
        (number, "3..3", 3),
        (number, "1..4,3,2", (1, 2, 4, 3)),
        (whole, "1..4", (1, 2, 4)),
        (str, "H100, L40S", ("H100", "L40S")),
        (str, "H100,H100", "H100"),
        (str, "../up/config.json", "../up/config.json"),
    ],
)
def test_one_value_is_bare_and_several_are_a_tuple(
    kind: Callable[[str], object], text: str, value: object
) -> None:
    assert listed(kind)(text) == value


@given(st.integers(1, 1000), st.integers(0, 100_000))
def test_a_range_doubles_and_holds_both_its_ends(first: int, more: int) -> None:
    value = listed(number)(f"{first}..{first + more}")
    values = value if isinstance(value, tuple) else (value,)
    assert (values[0], values[-1]) == (first, first + more)
    assert all(b == 2 * a for a, b in itertools.pairwise(values[:-1]))
    assert all(a < b <= 2 * a for a, b in itertools.pairwise(values))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,,2", "an empty place in a list: got '1,,2'"),
        ("1,024", "commas part a list, never thousands"),
        ("8..1", "not a range: got '8..1', expected FIRST..LAST"),
        ("0..8", "not a range"),
        ("1..inf", "not a range"),
        ("1..", "not a number: got ''"),
        ("1,x", "not a number: got 'x'"),
    ],
)
def test_what_is_no_list_and_no_range_is_refused(text: str, says: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        listed(number)(text)
    assert says in str(caught.value)


def test_a_path_with_a_comma_is_one_value(tmp_path: Path) -> None:
    path = tmp_path / "a,b.json"
    path.write_text("{}")
    assert listed(str)(str(path)) == str(path)


def test_combinations_are_all_and_not_too_many() -> None:
    frame = combinations({"model": "m", "gpu": ("a", "b"), "batch_size": (1, 2, 4)})
    assert frame.values.tolist() == [["m", gpu, batch] for gpu in "ab" for batch in (1, 2, 4)]
    with pytest.raises(InputError, match="too many combinations: got 1,000,000, expected 100,000"):
        combinations({"batch_size": tuple(range(1000)), "prompt_tokens": tuple(range(1000))})


def test_a_comparison_answers_what_single_requests_do_sorted(llmco2: Run) -> None:
    argv = ("--gpu", "H100,L40S", "--batch-size", "1..4")
    outcome = llmco2(*BASE, *argv, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert set(rows[0]) == set(FRAME_COLUMNS)
    assert outcome.err == "llmco2: 6 of 6 requests answered\n"
    shown = [float(row["energy_per_output_token_j"]) for row in rows]
    assert shown == sorted(shown)
    for row in rows:
        batch_size = float(row["batch_size"])
        single = package.predict(
            model=MODEL,
            gpu=row["gpu"],
            engine="vllm",
            batch_size=batch_size,
            prompt_tokens=512,
            output_tokens=128,
        )
        assert float(row["energy_j"]) == pytest.approx(single.total.energy_j, rel=1e-6)


def test_zones_differ_in_carbon_alone_each_as_if_asked_for_singly(llmco2: Run) -> None:
    out = llmco2(*BASE, "--gpu", "H100", "--zone", "FRA,USA", "--format", "json").out
    rows = {row["zone"]: row for row in json.loads(out)}
    assert list(rows) == ["FRA", "USA"]  # the same energy; the cleaner grid first
    for zone, row in rows.items():
        single = package.predict(
            model=MODEL, gpu="H100", engine="vllm", prompt_tokens=512, output_tokens=128, zone=zone
        )
        assert row["operational_gco2e"] == pytest.approx(single.carbon.operational_gco2e, rel=1e-6)
        assert row["energy_j"] == pytest.approx(single.total.energy_j, rel=1e-6)


def test_another_column_can_sort_and_an_unknown_one_is_named(llmco2: Run) -> None:
    argv = (*BASE, "--gpu", "H100", "--batch-size", "1..16", "--format", "csv", "--sort")
    rows = list(csv.DictReader(io.StringIO(llmco2(*argv, "ttft_s").out)))
    assert [row["batch_size"] for row in rows] == ["1", "2", "4", "8", "16"]
    rows = list(csv.DictReader(io.StringIO(llmco2(*argv, "gpus_needed", "--requests-per-s", "20").out)))
    assert [row["batch_size"] for row in rows] == ["16", "8", "4", "2", "1"]
    outcome = llmco2(*argv, "tfft_s")
    assert outcome.status == 2
    assert "unknown column to sort by: got 'tfft_s'; did you mean ttft_s" in outcome.err


def test_rows_without_an_answer_come_last_and_all_of_them_is_an_error(llmco2: Run) -> None:
    argv = ("predict", "meta-llama/Llama-3.1-70B", "--gpu", "L40S", "--format", "csv", "--tensor-parallel")
    outcome = llmco2(*argv, "1,4")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [row["tensor_parallel"] for row in rows] == ["4", "1"]
    assert "does not fit" in rows[1]["error"]
    assert outcome.err.startswith("llmco2: 1 of 2 requests answered; 1 failed")
    outcome = llmco2(*argv, "1,2")
    assert (outcome.status, outcome.out) == (2, "")
    assert "does not fit" in outcome.err


def test_a_batch_that_would_run_in_turns_does_not_lead(llmco2: Run) -> None:
    """256 sequences of 1,149 tokens take 96 GB of cache; two H100 have 30 GB beside the weights."""
    arguments = (
        "predict",
        "meta-llama/Llama-3.1-70B",
        "--gpu",
        "H100",
        "--tensor-parallel",
        "2",
        "--engine",
        "vllm",
    )
    result = llmco2(*arguments, "--batch-size", "16,256,64")
    assert result.status == 0, result.err
    rows = [line.split() for line in result.out.splitlines() if line.strip()[:2] in {"16", "64", "25"}]
    assert [row[0] for row in rows] == ["64", "16", "256"]
    assert float(rows[2][1]) < float(rows[0][1])  # although it looks cheaper
    assert "†" in " ".join(rows[2])
    assert "† the cache of the whole batch does not fit" in result.out
    assert result.out.count("For want of width") <= 1


def test_a_comparison_goes_to_a_file_as_a_table_of_requests_does(llmco2: Run, tmp_path: Path) -> None:
    target = tmp_path / "grid.csv"
    outcome = llmco2(*BASE, "--gpu", "H100", "--batch-size", "1..4", "--output", str(target))
    assert outcome.err == f"llmco2: 3 of 3 requests answered, written to {target}\n"
    assert len(pd.read_csv(target)) == 3


def test_a_year_of_requests_by_hand() -> None:
    answers = pd.DataFrame(
        {
            "batch_size": [10.0],
            "tensor_parallel": [2],
            "expert_parallel": [4],
            "pipeline_parallel": [2],
            "latency_s": [6.0],
            "energy_j": [5000.0],
            "operational_gco2e": [3.0],
            "embodied_gco2e": [1.0],
        }
    )
    columns = {name: values[0] for name, values in yearly_columns(answers, 4.0).items()}
    # 4/s for 6 s are 24 in flight: three deployments of ten, of 4 x 2 GPUs. 4 x 31,557,600 s / 10 batches.
    batches = 12_623_040
    assert columns == pytest.approx(
        {
            "gpus_needed": 24,
            "energy_per_year_kwh": batches * 5000 / 3.6e6,
            "operational_per_year_kgco2e": batches * 3.0 / 1000,
            "embodied_per_year_kgco2e": batches * 1.0 / 1000,
        }
    )
    assert tuple(columns) == YEARLY_COLUMNS


def test_a_rate_adds_the_year_to_one_request_and_to_a_file(llmco2: Run, tmp_path: Path) -> None:
    requests = tmp_path / "r.csv"
    requests.write_text(f"model,gpu,tensor_parallel\n{MODEL},H100,2\n{MODEL},nothing,1\n")
    rows = list(
        csv.DictReader(
            io.StringIO(llmco2("predict", "--requests", str(requests), "--requests-per-s", "5").out)
        )
    )
    assert float(rows[0]["gpus_needed"]) % 2 == 0
    assert float(rows[0]["energy_per_year_kwh"]) == pytest.approx(
        5 * 365.25 * 24 * float(rows[0]["energy_j"]) / 1000, rel=1e-9
    )
    assert rows[1]["gpus_needed"] == ""
    assert "MWh" in llmco2(*BASE, "--gpu", "H100", "--requests-per-s", "5").out
    outcome = llmco2(*BASE, "--gpu", "H100", "--requests-per-s", "0")
    assert (outcome.status, outcome.err) == (
        2,
        "llmco2: requests_per_s is out of range: got 0, expected a number above 0\n",
    )


def test_a_calibration_that_is_not_there_is_named_once(llmco2: Run) -> None:
    outcome = llmco2(*BASE, "--gpu", "H100,H200", "--calibration", "nope.json")
    assert outcome.err == (
        "llmco2: nope.json is no calibration: got No such file or directory; write one with llmco2 calibrate\n"
    )


def test_what_does_not_go_together_says_so(llmco2: Run, tmp_path: Path) -> None:
    requests = tmp_path / "r.csv"
    requests.write_text(f"model,gpu\n{MODEL},H100\n")
    file = ("predict", "--requests", str(requests))
    assert "write them as the column 'zone'" in llmco2(*file, "--zone", "FRA,USA").err
    assert "--sort does not go with --requests" in llmco2(*file, "--sort", "ttft_s").err
    assert "--sort goes with several values" in llmco2(*BASE, "--gpu", "H100", "--sort", "ttft_s").err


def test_the_printed_comparison_names_what_differs_and_fits_a_terminal(
    llmco2: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    argv = (
        "--gpu",
        "H100-SXM5-80GB,L40S",
        "--tensor-parallel",
        "1..4",
        "--batch-size",
        "1..64",
        "--zone",
        "FRA",
    )
    lines = llmco2("predict", "meta-llama/Llama-3.1-70B", *argv).out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert lines[0].startswith("meta-llama/Llama-3.1-70B · 1,020 prompt + 129 output tokens · engine")
    assert lines[4].split()[:3] == ["GPU", "TP", "batch"]
    text = "\n".join(lines)
    assert "in zone FRA, plus embodied" in text
    assert "more like it)" in text
    assert " ".join(text.split()).count("does not fit") == 2  # one reason for each kind of failure


def test_a_narrow_terminal_leaves_out_whole_columns_and_says_which(
    llmco2: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = "meta-llama/Llama-3.1-8B-Instruct,deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"
    argv = ("predict", models, "--gpu", "H100-SXM5-80GB,H200", "--engine", "vllm,hf-eager")
    monkeypatch.setenv("COLUMNS", "80")
    narrow = llmco2(*argv).out
    assert max(map(len, narrow.splitlines())) <= 80
    assert "DeepSeek-R1-Distill-Qwen-32B  H100-SXM5-80GB  hf-eager" in narrow
    assert "without TTFT, latency, TPOT, gCO2e per request, J per request;" in narrow
    assert "CO2e is" not in narrow
    monkeypatch.setenv("COLUMNS", "200")
    wide = llmco2(*BASE, "--gpu", "H100-SXM5-80GB,H200", "--batch-size", "1,8").out
    assert max(map(len, wide.splitlines())) <= 120
    assert "For want of width" not in wide
    assert all(heading in wide for heading in ("TTFT", "TPOT", "latency", "J per", "gCO2e per"))


@pytest.mark.parametrize(
    ("order", "heading"), [("tpot_s", "TPOT"), ("energy_per_total_token_j", "energy_per_total_token_j")]
)
def test_what_sorts_is_shown(llmco2: Run, monkeypatch: pytest.MonkeyPatch, order: str, heading: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    argv = (
        *BASE,
        "--gpu",
        "H100-SXM5-80GB,H200",
        "--batch-size",
        "1,8",
        "--tensor-parallel",
        "1,2",
        "--kv-precision",
    )
    lines = llmco2(*argv, "bf16,fp8", "--sort", order).out.splitlines()
    assert any(heading in line for line in lines[:5])


def test_a_single_output_token_has_no_time_between_tokens(llmco2: Run) -> None:
    lines = llmco2(*BASE[:-1], "1,64", "--gpu", "H100").out.splitlines()
    (line,) = (line for line in lines if line.startswith("     1 "))
    assert " – " in line.partition(" ms")[2]
