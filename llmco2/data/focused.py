"""Focused sampling: draw training rows where the workload is dense and the model is wrong.

A row's chance is its workload density times the present error of its region, mixed with a uniform share that
explores. The same chances choose what to measure next. :class:`NeighbourSearch` is the paper's own procedure
(Algorithm 1 of LLMCO2, arXiv 2410.02950) with the same floor under it.

Invariant: chances add up to one, and none falls below ``exploration / n_rows``: exploration never stops. A
sampler draws from the rows it was made with, which are training rows, so a test set cannot change through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.data.regions import RegionGrid
from llmco2.data.workload import WorkloadPrior
from llmco2.errors import InputError, explain

Array = NDArray[np.float64]
Index = NDArray[np.intp]
LEAST_EXPLORATION: Final = 1e-3


class FocusedSampler:
    """Draws row numbers by workload density × region error, never without exploration.

    Before the first :meth:`update` all regions count the same, so the draw follows the workload alone.
    """

    def __init__(
        self,
        regions: NDArray[np.object_],
        density: Array | None = None,
        *,
        exploration: float = 0.1,
        momentum: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Make a sampler over ``len(regions)`` rows.

        Args:
            regions: region name of each row, (n_rows,).
            density: workload density of each row, (n_rows,), any positive scale; ``None``: all alike.
            exploration: share of draws that is uniform over all rows, at least 0.001.
            momentum: how much of a region's previous error an update keeps, 0 (none) to 1 (excluded).
            seed: of the sampler's own generator.

        Raises:
            InputError: no rows, or an argument outside its range.
        """
        if len(regions) == 0:
            raise InputError(explain("nothing to sample from", got="0 rows"))
        _check_share("exploration", exploration, LEAST_EXPLORATION, 1.0)
        _check_share("momentum", momentum, 0.0, 1.0 - 1e-9)
        weight = np.ones(len(regions)) if density is None else np.asarray(density, dtype=np.float64)
        if weight.shape != (len(regions),) or not np.all(np.isfinite(weight)) or np.any(weight < 0):
            raise InputError(explain("bad density", expected="one finite number of at least 0 per row"))
        if weight.sum() <= 0:
            raise InputError(explain("bad density", got="zero everywhere", expected="a positive sum"))
        names, codes = np.unique(np.asarray(regions, dtype=str), return_inverse=True)
        self._names = tuple(str(name) for name in names)
        self._region: Index = codes.astype(np.intp)
        self._density: Array = weight / weight.sum()
        self._errors: Array = np.ones(len(names))
        self._seen: NDArray[np.bool_] = np.zeros(len(names), dtype=bool)
        self._exploration = exploration
        self._momentum = momentum
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Rows drawn from."""
        return len(self._region)

    @property
    def region_names(self) -> tuple[str, ...]:
        """Regions that occur, in name order."""
        return self._names

    @property
    def weights(self) -> Array:
        """Chance of each row in a draw, (n_rows,), sum 1."""
        focus = self._density * self._errors[self._region]
        total = focus.sum()
        uniform = np.full(len(focus), 1.0 / len(focus))
        if total <= 0:  # every region with workload is learned to an error of zero
            return uniform
        mixed: Array = (1.0 - self._exploration) * focus / total + self._exploration * uniform
        return mixed

    def region_weights(self) -> dict[str, float]:
        """Return the chance of each region in a draw, sum 1."""
        sums = np.bincount(self._region, weights=self.weights, minlength=len(self._names))
        return {name: float(value) for name, value in zip(self._names, sums, strict=True)}

    def update(self, region_errors: Mapping[str, float]) -> None:
        """Take in the present error of regions; unknown names are passed over, unnamed regions keep theirs.

        A region that has never been reported counts as the mean of those that have.

        Raises:
            InputError: an error is negative or not finite.
        """
        for name, error in region_errors.items():
            if not np.isfinite(error) or error < 0:
                raise InputError(explain(f"bad error of region {name!r}", got=error, expected="0 or more"))
        position = {name: i for i, name in enumerate(self._names)}
        for name, error in region_errors.items():
            i = position.get(name)
            if i is not None:
                kept = self._momentum if self._seen[i] else 0.0
                self._errors[i] = kept * self._errors[i] + (1.0 - kept) * error
                self._seen[i] = True
        if self._seen.any():
            self._errors[~self._seen] = self._errors[self._seen].mean()

    def draw(self, n: int) -> Index:
        """Return ``n`` row numbers drawn with replacement, (n,)."""
        return self._rng.choice(len(self._region), size=n, p=self.weights).astype(np.intp)

    def choose(self, n: int, taken: NDArray[np.bool_] | None = None) -> Index:
        """Return up to ``n`` different rows that are not ``taken``: the configurations to measure next."""
        free = np.ones(len(self), dtype=bool) if taken is None else ~np.asarray(taken, dtype=bool)
        weights = np.where(free, self.weights, 0.0)
        n = min(n, int(free.sum()))
        if n == 0:
            return np.empty(0, dtype=np.intp)
        return self._rng.choice(len(self), size=n, replace=False, p=weights / weights.sum()).astype(np.intp)

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs: errors by region and the state of the generator."""
        errors = {
            name: float(e)
            for name, e, seen in zip(self._names, self._errors, self._seen, strict=True)
            if seen
        }
        return {"errors": errors, "generator": self._rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from :meth:`state_dict`."""
        self._seen[:] = False
        self._errors[:] = 1.0
        self.update(state["errors"])
        self._rng.bit_generator.state = state["generator"]


def focused_sampler(
    runs: pd.DataFrame,
    workload: WorkloadPrior | None = None,
    *,
    grid: RegionGrid | None = None,
    exploration: float = 0.1,
    seed: int = 0,
) -> FocusedSampler:
    """Return a sampler over training runs: trust × workload density, with the grid's regions.

    Raises:
        InputError: no runs, or ``exploration`` outside its range.
    """
    density = runs["weight"].to_numpy(dtype=np.float64)
    if workload is not None and len(runs):
        density = density * workload.weights(runs)
    return FocusedSampler((grid or RegionGrid()).regions(runs), density, exploration=exploration, seed=seed)


class EpochSampler:
    """An epoch of a focused sampler, as a ``DataLoader`` takes it: an iterable of row numbers with a length.

    Each pass draws anew with the errors known by then.
    """

    def __init__(self, sampler: FocusedSampler, rows_per_epoch: int | None = None) -> None:
        """Wrap ``sampler``; an epoch has as many draws as rows unless ``rows_per_epoch`` says otherwise."""
        self.sampler = sampler
        self._rows = len(sampler) if rows_per_epoch is None else rows_per_epoch

    def __iter__(self) -> Iterator[int]:
        """Yield row numbers."""
        return iter(self.sampler.draw(self._rows).tolist())

    def __len__(self) -> int:
        """Draws an epoch."""
        return self._rows


@dataclass(frozen=True, kw_only=True)  # no slots: the command line reads defaults through vars()
class NeighbourPlan:
    """The numbers of Algorithm 1: A, B, ±C and e of the paper, and the floor of exploration."""

    n_initial: int = 128  # A: rows drawn at random to begin with
    n_worst: int = 16  # B: worst rows whose surroundings are drawn each round
    n_neighbours: int = 8  # C: rows drawn around each of them
    radius: float = 0.7  # half width of a surrounding in every coordinate (e-folds for sizes on a log axis)
    target_error: float = 0.05  # e: stop when the mean error of all rows drawn so far is below it
    exploration: float = 0.05  # share of a round's draws that is uniform over what is left, one row at least

    def __post_init__(self) -> None:
        for name in ("n_initial", "n_worst", "n_neighbours"):
            if getattr(self, name) < 1:
                raise InputError(explain(f"bad {name}", got=getattr(self, name), expected="1 or more"))
        _check_share("exploration", self.exploration, LEAST_EXPLORATION, 1.0)
        if not (self.radius > 0 and self.target_error >= 0):
            raise InputError(
                explain("bad plan", got=f"radius {self.radius}, target_error {self.target_error}")
            )


class NeighbourSearch:
    """Algorithm 1: begin with A random rows; then, round by round, C rows around each of the B worst.

    Rows stand in a space where near means alike (logs of sizes). Nothing is drawn twice.
    """

    def __init__(self, coordinates: Array, plan: NeighbourPlan | None = None, *, seed: int = 0) -> None:
        """Make a search over ``coordinates``, (n_rows, n_dimensions), all finite.

        Raises:
            InputError: the coordinates are no such table.
        """
        points = np.asarray(coordinates, dtype=np.float64)
        if points.ndim != 2 or not len(points) or not np.all(np.isfinite(points)):
            raise InputError(
                explain("bad coordinates", got=points.shape, expected="(n_rows, n_dimensions), finite")
            )
        self._points = points
        self._plan = plan or NeighbourPlan()
        self._rng = np.random.default_rng(seed)
        self._taken: NDArray[np.bool_] = np.zeros(len(points), dtype=bool)

    @property
    def acquired(self) -> Index:
        """Row numbers drawn so far, rising."""
        return np.flatnonzero(self._taken)

    def start(self) -> Index:
        """Return the first A rows, drawn uniformly."""
        return self._take(self._uniform(self._plan.n_initial))

    def step(self, errors: Array) -> Index:
        """Return the rows of the next round, none when the target is met or nothing is left.

        Args:
            errors: error of each row in :attr:`acquired`, in that order.

        Raises:
            InputError: not one finite error per acquired row.
        """
        acquired = self.acquired
        errors = np.asarray(errors, dtype=np.float64)
        if errors.shape != acquired.shape or not np.all(np.isfinite(errors)):
            raise InputError(
                explain("bad errors", got=errors.shape, expected=f"{len(acquired)} finite numbers")
            )
        if len(errors) and errors.mean() < self._plan.target_error:
            return np.empty(0, dtype=np.intp)
        worst = acquired[np.argsort(-errors, kind="stable")[: self._plan.n_worst]]
        drawn = [self._take(self._around(row)) for row in worst]
        n_near = sum(len(rows) for rows in drawn)
        share = self._plan.exploration
        drawn.append(self._take(self._uniform(max(1, round(n_near * share / max(1.0 - share, share))))))
        return np.concatenate(drawn)

    def fill(self, n: int) -> Index:
        """Return ``n`` rows drawn uniformly over what is left, for a round whose surroundings are used up."""
        return self._take(self._uniform(n))

    def _around(self, row: np.intp) -> Index:
        distance = np.abs(self._points - self._points[row]).max(axis=1)
        near = np.flatnonzero(~self._taken & (distance <= self._plan.radius))
        n = min(self._plan.n_neighbours, len(near))
        return self._rng.choice(near, size=n, replace=False).astype(np.intp) if n else near

    def _uniform(self, n: int) -> Index:
        left = np.flatnonzero(~self._taken)
        return (
            self._rng.choice(left, size=min(n, len(left)), replace=False).astype(np.intp)
            if len(left)
            else left
        )

    def _take(self, rows: Index) -> Index:
        self._taken[rows] = True
        return rows


def log_coordinates(runs: pd.DataFrame) -> Array:
    """Return log batch, prompt and output, (n_runs, 3); an unknown size sits at the median of the others."""
    columns = []
    for name in ("batch_size", "prompt_tokens", "output_tokens"):
        logs = np.log(np.maximum(runs[name].to_numpy(dtype=np.float64), 1.0))
        known = logs[np.isfinite(logs)]
        columns.append(np.where(np.isfinite(logs), logs, np.median(known) if len(known) else 0.0))
    return np.column_stack(columns)


def _check_share(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(explain(f"bad {name}", got=value, expected=f"{low:g} to {high:g}"))
