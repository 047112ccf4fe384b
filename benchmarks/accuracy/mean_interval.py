"""A mean with its 95 % confidence interval, over seeds, draws or groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_Z = 1.959964  # 97.5th percentile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanInterval:
    """A mean and how far the ends of its interval are from it; NaN where one value says nothing of spread."""

    mean: float
    half_width: float
    n: int

    def __str__(self) -> str:
        """Return ``12.3 ± 1.4``."""
        if not np.isfinite(self.mean):
            return "–"
        return f"{self.mean:.1f}" + (f" ± {self.half_width:.1f}" if np.isfinite(self.half_width) else "")


def mean_interval(values: ArrayLike) -> MeanInterval:
    """Return the mean of independent values and Student's 95 % interval; values that are not finite are left out."""
    array = np.asarray(values, dtype=np.float64).ravel()
    known = array[np.isfinite(array)]
    n = len(known)
    mean = float(known.mean()) if n else float("nan")
    if n < 2:
        return MeanInterval(mean=mean, half_width=float("nan"), n=n)
    half_width = student_975(n - 1) * float(known.std(ddof=1)) / float(np.sqrt(n))
    return MeanInterval(mean=mean, half_width=half_width, n=n)


def student_975(degrees_of_freedom: int) -> float:
    """Return the 97.5th percentile of Student's t.

    Exact for one and two degrees of freedom; from three on Abramowitz & Stegun 26.7.5, within 1 %.
    """
    n, z = degrees_of_freedom, _Z
    if n == 1:
        return 12.7062
    if n == 2:
        return 4.3027
    terms = (
        (z**3 + z) / (4 * n),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4),
    )
    return z + sum(terms)
