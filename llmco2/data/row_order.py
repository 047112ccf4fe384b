"""The order in which training rows are seen, epoch by epoch.

Invariant: an order hands out positions among the training rows it was made with and nothing else. Every
process of a distributed run that makes it with the same seed gets the same order, and takes its own share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.data.focused import NeighbourSearch, focused_sampler, log_coordinates
from llmco2.data.options import SamplerOptions
from llmco2.data.regions import RegionGrid, region_errors
from llmco2.data.workload import azure_workload, workload_from_csv

Index = NDArray[np.intp]
Array = NDArray[np.float64]


class RowOrder(Protocol):
    """An epoch's rows, and what errors change about the next."""

    needs_errors: bool

    def rows(self, epoch: int) -> Index:
        """Return positions of the rows of an epoch."""

    def observe(self, errors: Array) -> None:
        """Take in the present error of every training row, ``(n_rows,)``, NaN where a row has no label."""

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from :meth:`state_dict`."""


class UniformOrder:
    """Every row once an epoch, shuffled by seed and epoch alone."""

    needs_errors = False

    def __init__(self, n_rows: int, seed: int) -> None:
        self._n_rows = n_rows
        self._seed = seed

    def rows(self, epoch: int) -> Index:
        """Return a permutation."""
        return np.random.default_rng((self._seed, epoch)).permutation(self._n_rows).astype(np.intp)

    def observe(self, errors: Array) -> None:
        """Pass over the errors."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: seed and epoch say it all."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume; there is no state."""


class FocusedOrder:
    """Rows drawn by workload density and region error, with a floor of exploration."""

    needs_errors = True

    def __init__(self, runs: pd.DataFrame, options: SamplerOptions, seed: int) -> None:
        prior = (
            azure_workload(options.trace) if options.workload is None else workload_from_csv(options.workload)
        )
        self._regions = RegionGrid().regions(runs)
        self._sampler = focused_sampler(runs, prior, exploration=options.exploration, seed=seed)

    def rows(self, epoch: int) -> Index:  # noqa: ARG002 - the sampler's generator counts for itself
        """Return as many draws as there are rows, with repeats."""
        return self._sampler.draw(len(self._sampler))

    def observe(self, errors: Array) -> None:
        """Turn row errors into region errors."""
        self._sampler.update(region_errors(self._regions, np.abs(errors)))

    def state_dict(self) -> dict[str, Any]:
        """Return region errors and the generator's state."""
        return self._sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume."""
        self._sampler.load_state_dict(state)


class NeighbourOrder:
    """Algorithm 1 of LLMCO2: the rows acquired so far, shuffled; errors acquire more around the worst.

    The paper measures what it acquires; here the training rows are the pool that it acquires from.
    """

    needs_errors = True

    def __init__(self, runs: pd.DataFrame, options: SamplerOptions, seed: int) -> None:
        self._search = NeighbourSearch(log_coordinates(runs), options.plan, seed=seed)
        self._seed = seed
        self._history: list[list[float]] = []
        self._search.start()

    @property
    def acquired(self) -> Index:
        """Rows acquired so far."""
        return self._search.acquired

    def rows(self, epoch: int) -> Index:
        """Return the acquired rows, shuffled."""
        return np.random.default_rng((self._seed, epoch)).permutation(self._search.acquired)

    def observe(self, errors: Array) -> None:
        """Acquire rows around the worst; a row without a label counts as an average one."""
        own = np.abs(errors[self._search.acquired])
        typical = float(own[np.isfinite(own)].mean()) if np.isfinite(own).any() else 0.0
        self._step(np.where(np.isfinite(own), own, typical))

    def state_dict(self) -> dict[str, Any]:
        """Return the errors of every round: with the seed they give the same acquisitions again."""
        return {"history": self._history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume by acquiring again."""
        for errors in state["history"][len(self._history) :]:
            self._step(np.asarray(errors, dtype=np.float64))

    def _step(self, errors: Array) -> None:
        self._history.append([float(e) for e in errors])
        self._search.step(errors)


def row_order(runs: pd.DataFrame, options: SamplerOptions, seed: int) -> RowOrder:
    """Return the order that the options ask for, over training runs."""
    if options.kind == "focused":
        return FocusedOrder(runs, options, seed)
    if options.kind == "paper":
        return NeighbourOrder(runs, options, seed)
    return UniformOrder(len(runs), seed)
