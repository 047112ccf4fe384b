"""The servers of 2025 and 2026 keep to their rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.public_runs import import_source
from benchmarks.public_runs.sanity import flag_time, least_decode_s
from benchmarks.public_runs.serving import engine_of
from llmco2.data.schema import canonical_frame
from llmco2.records.run import MeasuredRun

LOOP: dict[str, Any] = {
    "file": "inferencex_r1",
    "base_model": "deepseek-ai/DeepSeek-V3",
    "model_id": "deepseek-ai/DeepSeek-R1-0528",
    "gpu": "H200-SXM-141GB",
    "tensor_parallel": 8,
    "expert_parallel": 8.0,
    "engine_id": "sglang",
    "engine": "sglang nightly",
    "dtype": "fp8",
    "batch_size": 4,
    "prompt_tokens": 1000.0,
    "output_tokens": 900.0,
    "phase": "steady",
    "energy_j": 5000.0,
    "avg_power_w": 2500.0,
    "latency_s": 12.0,
    "tpot_s": 0.013,
    "median_itl_s": 0.13,
    "ttft_s": 0.3,
    "serving": "continuous",
    "speculative": "none",
    "judge": "yes",
    "trust": 4,
}
RATE: dict[str, Any] = {
    **LOOP,
    "file": "llmservingsim",
    "base_model": "meta-llama/Llama-3.1-8B",
    "gpu": "RTX-4090",
    "tensor_parallel": 1,
    "expert_parallel": None,
    "engine_id": "vllm-0.11",
    "engine": "vllm 0.19.0",
    "dtype": "bf16",
    "phase": "decode",
    "serving": "static",
    "latency_s": 0.02,
    "tpot_s": 0.02,
    "output_tokens": 16.0,
}


def imported(folder: Path, *rows: dict[str, Any]) -> pd.DataFrame:
    pd.DataFrame(list(rows)).to_csv(folder / "serving_2026.csv.gz", index=False)
    return import_source("serving_2026", folder)


def test_a_closed_loop_keeps_mean_times_and_never_the_median_between_packets(tmp_path: Path) -> None:
    row = imported(tmp_path, LOOP).iloc[0]
    assert (row["engine"], row["serving"], row["expert_parallel"]) == ("sglang", "continuous", 8)
    assert (row["latency_s"], row["tpot_s"], row["ttft_s"]) == (12.0, 0.013, 0.3)
    assert (row["energy_j"], row["average_power_w"]) == (5000.0, 2500.0)
    assert row["weight"] == pytest.approx(0.8)


def test_time_to_first_token_ends_where_prompts_queue(tmp_path: Path) -> None:
    runs = imported(tmp_path, LOOP, {**LOOP, "batch_size": 8}).set_index("batch_size")
    assert runs.loc[4.0, "ttft_s"] == 0.3
    assert pd.isna(runs.loc[8.0, "ttft_s"])


def test_a_decode_rate_is_one_step_at_its_context(tmp_path: Path) -> None:
    row = imported(tmp_path, RATE).iloc[0]
    assert (row["engine"], row["serving"], row["expert_parallel"]) == ("vllm", "static", 1)
    assert (row["prompt_tokens"], row["output_tokens"], row["tpot_s"]) == (1000.0, 2.0, 0.02)
    assert pd.isna(row["latency_s"])
    assert pd.isna(row["energy_j"])


def test_speculative_rows_are_left_out_and_other_stacks_are_trusted_least(tmp_path: Path) -> None:
    apart = {**LOOP, "engine_id": "atom", "engine": "atom", "judge": "no"}
    runs = imported(tmp_path, {**LOOP, "speculative": "mtp"}, apart)
    assert runs[["engine", "flags"]].to_numpy().tolist() == [["atom", "stack_apart"]]
    assert runs["weight"].iloc[0] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("engine_id", "described", "name"),
    [
        ("vllm-0.11", "vllm 0.19.0", "vllm"),
        ("vllm", "vllm 0.11.2", "vllm-0.11"),
        ("sglang", "sglang nightly 2026-08", "sglang"),
        ("tensorrt-llm", "trt", "tensorrt-llm"),
    ],
)
def test_a_version_names_the_generation(engine_id: str, described: str, name: str) -> None:
    assert engine_of(engine_id, described) == name


def test_a_time_below_that_of_reading_the_weights_is_flagged() -> None:
    # 8.03e9 weights of 2 bytes over 3.35e12 B/s: 4.79 ms a step, 0.479 s for 100 of them.
    common = {"run_id": "a", "source": "s", "model": "meta-llama/Llama-3.1-8B", "gpu": "H100-SXM5-80GB",
              "precision": "bf16", "output_tokens": 101.0}  # fmt: skip
    rows = [
        {**common, "latency_s": 0.6},
        {**common, "latency_s": 0.4},
        {**common, "latency_s": 0.4, "tensor_parallel": 2},
        {**common, "latency_s": 0.4, "engine": "vllm-speculative"},
        {**common, "output_tokens": 1.0, "latency_s": 0.001},
    ]
    runs = flag_time(canonical_frame(pd.DataFrame(rows), MeasuredRun))
    assert least_decode_s(runs).iloc[0] == pytest.approx(0.479, rel=0.01)
    assert runs["flags"].tolist() == ["", "impossible_time", "", "", ""]
