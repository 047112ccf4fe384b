"""Whatever the source: rows stack, keep their identifiers, are flagged, or are refused in one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.public_runs import import_all, import_source, source_report
from benchmarks.public_runs.rows import precision_of, weight_of_trust
from benchmarks.public_runs.sanity import flag_power, implied_power_w
from llmco2.data.schema import canonical_frame
from llmco2.errors import FileFormatError, InputError, UnknownNameError
from llmco2.records.run import RUN_COLUMNS, MeasuredRun
from tests.benchmarks.public_runs.conftest import JOULE, STEADY, Importer


def test_import_all_stacks_sources_and_leaves_flagged_rows_out(write_raw: Callable[..., Path]) -> None:
    folder = write_raw("mlenergy_v3", [STEADY, {**STEADY, "task": "video-chat"}])
    runs, kernels = import_all(folder)
    assert list(runs.columns) == list(RUN_COLUMNS)
    assert len(runs) == 1
    assert len(import_all(folder, include_flagged=True)[0]) == 2
    assert kernels.empty
    assert source_report(runs).loc["mlenergy_v3", "rows"] == 1


def test_run_ids_are_stable_and_tell_configurations_apart(import_rows: Importer) -> None:
    first = import_rows("joulebench", JOULE, {**JOULE, "batch_size": 8.0})
    again = import_rows("joulebench", {**JOULE, "batch_size": 8.0, "energy_j": 1.5e3}, JOULE)
    assert first["run_id"].is_unique
    assert set(first["run_id"]) == set(again["run_id"])


def test_a_foreign_or_damaged_source_is_one_clear_line(tmp_path: Path, import_rows: Importer) -> None:
    with pytest.raises(UnknownNameError, match="did you mean joulebench"):
        import_source("joulbench", tmp_path)
    with pytest.raises(InputError, match="no such file"):
        import_source("joulebench", tmp_path)
    (tmp_path / "runs.csv.gz").write_bytes(b"\x1f\x8b\x08 torn")
    with pytest.raises(FileFormatError, match=r"cannot read runs\.csv\.gz") as error:
        import_source("joulebench", tmp_path)
    assert "\n" not in str(error.value)
    pd.DataFrame({"file": ["joulebench"], "gpu": ["A2"]}).to_csv(tmp_path / "runs.csv.gz", index=False)
    with pytest.raises(FileFormatError, match="not the table of the source 'joulebench'"):
        import_source("joulebench", tmp_path)
    with pytest.raises(InputError, match="has no row of the source 'splitwise'"):
        import_source("splitwise", tmp_path)
    with pytest.raises(FileFormatError, match="unknown dtype"):
        import_rows("joulebench", {**JOULE, "dtype": "float128"})


def test_power_outside_the_limits_of_the_board_is_flagged() -> None:
    common = {"run_id": "a", "source": "s", "model": "m", "gpu": "H100-SXM5-80GB", "latency_s": 2.0}
    rows = [
        {**common, "energy_j": 1000.0},  # 500 W
        {**common, "energy_j": 1600.0},  # 800 W on a 700 W board
        {**common, "energy_j": 1000.0, "power_limit_w": 350.0},
        {**common, "energy_j": 20.0},  # 10 W: less than it idles at
        {**common, "energy_j": 1600.0, "tensor_parallel": 2},
    ]
    runs = flag_power(canonical_frame(pd.DataFrame(rows), MeasuredRun))
    assert implied_power_w(runs).tolist() == [500.0, 800.0, 500.0, 10.0, 400.0]
    assert runs["flags"].tolist() == ["", "power_above_limit", "power_above_limit", "power_below_idle", ""]


def test_trust_and_precision_names() -> None:
    assert [weight_of_trust(trust) for trust in (1, 5)] == [0.2, 1.0]
    assert precision_of("BF16") == "bf16"
    assert precision_of("w4a16_mxfp4") == "mxfp4"
