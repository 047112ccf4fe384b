"""Gradient-boosted trees on physical columns, fitted to runs of other (board, model) groups.

Source: histogram gradient boosting (Friedman, Annals of Statistics 29(5), 2001; Ke et al., LightGBM, NeurIPS 2017) as
scikit-learn has it. One model a label, whose target is ``log(measured / roofline answer)``: rated power × roofline
time for energies, the roofline for times. Columns: seconds at peak rates of both phases and their shares, sizes, GPUs,
bytes per weight, rated power, peak rates, and the engine as a category.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.answers import label_predictions
from benchmarks.accuracy.baselines.folds import N_FOLDS, fold_of_runs
from benchmarks.accuracy.baselines.roofline import rated_power
from benchmarks.accuracy.baselines.work import Array, RequestWork
from benchmarks.accuracy.workload import Workload

FEWEST_LABELS: Final = 50  # of a kind in training, below which no tree is fitted
_OPTIONS: Final[dict[str, Any]] = {
    "max_iter": 300, "learning_rate": 0.06, "max_leaf_nodes": 15, "l2_regularization": 1.0, "random_state": 0,
}  # fmt: skip


def left_out_predictions(workload: Workload, work: RequestWork, n_folds: int = N_FOLDS) -> pd.DataFrame:
    """Return predictions of all labels, each from trees fitted without its (board, model) group."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - heavy, and an extra

    bound = label_predictions(workload, rated_power(workload.requests, work))["predicted"].to_numpy(
        dtype=np.float64
    )
    columns = run_columns(workload, work)[workload.labels["run"]]
    target = np.log(workload.labels["measured"].to_numpy(dtype=np.float64) / bound)
    fold = fold_of_runs(workload.runs, n_folds)[workload.labels["run"]]
    usable = np.isfinite(target)
    trusted = workload.runs["trusted"].to_numpy()[workload.labels["run"]] & usable
    label = workload.labels["label"].to_numpy()
    predicted = np.full(len(label), np.nan)
    engine = [columns.shape[1] - 1]
    for number in np.unique(fold):
        for name in np.unique(label.astype(str)):
            train = trusted & (fold != number) & (label == name)
            judged = usable & (fold == number) & (label == name)
            if train.sum() >= FEWEST_LABELS and judged.any():
                model = HistGradientBoostingRegressor(categorical_features=engine, **_OPTIONS)
                model.fit(columns[train], target[train])
                predicted[judged] = bound[judged] * np.exp(model.predict(columns[judged]))
    return pd.DataFrame({"predicted": predicted, "low": np.nan, "high": np.nan})


def run_columns(workload: Workload, work: RequestWork) -> Array:
    """Return what trees read of each run's first request, ``(n_runs, n_columns)``; the last one is the engine."""
    first = _first_request(workload)
    own, sizes = work.take(first), workload.requests.iloc[first]
    phases = []
    for phase in (own.prefill, own.decode):
        total = phase.roofline_s + 1e-12
        phases += [np.log(total), *(getattr(phase, name).sum(axis=1) / total
                                    for name in ("compute_s", "weight_s", "activation_s", "network_s")),
                   np.log1p(phase.launches.sum(axis=1)), np.log1p(phase.steps)]  # fmt: skip
    sized = ("batch_size", "prompt_tokens", "output_tokens")
    counted = [np.log(sizes[name].to_numpy(dtype=np.float64)) for name in sized]
    facts = [
        np.log(values) for values in (own.n_gpus, own.tdp_w, own.peak_flops_per_s, own.bandwidth_bytes_per_s)
    ]
    steady = (sizes["serving"] == "continuous").to_numpy(dtype=np.float64)
    engine = pd.factorize(sizes["engine"], sort=True)[0].astype(np.float64)
    return np.column_stack([*phases, *counted, *facts, own.weight_bytes_per_element, steady, engine])


def _first_request(workload: Workload) -> NDArray[np.intp]:
    first = np.full(len(workload.runs), len(workload.requests), dtype=np.intp)
    np.minimum.at(first, workload.run_of_request, np.arange(len(workload.requests)))
    return first
