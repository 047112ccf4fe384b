"""The paper's own two networks, trained with its own numbers.

Source: LLMCO2, arXiv 2410.02950; networks, their differences from the publication and the acquisition of training rows
(Algorithm 1) are those of :mod:`benchmarks.accuracy.paper_network` and of the constants below.

Simplifications: only rows that know an energy are handed over, because these networks know nothing of times; training
stops at the last epoch and not early.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import lightning.pytorch as pl
import torch

from benchmarks.accuracy.baselines.label_table import Table, energy_rows
from benchmarks.accuracy.baselines.lightning_fit import fit_module, own_data
from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.accuracy.paper_module import PaperModule
from benchmarks.release.heldout import Fold
from llmco2.data.focused import NeighbourPlan
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.options import SamplerOptions

NAME: Final = "paper's two networks"
SAMPLER: Final = SamplerOptions(
    kind="paper",
    refresh_every_n_epochs=5,
    plan=NeighbourPlan(
        n_initial=128,  # A: rows drawn at random to begin with
        n_worst=16,  # B: worst rows whose surroundings are drawn each round
        n_neighbours=8,  # C: rows drawn around each of them
        radius=0.7,  # ±C of the paper, in e-folds of batch, prompt and output
        target_error=0.05,  # e: stop acquiring below this mean log error
        exploration=0.05,  # share of a round that is uniform: never 0
    ),
)
BATCH_SIZE: Final = 512
EPOCHS: Final = 50


def paper_table(
    data: EnergyDataModule, train: Index, rows: Index, name: str, seed: int, *,
    change: Callable[[PaperModule], None] | None = None, epochs: int = EPOCHS,
) -> Table:  # fmt: skip
    """Return predicted energies of ``rows`` by the two networks fitted to ``train``.

    Args:
        data: the runs; stays as it is.
        train: table positions to fit.
        rows: table positions to predict.
        name: of the fold, for the split's record.
        seed: of weights, dropout and acquisition.
        change: done to the networks before they train.
        epochs: passes over the acquired rows.
    """
    own = own_data(data, energy_rows(data, train), name, sampler=SAMPLER, batch_size=BATCH_SIZE, seed=seed)
    pl.seed_everything(seed, verbose=False)
    module = PaperModule()
    if change is not None:
        change(module)
    fitted = fit_module(module, own, epochs=epochs)
    with torch.no_grad():
        table: Table = fitted(own.take(rows)).double().numpy()
    return table


def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:
    """Return the errors on the fold's test rows."""
    return {NAME: label_errors(paper_table(data, fold.train, fold.test, fold.name, seed), data, fold.test)}


METHOD_GROUP = MethodGroup(
    names=(NAME,),
    fold_errors=fold_errors,
    seeded=True,
    about="Two GraphSAGE networks, one a phase, with acquired training rows (LLMCO2, arXiv 2410.02950).",
)
