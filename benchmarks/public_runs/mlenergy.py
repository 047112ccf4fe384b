"""The ML.ENERGY leaderboard, three generations (Apache-2.0): steady-state serving measured with Zeus.

Rules:

- v3 (vLLM 0.11, H100 and B200): energy per output token at a steady batch; the prompt length is unknown and
  the task is in ``notes``. Its tables write ``tensor_parallel = 1`` for MoE models with expert parallelism
  because the server's config file leaves it out; with one data-parallel rank vLLM's expert parallelism spans
  the tensor-parallel group, so N GPUs mean ``tensor_parallel = expert_parallel = N``. Rows with data
  parallelism over 1 are dropped.
- The published throughput covers the whole run, ramps included, and power was computed from it: power is kept
  only where batch / (ITL × throughput) is within 15 % of one, and a row beyond 1.5 is flagged ``unsteady``.
- v2 (vLLM 0.4–0.5): a host-bound stack, hence its own engine name.
- legacy: Hugging Face eager, one request at a time, mean over a prompt set.
- Image and video chats are flagged ``vision_language``.

``batch_size`` is the mean number of running requests of the whole deployment, which is one replica.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.public_runs.rows import (
    VISION_LANGUAGE,
    add_flag,
    describe,
    finish,
    need_columns,
    precision_of,
    weight_of_trust,
)

V3 = "mlenergy_v3"
V2 = "mlenergy_v2"
LEGACY = "mlenergy_legacy"
_STEADY_COLUMNS = (
    "base_model",
    "model_id",
    "gpu",
    "num_gpus",
    "tensor_parallel",
    "dtype",
    "batch_size",
    "output_tokens",
    "avg_power_w",
    "energy_per_output_token_j",
    "output_throughput_tok_s",
    "task",
)
_POWER_TOLERANCE = 0.15
_UNSTEADY = 1.5


def little_ratio(batch_size: pd.Series, tpot_s: pd.Series, throughput_per_s: pd.Series) -> pd.Series:
    """Return batch / (time per token × throughput): 1 in a steady state that only decodes (Little's law)."""
    return batch_size / tpot_s / throughput_per_s


def _steady(raw: pd.DataFrame, source: str, tpot_s: pd.Series, trust: int) -> pd.DataFrame:
    ratio = little_ratio(raw["batch_size"], tpot_s, raw["output_throughput_tok_s"])
    unsteady = ratio > _UNSTEADY
    steady_power = (ratio - 1.0).abs() <= _POWER_TOLERANCE
    flags = add_flag(pd.Series("", index=raw.index, dtype=object), unsteady, "unsteady")
    vision = raw["task"].str.contains("image|video|mllm", case=False, regex=True)
    return pd.DataFrame(
        {
            "source": source,
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "precision": raw["dtype"].map(precision_of),
            "batch_size": raw["batch_size"],
            "output_tokens": raw["output_tokens"],
            "serving": "continuous",
            "energy_per_output_token_j": raw["energy_per_output_token_j"],
            "tpot_s": tpot_s,
            "average_power_w": raw["avg_power_w"].where(steady_power),
            "energy_method": "counter_window",
            "weight": np.where(unsteady, 0.5, 1.0) * weight_of_trust(trust),
            "flags": add_flag(flags, vision, VISION_LANGUAGE),
            "notes": describe(raw, {"model_id": "model_id", "task": "task"}),
        }
    )


def convert_v3(raw: pd.DataFrame) -> pd.DataFrame:
    """Return steady rows of the 2025 leaderboard; ``tpot_s`` is the median inter-token latency."""
    need_columns(raw, (*_STEADY_COLUMNS, "median_itl_s", "expert_parallel", "data_parallel"), V3)
    raw = raw[raw["data_parallel"].fillna(1) <= 1]
    experts = raw["expert_parallel"].fillna(1).clip(lower=1).astype(int)
    rows = _steady(raw, V3, raw["median_itl_s"], trust=5).assign(
        engine="vllm-0.11",
        tensor_parallel=np.where(experts > 1, raw["num_gpus"], raw["tensor_parallel"]).astype(int),
        expert_parallel=experts,
    )
    return finish(rows)


def convert_v2(raw: pd.DataFrame) -> pd.DataFrame:
    """Return steady rows of the 2024 leaderboard."""
    need_columns(raw, (*_STEADY_COLUMNS, "tpot_s", "pipeline_parallel"), V2)
    rows = _steady(raw, V2, raw["tpot_s"], trust=4).assign(
        engine="vllm-0.5",
        tensor_parallel=raw["tensor_parallel"].astype(int),
        pipeline_parallel=raw["pipeline_parallel"].fillna(1).astype(int),
    )
    return finish(rows)


def convert_legacy(raw: pd.DataFrame) -> pd.DataFrame:
    """Return whole-request rows of the 2023 leaderboard; models without a decoder-only base are left out."""
    need_columns(
        raw,
        ("base_model", "model_id", "gpu", "dtype", "output_tokens", "energy_j", "latency_s", "task"),
        LEGACY,
    )
    raw = raw[raw["base_model"].notna()]
    rows = pd.DataFrame(
        {
            "source": LEGACY,
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "engine": "hf-eager",
            "precision": raw["dtype"].map(precision_of),
            "output_tokens": raw["output_tokens"],
            "energy_j": raw["energy_j"],
            "latency_s": raw["latency_s"],
            "average_power_w": raw["energy_j"] / raw["latency_s"],
            "energy_method": "counter_window",
            "weight": weight_of_trust(4),
            "notes": describe(raw, {"model_id": "model_id", "task": "task"}),
        }
    )
    return finish(rows)
