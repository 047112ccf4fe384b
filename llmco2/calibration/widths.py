"""How wide an interval is after calibration: as wide as held-back runs ask for.

Invariant: the width moves away from the checkpoint's own only as far as the number of held-back runs bears out, and is
never under what nine runs or more need for 90 % of new ones to be covered.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.predictor.intervals import COVERAGE, LogQuantiles

Array = NDArray[np.float64]
NARROWEST: Final = 0.5
WIDEST: Final = 4.0
_PRIOR_RUNS: Final = 8.0  # what the checkpoint's own width counts for
_Z: Final = 1.6449  # sigmas at an interval's end: the normal distribution's 95th percentile
_LARGEST: Final = 4.0  # ends past which an error is an outlier: it widens no more than that
_LEAST_END: Final = 0.02  # of a log: no interval is narrower


def errors_in_ends(ratios: Array, ends: LogQuantiles) -> Array:
    """Return each error in units of the interval's end on its side, those that are known, ``(n_known,)``.

    ``ratios`` are ``log(measured / predicted)``, ``(n_runs,)``, NaN where not measured.
    """
    end = np.where(ratios > 0.0, np.maximum(ends.high, _LEAST_END), np.maximum(-ends.low, _LEAST_END))
    used: Array = np.abs(ratios) / end
    return used[np.isfinite(used)]


def width_scale(used: Array) -> float:
    """Return the factor on an interval's width that held-back errors ask for; 1 where there are none.

    ``used`` are errors in units of the interval's ends, ``(n,)``. Their mean square is averaged with that of eight
    runs that fit the interval as it is; from nine runs on, the order statistic that covers 90 % of new ones must fit
    as well.
    """
    n = len(used)
    squares = float(np.sum(np.minimum(used, _LARGEST) ** 2)) * _Z**2
    wanted = np.sqrt((_PRIOR_RUNS + squares) / (_PRIOR_RUNS + n))
    rank = int(np.ceil(COVERAGE * (n + 1)))
    if n and rank <= n:
        wanted = max(wanted, float(np.sort(used)[rank - 1]))
    return float(np.clip(wanted, NARROWEST, WIDEST))
