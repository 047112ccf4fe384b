"""The paper's own two networks, trained as its configuration says.

Source: LLMCO2, arXiv 2410.02950; networks, their differences from the publication and the acquisition of training rows
(Algorithm 1) are those of :mod:`llmco2.networks.paper` and of ``lightning_configs/paper.yaml``, which a test holds
this module to.

Simplifications: only rows that know an energy are handed over, because these networks know nothing of times; training
stops at the configuration's last epoch and not early.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import lightning.pytorch as pl

from llmco2.data.focused import NeighbourPlan
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.options import SamplerOptions
from llmco2.evaluation.baselines.label_table import Table, energy_rows
from llmco2.evaluation.baselines.lightning_fit import fit_module, module_table, own_data
from llmco2.evaluation.method import Contender, LabelErrors, label_errors
from llmco2.training.heldout import Fold
from llmco2.training.module import EnergyModule
from llmco2.training.options import NetworkOptions, OptimizerOptions

NAME: Final = "paper's two networks"
NETWORK: Final = NetworkOptions(kind="paper", hidden_dim=32, dropout=0.05)
OPTIMIZER: Final = OptimizerOptions(graph_lr=0.01, weight_decay=0.0)
SAMPLER: Final = SamplerOptions(
    kind="paper",
    refresh_every_n_epochs=5,
    plan=NeighbourPlan(
        n_initial=128, n_worst=16, n_neighbours=8, radius=0.7, target_error=0.05, exploration=0.05
    ),
)
BATCH_SIZE: Final = 512
EPOCHS: Final = 50


def paper_table(
    data: EnergyDataModule, train: Index, rows: Index, name: str, seed: int, *,
    change: Callable[[EnergyModule], None] | None = None, epochs: int = EPOCHS,
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
    module = EnergyModule(network=NETWORK, optimizer=OPTIMIZER, seed=seed)
    module.build(own.vocabulary, own.sources, n_rows=len(own.sides.train))
    if change is not None:
        change(module)
    return module_table(fit_module(module, own, epochs=epochs), own, rows)


def judge(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:
    """Return the errors on the fold's test rows."""
    return {NAME: label_errors(paper_table(data, fold.train, fold.test, fold.name, seed), data, fold.test)}


CONTENDER = Contender(
    names=(NAME,),
    judge=judge,
    seeded=True,
    about="Two GraphSAGE networks, one a phase, with acquired training rows (LLMCO2, arXiv 2410.02950).",
)
