"""``llmco2 calibrate`` from a table of runs to a file that ``predict`` takes, and its refusals in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmco2.data.tables import frame_of, write_runs
from llmco2.predictor.api import predict
from llmco2.records.run import MeasuredRun

MODELS = ("Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B")
SLOWER = 1.5  # than the predictor says, at the same power


def measured(
    n: int,
    *,
    gpu: str = "H100-SXM5-80GB",
    engine: str = "vllm",
    simulated: bool = False,
    slower: float = SLOWER,
) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    runs = []
    for i in range(n):
        asked: dict[str, Any] = {
            "model": MODELS[i % 2],
            "gpu": gpu,
            "engine": engine,
            "precision": "bf16",
            "batch_size": float(rng.choice([1, 8, 32])),
            "prompt_tokens": float(rng.choice([128, 1024])),
            "output_tokens": float(rng.choice([32, 256])),
        }
        answer = predict(**asked)
        runs.append(
            MeasuredRun(
                run_id=f"{engine}-{i}",
                source="test",
                simulated=simulated,
                energy_j=slower * answer.total.energy_j,
                latency_s=slower * answer.latency_s,
                **asked,
            )
        )
    return frame_of(runs)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_runs_in_factors_out_and_predict_takes_them(
    tmp_path: Path, llmco2: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table, output = tmp_path / f"my_runs{suffix}", tmp_path / "my_gpu.json"
    write_runs(pd.concat([measured(10), measured(2, engine="sglang")]), table)
    done = llmco2("calibrate", str(table), "--output", str(output))
    assert done.status == 0, done.err
    assert re.search(r"^ *H100-SXM5-80GB +10 ", done.out, re.MULTILINE)
    assert re.search(r"kernel time +1\.\d\d *\n", done.out)  # whole, at eighty columns
    assert done.out.count("33.3 →") == 2  # 1 - 1 / 1.5: energy and time are too low by a third
    assert "H100-SXM5-80GB under sglang: left out, 2 usable runs are too few" in done.err
    assert f"1 calibration written to {output}" in done.err
    (entry,) = json.loads(output.read_text())["entries"]
    assert (entry["gpu"], entry["engine"], entry["n_runs"]) == ("H100-SXM5-80GB", "vllm", 10)
    assert entry["held_out"]["energy_after_percent"] < 8.0
    assert entry["held_out"]["time_after_percent"] < 4.0
    assert entry["simulated"] is False
    request: dict[str, Any] = {"model": MODELS[0], "gpu": "H100-SXM5-80GB", "engine": "vllm"}
    plain, fitted = predict(**request), predict(**request, calibration=str(output))
    assert fitted.latency_s / plain.latency_s == pytest.approx(SLOWER, rel=0.05)
    assert fitted.notes[-1] == "calibrated with 10 runs of this board and engine"


def test_a_calibration_of_another_checkpoint_is_warned_of_in_one_line(
    tmp_path: Path, llmco2: Callable[..., Any]
) -> None:
    write_runs(measured(4), tmp_path / "runs.jsonl")
    output, table = tmp_path / "c.json", tmp_path / "requests.csv"
    llmco2("calibrate", str(tmp_path / "runs.jsonl"), "--output", str(output))
    table.write_text(f"model,gpu,engine\n{MODELS[0]},H100-SXM5-80GB,vllm\n{MODELS[1]},L40S,vllm\n")
    arguments = ("predict", "--requests", str(table), "--calibration", str(output))
    assert "warning" not in llmco2(*arguments).err
    written = json.loads(output.read_text())
    output.write_text(json.dumps({**written, "checkpoint_sha256": "0" * 64}))
    warned = llmco2(*arguments)
    (line,) = [line for line in warned.err.splitlines() if "warning" in line]
    assert line.startswith("llmco2: warning: c.json was fitted on another checkpoint (000000000000) than")
    assert warned.out.count("calibrate again") == 1  # in the notes of the one row that it applies to
    one = llmco2("predict", MODELS[0], "--gpu", "H100-SXM5-80GB", "--engine", "vllm",
                 "--calibration", str(output))  # fmt: skip
    assert "fitted on another checkpoint" in one.out
    assert "warning" not in one.err


def test_a_board_of_ones_own_by_its_datasheet(tmp_path: Path, llmco2: Callable[..., Any]) -> None:
    sheet = tmp_path / "board.json"
    figures = {"gpu_id": "MyGPU", "memory_gib": 96, "memory_bandwidth_gb_per_s": 2000, "tdp_w": 400}
    sheet.write_text(json.dumps({**figures, "fp16_tflops": 500, "bf16_tflops": 500}))
    table = tmp_path / "runs.csv"
    write_runs(measured(6, gpu=str(sheet)).assign(gpu="Unheard-of Board"), table)
    output = tmp_path / "c.json"
    done = llmco2("calibrate", str(table), "--output", str(output), "--gpu", str(sheet))
    assert done.status == 0, done.err
    assert [entry["gpu"] for entry in json.loads(output.read_text())["entries"]] == ["MyGPU"]


@pytest.mark.parametrize(
    ("prepare", "arguments", "says"),
    [
        (lambda path: None, (), "no such file"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), (), "runs.csv is empty"),
        (lambda path: path.write_text("model,gpu\nm,g\n"), (), "not a llmco2 table"),
        (lambda path: write_runs(measured(3, simulated=True), path), (), "holds simulated rows"),
        (lambda path: write_runs(measured(2), path), (), "too few runs to calibrate with: got 2 of H100"),
        (lambda path: write_runs(measured(3).assign(gpu="H1000"), path), (), "run vllm-0 cannot be"),
        (lambda path: write_runs(measured(3), path), ("--checkpoint", "none.json"), "no such checkpoint"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, llmco2: Callable[..., Any], prepare: Any, arguments: tuple[str, ...], says: str
) -> None:
    prepare(tmp_path / "runs.csv")
    done = llmco2("calibrate", str(tmp_path / "runs.csv"), "--output", str(tmp_path / "c.json"), *arguments)
    assert done.status == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "c.json").exists()


def test_simulated_runs_calibrate_where_that_is_asked_for_and_answers_say_so(
    tmp_path: Path, llmco2: Callable[..., Any]
) -> None:
    output = str(tmp_path / "c.json")
    write_runs(measured(4, simulated=True), tmp_path / "runs.jsonl")
    done = llmco2("calibrate", str(tmp_path / "runs.jsonl"), "--output", output, "--allow-simulated")
    assert done.status == 0
    assert "some of its runs were simulated" in done.err
    (entry,) = json.loads(Path(output).read_text())["entries"]
    assert entry["simulated"] is True
    answer = llmco2("predict", MODELS[0], "--gpu", "H100-SXM5-80GB", "--engine", "vllm",
                    "--calibration", output)  # fmt: skip
    assert "simulated ones" in " ".join(answer.out.split())


def test_where_nothing_helps_that_is_said_and_nothing_is_written(
    tmp_path: Path, llmco2: Callable[..., Any]
) -> None:
    write_runs(measured(5, slower=1.0), tmp_path / "runs.jsonl")
    done = llmco2("calibrate", str(tmp_path / "runs.jsonl"), "--output", str(tmp_path / "c.json"))
    assert done.status == 0
    assert "none helps" in done.out
    (line,) = done.err.splitlines()
    assert line.startswith("llmco2: no factor makes held-back runs better, so ")
    assert line.endswith("c.json was not written: predict without it")
    assert [path.name for path in tmp_path.iterdir()] == ["runs.jsonl"]


def test_a_stack_that_nothing_helps_is_named_beside_one_that_is_written(
    tmp_path: Path, llmco2: Callable[..., Any]
) -> None:
    write_runs(pd.concat([measured(4), measured(4, engine="sglang", slower=1.0)]), tmp_path / "runs.jsonl")
    done = llmco2("calibrate", str(tmp_path / "runs.jsonl"), "--output", str(tmp_path / "c.json"))
    assert done.err.splitlines() == [
        "llmco2: H100-SXM5-80GB under sglang: no factor makes held-back runs better, so it is left out",
        f"llmco2: 1 calibration written to {tmp_path / 'c.json'}",
    ]
    assert [entry["engine"] for entry in json.loads((tmp_path / "c.json").read_text())["entries"]] == ["vllm"]


def test_an_output_that_cannot_be_is_refused_before_any_work(
    tmp_path: Path, llmco2: Callable[..., Any]
) -> None:
    done = llmco2("calibrate", "none.csv", "--output", str(tmp_path / "none" / "c.json"))
    assert (done.status, done.out) == (2, "")
    assert "create it first" in done.err
    assert llmco2("calibrate", "runs.csv").status == 2
    device = llmco2("calibrate", "none.csv", "--output", "/dev/null")
    assert (device.status, "got a device" in device.err) == (2, True)


def test_a_file_that_exists_is_replaced_with_force_alone(tmp_path: Path, llmco2: Callable[..., Any]) -> None:
    runs, output = tmp_path / "runs.jsonl", tmp_path / "c.json"
    write_runs(measured(4), runs)
    output.write_text("mine")
    kept = llmco2("calibrate", str(runs), "--output", str(output))
    assert (kept.status, output.read_text()) == (2, "mine")
    assert "give --force to replace it" in kept.err
    itself = llmco2("calibrate", str(runs), "--output", str(runs), "--force")
    assert (itself.status, "the file that is read" in itself.err) == (2, True)
    assert llmco2("calibrate", str(runs), "--output", str(output), "--force").status == 0
    assert json.loads(output.read_text())["entries"][0]["n_runs"] == 4
