"""Splitwise (Mutinifni/splitwise-sim, MIT): Llama-2-70B on DGX A100 and H100, latency per phase.

Rules: the three rows of a measurement (prefill, decode, total) become one. Energies exist on the A100 only
and are dropped at prompts of 4096 tokens and more, where the published power is the idle of a finished
request. The batch of 64 × 512 tokens at tensor parallel 2 is dropped whole: its prefill takes a tenth of the
time of half that batch. Runs of 1024 output tokens and more are dropped: their time per token falls to a
fourteenth of that at 512, so the model ended its answer before. H100 rows capped to 50 % carry
``power_limit_w = 350``. Trust: latency 4, energy 3.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.public_runs.rows import finish, need_columns, precision_of, weight_of_trust

SOURCE = "splitwise"
_COLUMNS = (
    "base_model",
    "gpu",
    "num_gpus",
    "tensor_parallel",
    "dtype",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "phase",
    "energy_j",
    "avg_power_w",
    "latency_s",
    "power_cap",
    "src_row",
)
_ENERGY_PROMPT_LIMIT = 4096
_H100_HALF_TDP_W = 350.0
_ENDED_EARLY_OUTPUT = 1024


def convert(raw: pd.DataFrame) -> pd.DataFrame:
    """Return one row per configuration: latencies per phase and, where sound, total energy."""
    need_columns(raw, _COLUMNS, SOURCE)
    total = raw[raw["phase"] == "total"].set_index("src_row")
    prefill = raw[raw["phase"] == "prefill"].set_index("src_row")["latency_s"].reindex(total.index)
    decode = raw[raw["phase"] == "decode"].set_index("src_row")
    steps = decode["output_tokens"].reindex(total.index)
    unsound = (total["tensor_parallel"] == 2) & (total["batch_size"] >= 64) & (total["prompt_tokens"] >= 512)
    energy = total["energy_j"].where(total["prompt_tokens"] < _ENERGY_PROMPT_LIMIT)
    rows = pd.DataFrame(
        {
            "source": SOURCE,
            "model": total["base_model"],
            "gpu": total["gpu"],
            "tensor_parallel": total["tensor_parallel"].astype(int),
            "engine": "splitwise-server",
            "precision": total["dtype"].map(precision_of),
            "batch_size": total["batch_size"],
            "prompt_tokens": total["prompt_tokens"],
            "output_tokens": total["output_tokens"],
            "ttft_s": prefill,
            "tpot_s": decode["latency_s"].reindex(total.index) / steps,
            "latency_s": total["latency_s"],
            "energy_j": energy,
            "average_power_w": total["avg_power_w"].where(energy.notna()),
            "power_limit_w": np.where(total["power_cap"].notna(), _H100_HALF_TDP_W, np.nan),
            "energy_method": np.where(energy.notna(), "integrated_power", "unknown"),
            "weight": np.where(energy.notna(), weight_of_trust(3), weight_of_trust(4)),
        }
    )
    ended = total["output_tokens"] >= _ENDED_EARLY_OUTPUT
    return finish(rows[~unsound & ~ended])
