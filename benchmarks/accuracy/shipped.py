"""The shipped model as a method: what ships, the formula, the graph network with its gate open, and trees.

Invariant: fits are the release's own (``benchmarks.release.heldout.fit_rows``), one for all of these methods: the
formula stands still while its graph network is fitted, so that the formula is the same as if it were fitted alone.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.release.heldout import Fold, energy_log_errors, fit_rows
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import IS_ENERGY, energy_known
from llmco2.networks.batch import DeploymentBatch
from llmco2.networks.coefficients import CoefficientNetwork
from llmco2.training.loss import predicted_labels

SHIPPED: Final = "what ships"
FORMULA: Final = "formula"
OPEN_GATE: Final = "graph net (gate open)"
RESIDUAL_TREES: Final = "trees on residual"
RAW_TREES: Final = "raw trees"

_ENERGY_COLUMNS: Final = [i for i, energy in enumerate(IS_ENERGY) if energy]
_TOTAL_FIRST: Final = (2, 0, 1)  # places among the energies: total, prefill, decode
_TREES: Final = {"max_iter": 300, "learning_rate": 0.06, "max_leaf_nodes": 15, "l2_regularization": 1.0}
_BASIS_COLUMNS: Final = ("compute_s", "weight_s", "activation_s", "kv_s", "network_s", "launches")
_SMALLEST: Final = 1e-9


class OpenGateNetwork(CoefficientNetwork):
    """A fitted network whose graph part also corrects where its engine was never measured on the board."""

    @classmethod
    def of(cls, network: CoefficientNetwork) -> OpenGateNetwork:
        """Return a view of a fitted network that shares its weights; the network itself stays gated."""
        opened = copy.copy(network)
        opened.__class__ = cls
        if not isinstance(opened, OpenGateNetwork):
            raise TypeError(f"expected a coefficient network, got {type(network).__name__}")
        return opened

    def _corrections(self, batch: DeploymentBatch) -> tuple[torch.Tensor, torch.Tensor]:
        # The gate reads the groups and nothing else of the graph part does; the formula has its own batch.
        return super()._corrections(replace(batch, groups=batch.groups.clamp_min(1)))


@torch.no_grad()
def network_errors(
    network: CoefficientNetwork, data: EnergyDataModule, rows: Index, *, corrected: bool = True
) -> LabelErrors:
    """Return the log errors of every label of these rows, ``(n_rows, N_LABELS)``; of the formula alone on request."""
    data.use_vocabulary(network.vocabulary)
    batch = data.take(rows)
    predicted = predicted_labels(network(batch.graphs, corrected=corrected), batch)
    return label_errors(predicted.double().numpy(), data, rows)


def shipped_fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> dict[str, LabelErrors]:
    """Return the errors of what ships, its formula alone, its graph network with the gate open, and of trees."""
    network = fit_rows(data, fold.train, fold.name, graph=True, seed=seed)
    known: Index = fold.train[energy_known(data.tensors)[fold.train]]
    residual = -energy_log_errors(network, data, known, corrected=False)
    formula = network_errors(network, data, fold.test, corrected=False)
    errors = {
        SHIPPED: network_errors(network, data, fold.test),
        FORMULA: formula,
        OPEN_GATE: network_errors(OpenGateNetwork.of(network), data, fold.test),
    }
    features, weight = tree_features(data), data.tensors.weight.numpy()[known]
    shift = _boosted_trees(seed).fit(features[known], residual, sample_weight=weight)
    errors[RESIDUAL_TREES] = _energies_only(formula + shift.predict(features[fold.test])[:, None])
    target = measured_log_energy(data)
    raw = _boosted_trees(seed).fit(features[known], target[known], sample_weight=weight)
    raw_errors = raw.predict(features[fold.test]) - target[fold.test]
    errors[RAW_TREES] = _as_one_energy(raw_errors, formula)
    return errors


def measured_log_energy(data: EnergyDataModule) -> NDArray[np.float64]:
    """Return the mean log of the energies that each run knows, NaN where it knows none, ``(n_runs,)``."""
    table = data.tensors.labels[:, _ENERGY_COLUMNS].double().log().numpy()
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def tree_features(data: EnergyDataModule) -> NDArray[np.float64]:
    """Return what trees may read: roofline seconds by resource and phase, sizes, parallelism, board, engine."""
    columns = []
    for basis in data.tensors.bases:
        for name in _BASIS_COLUMNS:
            columns.append(np.log(getattr(basis, name).sum(1).double().numpy() + _SMALLEST))
        columns.append(np.log1p(basis.steps.double().numpy()))
    prefill, frame = data.tensors.bases[0], data.frame
    columns += [np.log(frame["batch_size"].to_numpy(dtype=float)), np.log(prefill.n_gpus.double().numpy())]
    columns.append(prefill.tdp_w.double().numpy())
    for name in ("engine", "precision", "gpu"):
        columns.append(pd.factorize(frame[name], sort=True)[0].astype(float))
    return np.stack(columns, axis=1)


def _boosted_trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - an extra

    return HistGradientBoostingRegressor(**_TREES, random_state=seed)


def _energies_only(errors: LabelErrors) -> LabelErrors:
    return np.where(np.array(IS_ENERGY), errors, np.nan)


def _as_one_energy(row_errors: NDArray[np.float64], known: LabelErrors) -> LabelErrors:
    """Return each row's error under one energy that it knows, the total where it can be."""
    errors = np.full(known.shape, np.nan)
    order = [_ENERGY_COLUMNS[i] for i in _TOTAL_FIRST]
    first = np.array(order)[np.argmax(~np.isnan(known[:, order]), axis=1)]
    errors[np.arange(len(errors)), first] = row_errors
    return errors


SHIPPED_METHODS: Final = MethodGroup(
    names=(SHIPPED, FORMULA, OPEN_GATE, RESIDUAL_TREES, RAW_TREES),
    fold_errors=shipped_fold_errors,
    seeded=True,
    about="The physical readout with fitted constants (the formula), corrected by a graph network over the kernels "
    "where its engine was measured on the board (what ships), and with that gate open on new boards too; "
    "gradient-boosted trees (scikit-learn) on the formula's residual, and on the logarithm of energy itself.",
)
