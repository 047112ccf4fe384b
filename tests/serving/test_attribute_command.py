"""``llmco2 attribute`` adds up to the meter in every format, and says in one line what is wrong with a file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from llmco2.cli.main import main
from llmco2.measurement.meters.session_file import SessionRecorder
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedNvml
from llmco2.serving.request_log import read_meter_log, read_request_log

LOG = """request_id,tenant,start,end,ttft_s,prompt_tokens,cached_tokens,output_tokens
a,red,1000,1010,0.5,2000,0,300
b,blue,1002,1012,0.5,200,100,300
c,red,1004,1006,,50,0,40
d,,1030,1031,,0,0,0
"""
METER = "time,energy_j\n990,5000\n1005,9000\n1020,14000\n1040,15000\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    log, meter = tmp_path / "log.csv", tmp_path / "meter.csv"
    log.write_text(LOG)
    meter.write_text(METER)
    return log, meter


def attribute(files: tuple[Path, Path], *more: str) -> int:
    log, meter = files
    return main(
        ["attribute", str(log), "--meter", str(meter), "--model", "Qwen/Qwen3-8B", "--gpu", "H100", *more]
    )


def test_rows_and_what_belongs_to_none_add_up_to_the_meter(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert attribute(files, "--zone", "FRA") == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert [row["request_id"] for row in rows] == ["a", "b", "c", "d", "(no request)"]
    assert sum(float(row["energy_j"]) for row in rows) == pytest.approx(10_000.0, rel=1e-9)
    parts = ("idle_j", "prefill_j", "shared_j", "own_j")
    for row in rows[:-1]:
        assert sum(float(row[part]) for part in parts) == pytest.approx(float(row["energy_j"]))
    grams = {float(row["operational_gco2e"]) / float(row["energy_j"]) for row in rows}
    assert max(grams) == pytest.approx(min(grams))
    assert float(rows[0]["prefill_j"]) > 5 * float(rows[1]["prefill_j"])  # 2000 tokens against 100 computed
    assert "10000 J metered" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_every_format_holds_the_same_sums_by_tenant(
    files: tuple[Path, Path], suffix: str, tmp_path: Path
) -> None:
    target = tmp_path / f"out{suffix}"
    assert attribute(files, "--by", "tenant", "--output", str(target)) == 0
    table = {
        ".csv": lambda: pd.read_csv(target, keep_default_na=False),
        ".json": lambda: pd.DataFrame(json.loads(target.read_text())),
        ".jsonl": lambda: pd.DataFrame([json.loads(line) for line in target.read_text().splitlines()]),
        ".parquet": lambda: pd.read_parquet(target),
    }[suffix]()
    assert list(table["tenant"]) == ["", "blue", "red", "(no request)"]
    assert list(table["requests"].astype(int)) == [1, 1, 2, 0]
    assert table["energy_j"].astype(float).sum() == pytest.approx(10_000.0, rel=1e-9)


def test_times_may_be_iso_and_power_is_integrated(tmp_path: Path) -> None:
    log, meter = tmp_path / "l.csv", tmp_path / "m.csv"
    log.write_text(
        "start,end,first_token,prompt_tokens,output_tokens\n"
        "2026-11-28T10:00:00Z,2026-11-28T10:00:10+00:00,2026-11-28T10:00:01Z,10,5\n"
    )
    meter.write_text(
        "time,power_w\n2026-11-28T09:59:50Z,100\n2026-11-28T10:00:00Z,100\n2026-11-28T10:00:20Z,300\n"
    )
    _, found = read_request_log(log)
    readings = read_meter_log(meter)
    assert found.start_s[0] == readings.t_s[1]
    assert found.first_token_s[0] - found.start_s[0] == 1.0
    assert readings.total_j == pytest.approx(1000 + 4000)


def test_a_counter_that_begins_anew_goes_on(tmp_path: Path) -> None:
    meter = tmp_path / "m.csv"
    meter.write_text("time,energy_j\n0,900\n1,1000\n2,50\n3,150\n")
    assert read_meter_log(meter).total_j == 250.0


def test_a_recording_of_the_monitor_is_a_meter(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    with (
        SimulatedNvml(2, virtual_time=True, use_compiler=False) as rig,
        ZeusMeter(clock=rig.clock, windows=False) as meter,
    ):
        rig.set_power(0, 300.0)
        rig.set_power(1, 100.0)
        recorder = SessionRecorder(path, meter)
        for _ in range(5):
            recorder.write_samples(meter.sample())
            rig.clock.sleep(2.0)
        recorder.close()
    both, one = read_meter_log(path), read_meter_log(path, [1])
    assert both.total_j == pytest.approx(400.0 * 8, rel=0.03)
    assert one.total_j == pytest.approx(100.0 * 8, rel=0.03)
    assert both.t_s[0] > 1.7e9  # wall clock, as a log has it


@pytest.mark.parametrize(
    ("log", "meter", "more", "says"),
    [
        ("start,end\n1,2\n", METER, [], "has no column prompt_tokens"),
        (LOG.replace("prompt_tokens", "promt_tokens"), METER, [], "is it promt_tokens?"),
        (LOG.replace("1010", "xx"), METER, [], "line 2: end is no time"),
        (LOG.replace("1010", "1000"), METER, [], "line 2: a request ends before it starts"),
        (LOG.replace(",100,300", ",201,300"), METER, [], "line 3: more cached tokens"),
        (LOG.replace("2000", "-1"), METER, [], "line 2: prompt_tokens is negative"),
        (LOG.replace("2000", "inf"), METER, [], "line 2: prompt_tokens is not a number"),
        (LOG, "time,joules\n1,2\n", [], "holds no energy"),
        (LOG, "time,energy_j\n1,2\n", [], "too few readings"),
        (LOG, "time,energy_j\n5,2\n1,3\n", [], "times do not rise"),
        (LOG, "", [], "is no table"),
        (LOG, METER, ["--by", "team"], "has no column team"),
        (LOG, METER, ["--gpus", "0"], "GPUs of a meter's CSV"),
        (LOG, METER, ["--gpus", "x"], "not a list of GPUs"),
        (LOG, METER, ["--idle-power-w", "-5"], "idle power is out of range"),
        (LOG, METER, ["--output", "x.txt"], "--output knows no such format"),
        (LOG, METER, ["--zone", "XXX"], "unknown grid zone"),
        ("start,end,prompt_tokens,output_tokens\n1,2,0,0\n", METER, [], "holds no tokens"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, log: str, meter: str, more: list[str], says: str
) -> None:
    paths = tmp_path / "log.csv", tmp_path / "meter.csv"
    for path, text in zip(paths, (log, meter), strict=True):
        path.write_text(text)
    assert attribute(paths, *more) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1
