"""Public sources become tables that read back to the bit, and a table stays what it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.public_runs import import_runs
from benchmarks.public_runs.kernels import _COLUMNS
from benchmarks.public_runs.tables import RUN_TABLE, kernel_table, run_table
from llmco2.data.tables import read_kernels, read_runs
from tests.benchmarks.public_runs.conftest import JOULE

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def sources(write_raw: Callable[[str, list[dict[str, Any]]], Path]) -> Path:
    """Return a folder of public sources with two made-up rows."""
    return write_raw("joulebench", [JOULE, {**JOULE, "batch_size": 8.0, "energy_j": 1500.0}])


def test_a_run_table_is_what_the_importers_return(sources: Path, tmp_path: Path) -> None:
    table = run_table(sources, tmp_path / "tables")
    assert table == tmp_path / "tables" / RUN_TABLE
    pd.testing.assert_frame_equal(read_runs(table), import_runs(sources), check_exact=True)
    assert run_table(table, tmp_path / "elsewhere") == table
    assert not (tmp_path / "elsewhere").exists()


def test_kernels_become_a_table(tmp_path: Path) -> None:
    raw = pd.DataFrame(
        [{"gpu": "H200-SXM-141GB", "kernel_source": "lib", "dtype": "bfloat16", "latency_ms": 2.0, "op": "gemm",
          "m": 8, "n": 16, "k": 32, "power_w": 500.0, "power_limit_w": 700.0}],
        columns=list(_COLUMNS),
    )  # fmt: skip
    raw.to_parquet(tmp_path / "kernels.parquet")
    table = kernel_table(tmp_path, tmp_path / "tables")
    assert read_kernels(table)["latency_s"].tolist() == [2e-3]
    assert kernel_table(table, tmp_path) == table


def test_the_command_writes_the_table_and_refuses_a_folder_that_is_not_there(
    sources: Path, tmp_path: Path
) -> None:
    def command(*argv: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "benchmarks.public_runs", *map(str, argv)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    done = command(sources, "--output", tmp_path / "tables")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'tables' / RUN_TABLE}\n")
    refused = command(tmp_path / "absent", "--output", tmp_path)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
