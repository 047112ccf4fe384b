"""Fitting a calibration: known factors are found again, few runs move little, and files say what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.calibration.calibrate import (
    FACTORS,
    LEAST_RUNS,
    fit_calibrations,
    fit_log_factors,
    width_scale,
    write_calibration,
)
from llmco2.calibration.runs import calibration_runs, log_ratios
from llmco2.deployment.resolving import resolve_deployment
from llmco2.errors import InputError
from llmco2.predictor.answer import answer_requests
from llmco2.predictor.api import predict
from llmco2.predictor.calibration import load_calibration
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from llmco2.predictor.columns import SizeColumns
from llmco2.records.run import MeasuredRun

MODELS = ("Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-0.6B")
GPU, ENGINE = "H100-SXM5-80GB", "vllm"
TRUE = {
    "compute time": 1.5,
    "memory time": 1.3,
    "overhead": 0.7,
    "static power": 1.4,
    "dynamic power": 0.8,
}


@pytest.fixture
def path(tmp_path: Path, sound_checkpoint: tuple[dict[str, Any], dict[str, Any]]) -> Path:
    """Return a checkpoint of the bare formula: every coefficient at its initial value, inside its range."""
    arrays, metadata = sound_checkpoint
    save_checkpoint(
        tmp_path / "formula.json", {name: 0.0 * array for name, array in arrays.items()}, metadata
    )
    return tmp_path / "formula.json"


@pytest.fixture
def checkpoint(path: Path) -> Checkpoint:
    return load_checkpoint(str(path))


def scales(factors: dict[str, float]) -> dict[str, float]:
    return {name: factors[factor] for factor, names in FACTORS.items() for name in names}


def synthetic_runs(
    checkpoint: Checkpoint,
    n: int,
    *,
    seed: int = 0,
    noise: float = 0.0,
    gpu: str = GPU,
    factors: dict[str, float] = TRUE,
) -> list[MeasuredRun]:
    """Return runs of a board that is the predictor's own but for ``factors``."""
    rng = np.random.default_rng(seed)
    models = [MODELS[i % len(MODELS)] for i in range(n)]
    deployments = [resolve_deployment(m, gpu, 1, 1, 1, ENGINE, "bf16", "unknown") for m in models]
    sizes = SizeColumns(
        deployment=np.arange(n),
        batch_size=rng.choice([1.0, 4.0, 16.0, 64.0], n),
        prompt_tokens=rng.choice([64.0, 512.0, 4096.0], n),
        output_tokens=rng.choice([2.0, 64.0, 512.0], n),
        continuous=np.zeros(n),
    )
    answer = answer_requests(checkpoint, deployments, sizes, scales=scales(factors))
    labels = {
        "prefill_energy_j": answer.prefill.energy_j,
        "decode_energy_j": answer.decode.energy_j,
        "ttft_s": answer.ttft_s,
        "tpot_s": answer.tpot_s,
    }
    noisy = {name: values * np.exp(noise * rng.normal(size=n)) for name, values in labels.items()}
    return [
        MeasuredRun(
            run_id=f"run-{i}",
            source="test",
            simulated=True,
            model=models[i],
            gpu=gpu,
            engine=ENGINE,
            precision="bf16",
            batch_size=float(sizes.batch_size[i]),
            prompt_tokens=float(sizes.prompt_tokens[i]),
            output_tokens=float(sizes.output_tokens[i]),
            energy_j=float(noisy["prefill_energy_j"][i] + noisy["decode_energy_j"][i]),
            **{name: float(values[i]) for name, values in noisy.items()},
        )
        for i in range(n)
    ]


def energy_error_percent(runs: list[MeasuredRun], checkpoint: Checkpoint, given: dict[str, float]) -> float:
    groups, _ = calibration_runs(runs, checkpoint)
    (ratios,) = (log_ratios(group, given)[:, 0] for group in groups.values())
    return float(np.mean(np.abs(np.expm1(-ratios))) * 100.0)


