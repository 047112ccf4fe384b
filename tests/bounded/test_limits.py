"""Limits: how deep, long, wide and large a file may be, each refused in one line before it costs time or memory."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2 import predict, predict_frame
from llmco2.bounded import check_json, json_value, read_plain_file, shown, unpacked_gzip
from llmco2.cli.main import main
from llmco2.cli.requests_file import read_requests
from llmco2.data import bounded_parquet, formats
from llmco2.data.tables import read_runs
from llmco2.errors import FileFormatError, InputError, explain, shortened

ROW = {"model": "Qwen/Qwen3-8B", "gpu": "H100"}


def one_line(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the one line on standard error of a command that must leave with 2 and print nothing else."""
    try:
        status = main(argv)
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1), err[:500]
    assert len(err) < 1_200
    return err


# Hostile and damaged files, each of a kind: the file's name, its content, the command, what the line must say.
CASES: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "bandwidth of 1e300": (
        "g.json",
        json.dumps(
            {
                "gpu_id": "G",
                "memory_gib": 80,
                "memory_bandwidth_gb_per_s": 1e300,
                "tdp_w": 700,
                "bf16_tflops": 9,
            }
        ),
        ("predict", "Qwen/Qwen3-8B", "--gpu", "{}"),
        "memory_bandwidth_gb_per_s is no number: got 1e+300, expected a number from 0.1 to 1e+06",
    ),
    "memory of 1e300": (
        "g.json",
        json.dumps(
            {
                "gpu_id": "G",
                "memory_gib": 1e300,
                "memory_bandwidth_gb_per_s": 3,
                "tdp_w": 700,
                "bf16_tflops": 9,
            }
        ),
        ("predict", "Qwen/Qwen3-8B", "--gpu", "{}"),
        "memory_gib is no number: got 1e+300",
    ),
    "idle above the limit": (
        "g.json",
        '{"gpu_id":"G","memory_gib":8,"memory_bandwidth_gb_per_s":3,"tdp_w":70,"idle_power_w":71,"bf16_tflops":9}',
        ("predict", "Qwen/Qwen3-8B", "--gpu", "{}"),
        "idle_power_w is no number: got 71, expected a number from 0 to 70",
    ),
    "a date that cannot be": (
        "c.yaml",
        "defaults: {model: Qwen/Qwen3-0.6B}\ngrid: {batch_size: [2024-13-45]}\n",
        ("measure", "--campaign", "{}", "--simulate", "--output", "{}.jsonl"),
        "is not YAML: got month must be in 1..12",
    ),
    "brackets without end": (
        "c.yaml",
        "[" * 5_000,
        ("measure", "--campaign", "{}", "--simulate", "--output", "{}.jsonl"),
        "nested deeper than 64",
    ),
    "a server without a host": (
        "c.yaml",
        'defaults: {model: Qwen/Qwen3-0.6B}\ngrid: {workload: [server], server_url: ["http://"]}\n',
        ("measure", "--campaign", "{}", "--output", "{}.jsonl"),
        "server_url is not an address: got 'http://'",
    ),
    "400,000 values": (
        "c.yaml",
        "grid: {batch_size: [" + "1," * 400_000 + "1]}",
        ("measure", "--campaign", "{}", "--simulate", "--output", "{}.jsonl"),
        "is too large: got 400,000 values, expected at most 50,000",
    ),
    "devices that are a number": (
        "s.jsonl",
        '{"kind":"session","format":"llmco2-session","version":1,"devices":5}\n',
        ("monitor", "--replay", "{}", "--once"),
        "line 1: damaged: got devices is no list",
    ),
    "devices that are null": (
        "s.jsonl",
        '{"kind":"session","format":"llmco2-session","version":1,"devices":null}\n',
        ("monitor", "--replay", "{}", "--once"),
        "line 1: damaged: got devices is no list",
    ),
    "400 digits": (
        "r.jsonl",
        '{"model":"Qwen/Qwen3-8B","gpu":"A100","batch_size":' + "9" * 400 + "}\n",
        ("predict", "--requests", "{}"),
        "line 1: got a number larger than any float",
    ),
    "5,000 digits": (
        "r.jsonl",
        '{"model":"Qwen/Qwen3-8B","gpu":"A100","batch_size":' + "9" * 5_000 + "}\n",
        ("predict", "--requests", "{}"),
        "a number of more than 4,300 digits",
    ),
    "half a surrogate pair": (
        "r.jsonl",
        '{"model":"Qwen/Qwen3-8B\\ud800","gpu":"A100"}\n',
        ("predict", "--requests", "{}"),
        "line 1: got text with half a surrogate pair",
    ),
    "lists without end": (
        "r.jsonl",
        '{"model":"m","gpu":"A100","mine":' + "[" * 70 + "]" * 70 + "}\n",
        ("predict", "--requests", "{}"),
        "nested deeper than 64",
    ),
    "20,000 columns": (
        "r.csv",
        "model,gpu," + ",".join(f"c{i}" for i in range(20_000)) + "\n",
        ("predict", "--requests", "{}"),
        "got 20,002 columns, expected at most 1,000",
    ),
    "20,000 keys": (
        "r.jsonl",
        json.dumps(ROW | {f"c{i}": 1 for i in range(20_000)}) + "\n",
        ("predict", "--requests", "{}"),
        "got 20,002 columns, expected at most 1,000",
    ),
    "a cell of 200,000 characters": (
        "r.csv",
        "model,gpu\n" + "x" * 200_000 + ",H100\n",
        ("predict", "--requests", "{}"),
        "line 2: got field larger than field limit",
    ),
    "a batch size said twice": (
        "r.jsonl",
        '{"model":"Qwen/Qwen3-8B","gpu":"A100","batch_size":1,"batch_size":64}\n',
        ("predict", "--requests", "{}"),
        "line 1: got the key 'batch_size' twice",
    ),
    "a model of lists": (
        "config.json",
        '{"model_type": "llama", "hidden_size": ' + "[" * 100 + "]" * 100 + "}",
        ("predict", "{}", "--gpu", "H100"),
        "nested deeper than 64",
    ),
    "an alias of itself": (
        "c.yaml",
        "grid: &a {batch_size: [*a]}",
        ("measure", "--campaign", "{}", "--simulate", "--output", "{}.jsonl"),
        "c.yaml",
    ),
    "aliases of aliases": (
        "c.yaml",
        "name: &a [x, x]\n"
        + "\n".join(f"k{i}: &k{i} [*k{i - 1}, *k{i - 1}]" if i else "k0: &k0 [*a, *a]" for i in range(60)),
        ("measure", "--campaign", "{}", "--simulate", "--output", "{}.jsonl"),
        "unknown key",
    ),
    "a calibration of lists": (
        "k.json",
        "[" * 5_000,
        ("predict", "Qwen/Qwen3-8B", "--gpu", "H100", "--calibration", "{}"),
        "is no calibration",
    ),
    "a checkpoint of text": (
        "k.json",
        '"' + "x" * 100_000 + '"',
        ("predict", "Qwen/Qwen3-8B", "--gpu", "H100", "--checkpoint", "{}"),
        "is no checkpoint",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    name, content, argv, says = CASES[case]
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert says in one_line(capsys, *(word.replace("{}", str(path)) for word in argv))
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize(
    ("suffix", "argv"),
    [
        (".csv", ("predict", "--requests", "{}")),
        (".jsonl", ("predict", "--requests", "{}")),
        (".json", ("predict", "Qwen/Qwen3-8B", "--gpu", "{}")),
        (".json", ("predict", "Qwen/Qwen3-8B", "--gpu", "H100", "--calibration", "{}")),
        (".json", ("predict", "Qwen/Qwen3-8B", "--gpu", "H100", "--checkpoint", "{}")),
        (".yaml", ("measure", "--campaign", "{}", "--simulate", "--output", "o.jsonl")),
    ],
)
def test_what_is_no_plain_file_is_never_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, suffix: str, argv: tuple[str, ...]
) -> None:
    path = tmp_path / f"input{suffix}"
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}[kind](path)
    line = one_line(capsys, *(word.replace("{}", str(path)) for word in argv))
    assert ("Is a directory" if kind == "folder" else "a pipe or a device") in line


