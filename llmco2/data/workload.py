"""What people ask of a served model: a prior over prompt length, output length and batch size.

The shipped prior is the Azure 2023 traces of conversation and code completion (Patel et al., ISCA 2024) as
quantile tables. Prompt and output lengths are drawn independently: their rank correlation in the traces is
+0.07 and −0.02.

Invariant: a density is per e-fold of each size, positive everywhere (the tails fall off, they never reach
zero), and integrates to one over log prompt × log output × log batch.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from llmco2.data.formats import parse_file
from llmco2.errors import FileFormatError, UnknownNameError, explain
from llmco2.resources import datasets_dir

Array = NDArray[np.float64]
QUANTILES_FILE: Final = "azure_quantiles.csv"
TRACES: Final = ("conv", "code")
# The traces say nothing of batches, so a batch size is log-uniform up to this.
DEFAULT_MAX_BATCH_SIZE: Final = 256.0
_SMOOTHING: Final = 0.15  # scale of the logistic kernel, in e-folds: the tables know no finer detail
_CSV_QUANTILES: Final = 201


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marginal:
    """The distribution of one size: straight between quantiles on a log axis, smoothed for densities."""

    log_knots: Array  # (n_knots,) log sizes, never falling
    cumulative: Array  # (n_knots,) 0 to 1, rising

    def quantile(self, share: ArrayLike) -> Array:
        """Return the size below which ``share`` of the requests lie."""
        return np.exp(np.interp(np.asarray(share, dtype=np.float64), self.cumulative, self.log_knots))

    def density(self, size: ArrayLike) -> Array:
        """Return the smoothed density per e-fold at each size; NaN (unknown) counts as a typical request."""
        x = np.log(np.maximum(np.asarray(size, dtype=np.float64), 1e-9))
        known = np.isfinite(x)
        values = self._smoothed(np.where(known, x, 0.0))
        return np.where(known, values, self._typical())

    def _smoothed(self, x: Array) -> Array:
        mass = np.diff(self.cumulative)
        low, high = self.log_knots[:-1], self.log_knots[1:]
        width = np.maximum(high - low, 1e-3)  # a jump of the quantile function is a narrow segment
        low = np.where(high - low < width, (low + high - width) / 2, low)
        upper = _logistic((x[..., None] - low) / _SMOOTHING)
        lower = _logistic((x[..., None] - low - width) / _SMOOTHING)
        total: Array = np.sum(mass / width * (upper - lower), axis=-1)
        return total + 1e-12  # far outside, rounding would make it zero

    def _typical(self) -> float:
        return float(np.mean(self._smoothed(np.log(self.quantile((np.arange(64) + 0.5) / 64)))))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Component:
    """One kind of request: a share of the workload with its own prompts and outputs."""

    share: float
    prompt: Marginal
    output: Marginal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkloadSample:
    """Drawn requests, one entry each."""

    prompt_tokens: Array  # (n,) whole, at least 1
    output_tokens: Array  # (n,) whole, at least 1
    batch_size: Array  # (n,) whole, at least 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkloadPrior:
    """A mixture of kinds of requests, and a distribution of batch sizes."""

    name: str
    components: tuple[Component, ...]
    batch: Marginal

    def density(self, prompt_tokens: ArrayLike, output_tokens: ArrayLike, batch_size: ArrayLike) -> Array:
        """Return the density per e-fold of each of the three sizes; shapes broadcast."""
        requests = np.zeros(())
        for part in self.components:
            requests = requests + part.share * part.prompt.density(prompt_tokens) * part.output.density(
                output_tokens
            )
        return np.asarray(requests * self.batch.density(batch_size), dtype=np.float64)

    def weights(self, runs: pd.DataFrame) -> Array:
        """Return one sampling weight per run, (n_runs,), proportional to the density and with sum 1."""
        density = self.density(
            runs["prompt_tokens"].to_numpy(dtype=np.float64),
            runs["output_tokens"].to_numpy(dtype=np.float64),
            runs["batch_size"].to_numpy(dtype=np.float64),
        )
        weights: Array = density / density.sum()
        return weights

    def sample(self, n: int, rng: np.random.Generator) -> WorkloadSample:
        """Return ``n`` requests drawn with the caller's generator."""
        which = rng.choice(len(self.components), size=n, p=[part.share for part in self.components])
        prompt, output, batch = rng.random((3, n))
        prompts = np.select(
            [which == i for i in range(len(self.components))],
            [part.prompt.quantile(prompt) for part in self.components],
        )
        outputs = np.select(
            [which == i for i in range(len(self.components))],
            [part.output.quantile(output) for part in self.components],
        )
        return WorkloadSample(
            prompt_tokens=_whole(prompts),
            output_tokens=_whole(outputs),
            batch_size=_whole(self.batch.quantile(batch)),
        )


