"""Focused sampling, put to the test: labels bought round by round from a pool of real runs, or of real kernels.

Run: ``python -m benchmarks.accuracy.replay --runs FOLDER [--kernels kernels.parquet] --output FOLDER``; needs the
``evaluate`` extra (scikit-learn, matplotlib). From the same random seed set, four strategies choose which rows to
measure next: ``uniform`` at random; ``focused`` by workload density times the error of a row's region with a share
of exploration (``llmco2.data.focused.FocusedSampler``); ``half focused`` the same with half of the draws uniform;
``paper`` around the worst rows (Algorithm 1 of LLMCO2, arXiv 2410.02950, ``NeighbourSearch``). After each round a
model is fitted to what was bought and evaluated on a fixed test set.

The model is a random forest (Breiman 2001) on the log of measured over roofline: cheap enough for two hundred fits, and
its out-of-bag errors are honest errors of rows that it was fitted to, which both guided strategies need.

Invariant: a strategy sees the labels of acquired rows alone; the test set is the same for all strategies, rounds and
seeds, shares no request with the pool, and is never acquired.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.accuracy.markdown import table_line
from benchmarks.accuracy.mean_interval import mean_interval
from benchmarks.accuracy.replay_figure import draw_replays
from benchmarks.public_runs.tables import kernel_table, run_table
from llmco2.data.focused import FocusedSampler, NeighbourPlan, NeighbourSearch
from llmco2.data.options import SamplerOptions
from llmco2.data.regions import region_errors
from llmco2.errors import InputError, explain

Array = NDArray[np.float64]
Index = NDArray[np.intp]
STRATEGIES: Final = ("uniform", "focused", "half focused", "paper")
GROUPS: Final = ("head", "tail", "lowest decile", "all", "by workload")
N_SEEDS: Final = 5
_TREES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many labels are bought, and when."""

    n_initial: int = 64
    per_round: int = 64
    n_rounds: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Rows that could be measured, and those that evaluate; all arrays ``(n_rows, …)`` over both."""

    name: str
    features: Array  # what the model reads
    target: Array  # log of measured over roofline: the label
    density: Array  # of the workload prior
    regions: NDArray[np.object_]
    coordinates: Array  # where near means alike
    pool: Index
    test: Index

    def __post_init__(self) -> None:
        if np.isin(self.pool, self.test).any():
            raise InputError(explain(f"{self.name}: the pool and the test set share rows"))


class Strategy(Protocol):
    """Chooses rows of the pool by their number in it."""

    def next_rows(self, acquired: Index, errors: Array, n: int) -> Index:
        """Return about ``n`` rows to measure.

        Args:
            acquired: rows measured so far, rising.
            errors: ``|log(predicted / measured)|`` of those, of a model that was fitted without each.
            n: how many to choose.
        """


class Uniform:
    """Every row that is left has the same chance."""

    def __init__(self, n_rows: int, seed: int) -> None:
        self._n_rows, self._rng = n_rows, np.random.default_rng(seed)

    def next_rows(self, acquired: Index, errors: Array, n: int) -> Index:  # noqa: ARG002 - blind on purpose
        """Return ``n`` rows at random."""
        left = np.setdiff1d(np.arange(self._n_rows), acquired)
        return self._rng.choice(left, size=min(n, len(left)), replace=False).astype(np.intp)


class Focused:
    """Workload density times region error, with exploration."""

    def __init__(self, regions: NDArray[np.object_], density: Array, exploration: float, seed: int) -> None:
        self._regions = regions
        self._sampler = FocusedSampler(regions, density, exploration=exploration, seed=seed)

    def next_rows(self, acquired: Index, errors: Array, n: int) -> Index:
        """Return ``n`` rows by the sampler's chances."""
        self._sampler.update(region_errors(self._regions[acquired], errors))
        taken = np.zeros(len(self._sampler), dtype=bool)
        taken[acquired] = True
        return self._sampler.choose(n, taken)


class Paper:
    """Algorithm 1: the surroundings of the worst rows, filled up at random where they are used up."""

    def __init__(self, search: NeighbourSearch) -> None:
        self._search = search

    def next_rows(self, acquired: Index, errors: Array, n: int) -> Index:  # noqa: ARG002 - it keeps its own
        """Return the rows of the next round."""
        near = self._search.step(errors)
        return np.concatenate([near, self._search.fill(max(n - len(near), 0))])


def seed_rows(pool: Pool, plan: Plan, seed: int) -> tuple[NeighbourSearch, Index]:
    """Return a search that has drawn its random first rows, which all strategies of a seed begin with."""
    worst = max(round(plan.per_round / NeighbourPlan().n_neighbours * (1.0 - NeighbourPlan().exploration)), 1)
    search = NeighbourSearch(
        pool.coordinates[pool.pool],
        NeighbourPlan(n_initial=plan.n_initial, n_worst=worst, target_error=0.0),
        seed=seed,
    )
    return search, np.sort(search.start())


