"""Zanatticus/EnergyLLM (MIT): prefill and decode energy of one model on a Jetson Orin over its clock
settings.

Rules: power is that of the whole board, so every row is flagged ``edge_board`` and left out of training
unless asked for; only the highest clock of both phases is kept, because the records have no place for a clock
curve. A prefill is shorter than the power sampling period, so its energy is a poor one (trust 2).
"""

from __future__ import annotations

import pandas as pd

from benchmarks.public_runs.rows import EDGE_BOARD, finish, need_columns, precision_of, weight_of_trust

SOURCE = "jetson_grpo"
_COLUMNS = (
    "model_id",
    "gpu",
    "dtype",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "phase",
    "energy_j",
    "avg_power_w",
    "latency_s",
    "prefill_freq_bin",
    "decode_freq_bin",
    "src_row",
)


def convert(raw: pd.DataFrame) -> pd.DataFrame:
    """Return one row per configuration at full clock with both phases."""
    need_columns(raw, _COLUMNS, SOURCE)
    fastest = (raw["prefill_freq_bin"] == raw["prefill_freq_bin"].max()) & (
        raw["decode_freq_bin"] == raw["decode_freq_bin"].max()
    )
    raw = raw[fastest]
    prefill = raw[raw["phase"] == "prefill"].set_index("src_row")
    decode = raw[raw["phase"] == "decode"].set_index("src_row").reindex(prefill.index)
    rows = pd.DataFrame(
        {
            "source": SOURCE,
            "model": prefill["model_id"],
            "gpu": prefill["gpu"],
            "engine": "hf-eager",
            "precision": prefill["dtype"].map(precision_of),
            "batch_size": prefill["batch_size"].astype(float),
            "prompt_tokens": prefill["prompt_tokens"],
            "output_tokens": decode["output_tokens"],
            "prefill_energy_j": prefill["energy_j"],
            "decode_energy_j": decode["energy_j"],
            "ttft_s": prefill["latency_s"],
            "tpot_s": decode["latency_s"] / decode["output_tokens"],
            "average_power_w": decode["avg_power_w"],
            "energy_method": "integrated_power",
            "energy_includes": "board",
            "weight": weight_of_trust(2),
            "flags": EDGE_BOARD,
        }
    )
    return finish(rows[decode["energy_j"].notna()])
