"""The LightningModule: thin, with one shared step for every stage.

Invariant: it holds no formula; networks predict, losses judge, the data module hands out rows. What a
checkpoint needs beyond weights (names, sizes, sources) is plain lists and numbers, so it loads with
``weights_only=True``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import lightning.pytorch as pl
import torch
from torch import Tensor

from llmco2.data.devices import on_device
from llmco2.data.kernel_tensors import KernelBatch
from llmco2.data.module import EnergyDataModule
from llmco2.data.tensors import LABELS, RunBatch
from llmco2.errors import CheckpointError, InputError, explain
from llmco2.networks.coefficients import Vocabulary
from llmco2.training.kernel_loss import kernel_loss
from llmco2.training.loss import Priors, log_errors, robust_loss
from llmco2.training.metrics import ErrorSummary, known_log_errors, row_energy_errors, summaries
from llmco2.training.models import EnergyModel, PhysicsModel
from llmco2.training.options import KernelTraining, NetworkOptions, OptimizerOptions, UnknownShare
from llmco2.training.schedule import rate_schedules, steps_of_formula_alone

_LOG = logging.getLogger(__name__)
_STATE: Final = "llmco2"
_EVIDENCE_PER_ROOT_ROW: Final = 20.0


def effective_rows(n_rows: int) -> float:
    """Return how many independent rows a table weighs against the priors.

    Rows of one campaign share their errors, so evidence grows with the root of their number.
    """
    return _EVIDENCE_PER_ROOT_ROW * math.sqrt(n_rows)


class EnergyModule(pl.LightningModule):
    """Fits a network to whatever measured runs know: phase energies, totals, rates and latencies.

    Args:
        network: which network, and how large.
        optimizer: learning rates and decay.
        unknown_share: how often names are hidden while training.
        priors: how closely constants are held to what everything shares.
        kernels: how measured kernels take part.
        seed: of the names that are hidden.
    """

    def __init__(  # noqa: PLR0917 - the command line names every one
        self,
        network: NetworkOptions = NetworkOptions(),  # noqa: B008 - frozen
        optimizer: OptimizerOptions = OptimizerOptions(),  # noqa: B008 - frozen
        unknown_share: UnknownShare = UnknownShare(),  # noqa: B008 - frozen
        priors: Priors = Priors(),  # noqa: B008 - frozen
        kernels: KernelTraining = KernelTraining(),  # noqa: B008 - frozen
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network_options = network
        self.optimizer_options = optimizer
        self.unknown_share = unknown_share
        self.priors = priors
        self.kernel_training = kernels
        self.seed = seed
        self.model: EnergyModel | None = None
        self._trained = False
        self._formula_steps = 0  # the first ones, which leave the graph network out
        self.vocabulary: Vocabulary | None = None
        self.sources: tuple[str, ...] = ()
        self.test_summaries: dict[str, ErrorSummary] = {}
        self.validation_summaries: dict[str, ErrorSummary] = {}
        self.validation_errors = torch.empty(0)  # log energy error of each validation row
        self._kernels: KernelBatch | None = None
        self._seen: list[tuple[Tensor, Tensor]] = []  # predicted and labels of the batches of an evaluation

    @property
    def data(self) -> EnergyDataModule:
        """The data module of the present trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, EnergyDataModule):
            raise InputError(explain("the module trains from an EnergyDataModule", got=type(data).__name__))
        return data

    def setup(self, stage: str) -> None:
        """Build the network from the names and sources of the data, unless a checkpoint has."""
        data = self.data
        if self.model is None:
            self.build(data.vocabulary, data.sources, n_rows=len(data.sides.train))
            self._trained = stage == "fit"
        elif self.vocabulary is not None:
            data.use_vocabulary(self.vocabulary)
        self._attach(data)

    def build(self, vocabulary: Vocabulary, sources: tuple[str, ...], *, n_rows: int) -> None:
        """Make the network for these names; ``n_rows`` decides how much the priors weigh."""
        self.vocabulary, self.sources = vocabulary, sources
        self.model = PhysicsModel(
            vocabulary,
            len(sources),
            network=self.network_options,
            priors=self.priors,
            unknown_share=self.unknown_share,
            effective_rows=effective_rows(n_rows),
        )

    def forward(self, batch: RunBatch) -> Tensor:
        """Return predictions ``(n_rows, N_LABELS)``."""
        return self._built().predicted(batch)

    def training_step(self, batch: RunBatch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the loss of runs, of kernels, or of both."""
        stage = self.kernel_training
        loss = torch.zeros((), device=self.device)
        if self.current_epoch >= stage.epochs:
            alone = self.global_step < self._formula_steps
            loss = loss + self._built().loss(batch, self._generator(), formula_alone=alone)
        if self._kernels is not None and (self.current_epoch < stage.epochs or stage.weight > 0.0):
            loss = loss + self._kernel_loss(self._kernels)
        self.log("train/loss", loss, batch_size=len(batch.index), prog_bar=True)
        return loss

    def validation_step(self, batch: RunBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Keep predictions beside labels."""
        self._evaluate(batch, "val")

    def test_step(self, batch: RunBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Keep predictions beside labels."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: RunBatch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return predicted labels by name and ``index``, the position in the table; each ``(n_rows,)``."""
        predicted = self(batch)
        return {"index": batch.index, **{name: predicted[:, i] for i, name in enumerate(LABELS)}}

    def on_validation_start(self) -> None:
        """Say so where the network was never trained."""
        self._warn_if_untrained()

    def on_test_start(self) -> None:
        """Say so where the network was never trained."""
        self._warn_if_untrained()

    def on_predict_start(self) -> None:
        """Say so where the network was never trained."""
        self._warn_if_untrained()

    def on_validation_epoch_end(self) -> None:
        """Log the validation figures."""
        self.validation_errors = row_energy_errors(known_log_errors(*self._gathered()))
        self.validation_summaries = self._summarise("val")

    def on_test_epoch_end(self) -> None:
        """Log the test figures."""
        self.test_summaries = self._summarise("test")

    def on_train_epoch_end(self) -> None:
        """Tell the order of rows where the network is wrong, where it wants to know."""
        data = self.data
        due = (self.current_epoch + 1) % data.sampler_options.refresh_every_n_epochs == 0
        if data.order.needs_errors and due:
            data.order.observe(self.training_errors(data).double().cpu().numpy())

    @torch.no_grad()
    def training_errors(self, data: EnergyDataModule) -> Tensor:
        """Return the log energy error of every training row, NaN where it knows no energy; ``(n_rows,)``."""
        was_training = self.training
        self.eval()
        step = data.batch_size or len(data.sides.train)
        errors = []
        for first in range(0, len(data.sides.train), step):
            batch = on_device(data.take(data.sides.train[first : first + step]), self.device)
            errors.append(row_energy_errors(known_log_errors(self(batch), batch.labels)))
        self.train(was_training)
        return torch.cat(errors)

    def configure_optimizers(self) -> Any:
        """Return AdamW with one cycle of the rate for each stage: the formula's, then the graph network's."""
        groups = self._built().parameter_groups(self.optimizer_options)
        optimizer = torch.optim.AdamW(groups)
        steps = self.trainer.estimated_stepping_batches
        self._formula_steps = steps_of_formula_alone(self.optimizer_options, len(groups), steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, rate_schedules(self.optimizer_options, len(groups), steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002 - always by norm
    ) -> None:
        """Clip each group by its own norm, so that a graph network never scales the steps of the formula."""
        if gradient_clip_val:
            for group in optimizer.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], float(gradient_clip_val))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilding the network needs, as plain data."""
        vocabulary = self.vocabulary
        checkpoint[_STATE] = {
            "network": asdict(self.network_options),
            "vocabulary": None if vocabulary is None else {k: list(v) for k, v in asdict(vocabulary).items()},
            "sources": list(self.sources),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the network that the checkpoint holds, so that its weights fit."""
        self.network_options, vocabulary, sources = _described(checkpoint)
        trainer = self._trainer
        fitting = trainer is not None and trainer.state.fn == "fit"
        if fitting and self.sources != sources:
            raise CheckpointError(
                explain("cannot resume on other data", got=", ".join(self.sources),
                        expected=", ".join(sources), remedy="resume with the same runs")
            )  # fmt: skip
        n_rows = len(self.data.sides.train) if trainer is not None else 1
        self.build(vocabulary, sources, n_rows=n_rows)
        _check_weights(checkpoint["state_dict"], self.state_dict())
        self._trained = True
        self.to(self.device)
        if trainer is not None:
            self.data.use_vocabulary(vocabulary)
            self._attach(self.data)

    def _warn_if_untrained(self) -> None:
        if not self._trained:
            _LOG.warning("no checkpoint given: these figures are of the untrained network (set --ckpt_path)")

    def _attach(self, data: EnergyDataModule) -> None:
        """Give the model what it reads of the data beside batches."""
        self._kernels = None
        if self.kernel_training.wanted:
            self._kernels = self._wanted_kernels(data)

    def _wanted_kernels(self, data: EnergyDataModule) -> KernelBatch:
        kernels = data.kernel_batch()
        if not isinstance(self.model, PhysicsModel):
            raise InputError(
                explain("only a physics network knows single kernels", remedy="leave model.kernels out")
            )
        if kernels is None:
            raise InputError(
                explain("model.kernels asks for measured kernels", remedy="set data.kernels.path")
            )
        return kernels

    def _kernel_loss(self, kernels: KernelBatch) -> Tensor:
        model = self._built()
        if not isinstance(model, PhysicsModel):
            raise InputError(
                explain("only a physics network knows single kernels", remedy="leave model.kernels out")
            )
        only = self.current_epoch < self.kernel_training.epochs
        own = kernel_loss(model.network, on_device(kernels, self.device)) / self.priors.noise**2
        self.log("train/kernel_loss", own, batch_size=len(kernels.latency_s))
        return own + model.penalty() if only else self.kernel_training.weight * own

    def _evaluate(self, batch: RunBatch, stage: str) -> None:
        predicted = self(batch)
        known = torch.where(predicted.isnan(), torch.nan, batch.labels)
        safe = torch.nan_to_num(predicted, nan=1.0)
        loss = robust_loss(log_errors(safe, known), known, batch.weight)
        self.log(f"{stage}/loss", loss, batch_size=len(batch.index), sync_dist=True, prog_bar=stage == "val")
        self._seen.append((predicted.detach().cpu(), batch.labels.cpu()))

    def _summarise(self, stage: str) -> dict[str, ErrorSummary]:
        found = summaries(*self._gathered())
        self._seen.clear()
        for label, summary in found.items():
            for figure in ("mape_percent", "median_percent", "eba10_percent"):
                self.log(f"{stage}/{label}/{figure}", getattr(summary, figure), sync_dist=True)
        return found

    def _gathered(self) -> tuple[Tensor, Tensor]:
        predicted, labels = zip(*self._seen, strict=True)
        return torch.cat(predicted), torch.cat(labels)

    def _generator(self) -> torch.Generator:
        """Return a generator of seed and step alone, so that a resumed fit hides the same names."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)

    def _built(self) -> EnergyModel:
        if self.model is None:
            raise InputError(explain("the module has no network yet", remedy="fit it, or load a checkpoint"))
        return self.model


def check_readable(path: str) -> None:
    """Raise CheckpointError unless ``path`` is a whole training checkpoint; nothing in it is executed."""
    remedy = "give the .ckpt file that llmco2 train fit wrote"
    if path in ("last", "best", "hpc", "registry"):
        return
    if not Path(path).is_file():
        raise CheckpointError(explain("no such checkpoint", got=path, remedy=remedy))
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"{path} is no whole checkpoint"
        raise CheckpointError(explain(what, got=first[:100], remedy=remedy)) from error
    _described(checkpoint if isinstance(checkpoint, dict) else {})


def _described(checkpoint: Mapping[str, Any]) -> tuple[NetworkOptions, Vocabulary, tuple[str, ...]]:
    state: Any = checkpoint.get(_STATE)
    try:
        vocabulary = Vocabulary(**{kind: tuple(names) for kind, names in state["vocabulary"].items()})
        return NetworkOptions(**state["network"]), vocabulary, tuple(state["sources"])
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            explain("not a training checkpoint of this version", expected=f"an entry {_STATE!r}",
                    remedy="give the .ckpt file that llmco2 train fit wrote")
        ) from error  # fmt: skip


def _check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    differing = sorted(
        name for name in {*found, *expected}
        if name not in found or name not in expected or found[name].shape != expected[name].shape
    )  # fmt: skip
    if differing:
        raise CheckpointError(
            explain("the checkpoint is of another network", got=f"{len(differing)} other arrays, such as "
                    f"{differing[0]}", remedy="train again with this version of llmco2")
        )  # fmt: skip
