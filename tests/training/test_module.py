"""Fitting: it overfits a handful, learns from totals, feeds every parameter, resumes where it stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SamplerOptions, SplitOptions
from llmco2.data.tensors import LABELS
from llmco2.errors import CheckpointError, InputError
from llmco2.physics.groups import GROUP_KINDS, N_GROUP_KINDS
from llmco2.training.loss import Priors
from llmco2.training.metrics import error_summary, summaries
from llmco2.training.models import PhysicsModel, hide_names
from llmco2.training.module import EnergyModule, check_readable
from llmco2.training.options import KernelTraining, NetworkOptions, OptimizerOptions, UnknownShare

Trainers = Callable[..., pl.Trainer]
EVERYTHING = SplitOptions(kind="none")
NOTHING_HIDDEN = UnknownShare(engine=0.0, gpu=0.0, family=0.0, precision=0.0)
# So wide that they hold nothing back, as one wants for overfitting; except that no source has an offset.
WIDE = {f.name: 30.0 for f in fields(Priors) if f.name not in ("noise", "source")}
NO_PRIORS = Priors(**WIDE, source=0.001)
SMALL = NetworkOptions(hidden_dim=8, n_rounds=1)


def fitted(module: EnergyModule, data: EnergyDataModule, trainer: pl.Trainer) -> EnergyModule:
    trainer.fit(module, datamodule=data)
    return module.eval()


def physics(module: EnergyModule) -> PhysicsModel:
    assert isinstance(module.model, PhysicsModel)
    return module.model


def predictions(module: EnergyModule, data: EnergyDataModule) -> torch.Tensor:
    with torch.no_grad():
        return module(data.take(np.arange(len(data.frame))))


def test_it_overfits_a_handful_of_runs(run_frame: Any, run_file: Any, quiet_trainer: Trainers) -> None:
    data = EnergyDataModule(run_file(run_frame(6)), allow_simulated=True, split=EVERYTHING)
    pl.seed_everything(1, verbose=False)
    rates = OptimizerOptions(formula_lr=0.05, graph_lr=0.01, weight_decay=0.0, formula_share=0.0)
    network = NetworkOptions(hidden_dim=16)
    module = fitted(
        EnergyModule(network, rates, NOTHING_HIDDEN, NO_PRIORS), data, quiet_trainer(max_epochs=200)
    )
    energies = summaries(predictions(module, data), data.tensors.labels)["energy_j"]
    assert energies.n_rows == 6
    assert energies.mape_percent < 5.0


def test_a_run_with_only_its_total_trains_the_sum_of_its_phases(
    run_frame: Any, run_file: Any, quiet_trainer: Trainers
) -> None:
    frame = run_frame(energy_j=[1100.0, 1500.0, 800.0], batch_size=[4.0, 8.0, 1.0])
    data = EnergyDataModule(run_file(frame), split=EVERYTHING)
    module = EnergyModule(NetworkOptions(hidden_dim=0), OptimizerOptions(), NOTHING_HIDDEN, NO_PRIORS)
    predicted = predictions(fitted(module, data, quiet_trainer(max_epochs=300)), data)
    by_name = dict(zip(LABELS, predicted.T, strict=True))
    together = by_name["prefill_energy_j"] + by_name["decode_energy_j"]
    torch.testing.assert_close(together, by_name["energy_j"])
    np.testing.assert_allclose(by_name["energy_j"].numpy(), frame["energy_j"], rtol=0.05)
    assert (by_name["prefill_energy_j"] > 0.01 * by_name["energy_j"]).all()  # neither phase was given up


def test_a_steady_rate_trains_the_whole_batch(run_frame: Any, run_file: Any, quiet_trainer: Trainers) -> None:
    frame = run_frame(energy_per_output_token_j=[0.8, 0.3], batch_size=[8.0, 64.0], serving="continuous")
    data = EnergyDataModule(run_file(frame), split=EVERYTHING)
    module = EnergyModule(NetworkOptions(hidden_dim=0), OptimizerOptions(), NOTHING_HIDDEN, NO_PRIORS)
    predicted = predictions(fitted(module, data, quiet_trainer(max_epochs=120)), data)[
        :, LABELS.index("energy_j")
    ]
    np.testing.assert_allclose(predicted.numpy(), [0.8 * 8 * 64, 0.3 * 64 * 64], rtol=0.05)


def test_gradient_reaches_every_parameter() -> None:
    data = EnergyDataModule()
    data.setup()
    module = EnergyModule(SMALL)
    module.build(data.vocabulary, data.sources, n_rows=len(data.sides.train))
    model = physics(module)
    torch.manual_seed(0)
    with torch.no_grad():  # a zero-initialised head would hide what lies before it
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.loss(data.take(data.sides.train), torch.Generator().manual_seed(0)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_constants_and_weights_are_two_groups_and_none_is_forgotten() -> None:
    data = EnergyDataModule()
    data.setup()
    module = EnergyModule(SMALL)
    module.build(data.vocabulary, data.sources, n_rows=100)
    model = physics(module)
    constants, weights = model.parameter_groups(
        OptimizerOptions(formula_lr=0.05, graph_lr=0.005, weight_decay=0.1)
    )
    assert (constants["lr"], constants["weight_decay"]) == (0.05, 0.0)
    assert (weights["lr"], weights["weight_decay"]) == (0.005, 0.1)
    grouped = [id(p) for group in (constants, weights) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert id(model.network.base_slot) in {id(p) for p in constants["params"]}
    assert id(model.network.slot_head.weight) in {id(p) for p in weights["params"]}


def test_names_are_hidden_at_the_rate_asked_for_and_only_those() -> None:
    ones = torch.ones(20_000, dtype=torch.long)
    data = EnergyDataModule()
    data.setup()
    groups = ones[:, None].expand(-1, N_GROUP_KINDS)
    batch = replace(data.graphs, engine=ones, precision=ones, gpu=ones, family=ones, groups=groups)
    hidden = hide_names(
        batch, UnknownShare(engine=0.1, gpu=0.3, family=0.0, precision=0.0), torch.Generator()
    )
    assert float((hidden.engine == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((hidden.gpu == 0).float().mean()) == pytest.approx(0.3, abs=0.015)
    assert (hidden.family == 1).all()
    assert (hidden.precision == 1).all()
    for place, kind in enumerate(GROUP_KINDS):  # a group goes with any of the names it is made of
        told = (hidden.engine == 1) & ((hidden.gpu == 1) | (not kind.gpu))
        assert torch.equal(hidden.groups[:, place] == 1, told)


def test_source_levels_take_a_sources_offset_and_predictions_do_without(
    run_frame: Any, run_file: Any, quiet_trainer: Trainers
) -> None:
    """Two sources a factor of four apart on the same configurations: predictions stay between them."""
    frame = run_frame(energy_j=[1000.0, 2000.0, 4000.0, 8000.0], batch_size=[4.0, 8.0, 4.0, 8.0],
                      source=["low", "low", "high", "high"])  # fmt: skip
    data = EnergyDataModule(run_file(frame), split=EVERYTHING)
    module = EnergyModule(
        NetworkOptions(hidden_dim=0), OptimizerOptions(), NOTHING_HIDDEN, Priors(**WIDE, source=30.0)
    )
    fitted(module, data, quiet_trainer(max_epochs=100))
    level = physics(module).levels.level[:, 0].detach()  # energy; sources in name order
    assert float(level[1] - level[0]) == pytest.approx(-math.log(4.0), abs=0.1)
    energy = predictions(module, data)[:, LABELS.index("energy_j")]
    torch.testing.assert_close(energy[:2], energy[2:])


@pytest.mark.parametrize(
    "sampler", [SamplerOptions(), SamplerOptions(kind="focused", refresh_every_n_epochs=2)]
)
def test_a_resumed_fit_equals_one_that_never_stopped(
    sampler: SamplerOptions, quiet_trainer: Trainers, tmp_path: Path
) -> None:
    def fit(max_epochs: int, stop_at: int | None = None, resume: str | None = None) -> pl.Trainer:
        pl.seed_everything(0, verbose=False)
        trainer = quiet_trainer(max_epochs=max_epochs)
        module = EnergyModule(SMALL)
        if stop_at is not None:
            trainer.fit_loop.max_epochs = max_epochs
            trainer.callbacks.append(_StopAfter(stop_at, tmp_path / "stopped.ckpt"))
        trainer.fit(module, datamodule=EnergyDataModule(batch_size=64, sampler=sampler), ckpt_path=resume)
        return trainer

    whole = fit(6).lightning_module.state_dict()
    fit(6, stop_at=3)
    resumed = fit(6, resume=str(tmp_path / "stopped.ckpt")).lightning_module.state_dict()
    for name, values in whole.items():
        torch.testing.assert_close(resumed[name], values, rtol=1e-6, atol=1e-7, msg=name)


class _StopAfter(pl.Callback):
    def __init__(self, epochs: int, path: Path) -> None:
        self.epochs, self.path = epochs, path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == self.epochs:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def test_a_checkpoint_holds_plain_data_and_rebuilds_its_network(
    quiet_trainer: Trainers, tmp_path: Path
) -> None:
    data = EnergyDataModule(split=SplitOptions(kind="gpu", held_out="L4"))
    trainer = quiet_trainer(max_epochs=2)
    module = fitted(EnergyModule(SMALL), data, trainer)
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    held = torch.load(path, weights_only=True)  # refuses anything but numbers and plain containers
    assert "L4" not in held["llmco2"]["vocabulary"]["gpus"]
    check_readable(str(path))
    # Another split, whose vocabulary has the L4: the checkpoint's names count, and predictions stay the same.
    other = EnergyDataModule(split=EVERYTHING)
    again = EnergyModule()
    quiet_trainer().test(again, datamodule=other, ckpt_path=str(path), verbose=False)
    assert again.network_options == SMALL
    assert again.vocabulary == module.vocabulary
    assert torch.equal(
        torch.nan_to_num(predictions(module, data)), torch.nan_to_num(predictions(again.eval(), other))
    )


def test_resuming_on_other_sources_is_refused(
    run_frame: Any, run_file: Any, quiet_trainer: Trainers, tmp_path: Path
) -> None:
    trainer = quiet_trainer(max_epochs=1)
    fitted(EnergyModule(SMALL), EnergyDataModule(), trainer)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = EnergyDataModule(run_file(run_frame(energy_j=[1.0, 2.0])), split=EVERYTHING)
    with pytest.raises(CheckpointError, match="cannot resume on other data"):
        quiet_trainer(max_epochs=2).fit(
            EnergyModule(SMALL), datamodule=other, ckpt_path=str(tmp_path / "a.ckpt")
        )


def test_damaged_and_foreign_checkpoints_are_refused_in_one_line(
    tmp_path: Path, quiet_trainer: Trainers
) -> None:
    trainer = quiet_trainer(max_epochs=1)
    fitted(EnergyModule(SMALL), EnergyDataModule(), trainer)
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(path.read_bytes()[:5000])
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    hostile = tmp_path / "hostile.ckpt"
    torch.save({"llmco2": _Hostile(tmp_path / "executed")}, hostile)
    for bad in (cut, foreign, hostile, tmp_path / "absent.ckpt", tmp_path):
        with pytest.raises(CheckpointError) as refusal:
            check_readable(str(bad))
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "executed").exists()


class _Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_of_another_network_is_refused(quiet_trainer: Trainers, tmp_path: Path) -> None:
    trainer = quiet_trainer(max_epochs=1)
    fitted(EnergyModule(SMALL), EnergyDataModule(), trainer)
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    held = torch.load(path, weights_only=True)
    held["state_dict"].popitem()
    torch.save(held, path)
    with pytest.raises(CheckpointError, match="another network"):
        quiet_trainer().test(
            EnergyModule(), datamodule=EnergyDataModule(), ckpt_path=str(path), verbose=False
        )


def test_error_figures_by_hand() -> None:
    summary = error_summary(torch.tensor([1.05, 0.8, 1.5, 1.0]).log())
    assert summary.n_rows == 4
    assert summary.mape_percent == pytest.approx((5 + 20 + 50 + 0) / 4, abs=1e-4)
    assert summary.median_percent == pytest.approx(12.5, abs=1e-4)
    assert summary.eba10_percent == 50.0


def test_energy_at_large_counts_a_run_once_and_skips_runs_without_energy() -> None:
    nan = math.nan
    predicted = torch.full((3, len(LABELS)), 2.0)
    labels = torch.tensor([[1.0, 4.0, nan, nan, nan, nan], [nan, nan, 4.0, nan, nan, nan], [nan] * 5 + [2.0]])
    found = summaries(predicted, labels)
    assert found["energy_at_large"].n_rows == 2
    # the first run's phases are off by +log 2 and −log 2, so it is right at large; the second is at half
    assert found["energy_at_large"].mape_percent == pytest.approx(25.0)
    assert found["latency_s"].mape_percent == pytest.approx(0.0)
    assert "ttft_s" not in found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkOptions(hidden_dim=-1), "hidden_dim"),
        (lambda: NetworkOptions(correction_limit=0.0), "correction_limit"),
        (lambda: OptimizerOptions(formula_lr=math.nan), "formula_lr"),
        (lambda: UnknownShare(gpu=1.0), "unknown_share.gpu"),
        (lambda: KernelTraining(weight=-0.1), "kernels.weight"),
    ],
)
def test_bad_options_are_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_kernels_are_asked_for_by_name_where_there_are_none(quiet_trainer: Trainers) -> None:
    module = EnergyModule(SMALL, kernels=KernelTraining(epochs=1))
    with pytest.raises(InputError, match=r"data\.kernels\.path"):
        quiet_trainer(max_epochs=1).fit(module, datamodule=EnergyDataModule())


def test_focused_order_hears_of_errors_while_training(quiet_trainer: Trainers, monkeypatch: Any) -> None:
    heard: list[Any] = []
    data = EnergyDataModule(sampler=SamplerOptions(kind="focused", refresh_every_n_epochs=2))
    data.setup()
    monkeypatch.setattr(data.order, "observe", heard.append)
    fitted(EnergyModule(SMALL), data, quiet_trainer(max_epochs=5))
    assert len(heard) == 2
    assert all(isinstance(e, np.ndarray) and e.shape == (len(data.sides.train),) for e in heard)
    assert np.isfinite(pd.DataFrame(heard).to_numpy()).all()
