"""docs/serving.md names commands, options, metrics and columns that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from llmco2.cli.main import main
from llmco2.serving import export_names as names
from llmco2.serving import request_log
from llmco2.serving.engines import ENGINES

_TEXT = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text("utf-8")
_COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```$", _TEXT, flags=re.M | re.S)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_option_of_a_command_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, name, *argv = shlex.split(command)
    assert program == "llmco2"
    with pytest.raises(SystemExit) as left:
        main([name, *argv, "--help"])
    assert left.value.code == 0
    known = capsys.readouterr().out
    assert all(word in known for word in argv if word.startswith("--"))


def test_every_metric_column_and_engine_exists() -> None:
    known = {metric.name for metric in names.METRICS}
    used = set(re.findall(r"llmco2_\w+", _TEXT))
    assert used
    assert used <= known
    columns = {*request_log.REQUIRED, request_log.FIRST_TOKEN, request_log.TTFT, request_log.CACHED}
    assert {*columns, request_log.TIME, request_log.ENERGY, request_log.POWER} <= set(
        re.findall(r"`(\w+)`", _TEXT)
    )
    rows = re.findall(r"^\| ([^|]+) \| `", _TEXT, flags=re.M)
    assert len(rows) == len(ENGINES)
    assert all(any(row.startswith(engine.title.split()[0]) for row in rows) for engine in ENGINES.values())