def azure_workload(trace: str = "all", *, max_batch_size: float = DEFAULT_MAX_BATCH_SIZE) -> WorkloadPrior:
    """Return the shipped prior: ``conv``, ``code``, or ``all`` (half of each).

    Raises:
        UnknownNameError: no such trace.
    """
    if trace not in (*TRACES, "all"):
        raise UnknownNameError("trace", trace, (*TRACES, "all"))
    names = TRACES if trace == "all" else (trace,)
    tables = _quantile_tables()
    components = tuple(
        Component(
            share=1 / len(names), prompt=tables[name, "prompt_tokens"], output=tables[name, "output_tokens"]
        )
        for name in names
    )
    return WorkloadPrior(
        name=f"azure-2023-{trace}", components=components, batch=_log_uniform(max_batch_size)
    )


def workload_from_csv(path: str | Path, *, max_batch_size: float = DEFAULT_MAX_BATCH_SIZE) -> WorkloadPrior:
    """Return the prior of one's own requests: a table with ``prompt_tokens`` and ``output_tokens``.

    A column ``batch_size`` is used where present; other columns are ignored.

    Raises:
        FileFormatError: a column is missing, or a cell is not a positive number; names the line.
        InputError: the format is unknown.
    """
    file = Path(path)
    if not file.is_file():
        raise FileFormatError(explain("no such file", got=file, expected="prompt_tokens,output_tokens rows"))
    parsed = parse_file(file)
    columns = {}
    for name in ("prompt_tokens", "output_tokens", "batch_size"):
        if name not in parsed.frame.columns:
            if name == "batch_size":
                continue
            raise FileFormatError(explain(f"{file.name} is not a workload", got=f"no column {name!r}"))
        values = pd.to_numeric(parsed.frame[name], errors="coerce").to_numpy(dtype=np.float64)
        bad = ~np.isfinite(values) | (values < 1)
        if bad.any():
            index = int(np.flatnonzero(bad)[0])
            raise FileFormatError(
                explain(
                    f"{file.name}, {parsed.place(index)}: bad {name}",
                    got=repr(parsed.frame[name].iloc[index]),
                    expected="a number of at least 1",
                )
            )
        columns[name] = _from_values(values)
    component = Component(share=1.0, prompt=columns["prompt_tokens"], output=columns["output_tokens"])
    batch = columns.get("batch_size", _log_uniform(max_batch_size))
    return WorkloadPrior(name=file.name, components=(component,), batch=batch)


def _quantile_tables() -> dict[tuple[str, str], Marginal]:
    with (datasets_dir() / QUANTILES_FILE).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    tables = {}
    for trace in TRACES:
        chosen = sorted(
            (row for row in rows if row["trace"] == trace), key=lambda row: float(row["quantile"])
        )
        shares = np.array([float(row["quantile"]) for row in chosen])
        for name in ("prompt_tokens", "output_tokens"):
            sizes = np.array([float(row[name]) for row in chosen])
            tables[trace, name] = Marginal(log_knots=np.log(sizes), cumulative=shares)
    return tables


def _from_values(values: Array) -> Marginal:
    shares = np.linspace(0.0, 1.0, _CSV_QUANTILES)
    return Marginal(log_knots=np.log(np.quantile(values, shares)), cumulative=shares)


def _log_uniform(largest: float) -> Marginal:
    return Marginal(log_knots=np.array([0.0, np.log(max(largest, 1.0))]), cumulative=np.array([0.0, 1.0]))


def _whole(sizes: Array) -> Array:
    return np.maximum(1.0, np.rint(sizes))


def _logistic(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
