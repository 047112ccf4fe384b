"""A search falls into every hole of a surface, so there is none: more requests or tokens never take less."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import llmco2

BATCHES = tuple(np.unique(np.geomspace(1, 256, 40).round()))
CONTEXTS = tuple(np.unique(np.geomspace(64, 16_384, 14).round()))
ROUNDING = 1e-9


@pytest.mark.parametrize(
    ("model", "gpu", "tensor_parallel", "precision"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "H100", 1, "bf16"),
        ("meta-llama/Llama-3.3-70B-Instruct", "B200", 4, "fp8"),
        ("Qwen/Qwen3-30B-A3B", "A100-SXM4-80GB", 2, "bf16"),
    ],
)
def test_latency_and_energy_rise_with_running_requests_and_with_context(
    model: str, gpu: str, tensor_parallel: int, precision: str
) -> None:
    table = pd.DataFrame(
        list(itertools.product(BATCHES, CONTEXTS)), columns=["batch_size", "prompt_tokens"]
    ).assign(
        model=model, gpu=gpu, tensor_parallel=tensor_parallel, precision=precision, engine="vllm",
        output_tokens=256, serving="continuous",
    )  # fmt: skip
    answers = llmco2.predict_frame(table)
    for column in ("latency_s", "tpot_s", "ttft_s", "energy_j"):
        surface = answers[column].to_numpy(float).reshape(len(BATCHES), len(CONTEXTS))
        assert np.isfinite(surface[:8]).all()
        for axis in (0, 1):
            steps = np.diff(np.log(surface), axis=axis)
            fell = steps < -ROUNDING  # NaN, where the memory has no room, is no fall
            assert not fell.any(), (column, axis, np.argwhere(fell)[:5].tolist(), np.nanmin(steps))
