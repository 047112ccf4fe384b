"""Servers of 2025 and 2026: InferenceX (closed loops), LLMServingSim and powertrace-sim (decode rates).

Rules:

- Rows with speculative decoding (multi-token prediction) are left out: the token counts of a step differ.
- InferenceX keeps ``batch_size`` requests running (a closed loop of random lengths, whose means are the row's sizes).
  ``latency_s``, ``tpot_s`` and ``ttft_s`` are means over requests; the window holds 5 to 10 % of ramp and drain. Time
  to first token contains queueing above four running requests, and is kept up to there. The median inter-token latency
  counts packets of several tokens and is never read.
- Decode rates (phase ``decode``) are seconds of one step at a mean context. They become ``tpot_s`` of a static batch
  with that context as its prompt and two output tokens, which is one step.
- An engine is what its version says ("vllm 0.19.0" is the current generation), else the source's name of it. A stack
  that shares its name with no measured one (ATOM) is flagged ``stack_apart`` and trusted least.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.public_runs.rows import describe, finish, need_columns, precision_of, weight_of_trust
from llmco2.records.engines import resolve_engine

SOURCES: Final = ("inferencex_power", "inferencex_r1", "llmservingsim", "powertrace_decode")
STACK_APART: Final = "stack_apart"
QUEUE_FREE_BATCH: Final = 4  # running requests up to which a prompt does not wait for another
_STEP_OUTPUT_TOKENS: Final = 2.0
_APART_TRUST: Final = 2
_VERSIONED: Final = re.compile(r"[a-z\-]+ \d+\.\d+.*")
_COLUMNS: Final = (
    "file", "base_model", "model_id", "gpu", "tensor_parallel", "expert_parallel", "engine_id", "engine", "dtype",
    "batch_size", "prompt_tokens", "output_tokens", "phase", "energy_j", "avg_power_w", "latency_s", "tpot_s", "ttft_s",
    "serving", "speculative", "judge", "trust",
)  # fmt: skip


def convert(raw: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of all sources of the table ``serving_2026``."""
    need_columns(raw, _COLUMNS, "serving_2026")
    raw = raw[raw["file"].isin(SOURCES) & (raw["speculative"] == "none")]
    decode = raw["phase"] == "decode"
    apart = raw["judge"] == "no"
    trust = raw["trust"].astype(int).where(~apart, _APART_TRUST)
    rows = pd.DataFrame(
        {
            "source": raw["file"],
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "tensor_parallel": raw["tensor_parallel"].astype(int),
            "expert_parallel": raw["expert_parallel"].fillna(1).astype(int),
            "engine": [engine_of(*names) for names in zip(raw["engine_id"], raw["engine"], strict=True)],
            "precision": raw["dtype"].map(precision_of),
            "batch_size": raw["batch_size"].astype(float),
            "prompt_tokens": raw["prompt_tokens"].astype(float),
            "output_tokens": raw["output_tokens"].astype(float).where(~decode, _STEP_OUTPUT_TOKENS),
            "serving": np.where(decode, "static", raw["serving"]),
            "energy_j": raw["energy_j"].where(~decode),
            "average_power_w": raw["avg_power_w"].where(~decode),
            "latency_s": raw["latency_s"].where(~decode),
            "tpot_s": raw["tpot_s"],
            "ttft_s": raw["ttft_s"].where(~decode & (raw["batch_size"] <= QUEUE_FREE_BATCH)),
            "energy_method": np.where(raw["energy_j"].notna(), "integrated_power", "unknown"),
            "weight": trust.map(weight_of_trust),
            "flags": np.where(apart, STACK_APART, ""),
            "notes": describe(raw, {"model_id": "model_id"}),
        }
    )
    return finish(rows)


def engine_of(engine_id: str, described: str) -> str:
    """Return the engine's generation: from a version where ``described`` has one, else from the source's id."""
    text = str(described).strip().casefold()
    return resolve_engine(text if _VERSIONED.fullmatch(text) else engine_id)
