"""Every baseline reads training labels alone, answers every test row, and repeats itself by seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.accuracy.baselines import (
    ablations,
    deepen,
    ecologits,
    llmcarbon,
    mlp,
    nine_constants,
    nnlqp,
    paper,
    tdp_time,
)
from benchmarks.accuracy.baselines.ablations import hide_roofline, pooled_network
from benchmarks.accuracy.baselines.label_table import Table
from benchmarks.accuracy.baselines.regression import FitPlan
from benchmarks.accuracy.method import MethodGroup
from benchmarks.accuracy.paper_module import PaperModule
from benchmarks.accuracy.shipped import OpenGateNetwork, network_errors
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule
from llmco2.data.tensors import IS_ENERGY

FEW_STEPS: Final = FitPlan(steps=8)
WithLabels = Callable[[EnergyDataModule, NDArray[np.float64]], EnergyDataModule]


def without_roofline(data: EnergyDataModule, fold: Fold, seed: int) -> Table:
    def change(module: PaperModule) -> None:
        hide_roofline(module.network)

    return paper.paper_table(data, fold.train, fold.test, fold.name, seed, change=change, epochs=2)


def without_messages(data: EnergyDataModule, fold: Fold, seed: int) -> Table:
    network, own = pooled_network(data, fold, seed, formula_steps=2, graph_steps=2)
    errors = network_errors(OpenGateNetwork.of(network), own, fold.test)
    return np.exp(errors) * data.tensors.labels[fold.test].double().numpy()


def nine(data: EnergyDataModule, fold: Fold, merged: bool) -> Table:
    constants = nine_constants.fit_constants(data, fold.train, merged=merged)
    return nine_constants.predicted(constants, data, fold.test, merged=merged)


# Predictions of a fold's test rows, with as few steps as show what is read.
NOT_FITTED: Final = {
    "TDP × time": lambda data, fold, seed: tdp_time.predicted(data, fold.test),
    "LLMCarbon": lambda data, fold, seed: llmcarbon.predicted(data, fold.test),
    "EcoLogits": lambda data, fold, seed: ecologits.predicted(data, fold.test),
}
FITTED: Final = {
    "TDP × time, fitted": lambda data, fold, seed: (
        tdp_time.predicted(data, fold.test) / tdp_time.fitted_efficiency(data, fold.train)
    ),
    "nine constants": lambda data, fold, seed: nine(data, fold, False),
    "single phase": lambda data, fold, seed: nine(data, fold, True),
}
SEEDED: Final = {
    "DeepEn": lambda data, fold, seed: deepen.forest_table(data, fold.train, fold.test, seed, n_trees=10),
    "NNLQP": lambda data, fold, seed: nnlqp.graph_table(data, fold.train, fold.test, seed, FEW_STEPS),
    "MLP": lambda data, fold, seed: mlp.network_table(
        data, fold.train, fold.test, seed, on_formula=False, plan=FEW_STEPS
    ),
    "MLP on formula": lambda data, fold, seed: mlp.network_table(
        data, fold.train, fold.test, seed, on_formula=True, plan=FEW_STEPS
    ),
    "paper": lambda data, fold, seed: paper.paper_table(
        data, fold.train, fold.test, fold.name, seed, epochs=2
    ),
    "no roofline": without_roofline,
    "no messages": without_messages,
}
EVERY: Final = {**NOT_FITTED, **FITTED, **SEEDED}


@pytest.fixture(scope="module")
def tables(data: EnergyDataModule, fold: Fold) -> dict[str, Table]:
    return {name: table(data, fold, 0) for name, table in EVERY.items()}


@pytest.mark.parametrize("name", EVERY)
def test_answers_are_finite_and_positive(tables: dict[str, Table], name: str) -> None:
    energies = tables[name][:, list(IS_ENERGY)]
    assert np.isfinite(energies).all()
    assert (energies > 0.0).all()
    assert not (tables[name] <= 0.0).any()


@pytest.mark.parametrize("name", EVERY)
def test_labels_of_test_rows_are_never_read(
    data: EnergyDataModule, fold: Fold, tables: dict[str, Table], with_labels: WithLabels, name: str
) -> None:
    labels = data.tensors.labels.double().numpy().copy()
    labels[fold.test] *= np.linspace(3.0, 300.0, len(fold.test))[:, None]
    again = EVERY[name](with_labels(data, labels), fold, 0)
    np.testing.assert_allclose(again, tables[name], rtol=1e-5)


@pytest.mark.parametrize("name", {**FITTED, **SEEDED})
def test_labels_of_training_rows_are(
    data: EnergyDataModule, fold: Fold, tables: dict[str, Table], with_labels: WithLabels, name: str
) -> None:
    labels = data.tensors.labels.double().numpy().copy()
    labels[fold.train] *= 3.0
    again = EVERY[name](with_labels(data, labels), fold, 0)
    rise = np.log(again[:, list(IS_ENERGY)] / tables[name][:, list(IS_ENERGY)])
    assert np.median(rise) > 0.0


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_repeats_and_another_differs(
    data: EnergyDataModule, fold: Fold, tables: dict[str, Table], name: str
) -> None:
    np.testing.assert_array_equal(SEEDED[name](data, fold, 0), tables[name])
    assert not np.array_equal(SEEDED[name](data, fold, 1), tables[name])


def test_a_fit_leaves_the_data_as_it_was(data: EnergyDataModule, fold: Fold) -> None:
    before = (data.sides, data.order, data.vocabulary, data.sampler_options, data.batch_size, data.seed)
    SEEDED["paper"](data, fold, 0)
    after = (data.sides, data.order, data.vocabulary, data.sampler_options, data.batch_size, data.seed)
    assert all(a is b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "method_group",
    [
        tdp_time.METHOD_GROUP,
        llmcarbon.METHOD_GROUP,
        ecologits.METHOD_GROUP,
        nine_constants.METHOD_GROUP,
        deepen.METHOD_GROUP,
        ablations.METHOD_GROUPS[1],
    ],
    ids=lambda method_group: method_group.names[0],
)
def test_a_method_answers_for_its_names_where_labels_are_known(
    data: EnergyDataModule, fold: Fold, method_group: MethodGroup
) -> None:
    errors = method_group.fold_errors(data, replace(fold, test=fold.test[:5]), 0)
    known = ~np.isnan(data.tensors.labels[fold.test[:5]].numpy())
    assert tuple(errors) == method_group.names
    for values in errors.values():
        assert np.isfinite(values[:, list(IS_ENERGY)][known[:, list(IS_ENERGY)]]).all()
        assert np.isnan(values[~known]).all()


def test_names_can_be_listed_with_commas() -> None:
    modules = (tdp_time, llmcarbon, ecologits, nine_constants, deepen, nnlqp, paper, mlp)
    every = [*(module.METHOD_GROUP for module in modules), *ablations.METHOD_GROUPS]
    names = [name for method_group in every for name in method_group.names]
    assert len(names) == len(set(names))
    assert not any("," in name for name in names)
