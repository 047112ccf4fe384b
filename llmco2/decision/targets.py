"""What an option may take at most, and what is missing where none of them stays within it.

Invariant: a target that nobody set excludes nothing; raising one never excludes an option that met it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.bounded import shown
from llmco2.errors import RequestError, explain

VERDICTS: Final = ("meets", "misses", "exceeds memory", "no answer")
COLUMNS: Final = {
    "max_ttft_s": "ttft_s",
    "max_tpot_s": "tpot_s",
    "max_latency_s": "latency_s",
    "max_gpus": "gpus_needed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Upper limits that were asked for; None: no limit.

    Times are seconds by the middle of the prediction: to the first token, between later ones, to the last.
    """

    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    max_latency_s: float | None = None
    max_gpus: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.given().items():
            usable = isinstance(limit, int | float) and not isinstance(limit, bool)
            if not (usable and 0.0 < limit < math.inf):
                raise RequestError(
                    explain(f"{name} is out of range", got=shown(limit), expected="a number above 0")
                )
        if self.max_gpus is not None and self.max_gpus < 1:
            raise RequestError(
                explain("max_gpus is out of range", got=f"{self.max_gpus:g}", expected="at least 1")
            )

    def given(self) -> dict[str, float]:
        """Return the limits that were set, by name."""
        limits = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: limit for name, limit in limits.items() if limit is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A target, and the value nearest to it that can be met."""

    target: str  # a field of Targets
    asked: float
    nearest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Why no option meets the targets.

    Where ``alone`` is set, each of ``binding`` would do by itself: at its nearest value, with the other targets as they
    are, an option meets all. Else the values are those of one option, and all of ``binding`` have to move.
    """

    binding: tuple[Missed, ...]
    alone: bool
    closest: int  # row of the option that comes closest


def excess(options: pd.DataFrame, targets: Targets) -> NDArray[np.float64]:
    """Return each option's values over the limits that are set, ``(n_options, n_targets)``."""
    given = targets.given()
    columns = [options[COLUMNS[name]].to_numpy(np.float64) / limit for name, limit in given.items()]
    return np.stack(columns, axis=1) if columns else np.zeros((len(options), 0))


def _within(options: pd.DataFrame, targets: Targets) -> NDArray[np.bool_]:
    """Return which options stay within each limit that is set, ``(n_options, n_targets)``."""
    given = targets.given()
    columns = [options[COLUMNS[name]].to_numpy(np.float64) <= limit for name, limit in given.items()]
    return np.stack(columns, axis=1) if columns else np.ones((len(options), 0), dtype=bool)


def meets(options: pd.DataFrame, targets: Targets) -> NDArray[np.bool_]:
    """Return which options stay within every target, ``(n_options,)``."""
    return np.asarray(_within(options, targets).all(axis=1))


def surely_meets(options: pd.DataFrame, targets: Targets) -> NDArray[np.bool_]:
    """Return which options stay within every target at the slow end of the 90 % interval of their times."""
    times = {f"{name}_s": options[f"{name}_high_s"] for name in ("ttft", "tpot", "latency")}
    slow = options.assign(gpus_needed=options["gpus_needed_high"], **times)
    return meets(slow, targets)


def shortfall(options: pd.DataFrame, targets: Targets, objective: NDArray[np.float64]) -> Shortfall:
    """Return what is missing where no option meets ``targets``; ``objective`` breaks ties, least first.

    Args:
        options: at least one, each with the columns that targets limit; none within all targets.
        targets: at least one is set.
        objective: ``(n_options,)``.
    """
    names = list(targets.given())
    over, within = excess(options, targets), _within(options, targets)
    alone: list[tuple[float, float, int, Missed]] = []
    for k, name in enumerate(names):
        others = np.flatnonzero(np.delete(within, k, axis=1).all(axis=1))
        if len(others):
            row = int(others[np.lexsort((objective[others], over[others, k]))[0]])
            alone.append(
                (float(over[row, k]), float(objective[row]), row, _missed(options, targets, name, row))
            )
    if alone:
        closest = min(alone, key=lambda item: item[:3])[2]
        return Shortfall(binding=tuple(item[3] for item in alone), alone=True, closest=closest)
    row = int(np.lexsort((objective, over.max(axis=1)))[0])
    binding = tuple(
        _missed(options, targets, name, row) for k, name in enumerate(names) if not within[row, k]
    )
    return Shortfall(binding=binding, alone=False, closest=row)


def _missed(options: pd.DataFrame, targets: Targets, name: str, row: int) -> Missed:
    nearest = float(options[COLUMNS[name]].to_numpy(np.float64)[row])
    return Missed(target=name, asked=targets.given()[name], nearest=nearest)
