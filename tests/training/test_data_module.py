"""The data module: whole groups on one side, hashes that name the sides, unusable rows dropped aloud."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from llmco2.data import module as data_module
from llmco2.data.module import EnergyDataModule, split_sides
from llmco2.data.options import KernelOptions, SamplerOptions, SplitOptions
from llmco2.data.splits import Split, group_keys, run_ids_sha256
from llmco2.errors import InputError, UnknownNameError

Frames = Callable[..., pd.DataFrame]


def test_without_a_path_it_is_the_simulated_set_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    data = EnergyDataModule()
    with caplog.at_level(logging.WARNING, logger="llmco2"):
        data.setup()
    assert data.frame["simulated"].all()
    assert "SIMULATED DATA: 384 of 384 runs" in caplog.text
    assert data.description()["n_simulated"] == 384


def test_simulated_rows_of_ones_own_are_refused_unless_asked_for(run_frame: Frames, run_file: Any) -> None:
    path = run_file(run_frame(20))
    with pytest.raises(InputError, match="simulated"):
        EnergyDataModule(path).setup()
    data = EnergyDataModule(path, allow_simulated=True)
    data.setup()
    assert len(data.frame) == 20


@pytest.mark.parametrize(
    ("options", "by"),
    [
        (SplitOptions(kind="request"), "run_id"),
        (SplitOptions(kind="deployment"), ("model", "gpu", "engine")),
        (SplitOptions(kind="family", held_out="gemma"), "family"),
        (SplitOptions(kind="gpu", held_out="L4"), "gpu"),
    ],
)
def test_sides_share_no_group_and_cover_every_row(options: SplitOptions, by: Any, run_frame: Frames) -> None:
    frame = run_frame(200)
    sides = split_sides(frame, options)
    keys = group_keys(frame, by).to_numpy()
    assert not set(keys[sides.test]) & set(keys[np.concatenate([sides.train, sides.validation])])
    everything = np.sort(np.concatenate([sides.train, sides.validation, sides.test]))
    assert np.array_equal(everything, np.arange(len(frame)))
    assert sides.sha256["test"] == run_ids_sha256(frame["run_id"].iloc[sides.test])
    if options.held_out:
        assert set(keys[sides.test]) == {options.held_out}


def test_the_test_side_ignores_row_order_and_the_training_seed(run_frame: Frames, run_file: Any) -> None:
    frame = run_frame(120)
    shuffled = frame.sample(frac=1.0, random_state=3).reset_index(drop=True)
    hashes = []
    for table, seed in ((frame, 0), (shuffled, 7)):
        data = EnergyDataModule(run_file(table, f"{seed}.csv"), allow_simulated=True, seed=seed)
        data.setup()
        hashes.append(data.sides.sha256)
    assert hashes[0] == hashes[1]


def test_a_split_that_leaks_is_refused(run_frame: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = run_frame(60)
    honest = data_module.grouped_split

    def leaking(runs: pd.DataFrame, *args: Any, **kwargs: Any) -> Split:
        split = honest(runs, *args, **kwargs)
        leaked = np.append(split.train, split.test[0])
        return Split(name=split.name, by=split.by, train=leaked, test=split.test,
                     train_sha256=split.train_sha256, test_sha256=split.test_sha256)  # fmt: skip

    monkeypatch.setattr(data_module, "grouped_split", leaking)
    with pytest.raises(InputError, match="train and test share"):
        split_sides(frame, SplitOptions(kind="deployment"))


def test_an_unknown_held_out_group_is_answered_with_those_there_are(run_frame: Frames) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*H100-SXM5-80GB"):
        split_sides(run_frame(80), SplitOptions(kind="gpu", held_out="H100-SXM-80GB"))
    with pytest.raises(InputError, match=r"data\.split\.held_out"):
        split_sides(run_frame(80), SplitOptions(kind="family"))


def test_runs_without_a_deployment_are_dropped_and_counted(
    run_frame: Frames, run_file: Any, caplog: pytest.LogCaptureFixture
) -> None:
    frame = run_frame(energy_j=[10.0, 11.0, 12.0, 13.0], tensor_parallel=[1, 2, 3, 1],
                      gpu=["L4", "A100-SXM4-80GB", "A100-SXM4-80GB", "NoSuchGPU"],
                      batch_size=[1.0, 2.0, 4.0, 8.0])  # fmt: skip
    data = EnergyDataModule(run_file(frame), split=SplitOptions(kind="none"))
    with caplog.at_level(logging.INFO, logger="llmco2"):
        data.setup()
    assert data.frame["run_id"].to_list() == ["r0", "r1"]
    assert "dropped 2 of 4 runs" in caplog.text
    assert "tensor_parallel does not divide" in caplog.text
    assert "NoSuchGPU" in caplog.text


def test_no_resolvable_run_is_an_error(run_frame: Frames, run_file: Any) -> None:
    with pytest.raises(InputError, match="no run is left to train on"):
        EnergyDataModule(run_file(run_frame(energy_j=[1.0], gpu="NoSuchGPU"))).setup()


def test_held_out_names_are_unknown_to_the_network() -> None:
    data = EnergyDataModule(split=SplitOptions(kind="gpu", held_out="L4"))
    data.setup()
    assert "L4" not in data.vocabulary.gpus
    rows = data.take(data.sides.test)
    assert set(data.graphs.gpu[rows.deployment].tolist()) == {0}


def test_a_batch_carries_the_rows_asked_for() -> None:
    data = EnergyDataModule(batch_size=7)
    data.setup()
    seen = torch.cat([batch.index for batch in data.train_dataloader()])
    assert sorted(set(seen.tolist())) == sorted(data.sides.train.tolist())
    batch = next(iter(data.test_dataloader()))
    frame = data.frame.iloc[data.sides.test[:7]]
    np.testing.assert_allclose(batch.labels[:, 2].numpy(), frame["energy_j"], rtol=1e-6)
    models = [data.tensors.deployments[i].architecture.model_id for i in batch.deployment.tolist()]
    assert models == frame["model"].to_list()


def test_epochs_differ_and_come_again_with_the_seed() -> None:
    data = EnergyDataModule(batch_size=64)
    data.setup()
    loader = data.train_dataloader()
    orders = []
    for epoch in (0, 1, 0):
        assert loader.sampler is not None
        loader.sampler.set_epoch(epoch)
        orders.append(torch.cat([batch.index for batch in loader]).tolist())
    assert orders[0] == orders[2] != orders[1]


def test_focused_sampling_follows_errors_and_never_stops_exploring() -> None:
    data = EnergyDataModule(sampler=SamplerOptions(kind="focused", exploration=0.2))
    data.setup()
    train = data.frame.iloc[data.sides.train]
    on_l4 = (train["gpu"] == "L4").to_numpy()
    before = np.concatenate([data.order.rows(e) for e in range(40)])
    for _ in range(8):
        data.order.observe(np.where(on_l4, 2.0, 0.01))
    after = np.concatenate([data.order.rows(e) for e in range(40)])
    assert on_l4[after].mean() > 2 * on_l4[before].mean()
    # 20 % of the draws are uniform: rows of the other boards keep coming, almost all of them in 40 epochs
    assert len(set(after[~on_l4[after]].tolist())) > 0.9 * (~on_l4).sum()


def test_algorithm_1_acquires_around_the_worst_and_resumes() -> None:
    options = SamplerOptions(kind="paper")
    data = EnergyDataModule(sampler=options)
    data.setup()
    order: Any = data.order
    assert len(order.acquired) == options.plan.n_initial
    errors = np.linspace(0.0, 1.0, len(data.sides.train))
    order.observe(errors)
    assert len(order.acquired) > options.plan.n_initial
    again = EnergyDataModule(sampler=options)
    again.setup()
    again.load_state_dict(data.state_dict())
    assert np.array_equal(again.order.acquired, order.acquired)  # type: ignore[attr-defined]
    assert set(order.rows(3).tolist()) == set(order.acquired.tolist())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EnergyDataModule(batch_size=-1), "batch_size"),
        (lambda: SplitOptions(test_share=1.0), "test_share"),
        (lambda: SplitOptions(kind="request", held_out="L4"), "held_out"),
        (lambda: SamplerOptions(refresh_every_n_epochs=0), "refresh_every_n_epochs"),
        (lambda: KernelOptions(max_rows=0), "max_rows"),
    ],
)
def test_bad_options_are_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
