"""What a label carries of its windows' warnings.

Invariant: what a warning says of a window is judged again over all windows of the label where that is what
counts: a label whose windows together saw enough ticks is not short, and is held against integrated power.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmco2.measurement.meters.meter import (
    COUNTER_DISAGREES,
    COUNTER_SLOPE,
    SHORT_WINDOW,
    SPARSE_POWER,
    WindowReading,
)
from llmco2.measurement.meters.phase_window import RECOMMENDED_TICKS, disagrees


def label_flags(readings: Sequence[WindowReading]) -> tuple[str, ...]:
    """Return the flags of a label that was measured in these windows, each once."""
    flags = dict.fromkeys(flag for reading in readings for flag in reading.flags)
    if SHORT_WINDOW in flags and sum(reading.n_ticks for reading in readings) >= RECOMMENDED_TICKS:
        del flags[SHORT_WINDOW]
        if SPARSE_POWER not in flags and _disagree(readings):
            flags[COUNTER_DISAGREES] = None
    return tuple(flags)


def _disagree(readings: Sequence[WindowReading]) -> bool:
    """Return whether counter and integrated power differ over all windows together."""
    counter = [r.energy_j for r in readings if r.method == COUNTER_SLOPE and r.energy_j is not None]
    power = [r.integrated_energy_j for r in readings if r.integrated_energy_j is not None]
    if len(counter) < len(readings) or len(power) < len(readings):
        return False
    return disagrees(sum(counter), sum(power))
