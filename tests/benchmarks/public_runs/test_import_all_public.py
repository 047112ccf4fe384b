"""Opt-in: the importers over the whole public files, where a developer has them beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.public_runs import import_all, source_report
from benchmarks.public_runs.sanity import ABOVE_LIMIT, BELOW_IDLE
from llmco2.catalog.gpus import load_gpus
from llmco2.data.tables import read_runs, write_runs
from llmco2.records.engines import ENGINES

PUBLIC_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (PUBLIC_DATA / "runs.csv.gz").is_file(), reason="the public measurement files are not here"
    ),
]


def test_every_source_imports_to_plausible_rows(tmp_path: Path) -> None:
    runs, kernels = import_all(PUBLIC_DATA)
    report = source_report(runs)
    assert len(report) == 13
    assert len(runs) > 4000
    assert runs["run_id"].is_unique
    assert len(kernels) > 990_000
    assert kernels["power_w"].notna().sum() > 420_000
    assert report[[ABOVE_LIMIT, BELOW_IDLE]].to_numpy().sum() == 0
    assert set(runs["engine"]) <= set(ENGINES)
    assert set(runs["gpu"]) <= set(load_gpus())
    assert runs["weight"].between(0.1, 1.0).all()
    assert len(read_runs(write_runs(runs, tmp_path / "runs.parquet"))) == len(runs)
