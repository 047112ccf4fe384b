"""Tells the data module where the network is wrong, once an epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from llmco2.data.kernel_module import KernelDataModule
from llmco2.data.kernel_rows import KernelBatch


class FocusOnErrors(pl.Callback):
    """Hands the absolute log errors of an epoch's rows to the samplers, which draw more where they are large."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: defaultdict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Mapping[str, KernelBatch],
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Keep the errors of a batch."""
        for kind, error in outputs["log_errors"].items():
            self._seen[kind].append((batch[kind].row, error))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Update the samplers alike in every process."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        for kind, parts in self._seen.items() if isinstance(data, KernelDataModule) else ():
            row = torch.cat([row for row, _ in parts]).cpu().numpy()
            error = torch.cat([error for _, error in parts]).abs().double().cpu().numpy()
            totals = torch.from_numpy(data.samplers[kind].totals(row, error)).to(pl_module.device)
            data.samplers[kind].update(trainer.strategy.reduce(totals, reduce_op="sum").cpu().numpy())
        self._seen.clear()
