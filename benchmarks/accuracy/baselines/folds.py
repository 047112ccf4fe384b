"""Groups left out of a fit: whole (board, model) pairs, so that no row of a judged group was fitted.

Invariant: the fold of a group depends on its name alone, never on the order or number of rows.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_FOLDS: Final = 5


def fold_of_runs(runs: pd.DataFrame, n_folds: int = N_FOLDS) -> NDArray[np.intp]:
    """Return the fold of each run, ``(n_runs,)``: a hash of its board and model."""
    codes, groups = pd.factorize(pd.MultiIndex.from_frame(runs[["gpu", "model"]]))
    digests = [hashlib.sha256("/".join(group).encode()).digest() for group in groups]
    folds = np.array([int.from_bytes(digest[:8], "big") % n_folds for digest in digests], dtype=np.intp)
    chosen: NDArray[np.intp] = folds[codes]
    return chosen