def test_without_scales_the_columns_say_what_the_predictor_says(checkpoint: Checkpoint, path: Path) -> None:
    (run,) = synthetic_runs(checkpoint, 1)
    groups, _ = calibration_runs([run], checkpoint)
    ratios = log_ratios(groups[GPU, ENGINE], {})[0]
    footprint = predict(
        model=run.model,
        gpu=run.gpu,
        engine=run.engine,
        precision=run.precision,
        batch_size=run.batch_size,
        prompt_tokens=run.prompt_tokens or 0,
        output_tokens=run.output_tokens or 0,
        checkpoint=str(path),
    )
    said = (footprint.total.energy_j, footprint.prefill.energy_j, footprint.decode.energy_j)
    measured = (run.energy_j, run.prefill_energy_j, run.decode_energy_j)
    assert np.exp(-ratios[:3]) == pytest.approx(np.array(said) / np.array(measured), rel=1e-9)
    assert np.exp(-ratios[4]) == pytest.approx(footprint.tpot_s / (run.tpot_s or 0), rel=1e-9)
    assert np.exp(-ratios[5]) == pytest.approx(footprint.ttft_s / (run.ttft_s or 0), rel=1e-9)


def test_known_factors_are_found_again(checkpoint: Checkpoint) -> None:
    (fitted,) = fit_calibrations(synthetic_runs(checkpoint, 600), checkpoint).fitted
    assert (fitted.gpu_id, fitted.engine, fitted.n_runs) == (GPU, ENGINE, 600)
    for name, value in TRUE.items():
        assert fitted.factors[name] == pytest.approx(value, rel=0.08), name
    assert fitted.scales["idle_power"] == fitted.scales["active_power"] == fitted.factors["static power"]
    assert set(fitted.scales) == set(scales(TRUE))
    assert fitted.width_scale == 0.5  # many runs without noise: as narrow as it gets


@pytest.mark.parametrize("seed", range(3))
def test_five_noisy_runs_improve_what_they_did_not_see(checkpoint: Checkpoint, seed: int) -> None:
    runs = synthetic_runs(checkpoint, 5, seed=seed, noise=0.05)
    others = synthetic_runs(checkpoint, 60, seed=100 + seed)
    (fitted,) = fit_calibrations(runs, checkpoint).fitted
    before = energy_error_percent(others, checkpoint, {})
    after = energy_error_percent(others, checkpoint, fitted.scales)
    assert after < 0.5 * before
    assert fitted.held_out.energy_after_percent < fitted.held_out.energy_before_percent
    assert fitted.width_scale >= 0.75  # five runs narrow an interval by no more than a quarter


def test_one_run_moves_little_and_never_past_what_it_says(checkpoint: Checkpoint) -> None:
    twice = dict.fromkeys(FACTORS, 1.0) | {"dynamic power": 3.0}
    groups, _ = calibration_runs(synthetic_runs(checkpoint, 1, factors=twice), checkpoint)
    one = np.exp(fit_log_factors(groups[GPU, ENGINE]))
    groups, _ = calibration_runs(synthetic_runs(checkpoint, 30, factors=twice), checkpoint)
    many = np.exp(fit_log_factors(groups[GPU, ENGINE]))
    dynamic = list(FACTORS).index("dynamic power")
    assert one[dynamic] < many[dynamic] < 3.0
    assert np.all(np.abs(np.log(one)) < np.log(3.0))  # no factor is past what the run says of one


def test_runs_that_agree_with_the_predictor_change_nothing(checkpoint: Checkpoint) -> None:
    (fitted,) = fit_calibrations(
        synthetic_runs(checkpoint, 6, factors=dict.fromkeys(FACTORS, 1.0)), checkpoint
    ).fitted
    assert list(fitted.factors.values()) == [1.0] * len(FACTORS)
    assert not fitted.held_out.is_used


def test_noise_alone_is_not_taken_for_a_board(checkpoint: Checkpoint) -> None:
    none = dict.fromkeys(FACTORS, 1.0)
    runs = synthetic_runs(checkpoint, 8, seed=3, noise=0.3, factors=none)
    (fitted,) = fit_calibrations(runs, checkpoint).fitted
    others = synthetic_runs(checkpoint, 60, seed=9, factors=none)
    assert energy_error_percent(others, checkpoint, fitted.scales) < 20.0
    assert fitted.width_scale == 2.0  # the interval's end at 0.1 to 0.2 is too narrow for errors of 0.3


def test_one_absurd_run_does_not_drag_the_others(checkpoint: Checkpoint) -> None:
    runs = synthetic_runs(checkpoint, 9)
    broken = [
        *runs,
        replace(runs[0], run_id="broken", energy_j=1e9, prefill_energy_j=1e9, decode_energy_j=None),
    ]
    (fitted,) = fit_calibrations(broken, checkpoint).fitted
    others = synthetic_runs(checkpoint, 60, seed=9)
    before = energy_error_percent(others, checkpoint, {})
    assert energy_error_percent(others, checkpoint, fitted.scales) < 0.7 * before


