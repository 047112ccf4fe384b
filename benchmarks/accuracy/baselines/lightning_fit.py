"""Fits of the package's own trainable networks with other options than the shipped ones.

Invariant: the data module that is handed in stays as it was; a fit works on a copy that shares its tensors.
"""

from __future__ import annotations

import copy
import logging
import warnings
from typing import TypeVar

import lightning.pytorch as pl

from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.options import SamplerOptions

_GRADIENT_LIMIT = 5.0  # as in the shipped recipe
Module = TypeVar("Module", bound=pl.LightningModule)


def own_data(
    data: EnergyDataModule, rows: Index, name: str, *, sampler: SamplerOptions | None = None, batch_size: int = 0,
    seed: int = 0,
) -> EnergyDataModule:  # fmt: skip
    """Return a data module that trains on ``rows`` alone and shares all tensors with ``data``.

    Args:
        data: the runs.
        rows: table positions to train on.
        name: of the fold, for the split's record.
        sampler: order of the rows; uniform unless given.
        batch_size: rows a step; 0 takes all.
        seed: of the order of rows.
    """
    own = copy.copy(data)
    own.sampler_options, own.batch_size, own.seed = sampler or SamplerOptions(), batch_size, seed
    own.train_on(rows, name)
    return own


def fit_module(module: Module, data: EnergyDataModule, *, epochs: int) -> Module:
    """Fit ``module`` to the training side of ``data`` on the CPU, and return it ready to predict."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # says which devices it found
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, gradient_clip_val=_GRADIENT_LIMIT, logger=False,
        limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        # Lightning's advice on loaders and loggers that are absent on purpose
        warnings.simplefilter("ignore")
        trainer.fit(module, datamodule=data)
    return module.eval()
