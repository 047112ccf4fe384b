"""What leaves the command line: files that may be written, streams that are closed or narrow, one schema of JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from llmco2.cli.answers_file import print_answers
from llmco2.cli.output_file import check_output
from llmco2.errors import InputError
from llmco2.records.columns import FRAME_COLUMNS
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
ONE = ("predict", "Qwen/Qwen3-8B", "--gpu", "H100")
TWO = ("predict", "Qwen/Qwen3-8B", "--gpu", "H100,L40S")


def refused(outcome: Outcome) -> str:
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    return outcome.err


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests.csv"
    path.write_text("model,gpu\nQwen/Qwen3-8B,H100\nQwen/Qwen3-8B-FP8,H100\n")
    return path


def test_one_comparison_and_table_have_one_schema(llmco2: Run, requests: Path) -> None:
    single, compared, table = (
        json.loads(llmco2(*argv, "--format", "json").out)
        for argv in (ONE, TWO, ("predict", "--requests", str(requests)))
    )
    assert [len(rows) for rows in (single, compared, table)] == [1, 2, 2]
    for row in (*single, *compared, *table):
        assert set(row) == {*FRAME_COLUMNS, "details"}
    assert single[0]["details"]["carbon"]["factors"]
    assert [row["details"] for row in (*compared, *table)] == [None] * 4
    for argv in (ONE, TWO, ("predict", "--requests", str(requests))):
        rows = list(map(json.loads, llmco2(*argv, "--format", "jsonl").out.splitlines()))
        assert [set(row) for row in rows] == [set(FRAME_COLUMNS)] * len(rows)


def test_which_precision_answered_is_in_every_row(llmco2: Run, requests: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(llmco2("predict", "--requests", str(requests)).out)))
    assert [row["resolved_precision"] for row in rows] == ["bf16", "fp8-block"]
    assert [row["resolved_model"] for row in rows] == ["Qwen/Qwen3-8B"] * 2
    assert all("no engine was named" in row["notes"] for row in rows)


@pytest.mark.parametrize(
    "order", ["operational_gco2e", "gpu", "batch_size", "resolved_n_gpus", "notes", "in_domain"]
)
def test_any_column_sorts_both_ways(llmco2: Run, order: str) -> None:
    argv = (*TWO, "--batch-size", "1,8", "--format", "csv", "--sort")
    up = [row[order] for row in csv.DictReader(io.StringIO(llmco2(*argv, order).out))]
    down = [row[order] for row in csv.DictReader(io.StringIO(llmco2(*argv, f"{order}:desc").out))]
    assert llmco2(*argv, order, "--descending").out == llmco2(*argv, f"{order}:desc").out
    assert up == down[::-1] == sorted(up, key=lambda cell: float(cell) if cell[0].isdigit() else cell)
    assert len(up) == 4


def test_names_of_several_gpus_are_compared_with_how_many_each_uses(llmco2: Run) -> None:
    shown = llmco2("predict", "Qwen/Qwen3-8B", "--gpu", "p5.48xlarge,g6e.12xlarge,L40S").out
    assert "TP" not in shown.splitlines()[0]
    rows = [line.split()[:2] for line in shown.splitlines() if line.startswith(("p5", "g6e", "L40S"))]
    assert sorted(rows) == [["L40S", "1"], ["g6e.12xlarge", "4"], ["p5.48xlarge", "8"]]
    same = llmco2("predict", "Qwen/Qwen3-8B", "--gpu", "p5.48xlarge,p4d.24xlarge").out
    assert " · TP 8 · " in same.splitlines()[0]


def test_a_text_column_that_sorts_is_shown(llmco2: Run) -> None:
    shown = llmco2(*TWO, "--sort", "resolved_precision:desc").out
    assert "resolved_precision" in shown
    assert "most resolved_precision first" in shown


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--gpu", "H100,H20O"), "unknown GPU: got 'H20O'"),
        (("--gpu", "H100,L40S", "--engine", "vllm,vlm8"), "unknown engine: got 'vlm8'"),
        (("--gpu", "H100", "--precision", "bf16,bf61"), "unknown precision: got 'bf61'"),
        (("--gpu", "H100", "--kv-precision", "fp8,fp80"), "unknown precision: got 'fp80'"),
        (("--gpu", "H100", "--zone", "FRA,Atlantis"), "unknown grid zone: got 'Atlantis'"),
        (("--gpu", "H100", "--batch-size", "0,8"), "batch_size is out of range: got 0"),
        (("--gpu", "H100", "--batch-size", "nan,8"), "batch_size is not a number: got nan"),
        (("--gpu", "H100", "--output-tokens", "8,inf"), "output_tokens is not a number: got inf"),
        (("--gpu", "H100", "--serving", "static,dynamic"), "unknown serving mode: got 'dynamic'"),
        (("--gpu", "H100,L40S", "--tensor-parallel", "1,3"), "no combination can use tensor_parallel 3"),
        (("--gpu", "A100,V100", "--precision", "fp16,nvfp4"), "no combination can use precision nvfp4"),
        (("--gpu", "H100,L40S", "--sort", "energy"), "unknown column to sort by"),
        (("--gpu", "H100,L40S", "--sort", "energy_j:down"), "unknown direction"),
        (("--gpu", "H100,L40S", "--sort", "zone"), "unknown column to sort by"),
        (("--gpu", "H100", "--descending"), "--descending goes with several values"),
        (("--gpu", "H100", "--force"), "--force goes with --output"),
        (("--gpu", "X" * 10_000), "(10,002 characters)"),
        (("--gpu", "H100", "--batch-size", "9" * 5000), "batch_size"),
    ],
)
def test_a_value_that_no_combination_can_use_is_refused_before_any_answer(
    llmco2: Run, argv: tuple[str, ...], says: str
) -> None:
    err = refused(llmco2("predict", "Qwen/Qwen3-8B", *argv))
    assert says in err
    assert len(err) < 1_200


def test_one_that_some_combination_can_use_is_answered(llmco2: Run) -> None:
    outcome = llmco2(
        "predict", "Qwen/Qwen3-8B", "--gpu", "A100,B200", "--precision", "bf16,nvfp4", "--format", "csv"
    )
    assert outcome.status == 0
    assert outcome.err.startswith("llmco2: 3 of 4 requests answered; 1 failed")


def test_a_device_pipe_link_folder_and_the_input_are_never_written(
    llmco2: Run, requests: Path, tmp_path: Path
) -> None:
    (tmp_path / "goal.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to(tmp_path / "goal.csv")
    (tmp_path / "loose.csv").symlink_to(tmp_path / "absent.csv")
    (tmp_path / "null.csv").symlink_to(os.devnull)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "hard.csv").hardlink_to(requests)
    os.mkfifo(tmp_path / "pipe.csv")
    before = requests.read_text()
    for name, what in (
        ("link.csv", "a symbolic link"),
        ("loose.csv", "a symbolic link"),
        ("null.csv", "a symbolic link"),
        ("folder.csv", "a folder"),
        ("pipe.csv", "a named pipe"),
        ("requests.csv", "the file that is read"),
        ("hard.csv", "the file that is read"),
    ):
        argv = ("predict", "--requests", str(requests), "--force", "--output", str(tmp_path / name))
        assert what in refused(llmco2(*argv)), name
    assert requests.read_text() == before
    assert (tmp_path / "goal.csv").read_text() == "mine"
    assert not (tmp_path / "absent.csv").exists()
    with pytest.raises(InputError, match="got a device"):
        check_output(Path(os.devnull), force=True)
    for name in ("x" * 300, "no\0name", "requests.csv/deeper"):
        with pytest.raises(InputError, match="cannot write"):
            check_output(tmp_path / f"{name}.csv", force=True)


def test_a_file_is_replaced_only_with_force_or_a_yes(
    llmco2: Run, requests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "answers.csv"
    target.write_text("yesterday's")
    argv = ("predict", "--requests", str(requests), "--output", str(target))
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    assert "give --force to replace it" in refused(llmco2(*argv))  # a pipe is no person
    assert target.read_text() == "yesterday's"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, kept in (("n\n", True), ("\n", True), ("", True), ("y\n", False)):
        stderr = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        monkeypatch.setattr(sys, "stderr", stderr)
        target.write_text("yesterday's")
        llmco2(*argv)
        assert "replace it? [y/N]" in stderr.getvalue()
        assert (target.read_text() == "yesterday's") is kept, answer
    monkeypatch.undo()
    assert llmco2(*argv, "--force").status == 0
    assert len(pd.read_csv(target)) == 2


def test_infinity_is_text_in_json_and_no_value_vanishes() -> None:
    table = pd.DataFrame(
        {
            "mine": [float("inf"), -float("inf"), 1e-300, float("nan")],
            "whole": pd.array([2**62, 1, None, 3], dtype="Int64"),
            "when": pd.to_datetime(["2026-01-02"] * 4),
            "yes": pd.array([True, None, False, True], dtype="boolean"),
        }
    )
    for kind in ("json", "jsonl"):
        stream = io.StringIO()
        print_answers(table, stream, kind)

        def refuse(constant: str) -> None:
            raise AssertionError(constant)

        text = stream.getvalue()
        lines = [text] if kind == "json" else text.splitlines()
        rows = [json.loads(line, parse_constant=refuse) for line in lines]
        rows = rows[0] if kind == "json" else rows
        assert [row["mine"] for row in rows] == ["inf", "-inf", 1e-300, None]
        assert [row["whole"] for row in rows] == [2**62, 1, None, 3]
        assert [row["yes"] for row in rows] == [True, None, False, True]
        assert rows[0]["when"] == "2026-01-02 00:00:00"


def test_an_empty_table_is_an_empty_array() -> None:
    stream = io.StringIO()
    print_answers(pd.DataFrame({"model": []}), stream, "json")
    assert json.loads(stream.getvalue()) == []


def in_a_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m llmco2.cli.main"
    return subprocess.run(
        ["bash", "-c", command.replace("llmco2", program, 1)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("command", "status", "err"),
    [
        ("llmco2 models >&-", 0, ""),
        ("llmco2 gpus nothing >&-", 2, "llmco2: no entry of gpus matches"),
        ("llmco2 gpus nothing 2>&-", 2, ""),
        ("llmco2 models | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}", 141, ""),
        ("llmco2 models >/dev/full", 1, "llmco2: [Errno 28] No space left on device\n"),
    ],
)
def test_a_stream_that_is_closed_full_or_left_ends_quietly(command: str, status: int, err: str) -> None:
    done = in_a_shell(command)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(err)
    assert done.stderr.count("\n") == (1 if err else 0)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_json_on_a_narrow_stream_says_every_character_still(requests: Path, kind: str) -> None:
    requests.write_text("model,gpu,mine\nQwen/Qwen3-8B,H100,152 µg ≈ €\n", encoding="utf-8")
    command = f"llmco2 predict --requests {requests} --format {kind}"
    done = in_a_shell(command, PYTHONIOENCODING="ascii")
    assert done.stdout.isascii()
    answer = json.loads(done.stdout)
    assert (answer[0] if kind == "json" else answer)["mine"] == "152 µg ≈ €"


def test_a_console_without_a_character_shows_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    done = in_a_shell("llmco2 predict Qwen/Qwen3-0.6B --gpu H100 --output-tokens 1", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "?" not in done.stdout
    assert "ugCO2e" in done.stdout
    assert done.stdout.isascii()
