"""Refuses training checkpoints that are damaged, of another network, or of a fit of another length."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import lightning.pytorch as pl
import torch
from torch import Tensor

from llmco2.errors import CheckpointError, InputError, explain

_WORDS: Final = ("last", "best", "hpc", "registry")  # which the trainer looks up itself
_REMEDY: Final = "give the .ckpt file that llmco2 train fit wrote"


def check_readable(path: str) -> None:
    """Raise CheckpointError unless ``path`` is a whole training checkpoint; nothing in it is executed."""
    if path in _WORDS:
        return
    if not Path(path).is_file():
        raise CheckpointError(explain("no such checkpoint", got=path, remedy=_REMEDY))
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"{path} is no whole checkpoint"
        raise CheckpointError(explain(what, got=first[:100], remedy=_REMEDY)) from error
    entries = {"state_dict", "hyper_parameters"}
    if not isinstance(checkpoint, dict) or not entries <= set(checkpoint):
        raise CheckpointError(
            explain(
                f"{path} is no training checkpoint", expected=f"entries {sorted(entries)}", remedy=_REMEDY
            )
        )


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless a checkpoint's arrays have the names and shapes of a module's."""
    differing = sorted(
        name for name in {*found, *expected}
        if name not in found or name not in expected or found[name].shape != expected[name].shape
    )  # fmt: skip
    if differing:
        raise CheckpointError(
            explain("the checkpoint is of another network", got=f"{len(differing)} other arrays, such as "
                    f"{differing[0]}", remedy="set data.kinds to the kinds that it was trained on")
        )  # fmt: skip


def check_schedule(trainer: pl.Trainer, expected: float) -> None:
    """Raise InputError where a resumed cycle of the learning rate has another length than ``expected`` steps."""
    for config in trainer.lr_scheduler_configs:
        steps = getattr(config.scheduler, "total_steps", expected)
        if config.interval == "step" and steps != expected:
            raise InputError(
                explain("cannot resume with a fit of another length", got=f"{expected} steps",
                        expected=f"{steps}", remedy="keep max_epochs and the batches, or start anew")
            )  # fmt: skip
