"""The data module: runs (and kernels) in, group-aware splits and batches out.

Invariant: no group is on two sides of a split, which is checked and not assumed; the test side depends on the
rows and the split's own seed alone. Names (engines, GPUs, families) are learnt from training rows only, so
what is held out is as unknown to the network as it will be to a user.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from llmco2.data.devices import on_device
from llmco2.data.kernel_tensors import (
    MICROBENCHMARK,
    KernelBatch,
    KernelTensors,
    kernel_batch,
    kernel_tensors,
    load_kernels,
)
from llmco2.data.loader import EpochRows, RunLoader
from llmco2.data.options import KernelOptions, SamplerOptions, SplitOptions
from llmco2.data.row_order import RowOrder, row_order
from llmco2.data.run_source import load_runs
from llmco2.data.splits import (
    DEPLOYMENT,
    REQUEST,
    Split,
    check_leakage,
    data_hash,
    group_keys,
    grouped_split,
    leave_one_out,
    run_ids_sha256,
)
from llmco2.data.tensors import RunBatch, RunTensors, deployment_batch, run_tensors, take_basis, vocabulary
from llmco2.errors import InputError, UnknownNameError, explain
from llmco2.networks.batch import DeploymentBatch
from llmco2.networks.coefficients import Vocabulary

_LOG = logging.getLogger(__name__)
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSides:
    """Table positions of each side, and the hashes that name them."""

    name: str
    by: tuple[str, ...]  # columns whose groups stay whole
    train: Index
    validation: Index
    test: Index
    sha256: dict[str, str]  # of the sorted run ids: train, validation, test

    def __post_init__(self) -> None:
        for side in ("train", "validation", "test"):
            if not len(getattr(self, side)):
                raise InputError(explain(f"the split leaves no {side} rows", got=self.name))

    @property
    def validation_is_held_out(self) -> bool:
        """Whether validation rows trained nothing, so that their errors say how wide intervals are."""
        return not np.isin(self.validation, self.train).any()


class EnergyDataModule(pl.LightningDataModule):
    """Measured runs and kernels for training.

    Args:
        runs: a run table (``.csv``, ``.csv.gz``, ``.jsonl``, ``.parquet``); by
            default the simulated set that ships.
        allow_simulated: accept simulated rows in ``runs``.
        split: which rows are held out.
        sampler: in what order training rows are seen.
        kernels: measured kernels that train beside runs.
        batch_size: rows a step; 0 takes all rows in one step.
        seed: of the order of rows.
        include_flagged: keep rows whose flags say that they answer another question (``reference_kernels`` of
            one's own; vision models, edge boards and emulated precisions of public sources).
    """

    def __init__(  # noqa: PLR0917 - the command line names every one
        self,
        runs: str | None = None,
        allow_simulated: bool = False,
        split: SplitOptions = SplitOptions(),  # noqa: B008 - frozen
        sampler: SamplerOptions = SamplerOptions(),  # noqa: B008 - frozen
        kernels: KernelOptions = KernelOptions(),  # noqa: B008 - frozen
        batch_size: int = 0,
        seed: int = 0,
        include_flagged: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 0:
            raise InputError(
                explain("bad data.batch_size", got=batch_size, expected="1 or more, or 0 for all rows")
            )
        self.source = runs
        self.allow_simulated = allow_simulated
        self.split_options = split
        self.sampler_options = sampler
        self.kernel_options = kernels
        self.batch_size = batch_size
        self.seed = seed
        self.include_flagged = include_flagged
        self._frame: pd.DataFrame | None = None

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002 - every stage needs the same tables
        """Read, split and check the data, once."""
        if self._frame is not None:
            return
        frame = load_runs(
            self.source, allow_simulated=self.allow_simulated, include_flagged=self.include_flagged
        )
        self.sides = split_sides(frame, self.split_options)
        self.tensors: RunTensors = run_tensors(frame)
        self.order: RowOrder = row_order(
            frame.iloc[self.sides.train].reset_index(drop=True), self.sampler_options, self.seed
        )
        self.kernels: KernelTensors | None = self._load_kernels()
        self.vocabulary = self._learnable_names()
        self.sources = tuple(sorted(set(self.tensors.source)))
        place = {name: i for i, name in enumerate(self.sources)}
        self._source_index = torch.tensor([place[name] for name in self.tensors.source], dtype=torch.long)
        self._graphs = deployment_batch(self.tensors.deployments, self.vocabulary)
        self._frame = frame
        _LOG.info("%s: %d training, %d validation and %d test rows of %d deployments", self.sides.name,
                  len(self.sides.train), len(self.sides.validation), len(self.sides.test),
                  len(self.tensors.deployments))  # fmt: skip

    @property
    def frame(self) -> pd.DataFrame:
        """The runs, in table order."""
        if self._frame is None:
            raise InputError(explain("the data module is not set up", remedy="call setup() first"))
        return self._frame

    @property
    def graphs(self) -> DeploymentBatch:
        """Graphs of all deployments, with their places in the present vocabulary."""
        return self._graphs

    def use_vocabulary(self, vocab: Vocabulary) -> None:
        """Place the deployments in another vocabulary: that of a checkpoint."""
        if vocab != self.vocabulary:
            self.vocabulary = vocab
            self._graphs = deployment_batch(self.tensors.deployments, vocab)

    def train_on(self, rows: Index, name: str) -> None:
        """Train on these table positions alone and forget names that only others know; the rest is the test side."""
        rest = np.setdiff1d(np.arange(len(self.frame)), rows)
        self.sides = _sides(self.frame, name, ("run_id",), rows, rows, rest if len(rest) else rows)
        self.order = row_order(self.frame.iloc[rows].reset_index(drop=True), self.sampler_options, self.seed)
        self.use_vocabulary(self._learnable_names())

    def take(self, rows: Index) -> RunBatch:
        """Return the runs at these table positions as a batch."""
        index = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        tensors = self.tensors
        return RunBatch(
            graphs=self._graphs,
            deployment=tensors.deployment[index],
            bases=(take_basis(tensors.bases[0], index), take_basis(tensors.bases[1], index)),
            labels=tensors.labels[index],
            weight=tensors.weight[index],
            source=self._source_index[index],
            index=index,
        )

    def training_side(self) -> tuple[pd.DataFrame, RunTensors]:
        """Return the rows that train, as a table and as tensors."""
        rows, tensors = self.sides.train, self.tensors
        index = torch.from_numpy(rows.astype(np.int64))
        own = replace(
            tensors,
            deployment=tensors.deployment[index],
            bases=(take_basis(tensors.bases[0], index), take_basis(tensors.bases[1], index)),
            labels=tensors.labels[index],
            weight=tensors.weight[index],
            source=tuple(tensors.source[i] for i in rows),
            run_id=tuple(tensors.run_id[i] for i in rows),
        )
        return self.frame.iloc[rows].reset_index(drop=True), own

    def kernel_batch(self) -> KernelBatch | None:
        """Return the measured kernels, or None where there are none."""
        return None if self.kernels is None else kernel_batch(self.kernels, self.vocabulary)

    def train_dataloader(self) -> RunLoader:
        """Return the training rows in the sampler's order."""
        rows = self.sides.train
        return RunLoader(rows, self.batch_size, self.take, EpochRows(self.order, rows))

    def val_dataloader(self) -> RunLoader:
        """Return the validation rows, in table order."""
        return RunLoader(self.sides.validation, self.batch_size, self.take)

    def test_dataloader(self) -> RunLoader:
        """Return the test rows, always the same and in table order."""
        return RunLoader(self.sides.test, self.batch_size, self.take)

    def predict_dataloader(self) -> RunLoader:
        """Return every row, in table order."""
        return RunLoader(np.arange(len(self.tensors)), self.batch_size, self.take)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Move a batch; it is a frozen record, which the trainer's own mover refuses."""
        return on_device(batch, device)

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs of the order of rows."""
        return {"order": self.order.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume the order of rows."""
        self.order.load_state_dict(state_dict["order"])

    def description(self) -> dict[str, Any]:
        """Return what a model card says of the data: source, counts, split and hashes."""
        frame, sides = self.frame, self.sides
        return {
            "runs": "shipped simulated set" if self.source is None else Path(self.source).name,
            "n_runs": len(frame),
            "n_simulated": int(frame["simulated"].sum()),
            "n_deployments": len(self.tensors.deployments),
            "n_kernels": 0 if self.kernels is None else len(self.kernels),
            "sha256": data_hash(frame),
            "sources": {str(name): int(n) for name, n in frame["source"].value_counts().sort_index().items()},
            "split": {"name": sides.name, "by": list(sides.by), "train": len(sides.train),
                      "validation": len(sides.validation), "test": len(sides.test), "sha256": sides.sha256},
        }  # fmt: skip

    def _load_kernels(self) -> KernelTensors | None:
        if self.kernel_options.path is None:
            return None
        # A board that is held out must be unknown in every respect, its kernels included.
        left_out = self.split_options.held_out if self.split_options.kind == "gpu" else None
        return kernel_tensors(load_kernels(self.kernel_options, left_out))

    def _learnable_names(self) -> Vocabulary:
        seen = np.unique(self.tensors.deployment.numpy()[self.sides.train])
        own = vocabulary(tuple(self.tensors.deployments[i] for i in seen))
        if self.kernels is None:
            return own
        kernel_names = vocabulary(self.kernels.deployments)
        return Vocabulary(
            engines=tuple(sorted({*own.engines, MICROBENCHMARK})),
            precisions=tuple(sorted({*own.precisions, *kernel_names.precisions})),
            gpus=tuple(sorted({*own.gpus, *kernel_names.gpus})),
            families=own.families,
            groups=own.groups,
        )


def split_sides(frame: pd.DataFrame, options: SplitOptions) -> DataSides:
    """Return the sides that the options ask for, checked for leakage.

    Raises:
        InputError: too few groups, or a leak.
        UnknownNameError: no such family or GPU among the rows.
    """
    if options.kind == "none":
        everything = np.arange(len(frame), dtype=np.intp)
        _LOG.warning("split 'none': every row trains, so validation and test figures are in-sample")
        return _sides(frame, "none", ("run_id",), everything, everything, everything)
    split = _outer_split(frame, options)
    check_leakage(frame.iloc[split.train], frame.iloc[split.test], split.by)
    rest = frame.iloc[split.train].reset_index(drop=True)
    by = split.by if options.kind in ("request", "deployment") else DEPLOYMENT
    inner = grouped_split(rest, by, test_share=options.validation_share, seed=options.seed + 1)
    check_leakage(rest.iloc[inner.train], rest.iloc[inner.test], by)
    whole = options.kind in ("family", "gpu")
    name = split.name if whole else f"{options.kind} {options.test_share:.0%} seed {options.seed}"
    return _sides(frame, name, split.by, split.train[inner.train], split.train[inner.test], split.test)


def _outer_split(frame: pd.DataFrame, options: SplitOptions) -> Split:
    if options.kind in ("request", "deployment"):
        by = REQUEST if options.kind == "request" else DEPLOYMENT
        return grouped_split(frame, by, test_share=options.test_share, seed=options.seed)
    groups = sorted(set(group_keys(frame, options.kind)))
    if options.held_out is None:
        raise InputError(explain(f"which {options.kind} to leave out", expected=", ".join(groups),
                                 remedy="set data.split.held_out"))  # fmt: skip
    if options.held_out not in groups:
        raise UnknownNameError(
            options.kind, options.held_out, groups, remedy=f"the runs have: {', '.join(groups)}"
        )
    wanted = f"{options.kind}={options.held_out}"
    return next(split for split in leave_one_out(frame, options.kind) if split.name == wanted)


def _sides(frame: pd.DataFrame, name: str, by: tuple[str, ...], *rows: Index) -> DataSides:
    """Return the sides of ``rows``: train, validation, test."""
    train, validation, test = rows
    names = ("train", "validation", "test")
    hashes = {side: run_ids_sha256(frame["run_id"].iloc[own]) for side, own in zip(names, rows, strict=True)}
    return DataSides(name=name, by=by, train=train, validation=validation, test=test, sha256=hashes)
