"""The README's commands and code run as they stand."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import llmco2
from llmco2.data.tables import frame_of, write_runs
from llmco2.records.columns import FRAME_COLUMNS
from llmco2.records.run import MeasuredRun

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


def measured_runs() -> list[MeasuredRun]:
    """Return runs of the README's board that drew a fifth more than is predicted."""
    runs = []
    for batch_size in (1.0, 4.0, 16.0):
        asked: dict[str, Any] = {"model": "Qwen/Qwen3-8B", "gpu": "H100-SXM5-80GB", "engine": "vllm",
                                 "batch_size": batch_size, "prompt_tokens": 512.0, "output_tokens": 128.0}  # fmt: skip
        energy_j = 1.2 * llmco2.predict(**asked).total.energy_j
        runs.append(MeasuredRun(run_id=f"b{batch_size:g}", source="readme", energy_j=energy_j, **asked))
    return runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with what the README's commands start from: its table of requests, and measured runs."""
    (table,) = blocks("csv")
    (tmp_path / "requests.csv").write_text(table)
    write_runs(frame_of(measured_runs()), tmp_path / "runs.jsonl")
    return tmp_path


def test_every_command_is_ours_or_make() -> None:
    assert {command[0] for command in commands()} == {"make", "llmco2"}


@pytest.mark.parametrize(
    "command",
    [command for command in commands() if command[0] == "llmco2"],
    ids=lambda words: " ".join(words[:4]),
)
def test_a_command_works_anywhere(folder: Path, command: list[str]) -> None:
    if "--calibration" in command:  # which the command before it wrote
        run(folder, "-m", "llmco2.cli.main", "calibrate", "runs.jsonl", "--output", "my_gpu.json")
    run(folder, "-m", "llmco2.cli.main", *command[1:])


def test_the_calibration_is_used_as_the_readme_says(folder: Path) -> None:
    calibrate, predict = (command for command in commands() if "my_gpu.json" in command)
    assert "energy error" in run(folder, "-m", "llmco2.cli.main", *calibrate[1:]).stdout
    assert "calibrated with 3 runs" in run(folder, "-m", "llmco2.cli.main", *predict[1:]).stdout


def test_every_file_that_is_linked_exists() -> None:
    for target in re.findall(r"\]\(([^):#]+)\)", README.read_text("utf-8")):
        assert (README.parent / target).is_file(), target


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
        "predictions.csv",
    )
    answers = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    assert sorted(answers.columns) == sorted(FRAME_COLUMNS)
    assert answers["energy_j"].notna().all()
    assert answers["error"].tolist() == [""] * 2


def test_the_python_code_runs(folder: Path) -> None:
    (code,) = blocks("python")
    out = run(folder, "-W", "error", "-c", code).stdout
    assert re.search(r"\d+ J, \d+\.\d+ gCO2e, in domain: (True|False)", out)
    assert "operational_gco2e" in out


def test_the_makefile_runs_only_what_exists() -> None:
    makefile = README.with_name("Makefile").read_text("utf-8")
    scripts = re.findall(r"\$\(BIN\)/python ([\w/]+\.py)", makefile)
    modules = re.findall(r"python -m ((?:llmco2|benchmarks)[\w.]*)", makefile)
    assert scripts
    assert modules
    for script in scripts:
        assert (README.parent / script).is_file(), script
    for module in modules:
        assert importlib.util.find_spec(module), module
