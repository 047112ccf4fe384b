"""``python -m benchmarks.release --nodes NODES.npz --lanes lanes.json --runs FOLDER --output FILE.json``.

NODES.npz are the node functions that ``llmco2 train fit --config release`` writes; ``lanes.json`` lies beside the
kernel tables (``python -m benchmarks.kernel_tables``); FOLDER holds the public runs or is a run table. A
``MODEL_CARD.md`` beside FILE.json gets the checkpoint's numbers.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.accuracy.answers import label_predictions, product_answers
from benchmarks.accuracy.workload import SLOW_REGIME, Workload, measured_workload
from benchmarks.command_line import exit_code
from benchmarks.public_runs.tables import run_table
from benchmarks.release.card import CARD_FILE, refreshed_card
from benchmarks.release.release import fitted_hosts, intervals_of, release_data, write_release
from llmco2.cli.arguments import OneLineParser
from llmco2.data.tables import read_runs


def main(argv: Sequence[str] | None = None) -> int:
    """Fit the hosts, write the checkpoint, take its intervals from its own errors, and write it again."""
    parser = OneLineParser(prog="python -m benchmarks.release", description=__doc__)
    parser.add_argument("--nodes", type=Path, required=True, metavar="NODES.npz")
    parser.add_argument("--lanes", type=Path, required=True, metavar="lanes.json")
    parser.add_argument("--runs", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="CHECKPOINT.json")
    args = parser.parse_args(argv)
    arrays = dict(np.load(args.nodes, allow_pickle=False))
    lanes = json.loads(args.lanes.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        table = run_table(args.runs, Path(folder))
        workload = measured_workload(read_runs(table))
        data = release_data(arrays, lanes, workload)
        hosts = fitted_hosts(data)
        sources = {"nodes": args.nodes, "lanes": args.lanes, "runs": table}
        wide = intervals_of(_no_errors())
        write_release(args.output, arrays, lanes, hosts=hosts, intervals=wide, data=data, sources=sources)
        intervals = intervals_of(log_errors(workload, str(args.output)))
        write_release(
            args.output, arrays, lanes, hosts=hosts, intervals=intervals, data=data, sources=sources
        )
    refresh_card(args.output)
    for engine, constants in hosts.items():
        print(engine, {name: float(f"{value:.3g}") for name, value in constants.items()})
    return 0


def refresh_card(checkpoint: Path) -> None:
    """Write the numbers of a checkpoint into the model card beside it, where there is one."""
    card = checkpoint.with_name(CARD_FILE)
    if card.is_file():
        metadata = json.loads(checkpoint.read_text(encoding="utf-8"))
        card.write_text(refreshed_card(card.read_text(encoding="utf-8"), metadata), encoding="utf-8")


def log_errors(workload: Workload, checkpoint: str) -> pd.DataFrame:
    """Return the product's errors on trusted runs: engine, quantity and the log of measured over predicted."""
    predicted = label_predictions(workload, product_answers(workload, checkpoint))["predicted"]
    labels, runs = workload.labels, workload.runs
    of_run = runs.iloc[labels["run"].to_numpy()].reset_index(drop=True)
    kept = (of_run["part"] != SLOW_REGIME) & of_run["trusted"]
    # These runs of vLLM on one small board name no version, so they say nothing of a generation.
    kept &= ~((of_run["source"] == "alejandroldz") & (of_run["engine"] == "vllm"))
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.log(labels["measured"].to_numpy() / predicted.to_numpy())
    table = pd.DataFrame(
        {"engine": of_run["engine"], "quantity": labels["quantity"].to_numpy(), "log_error": error}
    )
    return table[kept.to_numpy() & table["quantity"].isin(["energy", "time"]).to_numpy()]


def _no_errors() -> pd.DataFrame:
    """Return an error of a factor of e either way, for the checkpoint whose errors are about to be known."""
    return pd.DataFrame(
        [{"engine": "", "quantity": q, "log_error": sign} for q in ("energy", "time") for sign in (-1.0, 1.0)]
    )


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
