"""Small hand-made samples in the shape of the public files: every number below is invented for the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.public_runs import import_source

RAW_COLUMNS = (
    "file",
    "model_id",
    "base_model",
    "gpu",
    "num_gpus",
    "tensor_parallel",
    "engine_id",
    "engine",
    "dtype",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "phase",
    "energy_j",
    "avg_power_w",
    "latency_s",
    "notes",
    "task",
    "n_runs",
    "j_per_tok_std",
    "excluded_by_author",
    "tier",
    "unpadded_prompt_tokens",
    "mean_forward_len",
    "energy_per_forward_j",
    "latency_per_forward_s",
    "avg_power_tailcorr_w",
    "power_cap",
    "src_row",
    "energy_per_output_token_j",
    "output_throughput_tok_s",
    "median_itl_s",
    "max_num_seqs",
    "expert_parallel",
    "data_parallel",
    "tpot_s",
    "ttft_s",
    "pipeline_parallel",
    "run",
    "n_batches",
    "window_over_inference",
    "cpu_energy_j",
    "ram_energy_j",
)
COMMON: dict[str, Any] = {
    "num_gpus": 1,
    "tensor_parallel": 1,
    "batch_size": 1.0,
    "dtype": "fp16",
    "gpu": "A100-SXM4-40GB",
    "model_id": "meta-llama/Llama-2-7b-hf",
    "base_model": "meta-llama/Llama-2-7b-hf",
}
JOULE: dict[str, Any] = {
    "gpu": "A100-PCIe-80GB",
    "engine": "hf-transformers eager (transformers 4.57.6, torch 2.5.1+cu121)",
    "tier": "raw",
    "dtype": "float16",
    "batch_size": 4.0,
    "prompt_tokens": 256.0,
    "unpadded_prompt_tokens": 77.0,
    "output_tokens": 128.0,
    "energy_j": 1000.0,
    "avg_power_w": 250.0,
    "latency_s": 4.0,
}
STEADY: dict[str, Any] = {
    "gpu": "H100-SXM5-80GB",
    "dtype": "bfloat16",
    "batch_size": 64.0,
    "output_tokens": 500.0,
    "phase": "steady",
    "avg_power_w": 600.0,
    "energy_per_output_token_j": 0.2,
    "output_throughput_tok_s": 3000.0,
    "median_itl_s": 64 / 3000,
    "expert_parallel": 1.0,
    "data_parallel": 1.0,
    "task": "lm-arena-chat",
    "energy_j": 6400.0,
}
Importer = Callable[..., pd.DataFrame]


@pytest.fixture
def write_raw(tmp_path: Path) -> Callable[[str, list[dict[str, Any]]], Path]:
    """Write rows of one source as ``runs.csv.gz`` and return the folder."""

    def write(source: str, rows: list[dict[str, Any]]) -> Path:
        frame = pd.DataFrame([{**COMMON, **row, "file": source} for row in rows], columns=list(RAW_COLUMNS))
        frame.to_csv(tmp_path / "runs.csv.gz", index=False)
        return tmp_path

    return write


@pytest.fixture
def import_rows(write_raw: Callable[[str, list[dict[str, Any]]], Path]) -> Importer:
    """Import hand-made raw rows of one source."""

    def run(source: str, *rows: dict[str, Any]) -> pd.DataFrame:
        return import_source(source, write_raw(source, list(rows)))

    return run
