"""What happens beside training: numbers are exported, predictions written, a checkpoint kept."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from llmco2.data.module import EnergyDataModule
from llmco2.data.tensors import LABELS
from llmco2.training.domain import training_domain
from llmco2.training.export import export_checkpoint, validation_intervals
from llmco2.training.models import PhysicsModel
from llmco2.training.module import EnergyModule

_LOG = logging.getLogger(__name__)


class ExportCheckpoint(pl.Callback):
    """Writes ``checkpoint.json`` and ``.npz`` into the log folder when a fit ends.

    Args:
        name: of the two files, without suffix.
    """

    def __init__(self, name: str = "checkpoint") -> None:
        super().__init__()
        self.name = name

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Export, once."""
        folder = log_folder(trainer)  # every process takes part in agreeing on it
        if not isinstance(pl_module, EnergyModule) or not trainer.is_global_zero:
            return
        model = pl_module.model
        if not isinstance(model, PhysicsModel):
            _LOG.info("this network has no numbers to export; keep the .ckpt file")
            return
        data = pl_module.data
        held_out = data.sides.validation_is_held_out
        path = export_checkpoint(
            model.network,
            folder / f"{self.name}.json",
            intervals=validation_intervals(pl_module.validation_errors if held_out else torch.empty(0)),
            domain=training_domain(*data.training_side()),
            metadata={
                "recipe": recipe(pl_module, trainer),
                "data": data.description(),
                "metrics": {"validation": {k: asdict(v) for k, v in pl_module.validation_summaries.items()}},
            },
        )
        _LOG.info("exported %s", path)


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest training checkpoint, ``checkpoints/last.ckpt``, to resume from.

    Every command logs into a folder of its own, so what a checkpoint says of folders is left aside.
    """

    def __init__(self) -> None:
        super().__init__(save_last=True, save_top_k=0)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin anew; there are no best checkpoints to remember."""


class WritePredictions(pl.Callback):
    """Writes ``predictions.csv`` into the log folder after ``predict``: predicted beside measured."""

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table."""
        folder = log_folder(trainer)  # every process takes part in agreeing on it
        if not isinstance(pl_module, EnergyModule) or not trainer.is_global_zero:
            return
        batches = trainer.predict_loop.predictions
        path = folder / "predictions.csv"
        prediction_table(pl_module.data, batches).to_csv(path, index=False)
        _LOG.info("wrote %s", path)


def prediction_table(data: EnergyDataModule, batches: list[Any]) -> pd.DataFrame:
    """Return ``run_id``, ``predicted_*`` and ``measured_*`` columns, one row per run, in table order."""
    frames = [
        pd.DataFrame({name: values.cpu().numpy() for name, values in batch.items()}) for batch in batches
    ]
    joined = pd.concat(frames).sort_values("index", kind="stable")
    rows = joined["index"].to_list()
    labels = data.tensors.labels[rows].numpy()
    columns: dict[str, Any] = {"run_id": [data.tensors.run_id[i] for i in rows]}
    for i, name in enumerate(LABELS):
        columns[f"predicted_{name}"] = joined[name].to_numpy()
        columns[f"measured_{name}"] = labels[:, i]
    return pd.DataFrame(columns)


def recipe(module: EnergyModule, trainer: pl.Trainer) -> dict[str, Any]:
    """Return everything that made a network, as plain data."""
    data = module.data
    return {
        "network": asdict(module.network_options),
        "optimizer": asdict(module.optimizer_options),
        "unknown_share": asdict(module.unknown_share),
        "priors": asdict(module.priors),
        "kernels": asdict(module.kernel_training),
        "sampler": asdict(data.sampler_options),
        "batch_size": data.batch_size,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seed": module.seed,
    }


def log_folder(trainer: pl.Trainer) -> Path:
    """Return the folder of the present run's logs."""
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
