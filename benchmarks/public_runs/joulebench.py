"""JouleBench (danielcregg/llm-energy-framework, MIT): Hugging Face eager on one A100 PCIe 80 GB, static
batches.

Rules: prompts of the ``raw`` tier were padded to ``prompt_tokens``, so that is the length that was computed;
energies are gross (idle included); rows that the author excluded keep a weight of 0.4. The ``raw`` and
``report`` tiers ran different versions of torch and transformers (1.25× apart), so ``engine_version`` keeps
them distinct.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.public_runs.rows import describe, finish, need_columns, precision_of, weight_of_trust

SOURCE = "joulebench"
_COLUMNS = (
    "base_model",
    "model_id",
    "gpu",
    "dtype",
    "engine",
    "tier",
    "excluded_by_author",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "energy_j",
    "avg_power_w",
    "latency_s",
    "n_runs",
    "j_per_tok_std",
    "task",
)
_TRUST = {"raw": 5, "report": 4}
_EXCLUDED_TRUST = 2


def convert(raw: pd.DataFrame) -> pd.DataFrame:
    """Return measured runs of the raw rows; whole-request energy and latency of the batch."""
    need_columns(raw, _COLUMNS, SOURCE)
    precision = raw["dtype"].map(precision_of)
    gptq = raw["dtype"].str.casefold().eq("gptq")
    quantised = precision.isin(["int8", "int4"])
    excluded = raw["excluded_by_author"].astype(str).str.casefold().isin(["true", "1", "1.0"])
    tokens = raw["output_tokens"] * raw["batch_size"]
    rows = pd.DataFrame(
        {
            "source": SOURCE,
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "engine": np.select([gptq, quantised], ["hf-gptq", "hf-bitsandbytes"], "hf-eager"),
            "engine_version": raw["engine"].str.extract(r"transformers ([\d.]+)", expand=False)
            + "/torch-"
            + raw["engine"].str.extract(r"torch ([\d.]+)", expand=False),
            "precision": precision,
            "batch_size": raw["batch_size"],
            "prompt_tokens": raw["prompt_tokens"],
            "output_tokens": raw["output_tokens"],
            "energy_j": raw["energy_j"],
            "energy_std_j": raw["j_per_tok_std"] * tokens,
            "latency_s": raw["latency_s"],
            "average_power_w": raw["avg_power_w"],
            "repeats": raw["n_runs"].fillna(1).astype(int),
            "energy_method": "integrated_power",
            "weight": np.where(
                excluded,
                weight_of_trust(_EXCLUDED_TRUST),
                raw["tier"].map(_TRUST).map(weight_of_trust).astype(float),
            ),
            "flags": np.where(excluded, "excluded_by_author", ""),
            "notes": describe(raw, {"model_id": "model_id", "tier": "tier"}),
        }
    )
    return finish(rows[raw["base_model"].notna()])
