"""Batches of runs, cut from tensors that are all in memory.

A run is a row of a few dozen numbers and the graphs belong to deployments, so there is nothing for worker
processes to do: a loader hands out views of cached tensors. It shards itself in a distributed run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from llmco2.data.row_order import RowOrder
from llmco2.data.tensors import RunBatch

Index = NDArray[np.intp]


class EpochRows:
    """The rows of the present epoch; the trainer counts epochs through :meth:`set_epoch`."""

    def __init__(self, order: RowOrder, rows: Index) -> None:
        self._order = order
        self._rows = rows  # positions in the table of the order's rows
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self._epoch = epoch

    def __call__(self) -> Index:
        """Return the table positions of this epoch, in order."""
        return self._rows[self._order.rows(self._epoch)]


class RunLoader:
    """An iterable of :class:`RunBatch` with a fixed number of batches.

    Args:
        rows: positions in the table; handed out in this order, unless ``epoch_rows`` is given.
        batch_size: rows a batch; 0 puts an epoch into one batch.
        take: makes a batch of table positions.
        epoch_rows: positions by epoch, for training.
    """

    def __init__(self, rows: Index, batch_size: int, take: Callable[[Index], RunBatch],
                 epoch_rows: EpochRows | None = None) -> None:  # fmt: skip
        self._rows = rows
        self._batch_size = batch_size
        self._take = take
        self.sampler = epoch_rows  # where the trainer looks for set_epoch
        self.batch_sampler = None  # the trainer asks whether there is one

    def __len__(self) -> int:
        """Batches an epoch, the same for every order of rows, so that orders compare at equal steps."""
        return -(-self._per_process() // self._batch_size) if self._batch_size else 1

    def __iter__(self) -> Iterator[RunBatch]:
        """Yield the batches of an epoch."""
        rows = self._rows if self.sampler is None else self._own_share(self.sampler())
        size = self._batch_size or len(rows)
        for i in range(len(self)):
            yield self._take(rows[i * size : (i + 1) * size])

    def _own_share(self, rows: Index) -> Index:
        rank, world = _rank_and_world()
        if self._batch_size:  # every process needs as many batches, whatever the order handed out
            rows = np.resize(rows, self._per_process() * world)
        return rows[rank::world]

    def _per_process(self) -> int:
        # Evaluation is not sharded: every process sees all rows and reports the same figures.
        return len(self._rows) if self.sampler is None else -(-len(self._rows) // _rank_and_world()[1])


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
