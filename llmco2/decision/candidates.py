"""Candidates: every combination of the values that options were given.

Invariant: a value that means nothing is refused by name before anything is predicted, and no combination is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import pandas as pd

from llmco2.catalog.grids import resolve_zone
from llmco2.errors import InputError, explain
from llmco2.predictor.frame import NAME_RESOLVERS
from llmco2.records.columns import ZONE_COLUMN
from llmco2.records.request import InferenceRequest

MAX_COMBINATIONS: Final = 100_000
RESOLVERS: Final[Mapping[str, Callable[[str], Any]]] = {**NAME_RESOLVERS, ZONE_COLUMN: resolve_zone}


def check_values(asked: Mapping[str, Any]) -> None:
    """Raise InputError for a name that means nothing or a number that no request can have."""
    for name, value in asked.items():
        for each in value if isinstance(value, tuple) else (value,):
            if name in RESOLVERS:
                RESOLVERS[name](each)
            else:
                InferenceRequest(**{"model": "any", "gpu": "any", name: each})


def combinations(asked: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row for every combination of the values, a tuple being several; raise InputError for too many."""
    values = [value if isinstance(value, tuple) else (value,) for value in asked.values()]
    number = math.prod(map(len, values))
    if number > MAX_COMBINATIONS:
        raise InputError(
            explain("too many combinations", got=f"{number:,}", expected=f"{MAX_COMBINATIONS:,} or fewer")
        )
    return pd.DataFrame(list(itertools.product(*values)), columns=list(asked))
