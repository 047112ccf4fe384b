"""A few runs with made-up labels, and the workload made of them."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from benchmarks.accuracy.workload import Workload, measured_workload
from llmco2.data.schema import canonical_frame
from llmco2.records.run import MeasuredRun

LLAMA = "meta-llama/Llama-3.1-8B"
STATIC: dict[str, Any] = {
    "source": "made_up",
    "model": LLAMA,
    "gpu": "H100-SXM5-80GB",
    "engine": "vllm",
    "precision": "bf16",
    "batch_size": 8.0,
    "prompt_tokens": 512.0,
    "output_tokens": 128.0,
    "energy_j": 500.0,
    "latency_s": 1.5,
    "average_power_w": 333.0,
}
STEADY: dict[str, Any] = {
    **STATIC,
    "source": "mlenergy_v3",
    "engine": "vllm-0.11",
    "serving": "continuous",
    "prompt_tokens": None,
    "energy_j": None,
    "latency_s": None,
    "energy_per_output_token_j": 0.4,
    "tpot_s": 0.01,
    "notes": "model_id=x; task=sourcegraph-fim",
}


def run_table(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return a canonical table of runs with made-up ids."""
    return canonical_frame(
        pd.DataFrame([{"run_id": f"r{i}", **row} for i, row in enumerate(rows)]), MeasuredRun
    )


@pytest.fixture(scope="package")
def workload() -> Workload:
    """Runs of two boards and two models: static, steady, a mix of shapes, a prefill alone, a decode step."""
    mix = {
        **STATIC,
        "shape_mix": json.dumps([[8, 100, 50], [4, 300, 20]]),
        "weight": 0.2,
        "gpu": "A100-SXM4-80GB",
    }
    prefill = {**STATIC, "energy_j": None, "latency_s": None, "output_tokens": 1.0, "prefill_energy_j": 60.0,
               "ttft_s": 0.1, "average_power_w": 600.0, "model": "mistralai/Mistral-7B-v0.1"}  # fmt: skip
    step = {**STATIC, "energy_j": None, "latency_s": None, "average_power_w": None, "output_tokens": 2.0,
            "tpot_s": 0.008}  # fmt: skip
    return measured_workload(run_table(STATIC, STEADY, mix, prefill, step))
