"""Regions of the request space: cells of model size, batch, prompt, output and GPU, for focused sampling and
reports.

Invariant: a row's region depends on its request alone; a size that is not known has a bin of its own, ``?``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.catalog.models import resolve_model
from llmco2.catalog.params import parameter_count
from llmco2.errors import InputError, UnknownNameError, explain

Array = NDArray[np.float64]
UNKNOWN_BIN: Final = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionGrid:
    """Inner bin edges of each size; a value on an edge belongs to the bin above it."""

    params: tuple[float, ...] = (2e9, 6e9, 12e9, 30e9, 100e9)
    batch_size: tuple[float, ...] = (2, 8, 32, 128)
    prompt_tokens: tuple[float, ...] = (128, 512, 2048)
    output_tokens: tuple[float, ...] = (2, 64, 256, 1024)
    by_gpu: bool = True

    def regions(self, runs: pd.DataFrame) -> NDArray[np.object_]:
        """Return the region of each run, (n_runs,): ``"A2 p1 b0 i2 o3"``, with ``?`` for what is unknown."""
        names = {name: _params(str(name)) for name in runs["model"].unique().tolist()}
        parts = [
            _labels("p", runs["model"].map(names).to_numpy(dtype=np.float64), self.params),
            _labels("b", runs["batch_size"].to_numpy(dtype=np.float64), self.batch_size),
            _labels("i", runs["prompt_tokens"].to_numpy(dtype=np.float64), self.prompt_tokens),
            _labels("o", runs["output_tokens"].to_numpy(dtype=np.float64), self.output_tokens),
        ]
        gpus = runs["gpu"].astype(str).to_list() if self.by_gpu else [""] * len(runs)
        names_of_rows = [" ".join(filter(None, row)) for row in zip(gpus, *parts, strict=True)]
        return np.array(names_of_rows, dtype=object)


def region_errors(regions: NDArray[np.object_], errors: Array) -> dict[str, float]:
    """Return the mean error of each region, rows without an error (NaN) left out.

    Args:
        regions: region name of each row, (n_rows,).
        errors: a non-negative error of each row, (n_rows,), such as ``|log(predicted / measured)|``.

    Raises:
        InputError: lengths differ.
    """
    if len(regions) != len(errors):
        raise InputError(explain("one error per row", got=len(errors), expected=len(regions)))
    known = np.isfinite(errors)
    means = pd.Series(errors[known]).groupby(np.asarray(regions)[known]).mean()
    return {str(name): float(value) for name, value in means.items()}


def _labels(letter: str, values: Array, edges: tuple[float, ...]) -> list[str]:
    bins = np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right")
    return [letter + (str(b) if ok else UNKNOWN_BIN) for b, ok in zip(bins, np.isfinite(values), strict=True)]


def _params(model: str) -> float:
    try:
        return float(parameter_count(resolve_model(model)))
    except UnknownNameError:
        return float("nan")
