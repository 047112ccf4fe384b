"""Tables survive a round trip in every format, and a file that is not whole or not ours says where."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.data.flags import has_flag
from llmco2.data.schema import KERNEL_COLUMNS, RUN_COLUMNS, canonical_frame
from llmco2.data.tables import (
    frame_of,
    read_kernels,
    read_runs,
    run_rows,
    write_kernels,
    write_runs,
)
from llmco2.errors import FileFormatError, InputError
from llmco2.records.run import RUN_SCHEMA_VERSION, KernelMeasurement, MeasuredRun

FORMATS = ("jsonl", "csv", "csv.gz", "parquet")
RUNS = [
    MeasuredRun(
        run_id="a", source="lab", model="m", gpu="A2", energy_j=12.5, cuda_graphs=True, temperature_c=-3.0
    ),
    MeasuredRun(run_id="b", source="lab", model="m", gpu="A2", prompt_tokens=100.0, notes="café, a; b\n"),
    MeasuredRun(run_id="c", source="lab", model="m", gpu="A2", tensor_parallel=2, weight=0.1 + 0.2),
]


def _line(**changes: Any) -> str:
    row = {
        "schema_version": RUN_SCHEMA_VERSION,
        "run_id": "a",
        "source": "lab",
        "model": "m",
        "gpu": "A2",
        **changes,
    }
    return json.dumps(row) + "\n"


@pytest.mark.parametrize("suffix", FORMATS)
def test_runs_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    path = write_runs(frame_of(RUNS), tmp_path / f"runs.{suffix}")
    frame = read_runs(path)
    assert list(frame.columns) == list(RUN_COLUMNS)
    assert run_rows(frame) == RUNS  # every bit of 0.30000000000000004, every line break of a note


@pytest.mark.parametrize("suffix", FORMATS)
def test_kernels_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    rows = [
        KernelMeasurement(
            source="lab", gpu="A2", kind="gemm", precision="bf16", m=1, n=2, k=3, latency_s=1e-5
        ),
        KernelMeasurement(
            source="lab", gpu="A2", kind="moe", precision="fp8", n_experts=8, latency_s=2e-5, power_w=50.0
        ),
    ]
    frame = read_kernels(write_kernels(frame_of(rows), tmp_path / f"kernels.{suffix}"))
    assert list(frame.columns) == list(KERNEL_COLUMNS)
    pd.testing.assert_frame_equal(frame, frame_of(rows))


@settings(max_examples=25)
@given(
    energy=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    batch=st.floats(min_value=1, max_value=65536),
)
def test_numbers_survive_text_formats_exactly(
    tmp_path_factory: pytest.TempPathFactory, energy: float, batch: float
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    frame = frame_of(
        [MeasuredRun(run_id="a", source="s", model="m", gpu="g", energy_j=energy, batch_size=batch)]
    )
    for suffix in ("jsonl", "csv.gz"):
        back = read_runs(write_runs(frame, folder / f"runs.{suffix}"))
        assert (back["energy_j"].iloc[0], back["batch_size"].iloc[0]) == (energy, batch)


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_runs(frame_of(RUNS), tmp_path / "a.csv.gz").read_bytes()
    assert write_runs(frame_of(RUNS), tmp_path / "b.csv.gz").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv.gz", "b.csv.gz"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_line() + '{"schema_version": 1, "run_i', r"runs\.jsonl, line 2: not JSON, or cut off"),
        (_line() + "\n" + _line(run_id="b", energy_j=-1), r"runs\.jsonl, line 3: bad energy_j: got -1,"),
        (_line() + _line().replace("}", ', "energy_j": NaN}'), r"runs\.jsonl, line 2: NaN"),
        (_line() + _line().replace("}", ', "energy_j": Infinity}'), r"runs\.jsonl, line 2: Infinity"),
        (_line() + "[1, 2]\n", r"runs\.jsonl, line 2: not a row: got list"),
        (_line() + _line(notes={"a": 1}), r"runs\.jsonl, line 2: notes is nested"),
        (_line(schema_version=2), r"runs\.jsonl, line 1: another schema version: got 2, expected 1"),
        (_line(energy_j="much"), r"runs\.jsonl, line 1: bad energy_j: got 'much', expected a number"),
        (_line(simulated="yes"), r"runs\.jsonl, line 1: bad simulated: got 'yes', expected true or false"),
        (_line(tensor_parallel=1.5), r"line 1: bad tensor_parallel: got 1\.5, expected a whole number"),
        (
            _line(tensor_parallel=0),
            r"line 1: bad tensor_parallel: got 0, expected a finite number of at least 1",
        ),
        (_line(gpu=""), r"line 1: bad gpu: got '', expected a name"),
        (_line(gpu=None), r"line 1: bad gpu"),
        (_line(enery_j=1.0), r"unknown column: got 'enery_j'; did you mean energy_j"),
        ('{"name": "x", "schema_version": 1}\n', r"not a table of measured runs: got no column run_id"),
        ('{"name": "x"}\n', r"not a llmco2 table: got no column 'schema_version'"),
        ("", r"runs\.jsonl is empty"),
        ("[" * 100_000 + "\n", r"runs\.jsonl, line 1"),
    ],
)
def test_a_bad_jsonl_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message) as error:
        read_runs(path)
    assert "\n" not in str(error.value)


HEADER = "schema_version,run_id,source,model,gpu,energy_j\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER + "1,a,s,m,g,2.5\n1,b,s,m",
            r"runs\.csv, line 3: cut off or from another table: got 4 cells, expected 6",
        ),
        (HEADER + "1,a,s,m,g,nan\n", r"runs\.csv, line 2: NaN"),
        (
            HEADER + "1,a,s,m,g,inf\n",
            r"runs\.csv, line 2: bad energy_j: got inf, expected a finite number",
        ),
        (HEADER + '1,a,s,m,g,"2.5\n', r"runs\.csv, line 2: unexpected end of data"),
        (HEADER + '1,a,"two\nlines",m,g,1\n1,b,s,m,g,-2\n', r"runs\.csv, line 4: bad energy_j: got -2,"),
        (HEADER, r"runs\.csv is empty"),
        (HEADER.replace("energy_j", "gpu") + "1,a,s,m,g,h\n", r"line 1: a column occurs twice"),
    ],
)
def test_a_bad_csv_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message) as error:
        read_runs(path)
    assert "\n" not in str(error.value)


def test_an_empty_csv_cell_means_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(HEADER + "1,a,s,m,g,\n")
    row = run_rows(read_runs(path))[0]
    assert (row.energy_j, row.batch_size, row.status) == (None, 1.0, "ok")


@pytest.mark.parametrize("suffix", ["csv.gz", "parquet"])
def test_every_truncation_of_a_binary_file_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = write_runs(frame_of(RUNS), tmp_path / f"whole.{suffix}").read_bytes()
    torn = tmp_path / f"torn.{suffix}"
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        torn.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"torn\."):
            read_runs(torn)


def test_a_parquet_nan_is_refused_and_a_null_is_not(tmp_path: Path) -> None:
    columns = {
        "schema_version": [1, 1],
        "run_id": ["a", "b"],
        "source": ["s"] * 2,
        "model": ["m"] * 2,
        "gpu": ["g"] * 2,
    }
    path = tmp_path / "runs.parquet"
    pq.write_table(pa.table({**columns, "energy_j": pa.array([1.0, float("nan")])}), path)
    with pytest.raises(FileFormatError, match=r"runs\.parquet, row 2: NaN in energy_j"):
        read_runs(path)
    pq.write_table(pa.table({**columns, "energy_j": pa.array([1.0, None])}), path)
    assert read_runs(path)["energy_j"].isna().tolist() == [False, True]


def test_text_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv.gz"
    path.write_bytes(gzip.compress(HEADER.encode() + b"1,a,s,m,\xff,1\n"))
    with pytest.raises(FileFormatError, match=r"runs\.csv\.gz, line 2: not text"):
        read_runs(path)


def test_simulated_rows_are_refused_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(_line() + _line(run_id="b", simulated=True))
    with pytest.raises(InputError, match="holds simulated rows: got 1 of 2"):
        read_runs(path)
    assert read_runs(path, allow_simulated=True)["simulated"].tolist() == [False, True]


def test_failed_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(_line() + _line(run_id="b", status="failed", failure_reason="out of memory"))
    frame = read_runs(path)
    assert frame["run_id"].tolist() == ["a"]
    assert frame.attrs["excluded_failed"] == 1
    assert len(read_runs(path, require_ok=False)) == 2
    path.write_text(_line(status="failed"))
    with pytest.raises(InputError, match="no usable run: got 1 rows, 1 failed"):
        read_runs(path)


def test_of_one_run_id_the_last_success_counts(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    lines = [
        _line(energy_j=1),
        _line(status="failed"),
        _line(energy_j=2),
        _line(status="failed"),
        _line(run_id="b"),
    ]
    path.write_text("".join(lines))
    frame = read_runs(path)
    assert frame["run_id"].tolist() == ["a", "b"]
    assert frame["energy_j"].iloc[0] == 2.0
    assert frame.attrs == {"excluded_failed": 0, "excluded_duplicates": 3, "excluded_flagged": 0}


def test_rows_of_reference_code_are_left_out_unless_asked_for(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "runs.jsonl"
    flagged = _line(run_id="b", flags="cache_copied; reference_kernels", energy_j=9)
    path.write_text(_line(run_id="a", flags="cache_copied") + _line(run_id="b", energy_j=3) + flagged)
    frame = read_runs(path)
    assert frame["run_id"].tolist() == ["a", "b"]
    assert (
        frame["energy_j"].iloc[1] == 3.0
    )  # of one configuration, the row that was measured with its kernels
    assert frame.attrs["excluded_flagged"] == 1
    assert "left out 1 rows flagged reference_kernels; include_flagged keeps them" in caplog.text
    assert read_runs(path, include_flagged=True)["energy_j"].iloc[1] == 9.0
    path.write_text(flagged)
    with pytest.raises(InputError, match="no usable run: got 1 rows, 0 failed, 1 flagged; include_flagged"):
        read_runs(path)


@pytest.mark.parametrize(
    ("flags", "carried"),
    [
        ("reference_kernels", True),
        ("throttled; reference_kernels", True),
        ("reference_kernels;throttled", True),
        ("no_reference_kernels", False),
        ("", False),
    ],
)
def test_a_flag_is_found_whole_with_or_without_a_space(flags: str, carried: bool) -> None:
    assert has_flag(pd.Series([flags]), ("reference_kernels",)).tolist() == [carried]


def test_unknown_formats_and_missing_files_say_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_runs(tmp_path / "runs.jsonl")
    (tmp_path / "runs.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"unknown table format: got runs\.xlsx"):
        read_runs(tmp_path / "runs.xlsx")


def test_a_frame_that_is_not_ours_is_not_written(tmp_path: Path) -> None:
    frame = frame_of(RUNS)
    with pytest.raises(FileFormatError, match="row 2: bad latency_s"):
        write_runs(frame.assign(latency_s=[1.0, -1.0, 1.0]), tmp_path / "runs.csv")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_runs(frame, tmp_path / "file" / "runs.csv")
    with pytest.raises(InputError, match="no rows"):
        frame_of([])


def test_canonical_frames_fill_in_the_defaults_of_the_record() -> None:
    frame = canonical_frame(
        pd.DataFrame({"run_id": ["a"], "source": ["s"], "model": ["m"], "gpu": ["g"]}), MeasuredRun
    )
    assert run_rows(frame) == [MeasuredRun(run_id="a", source="s", model="m", gpu="g")]
    assert frame["repeats"].dtype == "int64"
    assert frame["simulated"].dtype == bool


def test_a_column_has_one_type_whether_it_was_given_or_filled_in() -> None:
    base = pd.DataFrame({"run_id": ["a"], "source": ["s"], "model": ["m"], "gpu": ["g"]})
    filled = canonical_frame(base, MeasuredRun)
    given_back = canonical_frame(filled, MeasuredRun)
    spelled = canonical_frame(
        base.assign(status="ok", simulated="False", repeats="1", notes=None), MeasuredRun
    )
    assert filled.dtypes.to_dict() == given_back.dtypes.to_dict() == spelled.dtypes.to_dict()
    assert canonical_frame(base[:0], MeasuredRun).dtypes.to_dict() == filled.dtypes.to_dict()
