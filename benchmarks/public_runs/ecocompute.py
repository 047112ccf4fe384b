"""hongping-zh/ecocompute-dynamic-eval (MIT): bitsandbytes on an A800 (raw rows) and an RTX 4090D (a summary
table).

Rules: raw rows are whole requests (trust 3); the summary gives decode only, computed from power and
throughput, and its prompt length is unknown (trust 2). A quantised run can use more energy than its 16-bit
twin: that is real.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.public_runs.rows import describe, finish, need_columns, precision_of, weight_of_trust

SOURCE = "ecocompute"
_COLUMNS = (
    "base_model",
    "model_id",
    "gpu",
    "engine_id",
    "dtype",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "phase",
    "energy_j",
    "avg_power_w",
    "latency_s",
    "tier",
)


def convert(raw: pd.DataFrame) -> pd.DataFrame:
    """Return measured runs; a summary row knows its decode phase only."""
    need_columns(raw, _COLUMNS, SOURCE)
    decode = raw["phase"] == "decode"
    precision = raw["dtype"].str.replace(r"\s*\(.*\)", "", regex=True).map(precision_of)
    rows = pd.DataFrame(
        {
            "source": SOURCE,
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "engine": raw["engine_id"],
            "engine_version": raw["dtype"].str.extract(r"\((pure|std|bnb)\)", expand=False),
            "precision": precision,
            "batch_size": raw["batch_size"],
            "prompt_tokens": raw["prompt_tokens"],
            "output_tokens": raw["output_tokens"],
            "energy_j": raw["energy_j"].where(~decode),
            "latency_s": raw["latency_s"].where(~decode),
            "decode_energy_j": raw["energy_j"].where(decode),
            "tpot_s": (raw["latency_s"] / raw["output_tokens"]).where(decode),
            "average_power_w": raw["avg_power_w"],
            "energy_method": np.where(decode, "published", "integrated_power"),
            "weight": np.where(raw["tier"] == "raw", weight_of_trust(3), weight_of_trust(2)),
            "flags": np.where(decode, "summary_table", ""),
            "notes": describe(raw, {"model_id": "model_id"}),
        }
    )
    return finish(rows)
