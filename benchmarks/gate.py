"""Does the graph network help where its inputs were not measured? The shipped recipe with its gate open and shut.

Run: ``python benchmarks/gate.py --runs FOLDER --case new_gpu --output gate.csv``. Each fold is fitted once, formula
first and graph network after it, as the release does; then its unseen rows are predicted with the correction switched
off (what ships there) and with it left on. One seed: differences of a few points are noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.networks import coefficients
from llmco2.networks.batch import DeploymentBatch
from llmco2.training.heldout import energy_log_errors, fit_rows, folds


def always_open(batch: DeploymentBatch) -> torch.Tensor:
    """Return 1 for every deployment, in place of the gate."""
    return torch.ones(batch.n_deployments)


def main() -> None:
    """Print and write one row per fold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", required=True, help="a run table, or a folder of public sources")
    parser.add_argument("--case", required=True, choices=("new_gpu", "new_model", "new_both"))
    parser.add_argument("--output", type=Path, required=True, help="a CSV of the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = EnergyDataModule(runs=args.runs, split=SplitOptions(kind="none"))
    data.setup()
    shipped_gate, rows = coefficients.in_vocabulary, []
    for fold in (f for f in folds(data) if f.case.value == args.case):
        network = fit_rows(data, fold.train, fold.name, graph=True)
        row = {"fold": fold.name, "rows": len(fold.test)}
        for name, gate in (("gate shut", shipped_gate), ("gate open", always_open)):
            coefficients.in_vocabulary = gate
            errors = energy_log_errors(network, data, fold.test)
            row[name] = round(100.0 * float(np.mean(np.abs(np.expm1(errors)))), 2)
        coefficients.in_vocabulary = shipped_gate
        rows.append(row)
        print(row, flush=True)
        pd.DataFrame(rows).to_csv(args.output, index=False)


if __name__ == "__main__":
    main()
