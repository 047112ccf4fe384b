"""What the model gets wrong where it was not fitted: held-out groups, one fit each.

Invariant: a fold leaves out whole groups (deployments, model families, boards, or a board and a family together) and
a fit sees neither their rows nor their names. Errors come from runs with an energy label of a trusted source.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.splits import DEPLOYMENT, REQUEST, grouped_split
from llmco2.data.tensors import energy_known
from llmco2.networks.coefficients import CoefficientNetwork
from llmco2.predictor.intervals import Newness
from llmco2.training.loss import predicted_labels
from llmco2.training.metrics import known_log_errors, row_energy_errors
from llmco2.training.models import PhysicsModel
from llmco2.training.module import EnergyModule
from llmco2.training.options import NetworkOptions, OptimizerOptions, UnknownShare

FEWEST_TEST_ROWS: Final = 8
TRUSTED_WEIGHT: Final = 0.5
FORMULA_STEPS: Final = 600
GRAPH_STEPS: Final = 250
N_KNOWN_FOLDS: Final = 3
N_PAIR_FOLDS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One group left out."""

    name: str
    case: Newness
    train: Index
    test: Index  # rows of the group with a trusted energy

    @property
    def needs_graph(self) -> bool:
        """Whether the graph network answers here at all; on a new board its gate is shut and the formula answers."""
        return self.case not in (Newness.NEW_GPU, Newness.NEW_BOTH)


def training_rows(data: EnergyDataModule, latency_share: float = 1.0 / 3.0) -> Index:
    """Return the rows to fit: all with an energy, and every third of those that know times alone.

    One source has as many latencies as all others have energies; thinned, they inform without ruling.
    """
    known = energy_known(data.tensors)
    every = max(round(1.0 / latency_share), 1)
    times_only = np.flatnonzero(~known)
    return np.sort(np.concatenate([np.flatnonzero(known), times_only[::every]]))


def folds(data: EnergyDataModule) -> Iterator[Fold]:
    """Yield the folds of every case, largest groups first within a case."""
    frame, rows = data.frame, training_rows(data)
    place = data.tensors.deployment.numpy()
    deployments = [data.tensors.deployments[i] for i in place.tolist()]
    board = np.array([d.gpu_id for d in deployments])
    family = np.array([d.architecture.family for d in deployments])
    evaluated = energy_known(data.tensors) & (frame["weight"].to_numpy() >= TRUSTED_WEIGHT)

    def fold(name: str, case: Newness, out: NDArray[np.bool_], test: NDArray[np.bool_]) -> Fold | None:
        train = rows[~out[rows]]
        chosen = np.flatnonzero(test & evaluated)
        return (
            Fold(name=name, case=case, train=train, test=chosen) if len(chosen) >= FEWEST_TEST_ROWS else None
        )

    found: list[Fold | None] = []
    for by, label, case in (
        (REQUEST, "new request", Newness.MEASURED),
        (DEPLOYMENT, "new deployment", Newness.KNOWN),
    ):
        for seed in range(N_KNOWN_FOLDS):
            out = np.zeros(len(frame), dtype=bool)
            out[grouped_split(frame, by, test_share=0.2, seed=seed).test] = True
            # A request is new among measured ones only where its deployment still is.
            kept = np.isin(place, place[evaluated & ~out]) if case is Newness.MEASURED else True
            found.append(fold(f"{label} {seed}", case, out, out & kept))
    for name in sorted(set(family[evaluated])):
        found.append(fold(f"family {name}", Newness.NEW_MODEL, family == name, family == name))
    for name in sorted(set(board[evaluated])):
        found.append(fold(f"board {name}", Newness.NEW_GPU, board == name, board == name))
    pairs = sorted({*zip(board[evaluated], family[evaluated], strict=True)})
    sized = sorted(pairs, key=lambda p: -int(((board == p[0]) & (family == p[1]) & evaluated).sum()))
    for one, other in sized[:N_PAIR_FOLDS]:
        out = (board == one) | (family == other)
        found.append(
            fold(f"board {one} and family {other}", Newness.NEW_BOTH, out, (board == one) & (family == other))
        )
    yield from (f for f in found if f is not None)


def fit_rows(
    data: EnergyDataModule, rows: Index, name: str, *, graph: bool, seed: int = 0
) -> CoefficientNetwork:
    """Fit the formula on these rows, and after it the graph network where asked; names of others are unknown."""
    data.train_on(rows, name)
    steps = FORMULA_STEPS + (GRAPH_STEPS if graph else 0)
    network = NetworkOptions() if graph else replace(NetworkOptions(), hidden_dim=0)
    optimizer = replace(OptimizerOptions(), formula_share=FORMULA_STEPS / steps if graph else 0.0)
    pl.seed_everything(seed, verbose=False)
    module = EnergyModule(network=network, optimizer=optimizer, unknown_share=UnknownShare(), seed=seed)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=steps, gradient_clip_val=5.0, logger=False, limit_val_batches=0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Lightning's advice on loaders and loggers that are absent on purpose
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        trainer.fit(module, datamodule=data)
    if not isinstance(module.model, PhysicsModel):
        raise TypeError(f"a physics network was asked for, got {type(module.model).__name__}")
    return module.model.network.eval()


@torch.no_grad()
def energy_log_errors(network: CoefficientNetwork, data: EnergyDataModule, rows: Index, *, engine_known: bool = True,
                      precision_known: bool = True, corrected: bool = True) -> NDArray[np.float64]:  # fmt: skip
    """Return ``log(predicted / measured)`` of each row's energy, ``(n_rows,)``.

    Names may be hidden, and the graph network's correction left out.
    """
    data.use_vocabulary(network.vocabulary)
    batch = data.take(rows)
    graphs = batch.graphs
    if not engine_known:
        graphs = replace(
            graphs, engine=torch.zeros_like(graphs.engine), groups=torch.zeros_like(graphs.groups)
        )
    if not precision_known:
        graphs = replace(graphs, precision=torch.zeros_like(graphs.precision))
    predicted = predicted_labels(network(graphs, corrected=corrected), batch)
    errors: NDArray[np.float64] = (
        row_energy_errors(known_log_errors(predicted, batch.labels)).double().numpy()
    )
    return errors
