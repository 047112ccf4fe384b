"""A damaged table of the installation is the installation's fault: one line that names it, exit code 1."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmco2.resources import datasets_dir

# The tables are read once per process, so each damage has a process of its own.
_RUN = """
import sys
from pathlib import Path
from llmco2.catalog import tables
tables.datasets_dir = lambda: Path(sys.argv[1])
from llmco2.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
_PREDICT = ("predict", "Qwen/Qwen3-8B", "--gpu", "p5.48xlarge", "--zone", "aws:eu-west-3")


def _removed(path: Path) -> None:
    path.unlink()


def _no_text(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b",", b"\xff", 1))


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].rpartition(b"\n")[0] + b"\nQwen/Half")


def _no_numbers(path: Path) -> None:
    header, _, rows = path.read_text(encoding="utf-8").partition("\n")
    path.write_text(f"{header}\n{rows.replace(',1', ',x').replace(',5', ',x')}", encoding="utf-8")


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    for path in datasets_dir().glob("*.csv"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("models.csv", _removed),
        ("models.csv", _no_text),
        ("models.csv", _cut),
        ("models.csv", _no_numbers),
        ("gpus.csv", _cut),
        ("gpus.csv", _no_numbers),
        ("instances.csv", _cut),
        ("model_aliases.csv", _cut),
        ("servers.csv", _no_numbers),
        ("embodied.csv", _no_numbers),
        ("pue.csv", _no_numbers),
        ("grid_regions.csv", _removed),
        ("grid_countries.csv", _no_numbers),
    ],
)
def test_the_table_is_named_and_the_exit_code_says_it_is_not_the_input(
    tables: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(tables / name)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tables), *_PREDICT],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.stderr.startswith(f"llmco2: the table {name} that ships with llmco2 is damaged: got ")
    assert done.stderr.endswith("; reinstall with: pip install --force-reinstall llmco2\n")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
