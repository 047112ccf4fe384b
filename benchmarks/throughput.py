"""Requests a second from a Parquet file to a frame of answers, over worker processes that share the rows.

Two tables are timed: a realistic one, whose rows draw on a few hundred deployments, and the worst case, in
which every row is a deployment of its own. Reading the file, answering and handing back the answers are in
the time; starting Python and importing are not (``cold_start.py`` has those).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process is to have one core

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

import llmco2
from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.models import load_models
from llmco2.catalog.precisions import supported_precisions
from llmco2.records.engines import engine_names

GOAL_PER_S = 20_000


def deployments(rng: np.random.Generator, number: int) -> pd.DataFrame:
    """Return ``number`` distinct deployments whose parallelism suits their models."""
    models, gpus = list(load_models().values()), list(load_gpus().values())
    rows: dict[tuple[object, ...], None] = {}
    while len(rows) < number:
        model, gpu = models[rng.integers(len(models))], gpus[rng.integers(len(gpus))]
        degrees = [n for n in (1, 2, 4, 8) if model.n_heads % n == 0]
        layers = model.n_attention_layers + model.n_recurrent_layers
        stages = [n for n in (1, 2, 4) if n <= layers]
        precision = rng.choice(["unknown", *supported_precisions(gpu)])
        rows[(model.model_id, gpu.gpu_id, int(rng.choice(degrees)), int(rng.choice(stages)), str(precision),
              str(rng.choice(engine_names())))] = None  # fmt: skip
    names = ["model", "gpu", "tensor_parallel", "pipeline_parallel", "precision", "engine"]
    return pd.DataFrame(list(rows), columns=names)


def requests(n_rows: int, n_deployments: int) -> pd.DataFrame:
    """Return ``n_rows`` requests of random sizes over ``n_deployments``, shuffled."""
    rng = np.random.default_rng(0)
    which = rng.permutation(np.arange(n_rows) % n_deployments)
    table = deployments(rng, n_deployments).iloc[which].reset_index(drop=True)
    table["serving"] = rng.choice(["static", "continuous"], n_rows)
    table["batch_size"] = rng.integers(1, 33, n_rows)
    table["prompt_tokens"] = rng.integers(1, 4096, n_rows)
    table["output_tokens"] = rng.integers(1, 1024, n_rows)
    return table


def answer(path: Path, start: int, stop: int, checkpoint: str | None) -> tuple[pd.DataFrame, float]:
    """Return the answers of rows ``start`` to ``stop`` of a Parquet file, and the CPU seconds they took."""
    before = time.process_time()
    table = pq.read_table(path).slice(start, stop - start).to_pandas()
    answers = llmco2.predict_frame(table, checkpoint=checkpoint)
    return answers, time.process_time() - before


def timed(path: Path, n_rows: int, workers: int, checkpoint: str | None) -> tuple[float, float, float]:
    """Return rows a second by the clock, rows a CPU second, and the share of rows answered."""
    cuts = np.linspace(0, n_rows, workers + 1).astype(int).tolist()
    with ProcessPoolExecutor(workers) as pool:
        warm = [pool.submit(answer, path, i, i + 1, checkpoint) for i in range(workers * 4)]
        _ = [future.result() for future in warm]
        start = time.perf_counter()
        parts = [pool.submit(answer, path, a, b, checkpoint) for a, b in pairwise(cuts)]
        done = [part.result() for part in parts]
        answers = pd.concat([frame for frame, _ in done], ignore_index=True)
        spent = time.perf_counter() - start
    return n_rows / spent, n_rows / sum(cpu for _, cpu in done), float((answers["error"] == "").mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--deployments", type=int, default=300, help="of the realistic table")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--checkpoint", help="in place of the one that ships")
    args = parser.parse_args()
    worst = min(args.rows, 40_000)
    with tempfile.TemporaryDirectory() as folder:
        for title, n_rows, distinct in (
            ("realistic", args.rows, args.deployments),
            ("all distinct", worst, worst),
        ):
            path = Path(folder) / f"{distinct}.parquet"
            requests(n_rows, distinct).to_parquet(path, index=False)
            rates, per_cpu, answered = zip(
                *(timed(path, n_rows, args.workers, args.checkpoint) for _ in range(args.runs)), strict=True
            )
            verdict = f"; goal {GOAL_PER_S:,}: {'met' if max(rates) >= GOAL_PER_S else 'MISSED'}"
            print(
                f"{title}: {n_rows:,} rows, {distinct:,} deployments, {args.workers} processes: "
                f"{max(rates):,.0f} rows/s best, {np.median(rates):,.0f} median of {args.runs}, "
                f"{np.median(per_cpu):,.0f} a CPU second "
                f"({answered[0]:.0%} answered, the others refused){verdict if title == 'realistic' else ''}"
            )


if __name__ == "__main__":
    main()
