"""The LightningDataModule of measured kernels: one Parquet file a kind, split by whole shapes.

Invariant: which rows are tested depends on their shapes alone, so it stays when limits, seeds or the share that
validates change.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader

from llmco2.data.kernel_rows import FocusedSampler, KernelBatch, KernelRows, held_out, read_kernel_rows
from llmco2.errors import InputError, explain
from llmco2.kernel_model.features import KINDS, known_kind
from llmco2.resources import datasets_dir

_LOG = logging.getLogger(__name__)
_SHIPPED: Final = "simulated_kernels"
_EVALUATION_BATCH: Final = 65_536  # rows at a time where nothing is learnt
_SIDES: Final = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("all",),
}


class KernelDataModule(pl.LightningDataModule):
    """Reads a folder of ``KIND.parquet`` and draws batches of every kind by number of rows and by error.

    Args:
        path: the folder; None is the small simulated set that ships.
        kinds: kernel kinds to read, of llmco2.kernel_model.features.KINDS.
        max_rows: most rows of a kind; strata (stack, board, library, format) are capped alike.
        max_rows_of: other limits, by kind.
        test_share: share of shapes that only ``test`` reads; 0 trains on all.
        validation_share: share of shapes that validate a fit.
        batch_size: rows of each kind in a batch.
        batches_per_epoch: batches that a training epoch draws.
        density: 1 draws strata as often as they have rows, 0 alike.
        focus: how much more is drawn where errors are large; 0 leaves them aside.
        floor: least share of a stratum, in equal shares: never 0, so that nothing is forgotten.
        seed: of the rows that a limit keeps and of the draws.
    """

    def __init__(  # noqa: PLR0917 - the command line names every one
        self,
        path: str | None = None,
        kinds: Sequence[str] = tuple(KINDS),
        max_rows: int = 300_000,
        max_rows_of: dict[str, int] | None = None,
        test_share: float = 0.2,
        validation_share: float = 0.05,
        batch_size: int = 2048,
        batches_per_epoch: int = 250,
        density: float = 0.5,
        focus: float = 0.5,
        floor: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for kind in (*kinds, *(max_rows_of or {})):
            known_kind(kind)
        if min(test_share, validation_share) < 0.0 or test_share + validation_share >= 1.0:
            raise InputError(
                explain("test_share and validation_share leave no shapes to train on",
                        got=f"{test_share:g} and {validation_share:g}", expected="0 or more, together below 1")
            )  # fmt: skip
        if not 0.0 < floor <= 1.0:
            raise InputError(explain("bad floor", got=floor, expected="above 0, at most 1"))
        if min(max_rows, batch_size, batches_per_epoch) < 1:
            raise InputError("max_rows, batch_size and batches_per_epoch are 1 or more")
        self.folder = Path(path) if path is not None else datasets_dir() / _SHIPPED
        self.kinds = tuple(kinds)
        self.limits = {kind: (max_rows_of or {}).get(kind, max_rows) for kind in kinds}
        self.test_share, self.validation_share = test_share, validation_share
        self.batch_size, self.batches_per_epoch = batch_size, batches_per_epoch
        self.sampling = {"density": density, "focus": focus, "floor": floor}
        self.seed = seed
        self.frames: dict[str, pd.DataFrame] = {}  # read to predict
        self.rows: dict[str, dict[str, KernelRows]] = {}  # side → kind → rows
        self.samplers: dict[str, FocusedSampler] = {}

    def setup(self, stage: str) -> None:
        """Read the rows that ``stage`` needs, once."""
        missing = [side for side in _SIDES[stage] if side not in self.rows]
        simulated = False
        for kind in self.kinds if missing else ():
            frame = read_kernel_rows(self.folder / f"{kind}.parquet", self.limits[kind], self.seed)
            simulated = simulated or bool(frame.get("simulated", pd.Series([False])).any())
            for side in missing:
                part = frame[self._side(kind, frame, side)].reset_index(drop=True)
                if len(part):
                    self.rows.setdefault(side, {})[kind] = KernelRows(kind, part)
                if side == "all":
                    self.frames[kind] = part
        if simulated:
            _LOG.warning("SIMULATED DATA: %s holds kernels that were made up by a rule", self.folder)
        if stage == "fit" and not self.samplers:
            self.samplers = {kind: self._sampler(kind) for kind in self.kinds}

    def train_dataloader(self) -> dict[str, DataLoader[KernelBatch]]:
        """Return a loader of each kind; the trainer takes a batch of every one in a step."""
        return {
            kind: DataLoader(
                self.rows["train"][kind], batch_size=self.batch_size, sampler=sampler, collate_fn=_as_it_is
            )
            for kind, sampler in self.samplers.items()
        }

    def val_dataloader(self) -> CombinedLoader | list[Any]:
        """Return the held-out shapes that watch a fit, or nothing where none are held out."""
        return self._evaluation("validation") if "validation" in self.rows else []

    def test_dataloader(self) -> CombinedLoader:
        """Return the held-out shapes that a fit never sees."""
        if "test" not in self.rows:
            raise InputError(explain("no shape is held out to test on", remedy="set data.test_share above 0"))
        return self._evaluation("test")

    def predict_dataloader(self) -> list[DataLoader[KernelBatch]]:
        """Return all rows, kind after kind."""
        return [
            DataLoader(rows, batch_size=_EVALUATION_BATCH, collate_fn=partial(_named, kind))
            for kind, rows in self.rows["all"].items()
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the draws, to resume from."""
        return {kind: sampler.state_dict() for kind, sampler in self.samplers.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the draws where a fit is resumed."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        for kind, state in state_dict.items() if fitting else ():
            if kind in self.samplers:
                self.samplers[kind].load_state_dict(state)

    def _side(self, kind: str, frame: pd.DataFrame, side: str) -> Any:
        if side == "all":
            return np.ones(len(frame), dtype=np.bool_)
        test = held_out(kind, frame, self.test_share)
        apart = held_out(kind, frame, self.test_share + self.validation_share)
        return {"train": ~apart, "validation": apart & ~test, "test": test}[side]

    def _sampler(self, kind: str) -> FocusedSampler:
        rows = self.rows.get("train", {}).get(kind)
        if rows is None:
            raise InputError(explain(f"every shape of {kind} is held out", remedy="lower data.test_share"))
        return FocusedSampler(
            rows.stratum, self.batch_size * self.batches_per_epoch, seed=self.seed, **self.sampling
        )

    def _evaluation(self, side: str) -> CombinedLoader:
        loaders = {
            kind: DataLoader(rows, batch_size=_EVALUATION_BATCH, collate_fn=_as_it_is)
            for kind, rows in self.rows[side].items()
        }
        return CombinedLoader(loaders, "max_size")


def _as_it_is(batch: Any) -> Any:
    """Return what the rows made of a whole list of places: it is a batch already."""
    return batch


def _named(kind: str, batch: Any) -> Mapping[str, KernelBatch]:
    return {kind: batch}
