"""From a method's answers to requests to predictions of labels, one way for all methods.

Invariant: an answer has the columns ANSWER for each request; NaN where a method says nothing. A label's prediction is
NaN where any request of its run was not answered.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.workload import LABELS, Workload
from llmco2.predictor.api import predict_frame

Array = NDArray[np.float64]
ANSWER: Final = ("prefill_energy_j", "decode_energy_j", "energy_j", "ttft_s", "tpot_s", "latency_s")
ENDS: Final = ("low", "high")


def end_column(column: str, end: str) -> str:
    """Return the name of an interval's end: ``energy_j`` has ``energy_low_j`` and ``energy_high_j``."""
    quantity, unit = column.rsplit("_", 1)
    return f"{quantity}_{end}_{unit}"


def product_answers(workload: Workload, checkpoint: str | None = None) -> pd.DataFrame:
    """Return what the product answers, ``(n_requests,)`` rows: ANSWER and ``error``, one line where it refuses."""
    answered = predict_frame(workload.requests, checkpoint=checkpoint)
    wanted = [*ANSWER, *(end_column(name, end) for name in ANSWER for end in ENDS), "error"]
    return answered[[name for name in wanted if name in answered]].reset_index(drop=True)


def phase_answers(
    requests: pd.DataFrame, prefill_j: Array, prefill_s: Array, decode_j: Array, decode_s: Array
) -> pd.DataFrame:
    """Return the answers of a method that knows energy and time of both phases of a whole batch, ``(n_requests,)``.

    A steady batch's time per token holds the prefills of those that arrive, its time to first token one of them.
    """
    output = requests["output_tokens"].to_numpy(dtype=np.float64)
    batch = requests["batch_size"].to_numpy(dtype=np.float64)
    steady = (requests["serving"] == "continuous").to_numpy()
    steps = np.maximum(output - 1.0, 0.0)
    step_s = np.divide(decode_s, steps, out=np.zeros_like(decode_s), where=steps > 0.0)
    return pd.DataFrame(
        {
            "prefill_energy_j": prefill_j,
            "decode_energy_j": decode_j,
            "energy_j": prefill_j + decode_j,
            "ttft_s": np.where(steady, prefill_s / batch + step_s, prefill_s),
            "tpot_s": np.where(steady, step_s + prefill_s / output, step_s),
            "latency_s": prefill_s + decode_s,
        }
    )


def label_predictions(workload: Workload, answers: pd.DataFrame) -> pd.DataFrame:
    """Return ``predicted``, ``low`` and ``high`` of every label, ``(n_labels,)``; the ends are NaN without an interval.

    ``answers`` has ANSWER and may have ends of it, named by :func:`end_column`.
    """
    whole = _of_runs(workload, answers)
    output = workload.runs["output_tokens"].to_numpy(dtype=np.float64)
    tokens = workload.runs["batch_size"].to_numpy(dtype=np.float64) * output
    whole["energy_per_output_token_j"] = whole["energy_j"] / tokens
    whole["average_power_w"] = whole["energy_j"] / whole["latency_s"]
    for end in ENDS:
        total = whole.get(end_column("energy_j", end))
        if total is not None:
            whole[end_column("energy_per_output_token_j", end)] = total / tokens
            prefill_only = np.where(output <= 1.0, total, np.nan)
            whole.setdefault(end_column("prefill_energy_j", end), prefill_only)
    run, label = workload.labels["run"].to_numpy(), workload.labels["label"].to_numpy()
    result = {part: np.full(len(label), np.nan) for part in ("predicted", *ENDS)}
    for name, (_, column) in LABELS.items():
        mine = np.flatnonzero(label == name)
        for part, source in (("predicted", column), *((end, end_column(column, end)) for end in ENDS)):
            if source in whole:
                result[part][mine] = whole[source][run[mine]]
    return pd.DataFrame(result, index=workload.labels.index)


def _of_runs(workload: Workload, answers: pd.DataFrame) -> dict[str, Array]:
    """Return the answers of whole runs, ``(n_runs,)``: the mean over a run's batches, NaN where one was not answered.

    Times per token of a run that asked for a step are those of the step.
    """
    n_runs, step = len(workload.runs), workload.is_step
    run, share = workload.run_of_request[~step], workload.share[~step]
    asked = workload.run_of_request[step]
    columns = {}
    for name in map(str, answers):
        if name == "error":
            continue
        values = answers[name].to_numpy(dtype=np.float64)
        columns[name] = np.bincount(run, values[~step] * share, minlength=n_runs).astype(np.float64)
        if name.startswith("tpot_"):
            columns[name][asked] = values[step]
    return columns
