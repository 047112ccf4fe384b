"""What rows say against themselves, and which of it keeps a row of one's own from being used.

Flags are separated by semicolons, with or without a space behind them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pandas as pd

from llmco2.records.run import REFERENCE_KERNELS

# Measured rightly, but of software that answers another question: left out of a table unless asked for.
LEFT_OUT: Final = (REFERENCE_KERNELS,)


def has_flag(flags: pd.Series, names: Iterable[str]) -> pd.Series:
    """Return which rows carry any of the flags ``names``."""
    wanted = set(names)
    return flags.map(lambda text: any(one.strip() in wanted for one in str(text).split(";"))).astype(bool)
