"""How sure a prediction is: errors of measured runs by engine, widened by what of a request was never measured.

Invariant: errors of different causes are independent, so their squares add; an interval is cut to the physical bounds.
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
from llmco2.physics.hosts import known_host
from llmco2.predictor.domain import unmeasured_mechanisms
from llmco2.records.request import UNKNOWN

COVERAGE: Final = 0.90
LEAST_MEASURED_SHARE: Final = 0.5  # of a step's kernel time, for its kernels to count as measured


class Unmeasured(StrEnum):
    """What of a deployment was never measured; each widens the interval by a fitted amount."""

    ENGINE = "engine"  # not named
    HOST = "host"  # a relative's constants stand in
    KERNELS = "kernels"  # of that stack on that family of boards in that format
    BOARD = "board"  # no watts of it, or of its power limit
    MECHANISM = "mechanism"  # of the model, under that engine


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuantiles:
    """Ends of the interval of ``log(measured / predicted)``, ``(n,)`` each."""

    low: Column
    high: Column


def unmeasured(
    hosts: dict[str, Any], domain: dict[str, Any], deployment: Deployment, measured_share: float
) -> tuple[Unmeasured, ...]:
    """Return what of a deployment was never measured."""
    engine = deployment.engine
    found = []
    if engine == UNKNOWN:
        found.append(Unmeasured.ENGINE)
    elif known_host(engine, hosts) != engine:
        found.append(Unmeasured.HOST)
    if measured_share < LEAST_MEASURED_SHARE:
        found.append(Unmeasured.KERNELS)
    if deployment.gpu_id not in domain["gpus"]:
        found.append(Unmeasured.BOARD)
    if unmeasured_mechanisms(domain, deployment):
        found.append(Unmeasured.MECHANISM)
    return tuple(found)


def log_quantiles(
    quantity: str,
    intervals: dict[str, Any],
    engines: list[str],
    news: list[tuple[Unmeasured, ...]],
    index: NDArray[np.intp],
) -> LogQuantiles:
    """Return the interval's ends for every request.

    Args:
        quantity: "energy" or "time".
        intervals: of the checkpoint.
        engines: each deployment's engine whose runs the errors are of; one without errors takes all engines'.
        news: what of each deployment was never measured.
        index: each request's deployment.
    """
    ends = np.empty((len(engines), 2))
    for i, (engine, new) in enumerate(zip(engines, news, strict=True)):
        base = intervals["engines"].get(engine, intervals["pooled"])[quantity]
        extra = tuple(float(intervals["extra"][item][quantity]) for item in new)
        ends[i] = widened((base[0], base[1]), extra)
    return LogQuantiles(low=ends[index, 0], high=ends[index, 1])


def widened(ends: tuple[float, float], extra: tuple[float, ...]) -> tuple[float, float]:
    """Return an interval (logs) whose half-width has errors of other causes added in squares; its middle stays."""
    middle, half = (ends[0] + ends[1]) / 2.0, (ends[1] - ends[0]) / 2.0
    half = math.hypot(half, *extra)
    return middle - half, middle + half
