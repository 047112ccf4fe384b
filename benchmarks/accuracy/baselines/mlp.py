"""A graph-free network with the inputs of own: what the kernel graph is worth is what this one lacks.

Inputs, per phase: the mean of the node descriptors over the phase's kernels, and the logs of the seconds that compute,
weights, activations, cache and network need at peak rates, of launches and of passes; beside them the deployment's
features, GPUs, TDP, power limit and the names of engine and precision. Board and family names are left out, as they
are for the graph network's correction. A phase outside the measured window has seconds near zero.

Two variants: one regresses log energy; the other adds a bounded correction (at most a factor of two either way, as the
graph network's) to the nine-constant formula, and is that formula where it has learnt nothing.

Simplifications: two hidden layers of 64; energies only; stopped early on deployments held back from training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.accuracy.baselines import nine_constants
from benchmarks.accuracy.baselines.label_table import SLOT_FIELDS, Column, Table, phase_work
from benchmarks.accuracy.baselines.regression import FitPlan, fit_network, predict, standardiser
from benchmarks.accuracy.baselines.request_columns import name_columns, trained_names
from benchmarks.accuracy.baselines.windows import (
    Windows,
    all_windows,
    energy_samples,
    energy_table,
    held_back,
)
from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import IS_ENERGY
from llmco2.deployment.columns import deployment_columns
from llmco2.operators.names import PHASES
from llmco2.physics.descriptors import deployment_features, phase_graphs

RAW: Final = "graph-free MLP"
RESIDUAL: Final = "graph-free MLP on nine constants"
HIDDEN: Final = 64
DROPOUT: Final = 0.05
CORRECTION_LIMIT: Final = 0.7  # of log energy
PLAN: Final = FitPlan(steps=400, peak_rate=5e-3, weight_decay=0.05)
_LEAST_SECONDS: Final = 1e-9
Names = tuple[tuple[str, ...], tuple[str, ...]]


class Perceptron(nn.Module):
    """Two hidden layers and one answer, bounded where ``limit`` is given and then zero at the start."""

    def __init__(self, n_columns: int, *, typical: float = 0.0, limit: float | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.body = nn.Sequential(
            nn.Linear(n_columns, HIDDEN), nn.SiLU(), nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Dropout(DROPOUT),
        )  # fmt: skip
        self.head = nn.Linear(HIDDEN, 1)
        if limit is not None:
            nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, typical)

    def forward(self, columns: Tensor) -> Tensor:
        """Return answers ``(n,)`` to columns ``(n, n_columns)``."""
        answer = torch.as_tensor(self.head(self.body(columns))).squeeze(1)
        return answer if self.limit is None else self.limit * torch.tanh(answer / self.limit)


def pooled_descriptors(data: EnergyDataModule) -> NDArray[np.float64]:
    """Return the mean node descriptor of each phase and the features of each deployment, ``(n_deployments, n)``."""
    columns = deployment_columns(data.tensors.deployments)
    graphs = [phase_graphs(phase, columns) for phase in PHASES]
    pooled = [g.features.sum(axis=1) / np.maximum(g.present.sum(axis=1), 1)[:, None] for g in graphs]
    return np.concatenate([*pooled, deployment_features(columns)], axis=1).astype(np.float64)


def window_columns(data: EnergyDataModule, windows: Windows, names: Names) -> NDArray[np.float64]:
    """Return what the network reads of each window, ``(n_windows, n_columns)``."""
    rows = windows.row
    work = phase_work(data, rows)
    listed = [np.log(x) for x in (work[0].n_gpus, work[0].tdp_w, work[0].power_limit_w)]
    for p, basis in enumerate(work):
        inside = windows.phases[:, p]
        listed += [np.log(inside * getattr(basis, name).sum(axis=1) + _LEAST_SECONDS) for name in SLOT_FIELDS]
        listed.append(np.log1p(inside * basis.steps))
    pooled = pooled_descriptors(data)[data.tensors.deployment.numpy()[rows]]
    return np.column_stack([*listed, pooled, name_columns(data, rows, names)])


def formula_log_energy(data: EnergyDataModule, train: Index, windows: Windows) -> Column:
    """Return the log energy of each window by the nine-constant formula fitted to ``train``."""
    table = nine_constants.predicted(nine_constants.fit_constants(data, train), data, windows.row)
    prefill, decode = table[:, list(IS_ENERGY)][:, :2].T
    inside = windows.phases[:, 0] * prefill + windows.phases[:, 1] * decode
    return np.asarray(np.log(np.maximum(inside, 1e-12)))


def network_table(
    data: EnergyDataModule, train: Index, rows: Index, seed: int, *, on_formula: bool, plan: FitPlan = PLAN
) -> Table:
    """Return predicted energies of ``rows`` by a network fitted to ``train``."""
    samples, asked = energy_samples(data, train), all_windows(rows)
    names = trained_names(data, samples.windows.row)
    columns = window_columns(data, samples.windows, names)
    scale = standardiser(columns)
    base, asked_base = np.zeros(len(samples.windows)), np.zeros(len(asked))
    typical, limit = float(np.average(samples.log_energy, weights=samples.weight)), None
    if on_formula:
        base, asked_base = (formula_log_energy(data, train, w) for w in (samples.windows, asked))
        typical, limit = 0.0, CORRECTION_LIMIT
    network = fit_network(
        lambda: Perceptron(columns.shape[1], typical=typical, limit=limit), (scale(columns),),
        samples.log_energy - base, samples.weight,
        np.isin(samples.windows.row, held_back(data, np.unique(samples.windows.row), seed)), seed=seed, plan=plan,
    )  # fmt: skip
    answers = predict(network, (scale(window_columns(data, asked, names)),)).double().numpy()
    return energy_table(asked_base + answers)


def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:
    """Return the errors of both variants on the fold's test rows."""
    return {
        name: label_errors(
            network_table(data, fold.train, fold.test, seed, on_formula=on_formula), data, fold.test
        )
        for name, on_formula in ((RAW, False), (RESIDUAL, True))
    }


METHOD_GROUP = MethodGroup(
    names=(RAW, RESIDUAL),
    fold_errors=fold_errors,
    seeded=True,
    about="Pooled descriptors and roofline seconds without a graph: log energy, and a bounded correction of a formula.",
)
