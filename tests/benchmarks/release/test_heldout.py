"""Held-out folds leave out whole groups; interval ends are weighted quantiles of their errors."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.release.heldout import Fold, folds, training_rows
from benchmarks.release.release import calibrated_intervals, ordered_by_case, weighted_quantiles
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.data.tensors import energy_known
from llmco2.predictor.intervals import Newness
from llmco2.training.options import OptimizerOptions
from llmco2.training.schedule import one_cycle, rate_schedules


@pytest.fixture(scope="module")
def data() -> EnergyDataModule:
    module = EnergyDataModule(split=SplitOptions(kind="none"))
    module.setup()
    return module


def test_folds_leave_out_whole_groups(data: EnergyDataModule) -> None:
    deployments = [data.tensors.deployments[i] for i in data.tensors.deployment.tolist()]
    seen = dict.fromkeys(Newness, 0)
    for fold in folds(data):
        seen[fold.case] += 1
        assert not set(fold.train) & set(fold.test)
        boards = {deployments[i].gpu_id for i in fold.train}
        families = {deployments[i].architecture.family for i in fold.train}
        for row in fold.test:
            new_board = deployments[row].gpu_id not in boards
            new_family = deployments[row].architecture.family not in families
            if fold.case is Newness.NEW_GPU:
                assert new_board
            elif fold.case is Newness.NEW_MODEL:
                assert new_family
            elif fold.case is Newness.NEW_BOTH:
                assert new_board
                assert new_family
    assert min(seen.values()) >= 3


def test_training_keeps_every_energy_and_a_third_of_the_rest(data: EnergyDataModule) -> None:
    rows = training_rows(data, latency_share=1.0 / 3.0)
    known = energy_known(data.tensors)
    assert set(np.flatnonzero(known)) <= set(rows)
    assert known[rows].sum() + np.ceil((~known).sum() / 3) == len(rows)


def test_names_of_held_out_rows_are_forgotten(data: EnergyDataModule) -> None:
    fold = next(f for f in folds(data) if f.case is Newness.NEW_GPU)
    data.train_on(fold.train, fold.name)
    assert fold.name.removeprefix("board ") not in data.vocabulary.gpus


def test_weighted_quantiles_by_hand() -> None:
    values, weight = np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0])
    # Midpoints of the sorted weights 1, 2, 1 of 4: 0.125, 0.5, 0.875.
    assert weighted_quantiles(values, weight, (0.125, 0.5, 0.3125)) == pytest.approx([1.0, 2.0, 1.5])


def test_intervals_cover_the_share_of_errors_they_promise() -> None:
    rng = np.random.default_rng(1)
    errors = rng.normal(0.1, 0.2, 4000)
    rows = np.arange(4000)
    evaluated = [(Fold(name=case, case=case, train=rows, test=rows), errors, errors) for case in Newness]
    ends = calibrated_intervals(evaluated)["cases"][Newness.KNOWN]
    inside = np.mean((-errors >= ends["low"]) & (-errors <= ends["high"]))
    assert 0.90 <= inside <= 0.95  # ends are taken a tenth further out than the sample's


def test_the_formula_stands_still_while_the_graph_learns() -> None:
    formula, graph = rate_schedules(OptimizerOptions(formula_share=0.5), 2, 100)
    assert [graph(step) for step in range(50)] == [0.0] * 50
    assert [formula(step) for step in range(50, 100)] == [0.0] * 50
    assert max(formula(step) for step in range(50)) == pytest.approx(1.0, abs=0.02)
    assert max(graph(step) for step in range(50, 100)) == pytest.approx(1.0, abs=0.02)


def test_without_stages_every_group_runs_through() -> None:
    (only,) = rate_schedules(OptimizerOptions(formula_share=0.5), 1, 40)
    assert only(0) > 0.0
    assert only(39) == pytest.approx(1e-3)
    assert one_cycle(1.01, 0.1) == 0.0


def test_what_lacks_more_has_no_narrower_interval() -> None:
    ends = {"measured": (-0.1, 0.3), "known": (-0.2, 0.2), "new_model": (-0.5, 0.1), "new_gpu": (-0.1, 0.6)}
    cases = {name: {"low": low, "high": high, "rows": 9} for name, (low, high) in ends.items()}
    ordered = ordered_by_case({**cases, "new_both": {"low": -0.3, "high": 0.4, "rows": 9}})
    assert ordered["known"] == {"low": -0.2, "high": 0.3, "rows": 9}
    assert ordered["new_model"] == {"low": -0.5, "high": 0.3, "rows": 9}
    assert ordered["new_gpu"] == {"low": -0.2, "high": 0.6, "rows": 9}
    assert ordered["new_both"] == {"low": -0.5, "high": 0.6, "rows": 9}
