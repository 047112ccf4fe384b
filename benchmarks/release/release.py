"""Fit the checkpoint that ships: ``python -m benchmarks.release --runs FOLDER --output CHECKPOINT.json``.

Three steps: held-out fits of every case of newness (for the accuracy table and the intervals), one fit on all rows,
the export. Every figure in the model card comes from the JSON that this writes.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.public_runs.tables import run_table
from benchmarks.release.card import write_card
from benchmarks.release.heldout import (
    FORMULA_STEPS,
    GRAPH_STEPS,
    Fold,
    energy_log_errors,
    fit_rows,
    folds,
    training_rows,
)
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.options import SplitOptions
from llmco2.data.splits import data_hash
from llmco2.data.tensors import energy_known
from llmco2.networks.coefficients import CoefficientNetwork
from llmco2.predictor.intervals import COVERAGE, Newness
from llmco2.training.domain import training_domain
from llmco2.training.export import export_checkpoint
from llmco2.training.metrics import error_summary

# Held-out groups are few, so the ends of an interval are taken a little further out than the share they stand for.
SMALL_SAMPLE_WIDENING: Final = 1.1
# Each case with those that lack less, from the least new on.
_LACKS_ALSO: Final = {
    Newness.KNOWN.value: (Newness.MEASURED.value,),
    Newness.NEW_MODEL.value: (Newness.KNOWN.value,),
    Newness.NEW_GPU.value: (Newness.KNOWN.value,),
    Newness.NEW_BOTH.value: (Newness.NEW_MODEL.value, Newness.NEW_GPU.value),
}
ASSUMED_PHASE_FACTOR: Final = 1.3  # no public source has both phases of a datacentre GPU; see the model card


def release(runs: str, output: Path, *, seed: int = 0, threads: int = 1, jobs: int = 1) -> dict[str, Any]:
    """Fit, evaluate and write the checkpoint; return the metrics that went into it."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    data = EnergyDataModule(runs=runs, split=SplitOptions(kind="none"), seed=seed)
    data.setup()
    found = list(folds(data))
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_load, initargs=(runs, seed)
    ) as pool:
        errors = pool.map(_held_out_errors_here, [fold.name for fold in found])
        evaluated = [(fold, *both) for fold, both in zip(track(found, "held-out fits"), errors, strict=True)]
    rows = training_rows(data)
    network = fit_rows(data, rows, "all rows", graph=True, seed=seed)
    intervals = calibrated_intervals(evaluated) | _unknown_factors(network, data, rows)
    metrics = {
        "held_out": {
            fold.name: _figures(errors) | {"formula": _figures(formula)}
            for fold, errors, formula in evaluated
        },
        "fitted_rows": _figures(energy_log_errors(network, data, rows[energy_known(data.tensors)[rows]])),
        "wall_seconds": round(time.monotonic() - started),
        "jobs": jobs,
    }
    export_checkpoint(
        network,
        output,
        intervals=intervals,
        domain=training_domain(*data.training_side()),
        metadata={
            "recipe": {"formula_steps": FORMULA_STEPS, "graph_steps": GRAPH_STEPS, "seed": seed,
                       "command": "python -m benchmarks.release"},
            "data": {"sha256": data_hash(data.frame), "rows": len(rows), "rows_with_energy": int(
                     energy_known(data.tensors)[rows].sum()), "sources": _source_counts(data, rows)},
            "metrics": metrics,
        },
    )  # fmt: skip
    write_card(output)
    return metrics


def calibrated_intervals(
    evaluated: list[tuple[Fold, NDArray[np.float64], NDArray[np.float64]]],
) -> dict[str, Any]:
    """Return the ends of ``log(measured / predicted)`` per case; every fold weighs the same, whatever its size."""
    tail = (1.0 - COVERAGE) / 2.0
    cases: dict[str, Any] = {}
    for case in Newness:
        mine = [-errors for fold, errors, _ in evaluated if fold.case is case]
        values = np.concatenate(mine)
        weight = np.concatenate([np.full(len(errors), 1.0 / np.sqrt(len(errors))) for errors in mine])
        low, high = weighted_quantiles(values, weight, (tail, 1.0 - tail))
        cases[case.value] = {
            "low": round(min(low * SMALL_SAMPLE_WIDENING, -0.02), 4),
            "high": round(max(high * SMALL_SAMPLE_WIDENING, 0.02), 4),
            "folds": len(mine),
            "rows": len(values),
        }
    return {"coverage": COVERAGE, "cases": ordered_by_case(cases), "phase_factor": ASSUMED_PHASE_FACTOR}


