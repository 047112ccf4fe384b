"""The kernel module: it learns a rule, trains from any loader, and behaves as Lightning's users expect."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader

from llmco2.data.kernel_module import KernelDataModule
from llmco2.data.kernel_rows import KernelRows
from llmco2.data.simulated_kernels import NOISE, simulate_kernels
from llmco2.errors import CheckpointError, InputError
from llmco2.kernel_model.node_functions import node_functions
from llmco2.training.feedback import FocusOnErrors
from llmco2.training.kernel_metrics import ErrorsByKind
from llmco2.training.kernel_module import KernelModule
from llmco2.training.node_export import ExportNodeFunctions, export_node_functions

torch.set_num_threads(1)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
KINDS = ["gemm", "collective"]


def data_of(**options: Any) -> KernelDataModule:
    return KernelDataModule(**{"kinds": KINDS, "batch_size": 64, "batches_per_epoch": 5, **options})


def module_of(**options: Any) -> KernelModule:
    torch.manual_seed(0)
    return KernelModule(**{"kinds": KINDS, "width": 16, "depth": 2, **options})


def trainer_of(folder: Path, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False,
             "enable_checkpointing": False, "accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0,
             "default_root_dir": folder}  # fmt: skip
    return pl.Trainer(**{**quiet, "max_epochs": 2, **options})


class KeepRates(Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def as_it_is(batch: Any) -> Any:
    return batch


def named(batch: Any) -> Any:
    return {"gemm": batch}


def test_parameters_exist_once_it_is_made() -> None:
    module = module_of()
    assert sum(p.numel() for p in module.parameters()) > 1000
    assert module.hparams["width"] == 16
    assert not [name for name in module.state_dict() if name.startswith("errors")]


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
def test_it_overfits_a_handful_from_a_plain_loader_of_any_kind(tmp_path: Path) -> None:
    rows = KernelRows("gemm", simulate_kernels("gemm", 32))
    loader = DataLoader(rows, batch_size=32, collate_fn=named)
    module = module_of(kinds=["gemm"], width=48, family_dropout=0.0, library_dropout=0.0, learning_rate=1e-2)
    trainer = trainer_of(tmp_path, max_epochs=400)
    trainer.fit(module, loader)
    with torch.no_grad():
        error = module.eval().log_errors({"gemm": rows.__getitems__(list(range(32)))})["gemm"]
    assert float(error.abs().max()) < 0.01


def test_held_out_shapes_of_the_rule_are_predicted_to_its_noise(tmp_path: Path) -> None:
    module, data = module_of(width=32), data_of(batch_size=256, batches_per_epoch=40)
    trainer = trainer_of(tmp_path, max_epochs=6, callbacks=[FocusOnErrors()])
    trainer.fit(module, data)
    (figures,) = trainer.test(module, data, verbose=False)
    for kind in KINDS:  # the median of |noise| is 0.67 standard deviations: 2 %
        assert 67 * NOISE < figures[f"test/{kind}/median_ape_percent"] < 6.0
        assert figures[f"test/{kind}/median_ape_percent"] < figures[f"test/{kind}/p90_ape_percent"]


def test_figures_by_hand() -> None:
    errors = ErrorsByKind(["gemm", "experts", "collective"], beta=0.05)
    errors.update({"gemm": torch.tensor([1.1, 0.8]).log()})
    errors.update({"gemm": torch.tensor([1.02]).log(), "experts": torch.tensor([0.01])})
    figures = errors.take()
    assert float(figures["gemm/median_ape_percent"]) == pytest.approx(10.0, abs=1e-3)
    assert float(figures["gemm/mean_ape_percent"]) == pytest.approx(32.0 / 3.0, abs=1e-3)
    gemm = (math.log(1.1) - 0.025 - math.log(0.8) - 0.025 + math.log(1.02) ** 2 / 0.1) / 3.0
    assert float(figures["loss"]) == pytest.approx((gemm + 0.01**2 / 0.1) / 2.0, rel=1e-4)
    assert not [name for name in figures if name.startswith("collective")]
    assert errors.take() == {}


def test_train_and_validation_log_one_quantity(tmp_path: Path) -> None:
    """With nothing hidden and nothing learnt, the same rows give the same loss."""
    rows = {kind: KernelRows(kind, simulate_kernels(kind, 50)) for kind in KINDS}
    loaders = {kind: DataLoader(r, batch_size=50, collate_fn=as_it_is) for kind, r in rows.items()}
    module = module_of(family_dropout=0.0, library_dropout=0.0, learning_rate=0.0, weight_decay=0.0)
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(module, loaders, pl.utilities.CombinedLoader(loaders, "max_size"))
    logged = trainer.callback_metrics
    assert float(logged["train/loss"]) == pytest.approx(float(logged["val/loss"]), rel=1e-5)


def test_the_rate_is_one_cycle_over_the_whole_fit(tmp_path: Path) -> None:
    keep = KeepRates()
    trainer_of(tmp_path, callbacks=[keep], max_epochs=4).fit(module_of(learning_rate=0.01), data_of())
    assert len(keep.rates) == 20
    assert max(keep.rates) == pytest.approx(0.01)
    assert keep.rates.index(max(keep.rates)) == 1  # a tenth of 20 steps
    assert keep.rates[-1] < 1e-4


@pytest.mark.filterwarnings("ignore:.*max_epochs.*")
def test_a_fit_without_a_last_step_ends_with_its_time(tmp_path: Path) -> None:
    keep = KeepRates()
    trainer = trainer_of(tmp_path, max_epochs=-1, max_time={"seconds": 4}, callbacks=[keep])
    trainer.fit(module_of(learning_rate=0.01), data_of(batches_per_epoch=20))
    assert 0 < trainer.global_step == len(keep.rates)
    assert keep.rates == sorted(keep.rates)  # warm-up, then constant


def test_the_rate_finder_suggests_and_leaves_the_weights(tmp_path: Path) -> None:
    module, data = module_of(), data_of(batches_per_epoch=40)
    before = {name: values.clone() for name, values in module.state_dict().items()}
    trainer = trainer_of(tmp_path, enable_checkpointing=True)
    found = Tuner(trainer).lr_find(module, data, num_training=40)
    assert found is not None
    suggested = found.suggestion()
    assert suggested is not None
    assert 1e-8 < suggested < 1.0
    assert module.learning_rate == module.hparams["learning_rate"] == suggested
    assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())
    trainer.fit(module, data)
    assert module.network.node("gemm").is_fitted


def test_where_it_errs_is_drawn_more(tmp_path: Path) -> None:
    frame = simulate_kernels("gemm", 800).assign(library=0, gpu="L40S", stack=0, format=0.0)
    frame["stack"] = np.arange(800) % 2
    noisy = np.exp(np.random.default_rng(0).normal(0.0, 1.0, 800))
    frame["latency_s"] *= np.where(frame["stack"] == 1, noisy, 1.0)  # nothing can learn these
    frame.to_parquet(tmp_path / "gemm.parquet")
    data = data_of(path=str(tmp_path), kinds=["gemm"], batches_per_epoch=60, focus=1.0)
    module = module_of(kinds=["gemm"], learning_rate=0.01)
    trainer_of(tmp_path, max_epochs=4, callbacks=[FocusOnErrors()]).fit(module, data)
    sampler = data.samplers["gemm"]
    rows, shares = data.rows["train"]["gemm"], sampler.shares()
    spread = [float(rows.target[torch.from_numpy(rows.stratum == i)].std()) for i in range(2)]
    share = shares[int(np.argmax(spread))]
    assert len(shares) == 2
    assert share > 0.55  # 0.5 before any error
    assert min(shares) >= 0.1  # half of floor 0.2


def fitted(folder: Path, **options: Any) -> tuple[KernelModule, pl.Trainer, str]:
    module, trainer = module_of(), trainer_of(folder, callbacks=[FocusOnErrors()], **options)
    trainer.fit(module, data_of())
    path = str(folder / "own.ckpt")
    trainer.save_checkpoint(path)
    return module, trainer, path


def test_a_checkpoint_restores_the_recipe_and_the_answers(tmp_path: Path) -> None:
    module, _, path = fitted(tmp_path)
    torch.load(path, weights_only=True)
    again = KernelModule.load_from_checkpoint(path).eval()
    assert dict(again.hparams) == dict(module.hparams)
    rows = {"gemm": KernelRows("gemm", simulate_kernels("gemm", 9)).__getitems__(list(range(9)))}
    assert torch.equal(again(rows)["gemm"], module.eval()(rows)["gemm"])


def test_a_fit_is_resumed_only_as_it_was_begun(tmp_path: Path) -> None:
    _, trainer, path = fitted(tmp_path, max_epochs=4, limit_train_batches=5)
    half = tmp_path / "half.ckpt"

    class Stop(Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    stopped = trainer_of(tmp_path, max_epochs=4, min_epochs=0, callbacks=[FocusOnErrors(), Stop()])
    stopped.fit(module_of(), data_of())
    stopped.save_checkpoint(half)
    resumed, data = trainer_of(tmp_path, max_epochs=4, callbacks=[FocusOnErrors()]), data_of()
    resumed.fit(module_of(), data, ckpt_path=half)
    assert (stopped.global_step, resumed.global_step) == (10, trainer.global_step)
    assert data.samplers["gemm"].state_dict()["error"] != [1.0] * len(data.samplers["gemm"].shares())
    with pytest.raises(InputError, match=r"another length: got 40 steps, expected 20"):
        trainer_of(tmp_path, max_epochs=8).fit(module_of(), data_of(), ckpt_path=half)
    with pytest.raises(InputError, match="cannot resume on other rows"):
        trainer_of(tmp_path, max_epochs=4).fit(module_of(), data_of(max_rows=220), ckpt_path=half)
    with pytest.raises(CheckpointError, match="of another network"):
        trainer_of(tmp_path, max_epochs=4).fit(module_of(width=8), data_of(), ckpt_path=half)
    with pytest.raises(CheckpointError, match="of another network"):
        trainer_of(tmp_path).test(
            module_of(kinds=["gemm"]), data_of(kinds=["gemm"]), ckpt_path=path, verbose=False
        )


def test_exported_arrays_answer_as_the_network_does(tmp_path: Path) -> None:
    module = KernelModule(width=16, depth=2)
    data = KernelDataModule(batch_size=64, batches_per_epoch=3)
    trainer_of(tmp_path, callbacks=[ExportNodeFunctions()]).fit(module, data)
    with np.load(tmp_path / "node_functions.npz", allow_pickle=False) as arrays:
        nodes = node_functions(dict(arrays))
    for kind in data.kinds:
        rows = KernelRows(kind, simulate_kernels(kind, 50))
        with torch.no_grad():
            expected = module.eval()({kind: rows.__getitems__(list(range(50)))})[kind].numpy()
        np.testing.assert_allclose(nodes.of_kind[kind].log_ratio(rows.features.numpy()), expected, atol=1e-5)


def test_a_network_that_diverged_is_not_exported(tmp_path: Path) -> None:
    module = module_of()
    with torch.no_grad():
        next(module.network.node("gemm").layers.parameters())[0, 0] = math.nan
    with pytest.raises(CheckpointError, match=r"diverged: kernel\.gemm\.weight0"):
        export_node_functions(module.network, tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())


def test_a_development_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export = ExportNodeFunctions(str(tmp_path / "node_functions.npz"))
    trainer = trainer_of(tmp_path, fast_dev_run=True, callbacks=[export], enable_checkpointing=True)
    trainer.fit(module_of(), data_of())
    assert trainer.global_step == 1
    assert not list(tmp_path.iterdir())
