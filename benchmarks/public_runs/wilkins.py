"""Wilkins et al. (grantwilkins/energy-inference): Hugging Face eager with ``use_cache=False``.

Rules: without a cache every output token runs the whole prefix again, so a forward pass is a *prefill* at
batch 1 over the mean length of the passes, and that is what a row becomes. Models too large for one card were
cut into stages over 3 or 4 GPUs of which one works at a time: ``pipeline_parallel``, flag ``one_gpu_busy``.
The V100 rows ran bfloat16, which that chip has no units for: flag ``emulated_precision``, lowest trust. The
first passes of a session include warm-up: a pass more than twice as slow or fast as its neighbours in length
is dropped.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.public_runs.rows import (
    EMULATED_PRECISION,
    add_flag,
    describe,
    finish,
    need_columns,
    precision_of,
    weight_of_trust,
)

SOURCE = "wilkins_nocache"
_COLUMNS = (
    "base_model",
    "model_id",
    "gpu",
    "num_gpus",
    "dtype",
    "mean_forward_len",
    "energy_per_forward_j",
    "latency_per_forward_s",
)
_NEIGHBOURS = 9
_WARM_UP_RATIO = 2.0


def convert(raw: pd.DataFrame) -> pd.DataFrame:
    """Return one prefill row per (model, GPU, length): the medians over its passes."""
    need_columns(raw, _COLUMNS, SOURCE)
    raw = raw[steady_passes(raw)]
    stages = raw["num_gpus"].astype(int)
    emulated = raw["gpu"].str.startswith("V100") & raw["dtype"].map(precision_of).eq("bf16")
    flags = add_flag(pd.Series("", index=raw.index, dtype=object), stages > 1, "one_gpu_busy")
    rows = pd.DataFrame(
        {
            "source": SOURCE,
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "pipeline_parallel": stages,
            "engine": "hf-eager",
            "precision": raw["dtype"].map(precision_of),
            "batch_size": 1.0,
            "prompt_tokens": raw["mean_forward_len"],
            "output_tokens": 1.0,
            "prefill_energy_j": raw["energy_per_forward_j"],
            "ttft_s": raw["latency_per_forward_s"],
            "average_power_w": raw["energy_per_forward_j"] / raw["latency_per_forward_s"],
            "energy_method": "counter_window",
            "weight": np.where(emulated, weight_of_trust(1), weight_of_trust(4)),
            "flags": add_flag(flags, emulated, EMULATED_PRECISION),
            "notes": describe(raw, {"model_id": "model_id"}),
        }
    )
    return finish(rows)


def steady_passes(raw: pd.DataFrame) -> pd.Series:
    """Return which passes are within a factor of two of the median time of their neighbours in length."""
    ordered = raw.sort_values("mean_forward_len", kind="stable")
    groups = ordered.groupby(["base_model", "gpu"])["latency_per_forward_s"]
    local = groups.transform(lambda times: times.rolling(_NEIGHBOURS, center=True, min_periods=1).median())
    ratio = (ordered["latency_per_forward_s"] / local).reindex(raw.index)
    return ratio.between(1 / _WARM_UP_RATIO, _WARM_UP_RATIO)
