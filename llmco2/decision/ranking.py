"""Which option leads by an objective, and which are as good as it as far as the predictor can tell.

Invariant: the order is that of the middles, ties by energy and then GPUs; adding options never makes the first worse.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Column = NDArray[np.float64]


class Objective(StrEnum):
    """What is to be least."""

    ENERGY = "energy"  # GPU energy per output token
    CARBON = "carbon"  # operational and embodied CO2e per output token
    LATENCY = "latency"  # seconds to the last token
    GPUS = "gpus"


OBJECTIVE_COLUMNS: Final = {
    Objective.ENERGY: "energy_per_million_output_tokens_wh",
    Objective.CARBON: "gco2e_per_million_output_tokens",
    Objective.LATENCY: "latency_s",
    Objective.GPUS: "gpus_needed",
}


def objective_interval(options: pd.DataFrame, objective: Objective) -> tuple[Column, Column, Column]:
    """Return the objective of every option and the ends of its 90 % interval, ``(n_options,)`` each.

    CO2e takes the interval of energy: the factors of the grid and the hardware are shared by what is compared.
    """
    middle = options[OBJECTIVE_COLUMNS[objective]].to_numpy(np.float64)
    if objective is Objective.LATENCY:
        return (
            middle,
            options["latency_low_s"].to_numpy(np.float64),
            options["latency_high_s"].to_numpy(np.float64),
        )
    if objective is Objective.GPUS:
        return middle, middle, options["gpus_needed_high"].to_numpy(np.float64)
    low, high = (options[f"energy_relative_{end}"].to_numpy(np.float64) for end in ("low", "high"))
    return middle, middle * low, middle * high


def ranked(options: pd.DataFrame, objective: Objective) -> NDArray[np.intp]:
    """Return the positions of ``options`` with the least objective first, ties by energy, then GPUs, then place."""
    keys = (
        OBJECTIVE_COLUMNS[objective],
        OBJECTIVE_COLUMNS[Objective.ENERGY],
        OBJECTIVE_COLUMNS[Objective.GPUS],
    )
    return np.lexsort([options[name].to_numpy(np.float64) for name in reversed(keys)])


def equal_to_first(middle: Column, low: Column, high: Column) -> NDArray[np.bool_]:
    """Return which options differ from the first by less than the error band, ``(n_options,)``; the first does.

    Two options are equal where the middle of one lies within the interval of the other.
    """
    if not len(middle):
        return np.zeros(0, dtype=bool)
    within_first = (low[0] <= middle) & (middle <= high[0])
    result: NDArray[np.bool_] = within_first | ((low <= middle[0]) & (middle[0] <= high))
    return result
