"""From runs to a file that predict applies: what is written is what was fitted, and only where it helps."""

from __future__ import annotations

import json
from dataclasses import replace
from math import exp
from pathlib import Path

import pytest

from llmco2.calibration.calibrate import LEAST_RUNS, calibration_text, fit_calibrations
from llmco2.calibration.runs import log_ratios
from llmco2.errors import InputError
from llmco2.predictor.api import predict
from llmco2.predictor.calibration import load_calibration
from llmco2.predictor.checkpoint import Checkpoint
from tests.calibration.conftest import ENGINE, GPU, columns_of, measured_runs

SLOW = {"kernel time": 1.5, "host time": 1.5}


def test_predict_answers_as_the_factors_in_the_file_say(checkpoint: Checkpoint, tmp_path: Path) -> None:
    runs = measured_runs(5, checkpoint, {**SLOW, "dynamic power": 1.2})
    result = fit_calibrations(runs, checkpoint)
    (fitted,) = result.fitted
    assert (fitted.gpu_id, fitted.engine, fitted.n_runs, fitted.helps) == (GPU, ENGINE, 5, True)
    assert fitted.held_out.time_after_percent < 0.25 * fitted.held_out.time_before_percent
    path = tmp_path / "mine.json"
    path.write_text(calibration_text(result, checkpoint))
    loaded = load_calibration(str(path), GPU, ENGINE, checkpoint)
    assert loaded.scales == pytest.approx(fitted.scales, abs=1e-6)
    assert loaded.width_scale == pytest.approx(fitted.width_scale, abs=1e-4)
    assert loaded.notes == ("calibrated with 5 runs of this board and engine",)
    expected = log_ratios(columns_of(runs, checkpoint), json.loads(path.read_text())["entries"][0]["scales"])
    for run, ratios in zip(runs, expected, strict=True):
        answer = predict(
            model=run.model,
            gpu=GPU,
            engine=ENGINE,
            precision="bf16",
            batch_size=run.batch_size,
            prompt_tokens=run.prompt_tokens or 0.0,
            output_tokens=run.output_tokens or 0.0,
            calibration=str(path),
        )
        assert answer.total.energy_j == pytest.approx((run.energy_j or 0.0) / exp(ratios[0]), rel=1e-6)
        assert answer.ttft_s == pytest.approx((run.ttft_s or 0.0) / exp(ratios[6]), rel=1e-6)


def test_a_factor_that_does_not_help_is_absent(checkpoint: Checkpoint) -> None:
    (fitted,) = fit_calibrations(measured_runs(5, checkpoint, {"dynamic power": 1.4}), checkpoint).fitted
    assert list(fitted.scales) == ["dynamic power"]
    assert 1.28 < fitted.scales["dynamic power"] < 1.4  # the prior holds it back, by less than a tenth


def test_where_nothing_helps_there_is_no_entry(checkpoint: Checkpoint) -> None:
    alike = measured_runs(4, checkpoint)
    slow = measured_runs(4, checkpoint, SLOW, engine="sglang")
    result = fit_calibrations([*alike, *slow], checkpoint)
    assert [fitted.helps for fitted in result.fitted] == [False, True]
    assert (result.fitted[0].scales, result.fitted[0].width_scale) == ({}, 1.0)
    entries = json.loads(calibration_text(result, checkpoint))["entries"]
    assert [entry["engine"] for entry in entries] == ["sglang"]


def test_simulated_runs_are_said_in_the_file_and_in_every_answer(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    runs = measured_runs(4, checkpoint, SLOW)
    mixed = [replace(runs[0], simulated=True), *runs[1:]]
    for given, simulated in ((runs, False), (mixed, True)):
        path = tmp_path / f"{simulated}.json"
        path.write_text(calibration_text(fit_calibrations(given, checkpoint), checkpoint))
        assert json.loads(path.read_text())["entries"][0]["simulated"] is simulated
        answer = predict(model="Qwen/Qwen3-8B", gpu=GPU, engine=ENGINE, calibration=str(path))
        assert ("simulated" in answer.notes[-1]) is simulated


def test_gpus_with_too_few_runs_are_named(checkpoint: Checkpoint) -> None:
    runs = measured_runs(3, checkpoint)
    result = fit_calibrations([*runs, replace(runs[0], run_id="x", engine="sglang")], checkpoint)
    assert [fitted.engine for fitted in result.fitted] == [ENGINE]
    assert result.too_few == {(GPU, "sglang"): 1}
    with pytest.raises(
        InputError, match=rf"too few runs .*: got 2 of {GPU} under vllm, expected at least {LEAST_RUNS}"
    ):
        fit_calibrations(runs[:2], checkpoint)
    with pytest.raises(InputError, match="got none with sizes and labels among 3"):
        fit_calibrations([replace(run, prompt_tokens=None) for run in runs], checkpoint)


def test_a_run_that_cannot_be_is_named(checkpoint: Checkpoint) -> None:
    runs = measured_runs(3, checkpoint)
    with pytest.raises(
        InputError, match=r"run run-0 cannot be: got unknown GPU.*correct or drop the run"
    ) as refused:
        fit_calibrations([replace(runs[0], gpu="H1000"), *runs[1:]], checkpoint)
    assert "\n" not in str(refused.value)


def test_a_gpu_known_by_its_datasheet_alone_is_calibrated(checkpoint: Checkpoint, tmp_path: Path) -> None:
    sheet = tmp_path / "board.json"
    figures = {"gpu_id": "MyGPU-96GB", "memory_gib": 96, "memory_bandwidth_gb_per_s": 2000, "tdp_w": 400}
    sheet.write_text(json.dumps({**figures, "fp16_tflops": 500, "bf16_tflops": 500, "fp32_tflops": 60}))
    result = fit_calibrations(measured_runs(4, checkpoint, SLOW, gpu=str(sheet)), checkpoint)
    assert [fitted.gpu_id for fitted in result.fitted] == ["MyGPU-96GB"]
    path = tmp_path / "mine.json"
    path.write_text(calibration_text(result, checkpoint))
    answer = predict(model="Qwen/Qwen3-8B", gpu=str(sheet), engine=ENGINE, calibration=str(path))
    assert answer.notes[-1] == "calibrated with 4 runs of this board and engine"