def parquet(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({f"c{i}": [1] for i in range(1_001)}, "1,003 columns, more than 1,000"),
        ({"mine": ["x" * 70_000]}, "a text of 70,000 bytes in 'mine', more than 65,536"),
        ({"mine": [[1, 2]]}, "lists or objects in 'mine'"),
        ({"mine": pa.array([b"x" * 70_000], pa.binary(70_000))}, "cells of 70,000 bytes in 'mine'"),
    ],
)
def test_a_parquet_file_beyond_the_limits_is_refused(
    tmp_path: Path, columns: dict[str, Any], says: str
) -> None:
    path = parquet(tmp_path / "r.parquet", pa.table({"model": ["m"], "gpu": ["g"], **columns}))
    with pytest.raises(FileFormatError, match=says):
        read_requests(path)


def test_rows_and_bytes_count_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "r.parquet", pa.table({"model": ["m"] * 100, "gpu": ["g"] * 100}))
    assert len(read_requests(path)) == 100
    monkeypatch.setattr(bounded_parquet, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(FileFormatError, match="more than 100 bytes unpacked"):
        read_requests(path)
    monkeypatch.setattr(bounded_parquet, "MAX_CELLS", 199)
    with pytest.raises(FileFormatError, match="200 cells, more than 199"):
        read_requests(path)


def test_a_small_file_that_stands_for_gigabytes_is_refused_in_little_memory(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array(["m" * 60_000]))
    path = parquet(tmp_path / "r.parquet", pa.table({"model": column, "gpu": column}), compression="zstd")
    assert path.stat().st_size < 1_000_000  # and 2 x 50,000 x 60,000 bytes are 6 GB
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        FileFormatError, match=r"3,000,000,000 bytes of text in 'model', more than 256,000,000"
    ):
        read_requests(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 300_000


def test_a_gzip_bomb_is_refused_and_a_file_of_several_parts_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unpacked_gzip(gzip.compress(b"one ") + gzip.compress(b"two")) == b"one two"
    with pytest.raises(ValueError, match="more than 1,000,000 bytes unpacked"):
        unpacked_gzip(gzip.compress(bytes(10_000_000)), limit_bytes=1_000_000)
    with pytest.raises(EOFError):
        unpacked_gzip(gzip.compress(b"whole" * 1000)[:-9])
    path = tmp_path / "runs.csv.gz"
    monkeypatch.setattr(formats, "unpacked_gzip", partial(unpacked_gzip, limit_bytes=1_000_000))
    path.write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(FileFormatError, match="more than 1,000,000 bytes unpacked"):
        read_runs(path)


def test_a_file_larger_than_its_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(10**12)  # a hole of a terabyte
    with pytest.raises(FileFormatError, match=r"1,000,000,000,000 bytes, more than 16,000,000"):
        read_plain_file(path, limit_bytes=16_000_000)


def test_a_grid_on_the_command_line_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ",".join(map(str, range(1, 1_001)))
    argv = ("predict", "Qwen/Qwen3-8B", "--gpu", "H100", "--prompt-tokens", sizes, "--output-tokens", sizes)
    assert "too many combinations: got 1,000,000, expected 100,000" in one_line(capsys, *argv)


texts = st.text(st.characters(codec="utf-8"), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**1000), 2**1000) | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=40, derandomize=True)
@given(json_values)
def test_what_json_can_say_within_the_limits_is_read_as_it_is(value: Any) -> None:
    assert json_value(json.dumps(value)) == value
    assert json_value(json.dumps(value).encode()) == value
    check_json(value)


