"""Accuracy where nothing was fitted: what ships, the formula, trees on its residual and raw trees, fold by fold.

Run: ``python benchmarks/accuracy.py --runs FOLDER [--only board] [--output accuracy.csv]``; needs the ``evaluate``
extra (scikit-learn). Folds and fits are those of the release (``llmco2.training.heldout``). A row's error is that of
its energy; a fold's figure is the mean absolute percentage error over its trusted rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.progress import track
from sklearn.ensemble import HistGradientBoostingRegressor

from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.options import SplitOptions
from llmco2.data.tensors import LABELS, energy_known
from llmco2.training.heldout import Fold, energy_log_errors, fit_rows, folds

TREES = {
    "max_iter": 300,
    "learning_rate": 0.06,
    "max_leaf_nodes": 15,
    "l2_regularization": 1.0,
    "random_state": 0,
}


def measured_log_energy(data: EnergyDataModule) -> NDArray[np.float64]:
    """Return the log of each run's known energy (the first of prefill, decode, total), NaN where unknown."""
    energies = [i for i, name in enumerate(LABELS) if name.endswith("_j")]
    table = data.tensors.labels[:, energies].double().log().numpy()
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def tree_features(data: EnergyDataModule) -> NDArray[np.float64]:
    """Return what trees may read: roofline seconds by resource and phase, sizes, parallelism, board, engine."""
    columns = []
    for basis in data.tensors.bases:
        for name in ("compute_s", "weight_s", "activation_s", "kv_s", "network_s", "launches"):
            columns.append(np.log(getattr(basis, name).sum(1).double().numpy() + 1e-9))
        columns.append(np.log1p(basis.steps.double().numpy()))
    frame = data.frame
    columns += [
        np.log(frame["batch_size"].to_numpy(dtype=float)),
        np.log(data.tensors.bases[0].n_gpus.numpy()),
    ]
    columns += [data.tensors.bases[0].tdp_w.double().numpy()]
    for name in ("engine", "precision", "gpu"):
        columns.append(pd.factorize(frame[name], sort=True)[0].astype(float))
    return np.stack(columns, axis=1)


def judge(data: EnergyDataModule, fold: Fold, features: NDArray[np.float64],
          target: NDArray[np.float64]) -> dict[str, float]:  # fmt: skip
    """Return the MAPE (%) of every method on one fold."""
    formula = fit_rows(data, fold.train, fold.name, graph=fold.needs_graph)
    ships = energy_log_errors(formula, data, fold.test)
    if fold.needs_graph:
        formula.correction_limit = 0.0
    known: Index = fold.train[energy_known(data.tensors)[fold.train]]
    before, after = energy_log_errors(formula, data, known), energy_log_errors(formula, data, fold.test)
    weight = data.tensors.weight.numpy()[known]
    residual = HistGradientBoostingRegressor(**TREES).fit(features[known], -before, sample_weight=weight)
    raw = HistGradientBoostingRegressor(**TREES).fit(features[known], target[known], sample_weight=weight)
    errors = {
        "ships": ships,
        "formula": after,
        "trees on residual": after + residual.predict(features[fold.test]),
        "raw trees": raw.predict(features[fold.test]) - target[fold.test],
    }
    return {name: 100.0 * float(np.mean(np.abs(np.expm1(values)))) for name, values in errors.items()}


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", required=True, help="a run table, or a folder of public sources")
    parser.add_argument("--only", default="", help="only folds whose name contains this")
    parser.add_argument("--output", type=Path, help="a CSV of the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = EnergyDataModule(runs=args.runs, split=SplitOptions(kind="none"))
    data.setup()
    features, target = tree_features(data), measured_log_energy(data)
    chosen = [fold for fold in folds(data) if args.only in fold.name]
    rows = {
        fold.name: {"case": fold.case.value, "rows": len(fold.test), **judge(data, fold, features, target)}
        for fold in track(chosen, "folds")
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    means = table.groupby("case").mean(numeric_only=True)
    print(table.round(1).to_string(), "\n\nmean over folds\n", means.round(1).to_string())
    if args.output:
        table.round(3).to_csv(args.output, index_label="fold")


if __name__ == "__main__":
    main()
