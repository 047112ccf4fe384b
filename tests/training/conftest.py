"""Small tables of runs over real models and GPUs, and trainers that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch

from llmco2.data.schema import canonical_frame
from llmco2.data.simulate import simulate_runs
from llmco2.data.tables import write_runs
from llmco2.records.run import MeasuredRun

torch.set_num_threads(1)


@pytest.fixture
def run_frame() -> Callable[..., pd.DataFrame]:
    """Return a maker of canonical run tables: keyword columns, or rows of the simulated rule."""

    def make(n_rows: int = 0, **columns: Any) -> pd.DataFrame:
        if n_rows:
            return simulate_runs(n_rows, seed=1)
        length = max(len(v) for v in columns.values() if isinstance(v, list))
        defaults = {
            "run_id": [f"r{i}" for i in range(length)],
            "source": "test",
            "model": "meta-llama/Llama-3.1-8B",
            "gpu": "A100-SXM4-80GB",
            "engine": "vllm",
            "prompt_tokens": 512.0,
            "output_tokens": 64.0,
        }
        return canonical_frame(pd.DataFrame({**defaults, **columns}), MeasuredRun)

    return make


@pytest.fixture
def run_file(tmp_path: Path) -> Callable[[pd.DataFrame], str]:
    """Return a writer of run tables."""

    def write(frame: pd.DataFrame, name: str = "runs.csv") -> str:
        return str(write_runs(frame, tmp_path / name))

    return write


@pytest.fixture
def quiet_trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Return a maker of trainers on the CPU without logs, bars and checkpoints, unless asked for."""

    def make(**options: Any) -> pl.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "limit_val_batches": 0,
            "log_every_n_steps": 1,
            "gradient_clip_val": 5.0,
            "default_root_dir": str(tmp_path),
        }
        return pl.Trainer(**{**defaults, **options})

    return make
