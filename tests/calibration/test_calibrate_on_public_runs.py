"""Opt-in: five runs of a board the predictor never saw, from the public files beside a developer's checkout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.public_runs.registry import import_runs
from llmco2.calibration.calibrate import fit_calibrations
from llmco2.calibration.runs import N_ENERGIES, calibration_runs, log_ratios, primary
from llmco2.data.tables import run_rows
from llmco2.data.tensors import assumed_prompt_tokens
from llmco2.deployment.resolving import resolve_deployment
from llmco2.errors import InputError
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint
from llmco2.records.run import MeasuredRun

PUBLIC_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (PUBLIC_DATA / "runs.csv.gz").is_file(), reason="the public measurement files are not here"
    ),
]


def possible(run: MeasuredRun) -> bool:
    """Return whether the run has sizes and energy, and a precision that its board computes."""
    if not run.output_tokens or not (run.energy_j or run.decode_energy_j or run.energy_per_output_token_j):
        return False
    try:
        resolve_deployment(run.model, run.gpu, run.tensor_parallel, run.pipeline_parallel, run.expert_parallel,
                           run.engine, run.precision, run.kv_precision)  # fmt: skip
    except InputError:
        return False
    return True


def without(checkpoint: Checkpoint, gpu: str) -> Checkpoint:
    """Return the checkpoint with all that it learned of one board alone out of reach."""
    hidden = [f"not {name}" if name == gpu else name for name in checkpoint.vocabulary["gpus"]]
    return replace(checkpoint, vocabulary={**checkpoint.vocabulary, "gpus": hidden})


def mape(runs: list[MeasuredRun], checkpoint: Checkpoint, scales: dict[str, float]) -> float:
    groups, _ = calibration_runs(runs, checkpoint)
    (ratios,) = (primary(log_ratios(group, scales)[:, :N_ENERGIES]) for group in groups.values())
    return float(np.mean(np.abs(np.expm1(-ratios))) * 100.0)


def test_five_runs_make_an_unseen_board_better_on_average() -> None:
    boards: dict[tuple[str, str], list[MeasuredRun]] = {}
    table = import_runs(PUBLIC_DATA)
    table["prompt_tokens"] = assumed_prompt_tokens(table)
    for run in filter(possible, run_rows(table)):
        boards.setdefault((run.gpu, run.engine), []).append(run)
    boards = {key: runs for key, runs in boards.items() if len(runs) >= 25}
    assert len(boards) >= 8
    shipped, rng = load_checkpoint(None), np.random.default_rng(0)
    before, after = [], []
    for (gpu, _), runs in boards.items():
        checkpoint = without(shipped, gpu)
        for _ in range(3):
            order = rng.permutation(len(runs))[:205].tolist()
            few, others = [runs[i] for i in order[:5]], [runs[i] for i in order[5:]]
            (fitted,) = fit_calibrations(few, checkpoint).fitted
            before.append(mape(others, checkpoint, {}))
            after.append(mape(others, checkpoint, fitted.scales))
    assert np.mean(after) < 0.9 * np.mean(before), (np.mean(before), np.mean(after))
    # No board is made much worse by a fit that looked good on five runs.
    worst = max(np.array(after).reshape(-1, 3).mean(axis=1) - np.array(before).reshape(-1, 3).mean(axis=1))
    assert worst < 5.0
