"""The paper's networks as a module: they overfit a handful, every weight learns, and times stay unanswered."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import torch

from benchmarks.accuracy.baselines.lightning_fit import fit_module, own_data
from benchmarks.accuracy.paper_module import PaperModule
from llmco2.data.module import EnergyDataModule
from llmco2.data.tensors import IS_ENERGY
from llmco2.training.metrics import summaries


def test_it_overfits_a_handful_of_runs(data: EnergyDataModule) -> None:
    rows = np.arange(6)
    own = own_data(data, rows, "six")
    pl.seed_everything(1, verbose=False)
    module = fit_module(PaperModule(dropout=0.0), own, epochs=500)
    with torch.no_grad():
        energies = summaries(module(own.take(rows)), own.tensors.labels[rows])["energy_j"]
    assert energies.n_rows == 6
    assert energies.mape_percent < 5.0


def test_gradient_reaches_every_weight(data: EnergyDataModule) -> None:
    module = PaperModule(hidden_dim=8, dropout=0.0)
    module.read_deployments(data)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    module.training_step(data.take(np.arange(40)), 0).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


def test_it_answers_energies_alone(data: EnergyDataModule) -> None:
    module = PaperModule(hidden_dim=8).eval()
    module.read_deployments(data)
    with torch.no_grad():
        predicted = module(data.take(np.arange(10)))
    assert torch.equal(predicted.isnan().any(dim=0), ~torch.tensor(IS_ENERGY))
