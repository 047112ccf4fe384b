"""The commands and the code of docs/predicting.md run as they stand, and its tables name every column."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from llmco2.cli.main import main
from llmco2.records.columns import ANSWER_COLUMNS, RESOLVED_COLUMNS, YEARLY_COLUMNS
from llmco2.records.request import REQUEST_COLUMNS

_TEXT = (Path(__file__).resolve().parent.parent / "docs" / "predicting.md").read_text("utf-8")
_COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", _TEXT, flags=re.M | re.S)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_command_answers(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program, *argv = shlex.split(command)
    assert program == "llmco2"
    assert main(argv) == 0
    said = capsys.readouterr().out
    if "--explain" in argv:
        assert "Where the energy goes" in said
    else:
        assert "1 J per token is 0.278 kWh" in said or (tmp_path / "grid.csv").is_file()


def test_the_code_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", _TEXT, flags=re.M | re.S)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "energy_per_request_j" in done.stdout
    assert "H100" in done.stdout


def test_every_column_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", _TEXT))
    assert {*REQUEST_COLUMNS, "zone", *ANSWER_COLUMNS, *RESOLVED_COLUMNS, *YEARLY_COLUMNS} <= named
