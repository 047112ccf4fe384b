"""Predicted kernel times beside measured ones, as tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from llmco2.data.kernel_module import KernelDataModule
from llmco2.training.log_folder import log_folder

_LOG = logging.getLogger(__name__)


class WritePredictions(BasePredictionWriter):
    """Writes ``predictions/KIND.parquet`` into the log folder after ``predict``; a process writes the rows it had."""

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],  # noqa: ARG002
    ) -> None:
        """Write the tables."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.fast_dev_run or not isinstance(data, KernelDataModule):  # type: ignore[attr-defined]
            return
        folder: Path = log_folder(trainer) / "predictions"
        folder.mkdir(parents=True, exist_ok=True)
        rank = f".{trainer.global_rank}" if trainer.world_size > 1 else ""
        for kind, table in prediction_tables(data, _flat(predictions)).items():
            table.to_parquet(folder / f"{kind}{rank}.parquet", index=False)
        _LOG.info("wrote %s", folder)


def prediction_tables(
    data: KernelDataModule, batches: Sequence[Mapping[str, tuple[Tensor, Tensor]]]
) -> dict[str, pd.DataFrame]:
    """Return, by kind, the kernels of ``batches`` as they were read, with ``predicted_latency_s`` added."""
    tables = {}
    for kind in dict.fromkeys(kind for batch in batches for kind in batch):
        row = torch.cat([batch[kind][0] for batch in batches if kind in batch]).numpy()
        log_ratio = torch.cat([batch[kind][1] for batch in batches if kind in batch]).double().numpy()
        latency_s = np.exp(log_ratio) * data.rows["all"][kind].bound_s[row]
        tables[kind] = data.frames[kind].iloc[row].assign(predicted_latency_s=latency_s)
    return tables


def _flat(predictions: Sequence[Any]) -> list[Any]:
    """Return the batches of one loader or of several as one list."""
    return [x for item in predictions for x in (item if isinstance(item, list) else [item])]