def test_a_capped_board_is_compared_with_its_cap(checkpoint: Checkpoint) -> None:
    run = replace(synthetic_runs(checkpoint, 1)[0], power_limit_w=200.0)
    free = replace(run, power_limit_w=None)
    (capped,), (plain,) = (
        [log_ratios(group, {})[0, 3:] for group in calibration_runs([one], checkpoint)[0].values()]
        for one in (replace(run, latency_s=1.0), replace(free, latency_s=1.0))
    )
    assert capped[0] <= plain[0]  # predicted to take at least as long, so measured over predicted is less


def test_only_whole_gross_batches_count(checkpoint: Checkpoint) -> None:
    (run,) = synthetic_runs(checkpoint, 1)
    useless = [
        replace(run, status="failed"),
        replace(run, output_tokens=None),
        replace(run, prompt_tokens=None),
        replace(run, data_parallel=2),
        replace(run, shape_mix="[[1, 2, 3]]"),
        replace(run, energy_j=None, prefill_energy_j=None, decode_energy_j=0.0, ttft_s=None, tpot_s=None),
        replace(run, energy_includes="gpu_net", ttft_s=None, tpot_s=None),
    ]
    groups, unusable = calibration_runs([run, *useless], checkpoint)
    assert unusable == len(useless)
    assert [len(group) for group in groups.values()] == [1]


def test_energy_per_token_stands_for_the_energy_it_adds_up_to(checkpoint: Checkpoint) -> None:
    (run,) = synthetic_runs(checkpoint, 1)
    each = (run.energy_j or 0) / (run.batch_size * (run.output_tokens or 0))
    groups, _ = calibration_runs([replace(run, energy_j=None, energy_per_output_token_j=each)], checkpoint)
    assert groups[GPU, ENGINE].labels[0, 0] == pytest.approx(run.energy_j)


def test_a_board_with_too_few_runs_is_named(checkpoint: Checkpoint) -> None:
    runs = synthetic_runs(checkpoint, 3)
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
    runs = synthetic_runs(checkpoint, 3)
    with pytest.raises(
        InputError, match=r"run run-0 cannot be: got unknown GPU.*correct or drop the run"
    ) as refused:
        fit_calibrations([replace(runs[0], gpu="H1000")], checkpoint)
    assert "\n" not in str(refused.value)


def test_what_is_written_moves_the_prediction_to_the_runs(
    checkpoint: Checkpoint, path: Path, tmp_path: Path
) -> None:
    runs = synthetic_runs(checkpoint, 30)
    result = fit_calibrations(runs, checkpoint)
    target = tmp_path / "my_gpu.json"
    write_calibration(target, result, checkpoint)
    assert load_calibration(str(target), GPU, ENGINE).scales == pytest.approx(
        result.fitted[0].scales, abs=1e-6
    )
    request: dict[str, Any] = {"model": MODELS[0], "gpu": GPU, "batch_size": 4, "checkpoint": str(path)}
    plain, fitted = (
        predict(**request, engine=ENGINE, calibration=given).total.energy_j for given in (None, str(target))
    )
    ratio = energy_ratio(checkpoint, request)
    assert fitted / plain == pytest.approx(ratio, rel=0.05)
    elsewhere = predict(**{**request, "gpu": "A100-SXM4-80GB"}, engine=ENGINE, calibration=str(target))
    untouched = predict(**{**request, "gpu": "A100-SXM4-80GB"}, engine=ENGINE)
    assert elsewhere.total == untouched.total
    assert elsewhere.notes[-1] == f"the calibration is for {GPU} under {ENGINE}, so it was not used"


