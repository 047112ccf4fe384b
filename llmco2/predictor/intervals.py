"""How sure a prediction is: intervals calibrated by what is new about a request.

Invariant: an interval comes from errors on held-out groups of the same kind of newness (a model family, a
board, or both left out of the fit), never from errors on rows that were fitted, and is cut to the physical
bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmco2.deployment.deployment import Deployment
from llmco2.operators.columns import Column
from llmco2.physics.groups import deployment_name
from llmco2.records.request import UNKNOWN

COVERAGE: Final = 0.90


class Newness(StrEnum):
    """What of a deployment the training data lacks."""

    MEASURED = "measured"  # nothing but the request: this very deployment was measured
    KNOWN = "known"  # the deployment, of a board and a family that were measured
    NEW_MODEL = "new_model"
    NEW_GPU = "new_gpu"
    NEW_BOTH = "new_both"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuantiles:
    """Ends of the interval of ``log(measured / predicted)``, ``(n,)`` each."""

    low: Column
    high: Column


def newness(domain: dict[str, Any], deployment: Deployment) -> Newness:
    """Return what is new about a deployment."""
    new_model = deployment.architecture.family not in domain["families"]
    new_gpu = deployment.gpu_id not in domain["gpus"]
    if new_model:
        return Newness.NEW_BOTH if new_gpu else Newness.NEW_MODEL
    if new_gpu:
        return Newness.NEW_GPU
    return Newness.MEASURED if deployment_name(deployment) in domain["deployments"] else Newness.KNOWN


def unknown_factors(
    intervals: dict[str, Any], domain: dict[str, Any], deployment: Deployment
) -> tuple[float, ...]:
    """Return how much wider errors were where the engine or the precision was hidden, for what was never measured."""
    factors = []
    if deployment.engine == UNKNOWN or deployment.engine not in domain["engines"]:
        factors.append(float(intervals["unknown_engine_factor"]))
    if deployment.precision.name not in domain["precisions"]:
        factors.append(float(intervals["unknown_precision_factor"]))
    return tuple(factors)


def widened(end: float, known_end: float, factors: tuple[float, ...]) -> float:
    """Return an interval's end (a log) with the errors of unknown inputs added in squares, keeping its sign.

    A factor ``f`` was measured on known deployments, so it adds ``known_end² (f² − 1)``; errors of different causes
    are independent, and for a known deployment the end becomes ``f`` times as far.
    """
    extra = sum(known_end**2 * (factor**2 - 1.0) for factor in factors)
    return math.copysign(math.sqrt(end**2 + extra), end)


def log_quantiles(
    intervals: dict[str, Any], domain: dict[str, Any], deployments: list[Deployment], index: NDArray[np.intp]
) -> LogQuantiles:
    """Return the interval's ends for every request; ``index`` is each one's deployment."""
    known = intervals["cases"][Newness.KNOWN]
    ends = np.empty((len(deployments), 2))
    for i, deployment in enumerate(deployments):
        case = intervals["cases"][newness(domain, deployment)]
        factors = unknown_factors(intervals, domain, deployment)
        ends[i] = [widened(case[side], known[side], factors) for side in ("low", "high")]
    return LogQuantiles(low=ends[index, 0], high=ends[index, 1])
