"""A checkpoint that somebody names and that cannot be is one line and exit code 2; ours, damaged, is exit code 1."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from llmco2.data.tables import frame_of, write_runs
from llmco2.predictor import checkpoint as checkpoints
from llmco2.records.run import MeasuredRun
from llmco2.resources import checkpoint_dir
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
MODEL, GPU = "Qwen/Qwen3-8B", "H100-SXM5-80GB"
FAULTS = {
    "missing": "no such checkpoint: got {path}; give the .json",
    "torn text": "{path} is no checkpoint: got ",
    "torn numbers": "own.npz is damaged: got SHA-256 ",
    "foreign": "{path} is no checkpoint: expected format 'llmco2-checkpoint'; give the .json",
    "a folder": "{path} is no checkpoint: got [Errno 21]",
}


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """Return command lines that end well with a sound checkpoint, by entry point."""
    table, runs = tmp_path / "requests.csv", tmp_path / "runs.csv"
    pd.DataFrame([{"model": MODEL, "gpu": GPU}]).to_csv(table, index=False)
    drawn = {"model": MODEL, "gpu": GPU, "engine": "vllm", "precision": "bf16", "latency_s": 1.0,
             "batch_size": 1.0, "prompt_tokens": 128.0, "output_tokens": 32.0, "energy_j": 300.0}  # fmt: skip
    write_runs(frame_of([MeasuredRun(run_id=str(i), source="test", **drawn) for i in range(3)]), runs)
    return {
        "predict one": ("predict", MODEL, "--gpu", GPU),
        "predict a table": ("predict", "--requests", str(table)),
        "calibrate": ("calibrate", str(runs), "--output", str(tmp_path / "written.json")),
        "monitor once": ("monitor", MODEL, "--gpu", GPU, "--replay", "--once"),
        "monitor, the screen": ("monitor", MODEL, "--gpu", GPU, "--replay"),
    }


def spoil(fault: str, path: Path) -> None:
    """Copy the checkpoint that ships to ``path`` and do to it what ``fault`` says."""
    if fault == "missing":
        return
    if fault == "a folder":
        path.mkdir()
        return
    numbers = path.with_suffix(".npz")
    for half in (path, numbers):
        shutil.copy(checkpoint_dir() / f"default{half.suffix}", half)
    if fault == "foreign":
        path.write_text('{"format": "other"}')
    else:
        torn = path if fault == "torn text" else numbers
        torn.write_bytes(torn.read_bytes()[:-100])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "entry", ["predict one", "predict a table", "calibrate", "monitor once", "monitor, the screen"]
)
def test_a_checkpoint_that_cannot_be_is_one_line_and_exit_code_2(
    llmco2: Run, arguments: dict[str, tuple[str, ...]], tmp_path: Path, entry: str, fault: str
) -> None:
    path = tmp_path / "own.json"
    spoil(fault, path)
    outcome = llmco2(*arguments[entry], "--checkpoint", str(path))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("llmco2: ")
    assert outcome.err.count("\n") == 1
    assert FAULTS[fault].format(path=path) in outcome.err
    assert not (tmp_path / "written.json").exists()


@pytest.mark.parametrize("name", [".", "..", "/", ""])
def test_a_name_without_a_file_in_it_is_no_checkpoint(llmco2: Run, name: str) -> None:
    outcome = llmco2("predict", MODEL, "--gpu", GPU, "--checkpoint", name)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "is no checkpoint: got [Errno 21]" in outcome.err


def test_a_calibration_that_cannot_be_keeps_the_screen_closed(llmco2: Run, tmp_path: Path) -> None:
    outcome = llmco2("monitor", "--replay", "--once", "--calibration", str(tmp_path / "none.json"))
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "none.json is no calibration" in outcome.err


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checkpoint_that_ships_damaged_is_a_broken_installation(
    llmco2: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    spoil(fault, tmp_path / "own.json")
    for half in tmp_path.glob("own.*"):
        half.rename(half.with_name(f"default{half.suffix}"))
    monkeypatch.setattr(checkpoints, "checkpoint_dir", lambda: tmp_path)
    outcome = llmco2("predict", MODEL, "--gpu", GPU)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    what = FAULTS[fault].format(path=tmp_path / "default.json").partition(";")[0]
    assert what.replace("own", "default") in outcome.err
    assert outcome.err.endswith("; reinstall with: pip install --force-reinstall llmco2\n")