def test_predict_answers_as_the_fit_was_judged(checkpoint: Checkpoint, path: Path, tmp_path: Path) -> None:
    """Factors and residual come through the file whole: each run's own error is the same on both ways."""
    rng = np.random.default_rng(4)
    offset = {
        name: float(np.exp(rng.normal(0.0, 0.3))) for name in MODELS
    }  # what no factor of the board explains
    runs = [
        replace(run, energy_j=(run.energy_j or 0.0) * offset[run.model])
        for run in synthetic_runs(checkpoint, 12, factors=TRUE)
    ]
    result = fit_calibrations(runs, checkpoint)
    (fitted,) = result.fitted
    assert fitted.residual is not None
    write_calibration(tmp_path / "c.json", result, checkpoint)
    (group,) = calibration_runs(runs, checkpoint)[0].values()
    judged = log_ratios(group, fitted.scales, fitted.residual)[:, 0]
    bare = log_ratios(group, fitted.scales)[:, 0]
    assert np.abs(judged).mean() < 0.5 * np.abs(bare).mean()
    for run, ratio in zip(runs, judged, strict=True):
        answer = predict(
            model=run.model, gpu=GPU, engine=ENGINE, precision="bf16", batch_size=run.batch_size,
            prompt_tokens=run.prompt_tokens or 0.0, output_tokens=run.output_tokens or 0.0,
            checkpoint=str(path), calibration=str(tmp_path / "c.json"),
        )  # fmt: skip
        assert np.log((run.energy_j or 0.0) / answer.total.energy_j) == pytest.approx(ratio, abs=2e-3)


def energy_ratio(checkpoint: Checkpoint, request: dict[str, Any]) -> float:
    """Return how many times more a board with the true factors draws for a request of the default size."""
    deployment = resolve_deployment(request["model"], request["gpu"], 1, 1, 1, ENGINE, "unknown", "unknown")
    one = np.ones(1)
    sizes = SizeColumns(
        deployment=np.zeros(1, dtype=np.intp),
        batch_size=4.0 * one,
        prompt_tokens=512.0 * one,
        output_tokens=256.0 * one,
        continuous=0.0 * one,
    )
    energies = [
        answer_requests(checkpoint, [deployment], sizes, scales=given).total.energy_j[0]
        for given in (scales(TRUE), None)
    ]
    return float(energies[0] / energies[1])


def test_a_failed_write_leaves_the_older_file_and_no_other(checkpoint: Checkpoint, tmp_path: Path) -> None:
    result = fit_calibrations(synthetic_runs(checkpoint, 3), checkpoint)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*folder\.json"):
        write_calibration(tmp_path / "folder.json", result, checkpoint)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "folder.json",
        "formula.json",
        "formula.npz",
    ]


def test_a_board_known_by_its_datasheet_alone_is_calibrated(
    checkpoint: Checkpoint, path: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "board.json"
    sheet.write_text(
        json.dumps(
            {
                "gpu_id": "MyGPU-96GB",
                "memory_gib": 96,
                "memory_bandwidth_gb_per_s": 2000,
                "tdp_w": 400,
                "fp16_tflops": 500,
                "bf16_tflops": 500,
                "fp32_tflops": 60,
            }
        )
    )
    result = fit_calibrations(synthetic_runs(checkpoint, 12, gpu=str(sheet)), checkpoint)
    assert [fitted.gpu_id for fitted in result.fitted] == ["MyGPU-96GB"]
    write_calibration(tmp_path / "c.json", result, checkpoint)
    answer = predict(
        model=MODELS[0],
        gpu=str(sheet),
        engine=ENGINE,
        checkpoint=str(path),
        calibration=str(tmp_path / "c.json"),
    )
    assert answer.notes[-2:] == (
        "calibrated with 12 runs of this board and engine",
        "SIMULATED: 12 of those runs were drawn by no real GPU",
    )


def test_widths_by_hand() -> None:
    def width(ratios: list[float]) -> float:
        n = len(ratios)
        return width_scale(np.array(ratios), np.full(n, -0.2), np.full(n, 0.1))

    assert width([]) == 1.0
    # Four errors at half of the end on their side: t(4) = 2.13, sqrt(1 + 1/4) = 1.118; 0.5 * 2.13 * 1.118 = 1.19
    assert width([0.05, -0.1, 0.05, -0.1]) == pytest.approx(1.19, abs=0.01)
    assert width([0.0] * 4) == 0.8  # 1 - 4 * 0.05, whatever the errors
    assert width([0.0] * 100) == 0.5
    assert width([1.0] * 5) == 2.0
    # Nineteen runs: 90 % of new ones need the 18th of them in order, here at 1.5 ends.
    assert width([0.0] * 17 + [0.15, 0.15]) == pytest.approx(1.5)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40))
def test_a_width_stays_between_half_and_twice_and_grows_with_errors(ratios: list[float]) -> None:
    low, high = np.full(len(ratios), -0.3), np.full(len(ratios), 0.3)
    width = width_scale(np.array(ratios), low, high)
    assert 0.5 <= width <= 2.0
    assert width_scale(1.5 * np.array(ratios), low, high) >= width
