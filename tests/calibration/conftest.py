"""Runs of stacks that are the predictor's own but for known factors and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmco2.calibration.runs import LABELS, CalibrationRuns, calibration_runs, log_ratios
from llmco2.deployment.resolving import request_deployment
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint
from llmco2.predictor.columns import SizeColumns, predict_columns
from llmco2.records.run import MeasuredRun

Array = NDArray[np.float64]
MODELS = ("Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-30B-A3B")
GPU, ENGINE = "H100-SXM5-80GB", "vllm"


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    """Return the checkpoint that ships."""
    return load_checkpoint(None)


def requested_runs(
    n: int, *, seed: int = 0, gpu: str = GPU, engine: str = ENGINE, serving: str = "static"
) -> list[MeasuredRun]:
    """Return runs of many sizes that nothing was measured of."""
    rng = np.random.default_rng(seed)
    return [
        MeasuredRun(
            run_id=f"run-{i}",
            source="test",
            model=MODELS[i % len(MODELS)],
            gpu=gpu,
            engine=engine,
            precision="bf16",
            batch_size=float(rng.choice([1, 4, 16, 64])),
            prompt_tokens=float(rng.choice([64, 512, 4096])),
            output_tokens=float(rng.choice([8, 128, 1024])),
            serving=serving,
        )
        for i in range(n)
    ]


def measured(run: MeasuredRun, checkpoint: Checkpoint, scales: dict[str, float] | None = None) -> MeasuredRun:
    """Return the run with the labels of a stack that differs from the predictor's by ``scales``."""
    one = np.ones(1)
    sizes = SizeColumns(
        deployment=np.zeros(1, dtype=np.intp),
        batch_size=run.batch_size * one,
        prompt_tokens=(run.prompt_tokens or 0.0) * one,
        output_tokens=(run.output_tokens or 0.0) * one,
        continuous=float(run.serving == "continuous") * one,
    )
    answer = predict_columns(checkpoint, [request_deployment(run.request())], sizes, scales)
    labels: dict[str, Any] = {
        "energy_j": answer.energy_j,
        "prefill_energy_j": answer.prefill.energy_j,
        "decode_energy_j": answer.decode.energy_j,
        "latency_s": answer.latency_s,
        "tpot_s": answer.tpot_s,
        "ttft_s": answer.ttft_s,
    }
    return replace(run, **{name: float(column[0]) for name, column in labels.items()})


def measured_runs(
    n: int, checkpoint: Checkpoint, scales: dict[str, float] | None = None, **asked: Any
) -> list[MeasuredRun]:
    """Return ``n`` measured runs; ``asked`` as in requested_runs."""
    return [measured(run, checkpoint, scales) for run in requested_runs(n, **asked)]


def columns_of(runs: list[MeasuredRun], checkpoint: Checkpoint) -> CalibrationRuns:
    """Return the columns of runs of one GPU and engine."""
    ((_, columns),) = calibration_runs(runs, checkpoint)[0].items()
    return columns


def stack_columns(
    n: int, checkpoint: Checkpoint, scales: dict[str, float] | None = None, **asked: Any
) -> CalibrationRuns:
    """Return the columns of ``n`` runs of a stack that differs by ``scales``, whatever their number cheaply."""
    runs = columns_of([replace(run, latency_s=1.0) for run in requested_runs(n, **asked)], checkpoint)
    alike = replace(runs, labels=np.ones((n, len(LABELS))))
    labels = np.exp(-log_ratios(alike, scales))
    labels[:, LABELS.index("average_power_w")] = np.nan
    return replace(runs, labels=labels)


def with_noise(runs: CalibrationRuns, seed: int, sigma: float = 0.12) -> CalibrationRuns:
    """Return the runs with labels off by a log-normal error of each run's energies and of its times."""
    rng = np.random.default_rng(seed)
    n = len(runs)
    energy, time = sigma * rng.normal(size=(n, 1)), sigma * rng.normal(size=(n, 1))
    each = 0.3 * sigma * rng.normal(size=(n, len(LABELS)))
    common = np.hstack([np.repeat(energy, 4, axis=1), np.repeat(time, 3, axis=1)])
    return replace(runs, labels=runs.labels * np.exp(common + each))
