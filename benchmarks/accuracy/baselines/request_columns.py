"""Columns that say what engine and precision serve a request, as numbers a regressor can read.

Invariant: names are learnt from training rows; one that only test rows have is all zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmco2.data.module import EnergyDataModule, Index


def trained_names(data: EnergyDataModule, rows: Index) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the engines and the precisions of ``rows``, sorted."""
    seen = [data.tensors.deployments[i] for i in np.unique(data.tensors.deployment.numpy()[rows])]
    return tuple(sorted({d.engine for d in seen})), tuple(sorted({d.precision.name for d in seen}))


def name_columns(
    data: EnergyDataModule, rows: Index, names: tuple[tuple[str, ...], tuple[str, ...]]
) -> NDArray[np.float64]:
    """Return one column a name, 1 where the row has it, ``(n_rows, n_engines + n_precisions)``."""
    engines, precisions = names
    table = np.array([
        [*(float(d.engine == e) for e in engines), *(float(d.precision.name == p) for p in precisions)]
        for d in data.tensors.deployments
    ])  # fmt: skip
    chosen: NDArray[np.float64] = table[data.tensors.deployment.numpy()[rows]]
    return chosen
