"""DFKI (DFKIEI/LLM-Energy): Hugging Face eager under autocast, runs of 100 queries in 13 to 15 static batches.

Rules: a published energy is the total of a run. A row here is the run's *mean batch*: energy and latency
divided by the number of batches, with the mean shape as its request, and the exact list of batches in
``shape_mix`` as JSON ``[[batch_size, prompt_tokens, output_tokens], …]``: multiply by its length to have the
run again. Energies lie 2.7 to 3.9 times over every other source of eager Hugging Face. Batches of very different
lengths are half of that; autocast, which casts every operand of every product, may be the rest and is an engine of
its own. Flag ``unexplained_offset``, weight 0.2.
"""

from __future__ import annotations

import json

import pandas as pd

from benchmarks.public_runs.rows import describe, finish, need_columns, precision_of, weight_of_trust
from llmco2.errors import FileFormatError, explain

SOURCE = "dfki"
_RUN_COLUMNS = (
    "base_model",
    "model_id",
    "gpu",
    "dtype",
    "run",
    "energy_j",
    "avg_power_w",
    "latency_s",
    "n_batches",
)
_BATCH_COLUMNS = (
    "model_id",
    "gpu",
    "run",
    "batch_index",
    "batch_size",
    "padded_prompt_tokens",
    "decode_steps",
)
_KEY = ["model_id", "gpu", "run"]


def convert(raw: pd.DataFrame, batches: pd.DataFrame) -> pd.DataFrame:
    """Return one row per distinct list of batches: medians over the runs that share it.

    Args:
        raw: one row per run.
        batches: one row per batch of each run.

    Raises:
        FileFormatError: a run's batches are missing.
    """
    need_columns(raw, _RUN_COLUMNS, SOURCE)
    need_columns(batches, _BATCH_COLUMNS, f"{SOURCE} batches")
    mixes = batches.sort_values([*_KEY, "batch_index"]).groupby(_KEY)[list(_BATCH_COLUMNS[4:])].apply(_mix)
    keyed = raw.set_index(_KEY)
    absent = [key for key in keyed.index if key not in mixes.index]
    if absent:
        raise FileFormatError(
            explain("no batch shapes for a dfki run", got=absent[0], remedy="add dfki_batches.csv")
        )
    mix = pd.Series([mixes[key] for key in keyed.index], index=raw.index)
    count = mix.map(len)
    rows = pd.DataFrame(
        {
            "source": SOURCE,
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "engine": "hf-autocast",
            "precision": raw["dtype"].map(precision_of),
            "batch_size": [_mean(shapes, 0) for shapes in mix],
            "prompt_tokens": [_mean(shapes, 1) for shapes in mix],
            "output_tokens": [_mean(shapes, 2) for shapes in mix],
            "shape_mix": mix.map(json.dumps),
            "energy_j": raw["energy_j"] / count,
            "latency_s": raw["latency_s"] / count,
            "average_power_w": raw["avg_power_w"],
            "energy_method": "integrated_power",
            "weight": weight_of_trust(1),
            "flags": "shape_mix;unexplained_offset",
            "notes": describe(raw, {"model_id": "model_id"}),
        }
    )
    return finish(rows)


def _mix(group: pd.DataFrame) -> list[list[int]]:
    return [[int(value) for value in shape] for shape in group.to_numpy().tolist()]


def _mean(shapes: list[list[int]], column: int) -> float:
    return sum(shape[column] for shape in shapes) / len(shapes)