@settings(max_examples=40, derandomize=True)
@given(
    st.recursive(st.integers() | st.text(), st.lists, max_leaves=50),
    st.integers(10, 300),
)
def test_what_is_shown_or_shortened_is_short_and_one_piece(value: Any, limit: int) -> None:
    assert len(shown(value)) < 1_000
    assert len(shortened(value, limit)) <= max(limit, limit + 30)
    assert len(explain("what", got=value)) < 300
    assert shortened("x" * limit, limit) == "x" * limit


def test_what_cannot_be_shown_is_named() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert len(shown(endless)) < 100
    assert shown(10**5000) == "a int too large to show"
    assert shown([[[[1]]]]) == "[[[...]]]"


HOSTILE: list[Any] = [
    *(
        None,
        True,
        b"H100",
        3.5,
        float("nan"),
        10**400,
        [],
        {},
        object(),
        "\ud800",
        "x" * 100_000,
        "\x00",
        "",
        " ",
    ),
    *(
        ["H100"],
        pd.NA,
        pd.Timestamp("2026-01-01"),
        1 + 2j,
        range(3),
        Path("H100"),
        "a\nb",
        "../" * 500,
        "~",
        "{}",
    ),
]


@pytest.mark.parametrize("name", ["model", "gpu", "engine", "precision", "kv_precision", "serving"])
def test_python_callers_get_our_errors_alone(name: str) -> None:
    for value in HOSTILE:
        answered_or_refused({**ROW, name: value}, {})


def answered_or_refused(request: dict[str, Any], carbon: dict[str, Any]) -> None:
    """Ask for one request and for a table of it; whatever is raised must be one line of ours."""
    for call in (
        lambda: predict(**request, **carbon),
        lambda: predict_frame(pd.DataFrame([request], dtype=object), **carbon),
    ):
        said = "one line"
        try:
            call()
        except InputError as error:
            said = str(error)
        assert len(said.splitlines()) == 1
        assert len(said) < 2_000


NUMBERS = [*HOSTILE, -1, 0, 1e308, float("inf"), "8", "1e999", "0x8"]
COUNTS = (
    "tensor_parallel",
    "pipeline_parallel",
    "expert_parallel",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
)


@pytest.mark.parametrize("name", COUNTS)
def test_python_callers_get_our_errors_for_numbers_too(name: str) -> None:
    for value in NUMBERS:
        answered_or_refused({**ROW, name: value}, {})


@pytest.mark.parametrize(
    "name", ["zone", "pue", "lifetime_years", "utilization", "carbon_intensity_gco2e_per_kwh"]
)
def test_python_callers_get_our_errors_for_carbon_too(name: str) -> None:
    for value in NUMBERS:
        answered_or_refused(ROW, {name: value})


def test_a_long_name_costs_no_time() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmco2.cli.main", "predict", "q" * 100_000, "--gpu", "H100"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert len(done.stderr) < 500
