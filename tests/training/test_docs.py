"""The commands and the code of docs/training.md run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from llmco2.cli.main import main

_TEXT = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text("utf-8")


def test_the_commands_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```sh\n(.*?)^```$", _TEXT, flags=re.M | re.S)
    for line in block.splitlines():
        program, *argv = shlex.split(line)
        assert program == "llmco2"
        assert main(argv) == 0
    assert "test/delta_net/median_ape_percent" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_the_code_prints_an_error_in_percent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", _TEXT, flags=re.M | re.S)
    exec(compile(code, "docs/training.md", "exec"), {})  # noqa: S102
    assert 0.0 < float(capsys.readouterr().out.split()[-1]) < 40.0
    assert not list(tmp_path.iterdir())