def make_strategy(name: str, pool: Pool, search: NeighbourSearch, seed: int) -> Strategy:
    """Return a strategy over the pool; ``search`` is the one that drew the first rows."""
    regions, density = pool.regions[pool.pool], pool.density[pool.pool]
    makers: dict[str, Callable[[], Strategy]] = {
        "uniform": lambda: Uniform(len(pool.pool), seed),
        "focused": lambda: Focused(regions, density, SamplerOptions().exploration, seed),
        "half focused": lambda: Focused(regions, density, 0.5, seed),
        "paper": lambda: Paper(search),
    }
    return makers[name]()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a model says after a fit."""

    out_of_bag: Array  # of the acquired rows
    test: Array  # of the test set


def fit_forest(pool: Pool, acquired: Index, seed: int) -> Fitted:
    """Fit a forest to the acquired rows of the pool and predict the test set."""
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415 - heavy, and an extra

    rows = pool.pool[acquired]
    forest = RandomForestRegressor(
        n_estimators=_TREES, min_samples_leaf=2, max_features=0.5, oob_score=True, random_state=seed
    ).fit(pool.features[rows], pool.target[rows])
    return Fitted(out_of_bag=forest.oob_prediction_, test=forest.predict(pool.features[pool.test]))


def replay(pool: Pool, strategy: str, seed: int, plan: Plan | None = None) -> pd.DataFrame:
    """Return errors on the test set after every round: one row a round and group of test rows."""
    plan = plan or Plan()
    search, acquired = seed_rows(pool, plan, seed)
    chooser = make_strategy(strategy, pool, search, seed)
    rows = []
    for number in range(plan.n_rounds + 1):
        fitted = fit_forest(pool, acquired, seed)
        for group, error in group_errors(pool, fitted.test).items():
            rows.append((pool.name, strategy, seed, len(acquired), group, error))
        errors = np.abs(fitted.out_of_bag - pool.target[pool.pool[acquired]])
        if number < plan.n_rounds:
            acquired = np.union1d(acquired, chooser.next_rows(acquired, errors, plan.per_round)).astype(
                np.intp
            )
    return pd.DataFrame(rows, columns=["pool", "strategy", "seed", "n_labels", "group", "mape_percent"])


def group_errors(pool: Pool, predicted: Array) -> dict[str, float]:
    """Return the MAPE (%) on the test set: upper half of the prior's density, lower half, lowest decile, all rows

    alike, and rows weighted by the prior.
    """
    error = 100.0 * np.abs(np.expm1(predicted - pool.target[pool.test]))
    density = pool.density[pool.test]
    middle, rare = np.median(density), np.quantile(density, 0.1)
    return {
        "head": float(error[density >= middle].mean()),
        "tail": float(error[density < middle].mean()) if (density < middle).any() else float("nan"),
        "lowest decile": float(error[density <= rare].mean()),
        "all": float(error.mean()),
        "by workload": float(error @ density / density.sum()),
    }


def replays(pool: Pool, *, seeds: int = N_SEEDS, plan: Plan | None = None) -> pd.DataFrame:
    """Return the replays of every strategy and seed."""
    jobs = [(strategy, seed) for strategy in STRATEGIES for seed in range(seeds)]
    done = [replay(pool, *job, plan) for job in track(jobs, f"replay on {pool.name}")]
    return pd.concat(done, ignore_index=True)


def labels_to_error(n_labels: Array, errors: Array, target: float) -> float:
    """Return the labels at which an error first falls to ``target``, straight between rounds; NaN if it never does."""
    reached = np.flatnonzero(errors <= target)
    if not len(reached):
        return float("nan")
    i = int(reached[0])
    if i == 0:
        return float(n_labels[0])
    share = (errors[i - 1] - target) / (errors[i - 1] - errors[i])
    return float(n_labels[i - 1] + share * (n_labels[i] - n_labels[i - 1]))


def labels_needed(curves: pd.DataFrame) -> pd.DataFrame:
    """Return labels for a given error: the errors that uniform sampling reaches at half of its budget and at its end.

    One row a pool, group, target and strategy: mean over seeds with its 95 % interval, and how many seeds got there.
    """
    rows = []
    for (pool, group), own in curves.groupby(["pool", "group"], sort=False):
        mean = own[own["strategy"] == "uniform"].groupby("n_labels")["mape_percent"].mean()
        for when, place in (("half", len(mean) // 2), ("end", len(mean) - 1)):
            target = float(mean.iloc[place])
            for strategy, seeds in own.groupby("strategy", sort=False):
                needed = [
                    labels_to_error(
                        one["n_labels"].to_numpy(float), one["mape_percent"].to_numpy(float), target
                    )
                    for _, one in seeds.groupby("seed")
                ]
                found = mean_interval(needed)
                rows.append(
                    (pool, group, when, target, strategy, found.mean, found.half_width, found.n, len(needed))
                )
    columns = ["pool", "group", "target_at", "target_mape_percent", "strategy", "labels", "half_width", "reached",
               "seeds"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def final_errors(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the error at the largest budget that all strategies have, paired with uniform by seed."""
    rows = []
    for (pool, group), own in curves.groupby(["pool", "group"], sort=False):
        budget = own.groupby(["strategy", "seed"])["n_labels"].max().min()
        at = {
            key: float(np.interp(budget, one["n_labels"], one["mape_percent"]))
            for key, one in own.groupby(["strategy", "seed"])
        }
        for strategy in STRATEGIES:
            mine = np.array([error for (name, _), error in at.items() if name == strategy])
            base = np.array([error for (name, _), error in at.items() if name == "uniform"])
            error, gain = mean_interval(mine), mean_interval(mine - base)
            rows.append(
                (pool, group, int(budget), strategy, error.mean, error.half_width, gain.mean, gain.half_width)
            )
    columns = ["pool", "group", "labels", "strategy", "mape_percent", "half_width", "against_uniform",
               "against_half_width"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def verdict(table: pd.DataFrame) -> str:
    """Return in words, for every pool and group, whether focused sampling beats uniform at equal budget."""
    lines = []
    for row in table[table["strategy"].isin(["focused", "half focused"])].to_dict("records"):
        gain, width = float(row["against_uniform"]), float(row["against_half_width"])
        word = "no different from uniform beyond noise"
        if abs(gain) > width:
            word = "better than uniform" if gain < 0 else "WORSE than uniform"
        place = f"{row['pool']}, {row['group']}"
        lines.append(f"- {place}: {row['strategy']} is {word} ({gain:+.1f} ± {width:.1f} points)")
    return "\n".join(lines)


def markdown(needed: pd.DataFrame, final: pd.DataFrame) -> str:
    """Return both tables and the verdict."""
    parts = ["\nLabels needed for the error that uniform sampling has at half of its budget and at its end\n",
             table_line(["pool", "test rows", "error, %", *STRATEGIES]),
             table_line(["---"] * (3 + len(STRATEGIES)))]  # fmt: skip
    for (pool, group, _), own in needed.groupby(["pool", "group", "target_at"], sort=False):
        cells = [_needed(own[own["strategy"] == name].iloc[0]) for name in STRATEGIES]
        parts.append(table_line([str(pool), str(group), f"{own['target_mape_percent'].iloc[0]:.1f}", *cells]))
    parts += ["\nError at equal budget, MAPE %\n", table_line(["pool", "test rows", "labels", *STRATEGIES]),
              table_line(["---"] * (3 + len(STRATEGIES)))]  # fmt: skip
    for (pool, group, labels), own in final.groupby(["pool", "group", "labels"], sort=False):
        found = {
            str(row["strategy"]): f"{float(row['mape_percent']):.1f} ± {float(row['half_width']):.1f}"
            for row in own.to_dict("records")
        }
        cells = [found[name] for name in STRATEGIES]
        parts.append(table_line([str(pool), str(group), str(labels), *cells]))
    return "\n".join([*parts, "", verdict(final)])


def _needed(row: pd.Series) -> str:
    if row["reached"] < row["seeds"]:  # a mean over those that got there would flatter
        return f"reached by {row['reached']} of {row['seeds']} seeds"
    return f"{row['labels']:.0f}" + (f" ± {row['half_width']:.0f}" if np.isfinite(row["half_width"]) else "")


def main() -> None:
    """Read the command line, print the tables and write them."""
    from benchmarks.accuracy.replay_pools import kernel_pool, run_pool  # noqa: PLC0415 - torch, after the arguments

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", help="a run table, or a folder of public sources (default: the simulated set)"
    )
    parser.add_argument("--kernels", type=Path, help="the public kernels.parquet, or a table of kernels")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables and the picture")
    parser.add_argument("--seeds", type=int, default=N_SEEDS)
    args = parser.parse_args()
    runs = None if args.runs is None else str(run_table(args.runs, args.output))
    pools = [run_pool(runs)]
    if args.kernels is not None:
        pools.append(kernel_pool(kernel_table(args.kernels, args.output)))
    curves = pd.concat([replays(pool, seeds=args.seeds) for pool in pools], ignore_index=True)
    needed, final = labels_needed(curves), final_errors(curves)
    args.output.mkdir(parents=True, exist_ok=True)
    curves.round(3).to_csv(args.output / "replay_curves.csv", index=False)
    needed.round(2).to_csv(args.output / "replay_labels.csv", index=False)
    final.round(2).to_csv(args.output / "replay_final.csv", index=False)
    (args.output / "replay.md").write_text(markdown(needed, final) + "\n", encoding="utf-8")
    draw_replays(curves, args.output / "replay.png")
    print(markdown(needed, final))


if __name__ == "__main__":
    main()
