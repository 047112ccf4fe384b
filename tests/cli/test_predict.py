"""``llmco2 predict`` passes on what was given, no more, and prints what the predictor said."""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmco2.carbon.factors import DEFAULT_LIFETIME, DEFAULT_UTILIZATION
from llmco2.cli import predict
from llmco2.cli.arguments import OneLineParser
from llmco2.errors import FileFormatError, InputError, RequestError, UnknownNameError
from llmco2.records.columns import FRAME_COLUMNS
from llmco2.records.request import SERVING_MODES
from llmco2.report.json_format import footprint_from_json
from llmco2.report.table import footprint_text
from tests.cli.conftest import KnownPredictor

MODEL = ("meta-llama/Llama-3.1-8B-Instruct", "--gpu", "H100-SXM5-80GB")
GOOD_ROW = {"model": "m", "gpu": "H100-SXM5-80GB", "batch_size": 2, "prompt_tokens": 30, "output_tokens": 20}


def parse(*argv: str) -> argparse.Namespace:
    parser = OneLineParser(prog="llmco2")
    predict.add_parser(parser.add_subparsers(dest="command"))
    return parser.parse_args(["predict", *argv])


def test_an_option_that_was_not_given_is_left_to_the_predictor(predictor: KnownPredictor) -> None:
    assert predict.run(parse(*MODEL), predictor) == 0
    assert predictor.calls == [{"model": MODEL[0], "gpu": MODEL[2]}]


def test_every_option_reaches_the_predictor_under_its_name(predictor: KnownPredictor) -> None:
    given: dict[str, Any] = {
        "tensor_parallel": 2,
        "pipeline_parallel": 1,
        "expert_parallel": 1,
        "engine": "vllm",
        "precision": "fp8",
        "kv_precision": "fp8",
        "batch_size": 8,
        "prompt_tokens": 512,
        "output_tokens": 256.5,
        "serving": "continuous",
        "zone": "FRA",
        "pue": 1.1,
        "lifetime_years": 4,
        "utilization": 0.7,
        "calibration": "mine.json",
        "checkpoint": "own.json",
    }
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    predict.run(parse(*MODEL, *argv, "--carbon-intensity", "41.5"), predictor)
    expected = {**given, "model": MODEL[0], "gpu": MODEL[2], "carbon_intensity_gco2e_per_kwh": 41.5}
    assert predictor.calls == [expected]


def test_the_three_formats(predictor: KnownPredictor, capsys: pytest.CaptureFixture[str]) -> None:
    answer = predictor.predict(model=MODEL[0], gpu=MODEL[2])
    predict.run(parse(*MODEL), predictor)
    assert capsys.readouterr().out == footprint_text(answer)
    predict.run(parse(*MODEL, "--format", "json"), predictor)
    assert footprint_from_json(capsys.readouterr().out) == answer
    predict.run(parse(*MODEL, "--format", "csv"), predictor)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert tuple(row) == FRAME_COLUMNS
    assert float(row["energy_j"]) == 1020 + 129


@pytest.mark.parametrize(
    "option", ["--batch-size=nan", "--prompt-tokens=inf", "--output-tokens=0", "--batch-size=-1"]
)
def test_a_number_that_cannot_be_is_refused_by_name(predictor: KnownPredictor, option: str) -> None:
    with pytest.raises(RequestError, match=option[2:].partition("=")[0].replace("-", "_")):
        predict.run(parse(*MODEL, option), predictor)


