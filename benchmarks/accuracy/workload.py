"""Measured runs as requests that any method can answer, and as labels that its answers are compared with.

Invariant: a request holds what a user would know before the run, never a label; every label says which figure of an
answer it is compared with. One run is one request, or several where its batches had different shapes, or where its
time label is one step and not the mean time per token.

Prompt lengths that a source does not publish are assumed: 300 tokens for chats and for gpqa, 2,000 for code completion
(sourcegraph-fim), 300 for ML.ENERGY of 2024, 100 for that of 2023 and for spot checks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.catalog.gpus import resolve_gpu
from llmco2.records.request import REQUEST_COLUMNS

ASSUMED_PROMPT_TOKENS: Final = {"lm-arena-chat": 300.0, "gpqa": 300.0, "sourcegraph-fim": 2000.0}  # by task
ASSUMED_OF_SOURCE: Final = {"mlenergy_v2": 300.0}
ASSUMED_ELSEWHERE: Final = 100.0
STEP_SOURCES: Final = (
    "mlenergy_v3",
)  # whose tpot_s is a median: a decode step without another's prefill in it
TRUSTED_WEIGHT: Final = 0.5  # runs trusted less are scored apart
# label → (what it measures, the answer's column)
LABELS: Final = {
    "energy_j": ("energy", "energy_j"),
    "energy_per_output_token_j": ("energy", "energy_per_output_token_j"),
    "prefill_energy_j": ("energy", "prefill_energy_j"),
    "decode_energy_j": ("energy", "decode_energy_j"),
    "latency_s": ("time", "latency_s"),
    "tpot_s": ("time", "tpot_s"),
    "ttft_s": ("ttft", "ttft_s"),
    "average_power_w": ("power", "average_power_w"),
}
QUANTITIES: Final = ("energy", "time", "ttft", "power")
RUN_FACTS: Final = (
    "run_id", "source", "engine", "gpu", "model", "precision", "tensor_parallel", "expert_parallel",
    "pipeline_parallel", "batch_size", "prompt_tokens", "output_tokens", "serving", "weight",
)  # fmt: skip
_SIZES: Final = ("batch_size", "prompt_tokens", "output_tokens")
SLOW_REGIME: Final = "B200 slow host regime"
_CAP_SHARE: Final = 0.95  # of TDP; a board capped below it is not what a request can ask for
_B200_FAST_BATCH: Final = 512
_B200_FAST_BATCH_8B: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Runs, what is asked for them, and what was measured; rows in a fixed order."""

    runs: pd.DataFrame  # (n_runs,) RUN_FACTS, task, part, trusted
    requests: pd.DataFrame  # (n_requests,) REQUEST_COLUMNS
    run_of_request: NDArray[np.intp]  # (n_requests,)
    share: NDArray[np.float64]  # (n_requests,) of the run's energy and time that one such batch counts
    is_step: NDArray[np.bool_]  # (n_requests,) asked for one step alone
    labels: pd.DataFrame  # (n_labels,) run (index), label, quantity, measured


def measured_workload(table: pd.DataFrame) -> Workload:
    """Return the workload of a table of runs, capped boards left out; deterministic in the table's order."""
    runs = table[~_capped(table)].reset_index(drop=True)
    task = runs["notes"].fillna("").astype(str).str.extract(r"task=([^;]+)", expand=False).fillna("")
    facts = runs[list(RUN_FACTS)].assign(
        task=task,
        prompt_tokens=prompt_tokens(runs, task),
        output_tokens=runs["output_tokens"].astype(float).fillna(1.0).clip(lower=1.0),
    )
    facts["trusted"] = facts["weight"] >= TRUSTED_WEIGHT
    facts["part"] = np.where(_slow(facts), SLOW_REGIME, "")
    requests, run, share = _requests(facts, runs)
    stepping = run_mask(runs["source"].isin(STEP_SOURCES) & runs["tpot_s"].notna(), run)
    steps = requests[stepping].assign(serving="static")
    return Workload(
        runs=facts,
        requests=pd.concat([requests, steps], ignore_index=True),
        run_of_request=np.concatenate([run, run[stepping]]),
        share=np.concatenate([share, share[stepping]]),
        is_step=np.concatenate([np.zeros(len(run), dtype=bool), np.ones(int(stepping.sum()), dtype=bool)]),
        labels=_labels(runs),
    )


def run_mask(of_run: pd.Series, run: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return a flag of each run as one of each request."""
    found: NDArray[np.bool_] = of_run.to_numpy(dtype=bool)[run]
    return found


def prompt_tokens(runs: pd.DataFrame, task: pd.Series) -> pd.Series:
    """Return the prompt tokens of runs, assumed ones where the source has none; see the module."""
    known = runs["prompt_tokens"].astype(float)
    assumed = task.map(ASSUMED_PROMPT_TOKENS).fillna(runs["source"].map(ASSUMED_OF_SOURCE))
    return known.fillna(assumed.astype(float)).fillna(ASSUMED_ELSEWHERE)


def _capped(runs: pd.DataFrame) -> pd.Series:
    tdp = runs["gpu"].map({name: resolve_gpu(str(name)).tdp_w for name in runs["gpu"].unique()})
    return runs["power_limit_w"].astype(float) < _CAP_SHARE * tdp.astype(float)


def _slow(facts: pd.DataFrame) -> pd.Series:
    """Return the runs of a second host regime on B200 that no column of the source tells apart."""
    board = (facts["source"] == "mlenergy_v3") & facts["gpu"].str.contains("B200")
    long_answers = (facts["task"] == "gpqa") & ~facts["model"].str.contains("gpt-oss")
    small = facts["model"].str.contains("Llama-3.1-8B") & (facts["batch_size"] > _B200_FAST_BATCH_8B)
    return board & (long_answers | (facts["batch_size"] > _B200_FAST_BATCH) | small)


def _requests(
    facts: pd.DataFrame, runs: pd.DataFrame
) -> tuple[pd.DataFrame, NDArray[np.intp], NDArray[np.float64]]:
    """Return requests, the run of each and the share each counts; a run of several shapes is its mean batch."""
    names = [name for name in REQUEST_COLUMNS if name in facts]
    rows, run, share = [], [], []
    for i, (row, mix) in enumerate(zip(facts[names].to_dict("records"), runs["shape_mix"], strict=True)):
        shapes: list[list[float] | None] = json.loads(mix) if isinstance(mix, str) else [None]
        for shape in shapes:
            own = dict(row)
            if shape is not None:
                own.update(zip(_SIZES, shape, strict=True))
            rows.append(own)
            run.append(i)
            share.append(1.0 / len(shapes))
    return pd.DataFrame(rows, columns=names), np.array(run, dtype=np.intp), np.array(share)


def _labels(runs: pd.DataFrame) -> pd.DataFrame:
    tables = []
    for label, (quantity, _) in LABELS.items():
        measured = runs[label].astype(float)
        if label == "tpot_s":  # where the whole was timed, that is the label
            measured = measured.where(runs["latency_s"].isna() | (runs["serving"] == "continuous"))
        if label == "energy_per_output_token_j":
            measured = measured.where(runs["energy_j"].isna())
        if label == "ttft_s":  # of a single token it is the latency
            measured = measured.where(runs["latency_s"].isna() | (runs["output_tokens"].astype(float) > 1.0))
        known = np.flatnonzero(measured.notna() & (measured > 0.0))
        tables.append(
            pd.DataFrame(
                {"run": known, "label": label, "quantity": quantity, "measured": measured.to_numpy()[known]}
            )
        )
    return pd.concat(tables, ignore_index=True)
