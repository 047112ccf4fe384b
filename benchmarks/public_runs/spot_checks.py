"""Two small sources: chuyishang/inference-energy (vLLM, A100) and JulienDelavande/benchlab (HF fp32, H100).

Rules: chuyishang is a steady state of 8 clients, prompt length unknown; its published 20/80 phase split is a
guess and is not read. benchlab has prefill and decode apart, on long conversations of unknown length (trust
2).
"""

from __future__ import annotations

import pandas as pd

from benchmarks.public_runs.rows import describe, finish, need_columns, weight_of_trust

CHUYISHANG = "chuyishang"
BENCHLAB = "benchlab"


def convert_chuyishang(raw: pd.DataFrame) -> pd.DataFrame:
    """Return steady rows: energy per output token at the measured mean concurrency (vLLM 0.12)."""
    need_columns(
        raw,
        (
            "base_model",
            "model_id",
            "gpu",
            "batch_size",
            "output_tokens",
            "avg_power_w",
            "energy_per_output_token_j",
        ),
        CHUYISHANG,
    )
    rows = pd.DataFrame(
        {
            "source": CHUYISHANG,
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "engine": "vllm-0.11",
            "precision": raw["model_id"].map(lambda name: "mxfp4" if "gpt-oss" in str(name) else "bf16"),
            "batch_size": raw["batch_size"],
            "output_tokens": raw["output_tokens"],
            "serving": "continuous",
            "energy_per_output_token_j": raw["energy_per_output_token_j"],
            "average_power_w": raw["avg_power_w"],
            "energy_method": "integrated_power",
            "weight": weight_of_trust(4),
            "notes": describe(raw, {"model_id": "model_id"}),
        }
    )
    return finish(rows)


def convert_benchlab(raw: pd.DataFrame) -> pd.DataFrame:
    """Return one row with both phases of each model."""
    need_columns(raw, ("base_model", "model_id", "gpu", "phase", "energy_j", "output_tokens"), BENCHLAB)
    prefill, decode = raw[raw["phase"] == "prefill"], raw[raw["phase"] == "decode"]
    both = prefill.merge(decode, on=["base_model", "model_id", "gpu"], suffixes=("_prefill", "_decode"))
    rows = pd.DataFrame(
        {
            "source": BENCHLAB,
            "model": both["base_model"],
            "gpu": both["gpu"],
            "engine": "hf-eager",
            "precision": "fp32",
            "output_tokens": both["output_tokens_prefill"] + both["output_tokens_decode"],
            "prefill_energy_j": both["energy_j_prefill"],
            "decode_energy_j": both["energy_j_decode"],
            "energy_method": "published",
            "weight": weight_of_trust(2),
            "notes": describe(both, {"model_id": "model_id"}),
        }
    )
    return finish(rows)
