"""The paper's two networks as a LightningModule of their own: energies in, log energies out.

Source: LLMCO2, arXiv 2410.02950; what differs from the publication is listed in
:mod:`benchmarks.accuracy.paper_network`. Training rows may be acquired while it trains (Algorithm 1): the order of
rows is told the error of every training row whenever it is due.
"""

from __future__ import annotations

from typing import Any, Final

import lightning.pytorch as pl
import torch
from torch import Tensor

from benchmarks.accuracy.paper_network import PaperInputs, PaperNetwork, paper_inputs
from llmco2.data.module import EnergyDataModule
from llmco2.data.tensors import LABELS, N_LABELS, RunBatch
from llmco2.errors import InputError, explain
from llmco2.training.loss import log_errors, robust_loss
from llmco2.training.metrics import known_log_errors, row_energy_errors

_FIRST_RATE: Final = 0.04  # of the peak rate
_LAST_RATE: Final = 1e-3  # of the peak rate


class PaperModule(pl.LightningModule):
    """Fits :class:`PaperNetwork` to the phase and total energies that measured runs know.

    Args:
        hidden_dim: width of every layer.
        dropout: share of activations dropped while training.
        learning_rate: peak rate of AdamW's one cycle.
        warmup_share: share of the steps in which the rate rises.
    """

    def __init__(self, *, hidden_dim: int = 32, dropout: float = 0.05, learning_rate: float = 0.01,
                 warmup_share: float = 0.1) -> None:  # fmt: skip
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.warmup_share = warmup_share
        self.network = PaperNetwork(hidden_dim=hidden_dim, dropout=dropout)
        self.inputs: PaperInputs | None = None  # of the deployments in hand; weights do not depend on them

    @property
    def data(self) -> EnergyDataModule:
        """The data module of the present trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, EnergyDataModule):
            raise InputError(explain("the module trains from an EnergyDataModule", got=type(data).__name__))
        return data

    def setup(self, stage: str) -> None:  # noqa: ARG002 - every stage reads the same deployments
        """Read the deployments of the data."""
        self.read_deployments(self.data)

    def read_deployments(self, data: EnergyDataModule) -> None:
        """Make the graphs and features of the deployments in ``data`` ready; call it before any prediction."""
        self.inputs = paper_inputs(data.tensors.deployments)

    def forward(self, batch: RunBatch) -> Tensor:
        """Return predicted energies ``(n_rows, N_LABELS)`` in J; NaN for times."""
        energies = self._energies(batch)
        unknown = torch.full_like(energies["energy_j"], torch.nan)
        return torch.stack([energies.get(name, unknown) for name in LABELS], dim=1)

    def training_step(self, batch: RunBatch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the weighted robust error of log energies, a scalar."""
        energies = self._energies(batch)
        columns = [LABELS.index(name) for name in energies]
        predicted = torch.ones(len(batch.index), N_LABELS)
        predicted = predicted.index_copy(1, torch.tensor(columns), torch.stack([*energies.values()], 1))
        labels = torch.full_like(batch.labels, torch.nan)
        labels[:, columns] = batch.labels[:, columns]
        loss = robust_loss(log_errors(predicted, labels), labels, batch.weight)
        self.log("train/loss", loss, batch_size=len(batch.index))
        return loss

    def on_train_epoch_end(self) -> None:
        """Report the error of every training row to the order of rows, where it asks for them and is due."""
        data = self.data
        due = (self.current_epoch + 1) % data.sampler_options.refresh_every_n_epochs == 0
        if data.order.needs_errors and due:
            data.order.observe(self.training_errors(data).double().numpy())

    @torch.no_grad()
    def training_errors(self, data: EnergyDataModule) -> Tensor:
        """Return the log energy error of every training row, NaN where it knows no energy; ``(n_rows,)``."""
        self.eval()
        step = data.batch_size or len(data.sides.train)
        errors = []
        for first in range(0, len(data.sides.train), step):
            batch = data.take(data.sides.train[first : first + step])
            errors.append(row_energy_errors(known_log_errors(self(batch), batch.labels)))
        self.train()
        return torch.cat(errors)

    def configure_optimizers(self) -> Any:
        """Return AdamW without decay, under one cycle of the rate."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=self.warmup_share,
            div_factor=1.0 / _FIRST_RATE,
            final_div_factor=_FIRST_RATE / _LAST_RATE,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _energies(self, batch: RunBatch) -> dict[str, Tensor]:
        if self.inputs is None:
            raise InputError(
                explain("the paper's networks have no deployments to read", remedy="call read_deployments")
            )
        prefill, decode = self.network(self.inputs, batch.bases, batch.deployment)
        # A phase without steps (one output token: no decode) draws nothing.
        some = (batch.bases[1].steps > 0).float()
        energies = {"prefill_energy_j": prefill.exp(), "decode_energy_j": decode.exp() * some}
        return {**energies, "energy_j": energies["prefill_energy_j"] + energies["decode_energy_j"]}