def test_an_unknown_gpu_is_passed_up(predictor: KnownPredictor) -> None:
    with pytest.raises(UnknownNameError, match="did you mean H100-SXM5-80GB"):
        predict.run(parse("m", "--gpu", "H100-SXM5"), predictor)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((*MODEL, "--output", "x.csv"), "--output goes with --requests"),
        (("--requests", "r.csv", "--gpu", "x"), "gpu is given beside --requests"),
        (("m", "--requests", "r.csv"), "model is given beside --requests"),
        (("--requests", "r.csv", "--format", "table"), "--format does not apply"),
        (("--requests", "r.csv", "--output", "o.csv", "--format", "csv"), "--format does not apply"),
        (("--requests", "r.xlsx"), "unknown kind of file r.xlsx"),
        (("--requests", "r.csv", "--output", "o.txt"), "unknown kind of file o.txt"),
        (("--requests", "r.csv", "--output", "no/such/o.csv"), "got no folder no/such; create it first"),
        (("--requests", "absent.csv"), "cannot read absent.csv: got No such file"),
        (("--requests", "absent.parquet"), "cannot read absent.parquet: got No such file"),
    ],
)
def test_what_does_not_go_together_is_refused(
    predictor: KnownPredictor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    argv: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        predict.run(parse(*argv), predictor)
    assert says in str(caught.value)
    assert not predictor.calls


@pytest.mark.parametrize("output", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("source", [".csv", ".parquet", ".jsonl"])
def test_a_table_of_requests_is_answered_row_by_row(
    predictor: KnownPredictor, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, output: str
) -> None:
    frame = pd.DataFrame([GOOD_ROW, {**GOOD_ROW, "gpu": "H1"}, {**GOOD_ROW, "batch_size": 0}, GOOD_ROW])
    requests, answers = tmp_path / f"requests{source}", tmp_path / f"answers{output}"
    write(frame, requests)
    assert predict.run(parse("--requests", str(requests), "--output", str(answers)), predictor) == 0
    found = read(answers)
    assert tuple(found.columns) == FRAME_COLUMNS
    assert found["energy_j"].tolist()[::3] == [100.0, 100.0]
    assert found["energy_j"].isna().tolist() == [False, True, True, False]
    assert "unknown GPU: got 'H1'" in found["error"][1]
    assert "batch_size is out of range: got 0" in found["error"][2]
    err = capsys.readouterr().err
    assert err.startswith(f"llmco2: 2 of 4 requests of {requests} answered, written to {answers}; 2 failed")
    assert "(row 2: unknown GPU: got 'H1'" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([requests.name, answers.name])


def write(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=True)


def test_answers_go_to_the_pipe_without_output(
    predictor: KnownPredictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "requests.csv"
    write(pd.DataFrame([GOOD_ROW]), path)
    predict.run(parse("--requests", str(path)), predictor)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert float(row["energy_j"]) == 100.0
    predict.run(parse("--requests", str(path), "--format", "json"), predictor)
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["energy_j"] == 100.0
    predict.run(parse("--requests", str(path), "--format", "jsonl"), predictor)
    assert json.loads(capsys.readouterr().out)["energy_j"] == 100.0


def test_an_earlier_answer_can_be_asked_again(predictor: KnownPredictor, tmp_path: Path) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write(pd.DataFrame([GOOD_ROW]), tmp_path / "r.parquet")
    predict.run(parse("--requests", str(tmp_path / "r.parquet"), "--output", str(first)), predictor)
    predict.run(parse("--requests", str(first), "--output", str(second)), predictor)
    pd.testing.assert_frame_equal(read(first), read(second))


def test_an_error_midway_leaves_the_old_answer_and_no_debris(
    predictor: KnownPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, answers = tmp_path / "r.csv", tmp_path / "answers.csv"
    write(pd.DataFrame([GOOD_ROW]), requests)
    answers.write_text("yesterday's")

    def full_disk(self: pd.DataFrame, stream: Any, **_: Any) -> None:
        stream.write("model,gpu")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(InputError, match=r"cannot write .*answers.csv: got No space left on device"):
        predict.run(parse("--requests", str(requests), "--output", str(answers), "--force"), predictor)
    assert answers.read_text() == "yesterday's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "r.csv"]


def test_a_file_that_is_no_table_of_requests_is_never_half_answered(
    predictor: KnownPredictor, tmp_path: Path
) -> None:
    path = tmp_path / "r.csv"
    path.write_text("model,gpu\na,b\nc\n")
    with pytest.raises(FileFormatError, match="line 3: got 1 cells, expected 2"):
        predict.run(parse("--requests", str(path), "--output", str(tmp_path / "o.csv")), predictor)
    assert not predictor.calls
    assert not (tmp_path / "o.csv").exists()


def test_the_help_states_the_defaults_that_the_arithmetic_has(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    for factor in (DEFAULT_LIFETIME, DEFAULT_UTILIZATION):
        option = {"lifetime": "--lifetime-years"}.get(factor.name, f"--{factor.name}")
        assert f"(default: {factor.value:g})" in text.partition(f"{option} ")[2].partition(" --")[0]
    assert all(f"{mode}: " in text for mode in SERVING_MODES)
