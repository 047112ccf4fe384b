"""Where a run of the trainer keeps its files."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl


def log_folder(trainer: pl.Trainer) -> Path:
    """Return the folder of the present run's logs, the same in every process."""
    return Path(trainer.log_dir or trainer.default_root_dir)
