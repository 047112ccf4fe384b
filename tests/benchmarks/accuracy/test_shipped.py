"""The project's own methods: fits are the release's, the gate opens without touching the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.accuracy.figures import group_errors
from benchmarks.accuracy.shipped import (
    FORMULA,
    OPEN_GATE,
    RAW_TREES,
    RESIDUAL_TREES,
    SHIPPED,
    SHIPPED_METHODS,
    OpenGateNetwork,
    network_errors,
    shipped_fold_errors,
)
from benchmarks.release import heldout
from benchmarks.release.heldout import Fold, energy_log_errors, fit_rows
from llmco2.data.module import EnergyDataModule
from llmco2.predictor.intervals import Newness

STEPS = 4


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(heldout, "FORMULA_STEPS", STEPS)
    monkeypatch.setattr(heldout, "GRAPH_STEPS", STEPS)


@pytest.fixture
def board(all_folds: list[Fold]) -> Fold:
    return next(fold for fold in all_folds if fold.case is Newness.NEW_GPU)


@pytest.fixture
def requests(all_folds: list[Fold]) -> Fold:
    return next(fold for fold in all_folds if fold.case is Newness.MEASURED)


def test_label_errors_agree_with_the_releases_own(data: EnergyDataModule, board: Fold) -> None:
    network = fit_rows(data, board.train, board.name, graph=False)
    errors = network_errors(network, data, board.test)
    known = np.isfinite(data.tensors.labels[board.test].numpy())
    np.testing.assert_array_equal(np.isfinite(errors), known)
    np.testing.assert_allclose(group_errors(errors), energy_log_errors(network, data, board.test), atol=1e-5)


def test_where_a_board_is_new_the_formula_is_what_ships(data: EnergyDataModule, board: Fold) -> None:
    errors = shipped_fold_errors(data, board, 0)
    assert set(errors) == set(SHIPPED_METHODS.names)
    np.testing.assert_array_equal(errors[SHIPPED], errors[FORMULA])
    assert np.nanmax(np.abs(errors[OPEN_GATE] - errors[FORMULA])) > 1e-4
    for method in (RESIDUAL_TREES, RAW_TREES):
        assert np.isfinite(group_errors(errors[method])).all()
        assert np.isnan(group_errors(errors[method], "time")).all()


def test_the_graph_answers_where_engine_and_board_were_measured(
    data: EnergyDataModule, requests: Fold
) -> None:
    errors = shipped_fold_errors(data, requests, 0)
    # Nothing is new in a request left out, so the gate is open either way.
    np.testing.assert_array_equal(errors[SHIPPED], errors[OPEN_GATE])
    assert np.nanmax(np.abs(errors[SHIPPED] - errors[FORMULA])) > 1e-4


def test_an_open_gate_corrects_a_new_board_and_leaves_the_network_as_it_was(
    data: EnergyDataModule, board: Fold
) -> None:
    network = fit_rows(data, board.train, board.name, graph=True)
    before = network_errors(network, data, board.test)
    opened = network_errors(OpenGateNetwork.of(network), data, board.test)
    assert np.nanmax(np.abs(opened - before)) > 1e-4
    np.testing.assert_array_equal(network_errors(network, data, board.test), before)
    formula = fit_rows(data, board.train, board.name, graph=False)
    np.testing.assert_allclose(network_errors(formula, data, board.test), before, atol=1e-5)
