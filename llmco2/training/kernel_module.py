"""The LightningModule that trains node functions on measured kernels.

Invariant: it trains from any loader whose batches are ``kernel kind → KernelBatch``; its parameters exist once it is
made, and what standardises the features is read off the first batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor

from llmco2.data.kernel_rows import KernelBatch
from llmco2.kernel_model.features import KINDS, N_FEATURES, known_kind
from llmco2.networks.kernel_network import KernelNetwork
from llmco2.training.checkpoint_file import check_schedule, check_weights
from llmco2.training.kernel_metrics import ErrorsByKind, kernel_loss

Batch = Mapping[str, KernelBatch | None]  # None: this kind has no more rows
_SCALE_BATCHES: Final = 16
_WARMUP_STEPS: Final = 100  # where the number of steps is not known


class KernelModule(pl.LightningModule):
    """Fits one node function a kernel kind to ``log(latency / (roofline + launch))``.

    Args:
        kinds: kernel kinds, of llmco2.kernel_model.features.KINDS.
        width: neurons of each hidden layer.
        depth: hidden layers.
        family_dropout: share of training rows whose board family is hidden, so that other families are answered.
        library_dropout: the same of the kernel library.
        learning_rate: peak of AdamW's one cycle.
        weight_decay: of AdamW.
        warmup_share: share of the steps in which the rate rises.
        beta: log error at which the loss turns from square to absolute.
    """

    def __init__(  # noqa: PLR0917 - the command line names every one
        self,
        kinds: Sequence[str] = tuple(KINDS),
        width: int = 96,
        depth: int = 3,
        family_dropout: float = 0.3,
        library_dropout: float = 0.1,
        learning_rate: float = 4e-3,
        weight_decay: float = 1e-3,
        warmup_share: float = 0.1,
        beta: float = 0.05,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate, self.weight_decay, self.warmup_share = learning_rate, weight_decay, warmup_share
        self.beta = beta
        self.network = KernelNetwork(
            {known_kind(kind): N_FEATURES[kind] for kind in kinds},
            width=width,
            depth=depth,
            family_dropout=family_dropout,
            library_dropout=library_dropout,
        )
        self.errors = ErrorsByKind(kinds, beta)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``log(latency / (roofline + launch))`` of each kind's kernels, ``(n_kernels,)`` each."""
        features = {kind: rows.features for kind, rows in batch.items() if rows is not None}
        log_ratios: dict[str, Tensor] = self.network(features)
        return log_ratios

    def log_errors(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``log(predicted / measured)`` of each kind's kernels, ``(n_kernels,)`` each."""
        predicted = self(batch)
        return {kind: predicted[kind] - rows.target for kind, rows in batch.items() if rows is not None}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:  # noqa: ARG002
        """Return the ``loss``, a mean over kinds, and the ``log_errors`` of the rows, for callbacks."""
        errors = self.log_errors(batch)
        loss = torch.stack([kernel_loss(error, self.beta) for error in errors.values()]).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        return {"loss": loss, "log_errors": {kind: error.detach() for kind, error in errors.items()}}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Keep the errors of a batch."""
        self.errors.update(self.log_errors(batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Keep the errors of a batch."""
        self.errors.update(self.log_errors(batch))

    def predict_step(self, batch: Batch, *_: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Return, by kind, places in the data set and ``log(latency / (roofline + launch))``, ``(n_kernels,)`` each."""
        return {kind: (rows.row, self(batch)[kind]) for kind, rows in batch.items() if rows is not None}

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss`` and the percentage errors of each kind."""
        self.log_dict({f"val/{name}": x for name, x in self.errors.take().items()}, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Log ``test/loss`` and the percentage errors of each kind."""
        self.log_dict({f"test/{name}": x for name, x in self.errors.take().items()}, sync_dist=True)

    def on_train_start(self) -> None:
        """Read the scales of the features off the first batches, unless a checkpoint holds them."""
        check_schedule(self.trainer, self.cycle_steps())
        if not all(self.network.node(kind).is_fitted for kind in self.network.nodes):
            loader = CombinedLoader(self.trainer.train_dataloader, "max_size_cycle")
            self.fit_scales([batch for batch, *_ in islice(loader, _SCALE_BATCHES)])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise CheckpointError where the checkpoint is of another network."""
        check_weights(checkpoint["state_dict"], self.state_dict())

    def fit_scales(self, batches: Sequence[Batch]) -> None:
        """Take mean and spread of every kind's features and the median of its target from ``batches``."""
        for kind in self.network.nodes:
            rows = [part.to(self.device) for part in (batch[kind] for batch in batches) if part is not None]
            features = torch.cat([part.features for part in rows])
            target = torch.cat([part.target for part in rows])
            if self.trainer.world_size > 1:  # (n_processes, n, …): every process takes those of all
                features = cast(Tensor, self.all_gather(features)).flatten(0, 1)
                target = cast(Tensor, self.all_gather(target)).flatten()
            self.network.node(kind).fit_scales(features, target)

    def configure_optimizers(self) -> Any:
        """Return AdamW with one cycle of the rate; a constant rate after warm-up where a fit has no last step."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        steps, rates = self.cycle_steps(), torch.optim.lr_scheduler
        schedule: torch.optim.lr_scheduler.LRScheduler
        if math.isinf(steps):
            schedule = rates.LinearLR(optimizer, start_factor=1 / 25, total_iters=_WARMUP_STEPS)
        else:
            schedule = rates.OneCycleLR(
                optimizer, self.learning_rate, total_steps=int(steps), pct_start=self.warmup_share
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def cycle_steps(self) -> float:
        """Return the steps of the rate's cycle: those of the fit, but at least two in which the rate rises."""
        least = math.ceil(2.0 / self.warmup_share) if self.warmup_share > 0.0 else 1
        return max(self.trainer.estimated_stepping_batches, least)
