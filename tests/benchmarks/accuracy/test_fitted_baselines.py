"""Fits recover what made the labels, and never see the group they are scored on."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy.answers import label_predictions
from benchmarks.accuracy.baselines import nine_constants, trees
from benchmarks.accuracy.baselines.folds import fold_of_runs
from benchmarks.accuracy.baselines.nine_constants import Constants
from benchmarks.accuracy.baselines.work import RequestWork, request_work
from benchmarks.accuracy.workload import Workload, measured_workload
from tests.benchmarks.accuracy.conftest import STATIC, run_table

TRUE = Constants(
    compute_efficiency=0.7, weight_efficiency=0.85, activation_efficiency=0.4, network_efficiency=0.3, launch_s=8e-6,
    step_s=4e-3, compute_share=0.6, memory_share=0.3, static_share=0.05,
)  # fmt: skip
GPUS = ("H100-SXM5-80GB", "A100-SXM4-80GB", "H200-SXM-141GB", "L40S")
MODELS = ("meta-llama/Llama-3.1-8B", "mistralai/Mistral-7B-v0.1", "Qwen/Qwen2-7B")


@pytest.fixture(scope="module")
def made() -> tuple[Workload, RequestWork]:
    """Runs of twelve (board, model) groups whose labels nine known constants made."""
    sizes = product(GPUS, MODELS, (1.0, 16.0, 128.0), (64.0, 1024.0))
    rows = [{**STATIC, "gpu": gpu, "model": model, "batch_size": batch, "prompt_tokens": prompt}
            for gpu, model, batch, prompt in sizes]  # fmt: skip
    workload = measured_workload(run_table(*rows))
    work = request_work(workload.requests)
    found = label_predictions(workload, nine_constants.answers(TRUE, workload.requests, work))
    labels = workload.labels.assign(measured=found["predicted"])
    return replace(workload, labels=labels), work


def test_the_fit_finds_constants_that_made_the_labels(made: tuple[Workload, RequestWork]) -> None:
    workload, work = made
    everything = np.ones(len(workload.runs), dtype=bool)
    found = nine_constants.fit_constants(workload, work, everything)
    assert found.step_s == pytest.approx(TRUE.step_s, rel=0.05)
    assert found.compute_share == pytest.approx(TRUE.compute_share, rel=0.05)


def test_groups_left_out_are_answered_from_the_others(made: tuple[Workload, RequestWork]) -> None:
    workload, work = made
    found = nine_constants.left_out_predictions(workload, work, 2)
    assert found["predicted"].to_numpy() == pytest.approx(workload.labels["measured"].to_numpy(), rel=0.1)


@pytest.mark.parametrize("method", [nine_constants.left_out_predictions, trees.left_out_predictions])
def test_labels_of_a_group_do_not_reach_its_own_predictions(
    method, made, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(trees, "FEWEST_LABELS", 5)
    workload, work = made
    fold = fold_of_runs(workload.runs, 2)
    mine = fold[workload.labels["run"]] == fold[0]
    doubled = workload.labels["measured"].where(~mine, 2.0 * workload.labels["measured"])
    before = method(workload, work, 2)["predicted"]
    after = method(replace(workload, labels=workload.labels.assign(measured=doubled)), work, 2)["predicted"]
    assert np.isfinite(before[mine]).any()
    pd.testing.assert_series_equal(before[mine], after[mine])
    assert not np.allclose(before[~mine], after[~mine])


def test_trees_answer_near_the_labels_of_groups_they_did_not_see(
    made: tuple[Workload, RequestWork], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "FEWEST_LABELS", 5)
    workload, work = made
    found = trees.left_out_predictions(workload, work, 2)["predicted"].to_numpy()
    error = np.abs(found / workload.labels["measured"].to_numpy() - 1.0)
    assert np.isfinite(error).all()
    assert np.median(error) < 0.25


def test_a_fold_depends_on_the_group_alone(made: tuple[Workload, RequestWork]) -> None:
    runs = made[0].runs
    fold = fold_of_runs(runs)
    assert fold_of_runs(runs.iloc[::-1])[::-1].tolist() == fold.tolist()
    assert runs.assign(fold=fold).groupby(["gpu", "model"])["fold"].nunique().eq(1).all()
    assert len(set(fold.tolist())) > 2
