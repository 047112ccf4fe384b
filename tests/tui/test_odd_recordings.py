"""Recordings of counters that slip, clocks that run back, GPUs that say nothing: right sums, or one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmco2.cli.main import main

SECONDS = 60
WATTS = 300.0
DRAWN_J = WATTS * (SECONDS - 1)

Lines = list[dict[str, Any]]


def header(n_gpus: int = 1) -> dict[str, Any]:
    devices = [
        {
            "index": index,
            "nvml_index": index,
            "uuid": f"GPU-{index}",
            "name": "NVIDIA H100 80GB HBM3",
            "mig": False,
            "total_memory_bytes": 85520809984,
            "power_limit_w": 700.0,
            "has_energy_counter": True,
        }
        for index in range(n_gpus)
    ]
    return {"kind": "session", "format": "llmco2-session", "version": 1, "devices": devices}


def sample(second: int, *, start_j: float = 0.0, gpu: int = 0) -> dict[str, Any]:
    return {
        "kind": "sample",
        "t_s": float(second),
        "gpu_index": gpu,
        "energy_counter_j": start_j + WATTS * second,
        "power_w": WATTS,
        "utilization_percent": 98.0,
        "power_limit_w": 700.0,
    }


def session(start_j: float = 0.0, n_gpus: int = 1) -> Lines:
    samples = [sample(s, start_j=start_j, gpu=g) for s in range(SECONDS) for g in range(n_gpus)]
    return [header(n_gpus), *samples]


def written(tmp_path: Path, lines: Lines) -> Path:
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def replayed(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    assert main(["monitor", "--replay", str(path), "--json", "--zone", "FRA"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert main(["monitor", "--replay", str(path), "--once", "--zone", "FRA"]) == 0
    return state, capsys.readouterr().out


def counter(second: int, change: Callable[[float], float]) -> Callable[[Lines], None]:
    def edit(lines: Lines) -> None:
        lines[1 + second]["energy_counter_j"] = change(lines[1 + second]["energy_counter_j"])

    return edit


@pytest.mark.parametrize("start_j", [0.0, 2.2e7])
@pytest.mark.parametrize(
    "edit",
    [
        counter(30, lambda joules: joules - WATTS - 5.0),
        counter(30, lambda joules: joules - WATTS - 0.001),
        counter(30, lambda joules: joules - 2000.0),
        counter(30, lambda joules: 1.8e13),
        counter(30, lambda joules: joules + 5e4),
        counter(30, lambda joules: 0.0),
        counter(1, lambda joules: 1e12),
        counter(30, lambda joules: joules + 900.0),
    ],
    ids=["5 J back", "1 mJ back", "2 kJ back", "huge", "50 kJ on", "zero", "huge at once", "a little on"],
)
def test_one_wrong_reading_of_a_counter_leaves_the_sum_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], start_j: float, edit: Callable[[Lines], None]
) -> None:
    lines = session(start_j)
    edit(lines)
    state, out = replayed(written(tmp_path, lines), capsys)
    assert state["totals"]["energy_j"] == pytest.approx(DRAWN_J)
    assert state["totals"]["refused_counter_steps"] == state["gpus"][0]["refused_counter_steps"] == 1
    assert "all GPUs: 17.7 kJ" in out
    assert "1 impossible counter step left out" in out


def test_a_driver_that_was_reloaded_is_counted_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = session(2.2e7)
    for second in range(30, SECONDS):  # from the 30th second the counter shows what was drawn since the 29th
        lines[1 + second]["energy_counter_j"] = WATTS * (second - 29)
    state, _ = replayed(written(tmp_path, lines), capsys)
    assert state["totals"]["energy_j"] == pytest.approx(DRAWN_J)
    assert state["totals"]["counter_restarts"] == 1
    assert state["totals"]["refused_counter_steps"] == 0


def test_a_sum_says_that_it_lacks_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = session(n_gpus=2)
    for line in lines[1:]:
        if line["gpu_index"] == 1:
            line.update(energy_counter_j=None, power_w=None, utilization_percent=None, power_limit_w=None)
    state, out = replayed(written(tmp_path, lines), capsys)
    totals = state["totals"]
    assert totals["energy_j"] == pytest.approx(DRAWN_J)
    assert totals["power_w"] == WATTS
    assert totals["energy_of"] == "1 of 2 GPUs"
    assert (totals["n_gpus"], totals["n_gpus_with_energy"], totals["n_gpus_with_power"]) == (2, 1, 1)
    assert totals["idle_energy_j"] == 0.0
    assert "1 of 2 GPUs: 17.7 kJ" in out
    assert "all GPUs" not in out


def test_a_gpu_that_never_answered_is_lacking_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in session(n_gpus=2) if line.get("gpu_index") != 1]
    state, out = replayed(written(tmp_path, lines), capsys)
    assert state["totals"]["energy_of"] == "1 of 2 GPUs"
    assert "1 of 2 GPUs: 17.7 kJ" in out


def on_line(number: int, **values: Any) -> Callable[[Lines], None]:
    return lambda lines: lines[number - 1].update(values)


def as_event(number: int, data: Any) -> Callable[[Lines], None]:
    def edit(lines: Lines) -> None:
        lines[number - 1] = {"kind": "event", "t_s": 30.0, "name": "measured", "data": data}

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (on_line(32, power_w=float("nan")), "line 32: damaged: got NaN is not a number"),
        (on_line(32, energy_counter_j=float("nan")), "line 32: damaged: got NaN is not a number"),
        (on_line(32, t_s=float("nan")), "line 32: damaged: got NaN is not a number"),
        (on_line(32, power_w=float("inf")), "line 32: damaged: got Infinity is not a number"),
        (on_line(32, utilization_percent=float("-inf")), "line 32: damaged: got -Infinity is not a number"),
        (as_event(32, {"energy_j": float("nan")}), "line 32: damaged: got NaN is not a number"),
        (on_line(1, started_at=float("nan")), "is not a recorded session"),
        (on_line(32, gpu_index=7), "line 32: damaged: got a sample of GPU 7, where the header names 0"),
        (on_line(32, t_s=9.5), "line 32: damaged: got t_s 9.5 after 29: the clock runs back"),
        (on_line(32, energy_counter_j=-1.0), "line 32: damaged: got energy_counter_j -1 is below zero"),
        (on_line(32, power_w=-300.0), "line 32: damaged: got power_w -300 is below zero"),
        (on_line(32, power_w=True), "line 32: damaged: got True is not float"),
        (on_line(32, gpu_index=0.5), "line 32: damaged: got 0.5 is not int"),
        (on_line(1, devices={"index": 0}), "line 1: damaged: got devices is no list of objects"),
        (lambda lines: lines[0]["devices"].append(lines[0]["devices"][0]), "two devices of one index"),
    ],
)
def test_what_no_meter_writes_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Lines], None], says: str
) -> None:
    lines = session()
    edit(lines)
    path = written(tmp_path, lines)
    assert main(["monitor", "--replay", str(path), "--once"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"kind":"sample","t_s":30.0,"gpu_index":0,"power_w":1e999}', "power_w: inf is not a finite number"),
        ('{"kind":"event","t_s":1.0,"name":"n","data":{"a":[1e999]}}', "data: inf is not a finite number"),
        ("[" * 100_000, "too deeply nested"),
        ('{"kind":"sample","t_s":' + "9" * 5000 + ',"gpu_index":0}', "line 32: damaged"),
        ('{"kind":"sample","t_s":' + "9" * 400 + ',"gpu_index":0}', "line 32: damaged"),
        ('{"kind":{"a":1}}', "line 32: unknown kind"),
    ],
)
def test_hostile_lines_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    path = written(tmp_path, session()[:31])
    path.write_text(path.read_text() + text + "\n")
    assert main(["monitor", "--replay", str(path), "--once"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert len(err) < 400


@pytest.mark.parametrize("option", ["--replay", "--campaign"])
@pytest.mark.parametrize("kind", ["device", "FIFO", "folder"])
def test_what_is_no_file_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, kind: str
) -> None:
    path = tmp_path / "odd"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert main(["monitor", option, str(path), "--once"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no plain file" in err or "Is a directory" in err
    assert err.count("\n") == 1