def ordered_by_case(cases: dict[str, Any]) -> dict[str, Any]:
    """Return the cases with ends moved out so that what lacks more is nowhere surer than what lacks less.

    The groups of each case are few and not the same, so that chance can make a newer case look better.
    """
    ordered = {name: dict(ends) for name, ends in cases.items()}
    for case, lesser in _LACKS_ALSO.items():
        for other in lesser:
            ordered[case]["low"] = min(ordered[case]["low"], ordered[other]["low"])
            ordered[case]["high"] = max(ordered[case]["high"], ordered[other]["high"])
    return ordered


def weighted_quantiles(values: NDArray[np.float64], weight: NDArray[np.float64],
                       shares: tuple[float, ...]) -> list[float]:  # fmt: skip
    """Return quantiles of weighted values, interpolated between the midpoints of their weights."""
    order = np.argsort(values)
    position = np.cumsum(weight[order]) - 0.5 * weight[order]
    return [float(np.interp(share, position / weight.sum(), values[order])) for share in shares]


_data: EnergyDataModule | None = None  # of a worker process
_seed = 0


def _load(runs: str, seed: int) -> None:
    """Make this worker process ready to evaluate."""
    global _data, _seed
    torch.set_num_threads(1)
    _seed, _data = seed, EnergyDataModule(runs=runs, split=SplitOptions(kind="none"), seed=seed)
    _data.setup()


def _held_out_errors_here(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what :func:`_held_out_errors` says of the fold of this name, in a worker process."""
    if _data is None:
        raise RuntimeError("a worker evaluates after _load")
    return _held_out_errors(_data, next(fold for fold in folds(_data) if fold.name == name), _seed)


def _held_out_errors(
    data: EnergyDataModule, fold: Fold, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log errors of what ships and of the formula alone, on the fold's test rows."""
    network = fit_rows(data, fold.train, fold.name, graph=fold.needs_graph, seed=seed)
    errors = energy_log_errors(network, data, fold.test)
    if not fold.needs_graph:
        return errors, errors
    return errors, energy_log_errors(network, data, fold.test, corrected=False)


def _unknown_factors(network: CoefficientNetwork, data: EnergyDataModule, rows: Index) -> dict[str, float]:
    """Return how much wider errors are, in sample, where the engine or the precision is not told."""
    known_rows = rows[energy_known(data.tensors)[rows]]

    def width(errors: NDArray[np.float64]) -> float:
        return float(np.quantile(np.abs(errors), COVERAGE))

    told = width(energy_log_errors(network, data, known_rows))
    no_engine = width(energy_log_errors(network, data, known_rows, engine_known=False))
    no_precision = width(energy_log_errors(network, data, known_rows, precision_known=False))
    return {
        "unknown_engine_factor": round(max(no_engine / told, 1.0), 2),
        "unknown_precision_factor": round(max(no_precision / told, 1.0), 2),
    }


def _figures(errors: NDArray[np.float64]) -> dict[str, float]:
    summary = error_summary(torch.from_numpy(errors))
    return {
        "rows": summary.n_rows,
        "mape_percent": round(summary.mape_percent, 2),
        "median_percent": round(summary.median_percent, 2),
        "eba10_percent": round(summary.eba10_percent, 1),
        "bias_percent": round(100.0 * float(np.exp(np.median(errors)) - 1.0), 1),
    }


def _source_counts(data: EnergyDataModule, rows: Index) -> dict[str, int]:
    counts = data.frame["source"].iloc[rows].value_counts().sort_index()
    return {str(name): int(n) for name, n in counts.items()}


def main() -> int:
    """Read the command line, release, print the held-out figures and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", required=True, help="a run table, or a folder of public sources")
    parser.add_argument(
        "--output", type=Path, required=True, help="the checkpoint's .json; arrays go beside it"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("work"),
        help="folder of the run table that is made of public sources (default: work)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes")
    args = parser.parse_args()
    runs = str(run_table(args.runs, args.work))
    metrics = release(runs, args.output, seed=args.seed, jobs=args.jobs)
    for name, figures in metrics["held_out"].items():
        print(f"{name:45} MAPE {figures['mape_percent']:6.1f}  median {figures['median_percent']:6.1f}  "
              f"formula {figures['formula']['mape_percent']:6.1f}")  # fmt: skip
    return 0
