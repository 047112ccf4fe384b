"""Which options no other option beats in everything.

Invariant: an option is left out only where another is at least as good in every figure and better in one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def non_dominated(figures: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows of ``figures``, ``(n_options, n_figures)``, less being better, no other row dominates."""
    front = np.zeros(len(figures), dtype=bool)
    kept = np.empty((0, figures.shape[1]))
    for row in np.lexsort(figures.T[::-1]).tolist():  # what dominates a row comes before it
        figure = figures[row]
        beaten = (kept <= figure).all(axis=1) & (kept < figure).any(axis=1)
        if not beaten.any():
            front[row] = True
            kept = np.vstack([kept, figure])
    return front
