"""Opt-in: runs of the public files beside a developer's checkout, calibrated with some and judged on the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.public_runs.registry import import_runs
from llmco2.calibration.calibrate import calibrate_group, mape_percent
from llmco2.calibration.runs import calibration_runs, energies, is_usable, log_ratios, primary, times
from llmco2.data.tables import run_rows
from llmco2.deployment.resolving import request_deployment
from llmco2.errors import InputError
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.records.run import MeasuredRun

PUBLIC_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ASSUMED_PROMPT_TOKENS = 250.0  # where a source does not say them
N_DRAWS = 8

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (PUBLIC_DATA / "runs.csv.gz").is_file(), reason="the public measurement files are not here"
    ),
]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return import_runs(PUBLIC_DATA)


def stack_runs(table: pd.DataFrame, source: str, gpu: str, engine: str) -> list[MeasuredRun]:
    """Return the usable runs of one source, GPU and engine."""
    rows = table[(table["source"] == source) & (table["gpu"] == gpu) & (table["engine"] == engine)]
    rows = rows.assign(prompt_tokens=rows["prompt_tokens"].fillna(ASSUMED_PROMPT_TOKENS))
    return [run for run in run_rows(rows) if is_usable(run) and possible(run)]


def possible(run: MeasuredRun) -> bool:
    """Return whether the run's model fits its parallelism and its GPU computes its precision."""
    try:
        request_deployment(run.request())
    except InputError:
        return False
    return True


def draws(runs: list[MeasuredRun], n: int, checkpoint: Checkpoint) -> np.ndarray:
    """Return errors in percent of held-back runs, ``(n_draws, 4)``: energies and times, each before and after."""
    ((key, every),) = calibration_runs(runs, checkpoint)[0].items()
    plain = log_ratios(every)
    found = []
    for seed in range(N_DRAWS):
        order = np.random.default_rng(seed).permutation(len(runs))
        ((_, mine),) = calibration_runs([runs[i] for i in order[:n]], checkpoint)[0].items()
        after = log_ratios(every, calibrate_group(*key, mine).scales)[order[n:]]
        before = plain[order[n:]]
        found.append(
            [mape_percent(primary(of(ratios))) for of in (energies, times) for ratios in (before, after)]
        )
    return np.array(found)


@pytest.mark.parametrize(
    ("source", "gpu", "engine"),
    [
        ("mlenergy_v3", "H100-SXM5-80GB", "vllm-0.11"),
        ("mlenergy_v3", "B200-SXM-180GB", "vllm-0.11"),
        ("joulebench", "A100-PCIe-80GB", "hf-eager"),
        ("mlenergy_legacy", "V100-SXM2-32GB", "hf-eager"),
    ],
)
def test_twelve_runs_of_a_known_stack_do_no_harm(
    table: pd.DataFrame, checkpoint: Checkpoint, source: str, gpu: str, engine: str
) -> None:
    errors = draws(stack_runs(table, source, gpu, engine), 12, checkpoint)
    before, after = errors[:, [0, 2]], errors[:, [1, 3]]
    assert np.all(after.mean(axis=0) <= 1.02 * before.mean(axis=0)), errors
    assert np.all(np.sum(after > 1.02 * before, axis=0) <= 1), errors


def test_twelve_runs_of_a_stack_that_differs_help(table: pd.DataFrame, checkpoint: Checkpoint) -> None:
    """Runs of vLLM 0.7 that are taken for the current vLLM are a third slower than predicted."""
    older = stack_runs(table, "argonne_power", "H100-SXM5-80GB", "vllm-0.7")
    errors = draws([replace(run, engine="vllm") for run in older], 12, checkpoint)
    before, after = errors[:, [0, 2]].mean(axis=0), errors[:, [1, 3]].mean(axis=0)
    assert np.all(after < 0.8 * before), errors
