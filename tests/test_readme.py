"""The README's commands and code run as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from llmco2.records.columns import FRAME_COLUMNS

README = Path(__file__).resolve().parent.parent / "README.md"
_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    found = [
        match["code"] for match in _BLOCK.finditer(README.read_text("utf-8")) if match["language"] == language
    ]
    assert found, f"the README has no {language} block"
    return found


def commands() -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def run(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *argv], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder but for the README's table of requests."""
    (table,) = blocks("csv")
    (tmp_path / "requests.csv").write_text(table)
    return tmp_path


def test_every_command_is_ours_or_make() -> None:
    assert {command[0] for command in commands()} == {"make", "llmco2"}


@pytest.mark.parametrize(
    "command",
    [command for command in commands() if command[0] == "llmco2"],
    ids=lambda words: " ".join(words[:4]),
)
def test_a_command_works_anywhere(folder: Path, command: list[str]) -> None:
    run(folder, "-m", "llmco2.cli.main", *command[1:])


def test_make_knows_the_targets_that_are_named() -> None:
    makefile = README.with_name("Makefile").read_text("utf-8")
    for command in commands():
        if command[0] == "make":
            assert re.search(rf"^{command[1]}:.*## ", makefile, re.MULTILINE), command


def test_the_table_of_requests_is_answered_without_an_error(folder: Path) -> None:
    run(
        folder,
        "-m",
        "llmco2.cli.main",
        "predict",
        "--requests",
        "requests.csv",
        "--output",
        "predictions.parquet",
    )
    answers = pd.read_parquet(folder / "predictions.parquet")
    assert sorted(answers.columns) == sorted(FRAME_COLUMNS)
    assert answers["energy_j"].notna().all()
    assert answers["error"].tolist() == [""] * 2


def test_the_python_code_runs(folder: Path) -> None:
    (code,) = blocks("python")
    out = run(folder, "-W", "error", "-c", code).stdout
    assert re.search(r"\d+ J, \d+\.\d+ gCO2e, in domain: (True|False)", out)
    assert "operational_gco2e" in out
