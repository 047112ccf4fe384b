"""``python -m benchmarks.accuracy`` refuses bad input in one line, before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy import __main__ as command
from benchmarks.command_line import EXIT_INPUT, exit_code
from llmco2.data.simulate import SHIPPED_FILE
from llmco2.resources import datasets_dir


def evaluate(argv: list[str]) -> int:
    return exit_code(lambda: command.main(argv))


@pytest.fixture
def runs(tmp_path: Path) -> str:
    path = tmp_path / "runs.csv"
    path.write_text("run_id\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--seeds", "0"], "bad --seeds: got 0, expected 1 to 100"),
        (["--jobs", "0"], "bad --jobs: got 0, expected 1"),
        (["--output", "{runs}"], "--output is no folder"),
        (["--splits", "{runs}.none"], "no such list of groups"),
        (["--methods", "formulae"], "unknown method: got 'formulae'; did you mean formula"),
        (["--methods", ","], "--methods names nothing"),
        ([], "runs.csv"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], reason: str, runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [option.format(runs=runs) for option in options]
    output = [] if "--output" in options else ["--output", str(tmp_path / "results")]
    assert evaluate(["--runs", runs, *output, *arguments]) == EXIT_INPUT
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_runs_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["--runs", "nowhere"]) == EXIT_INPUT
    assert "no such runs: got nowhere" in capsys.readouterr().err


def test_simulated_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = str(datasets_dir() / SHIPPED_FILE)
    assert evaluate(["--runs", shipped, "--output", str(tmp_path / "r")]) == EXIT_INPUT
    assert "simulated" in capsys.readouterr().err


def test_runs_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        evaluate([])
    assert left.value.code == EXIT_INPUT
    assert "--runs" in capsys.readouterr().err
