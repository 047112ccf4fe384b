"""Networks can learn a handful by heart, a prefill is the work of a request for one token, and fits stop in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.accuracy.baselines import deepen, mlp, nnlqp
from benchmarks.accuracy.baselines.label_table import phase_work
from benchmarks.accuracy.baselines.regression import FitPlan, fit_network, predict, standardiser
from benchmarks.accuracy.baselines.request_columns import name_columns, trained_names
from benchmarks.accuracy.baselines.windows import (
    Windows,
    all_windows,
    energy_samples,
    energy_table,
    held_back,
    window_totals,
)
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.data.schema import canonical_frame
from llmco2.data.tables import write_runs
from llmco2.records.run import MeasuredRun

BY_HEART = FitPlan(steps=250, peak_rate=0.02, weight_decay=0.0)


@pytest.fixture(scope="module")
def one_token(tmp_path_factory: pytest.TempPathFactory) -> EnergyDataModule:
    """Two runs of one token, the energy of one known as prefill and of the other as a whole."""
    frame = canonical_frame(
        pd.DataFrame({
            "run_id": ["a", "b"],
            "source": "test",
            "model": "meta-llama/Llama-3.1-8B",
            "gpu": "A100-SXM4-80GB",
            "engine": "vllm",
            "prompt_tokens": 512.0,
            "output_tokens": 1.0,
            "prefill_energy_j": [20.0, np.nan],
            "energy_j": [np.nan, 21.0],
        }),
        MeasuredRun,
    )  # fmt: skip
    path: Path = write_runs(frame, tmp_path_factory.mktemp("runs") / "runs.csv")
    module = EnergyDataModule(runs=str(path), split=SplitOptions(kind="none"))
    module.setup()
    return module


def test_samples_are_the_energies_that_runs_know(one_token: EnergyDataModule) -> None:
    samples = energy_samples(one_token, np.array([0, 1]))
    assert samples.windows.row.tolist() == [0, 1]
    assert samples.windows.phases.tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert np.exp(samples.log_energy) == pytest.approx([20.0, 21.0])


def test_weights_of_a_run_add_up_to_its_own(data: EnergyDataModule, fold: Fold) -> None:
    samples = energy_samples(data, fold.train)
    assert len(samples.windows) == 3 * len(fold.train)
    assert samples.weight.sum() == pytest.approx(float(data.tensors.weight[fold.train].double().sum()))


def test_a_prefill_is_the_work_of_a_request_for_one_token(one_token: EnergyDataModule) -> None:
    rows = np.array([0, 0])
    windows = Windows(row=rows, phases=np.array([[1.0, 0.0], [1.0, 1.0]]))
    names = trained_names(one_token, rows)
    for columns in (
        deepen.forest_columns(one_token, windows, names),
        mlp.window_columns(one_token, windows, names),
        *nnlqp.graph_columns(one_token, windows, names),
    ):
        assert np.array_equal(columns[0], columns[1])


def test_a_window_holds_the_work_of_its_phases(data: EnergyDataModule, fold: Fold) -> None:
    windows = all_windows(fold.test[:1])
    work = phase_work(data, windows.row)
    totals = window_totals(windows, work, "launches")
    prefill, decode = work[0].launches[0], work[1].launches[0]
    assert totals == pytest.approx(np.stack([prefill, decode, prefill + decode]))
    assert window_totals(windows, work, "steps")[1] == work[1].steps[0]


def test_answers_return_to_their_labels() -> None:
    table = energy_table(np.log(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])))
    assert table[:, :3] == pytest.approx(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert np.isnan(table[:, 3:]).all()


def test_names_of_others_are_no_columns(data: EnergyDataModule) -> None:
    engines = [data.tensors.deployments[i].engine for i in data.tensors.deployment.tolist()]
    own = np.flatnonzero(np.array(engines) == engines[0])
    other = np.flatnonzero(np.array(engines) != engines[0])
    names = trained_names(data, own)
    assert names[0] == (engines[0],)
    assert name_columns(data, own, names)[:, 0].all()
    assert not name_columns(data, other, names)[:, 0].any()


def test_whole_deployments_are_held_back(data: EnergyDataModule, fold: Fold) -> None:
    aside = held_back(data, fold.train, seed=0)
    kept = np.setdiff1d(fold.train, aside)
    keys = data.frame[["model", "gpu", "engine"]].agg(" | ".join, axis=1)
    assert 0 < len(aside) < 0.4 * len(fold.train)
    assert not set(keys.iloc[aside]) & set(keys.iloc[kept])
    assert len(held_back(data, fold.train[:1], seed=0)) == 0


def without_dropout(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


@pytest.mark.parametrize("kind", ["NNLQP", "MLP", "MLP on formula"])
def test_a_handful_is_learnt_by_heart(data: EnergyDataModule, fold: Fold, kind: str) -> None:
    rows = fold.train[:6]
    samples = energy_samples(data, rows)
    names, windows = trained_names(data, rows), samples.windows
    target = samples.log_energy
    typical = float(target.mean())
    if kind == "NNLQP":
        *graphs, static = nnlqp.graph_columns(data, windows, names)
        inputs = (*graphs, standardiser(static)(static))
        build = lambda: nnlqp.GraphRegression(static.shape[1], typical)  # noqa: E731
    else:
        columns = mlp.window_columns(data, windows, names)
        inputs = (standardiser(columns)(columns),)
        limit = mlp.CORRECTION_LIMIT if kind == "MLP on formula" else None
        if limit is not None:
            target = target - mlp.formula_log_energy(data, fold.train, windows)
            typical = 0.0
        build = lambda: mlp.Perceptron(columns.shape[1], typical=typical, limit=limit)  # noqa: E731
    nobody = np.zeros(len(target), dtype=bool)
    fitted = fit_network(
        lambda: without_dropout(build()), inputs, target, np.ones(len(target)), nobody, seed=0, plan=BY_HEART
    )
    errors = predict(fitted, inputs).double().numpy() - target
    assert np.abs(errors).max() < 0.1  # energies of these rows span a factor of hundreds
    assert np.ptp(samples.log_energy) > np.log(100.0)


def test_an_untrained_correction_is_the_formula() -> None:
    network = mlp.Perceptron(4, limit=mlp.CORRECTION_LIMIT)
    assert torch.equal(predict(network, (torch.randn(3, 4),)), torch.zeros(3))


def test_a_correction_stays_in_its_bounds() -> None:
    network = mlp.Perceptron(4, typical=100.0, limit=0.7)
    assert predict(network, (torch.zeros(1, 4),)).item() == pytest.approx(0.7)


def test_roofline_rates_are_hidden_from_both_phases(data: EnergyDataModule, fold: Fold) -> None:
    from benchmarks.accuracy.baselines.ablations import _ATTAINABLE_COLUMN, hide_roofline  # noqa: PLC0415
    from benchmarks.accuracy.paper_network import PaperNetwork, paper_inputs  # noqa: PLC0415

    network = PaperNetwork().eval()
    seen: list[Tensor] = []
    batch = data.take(fold.test[:4])
    inputs = paper_inputs(data.tensors.deployments)
    before = network(inputs, batch.bases, batch.deployment)
    hide_roofline(network)
    for phase in (network.prefill, network.decode):
        phase.convolutions[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    after = network(inputs, batch.bases, batch.deployment)
    assert [nodes[:, _ATTAINABLE_COLUMN].abs().max().item() for nodes in seen] == [0.0, 0.0]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_fit_stops_where_others_get_worse_and_leaves_the_generator_alone() -> None:
    columns = torch.linspace(-1.0, 1.0, 40)[:, None]
    held = np.arange(40) % 2 == 0
    # Those held back follow the opposite slope: what is learnt of the others makes them worse.
    target = np.where(held, -1.0, 1.0) * columns[:, 0].double().numpy()
    torch.manual_seed(5)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(5))

    def error_held(rows: NDArray[np.bool_]) -> float:
        chosen = torch.from_numpy(rows)
        network = fit_network(
            lambda: nn.Sequential(nn.Linear(1, 1), nn.Flatten(0)), (columns[chosen],), target[rows],
            np.ones(rows.sum()), held[rows], seed=0, plan=FitPlan(steps=200, peak_rate=0.1, weight_decay=0.0),
        )  # fmt: skip
        answers = predict(network, (columns[torch.from_numpy(held)],)).double().numpy()
        return float(np.abs(answers - target[held]).mean())

    stopped, finished = error_held(np.ones(40, dtype=bool)), error_held(~held)
    assert torch.equal(torch.rand(1), expected)
    assert finished == pytest.approx(1.0, abs=0.05)
    assert stopped < 0.8 * finished
