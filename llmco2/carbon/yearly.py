"""What a steady stream of requests needs and causes in a year.

Invariant: pure functions, for floats and numpy arrays alike. Only requests count: the idle draw of GPUs that wait
for work is in none of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmco2.units import SECONDS_PER_YEAR

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    import numpy.typing as npt

    Values: TypeAlias = float | npt.NDArray[np.float64]


def batches_per_year(requests_per_s: float, batch_size: Values) -> Values:
    """Return how often a year, of 365.25 days, a batch is served."""
    return requests_per_s * SECONDS_PER_YEAR / batch_size


def busy_replicas(requests_per_s: float, batch_size: Values, latency_s: Values) -> Values:
    """Return the mean number of deployments at work: requests in flight over those that one holds.

    Requests in flight are rate times latency (Little, Operations Research 9(3), 1961). A deployment holds
    ``batch_size`` of them, whether its batches start together or it runs a steady number.
    """
    return requests_per_s * latency_s / batch_size
