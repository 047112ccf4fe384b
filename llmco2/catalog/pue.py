"""Power usage effectiveness: facility energy over the energy of its computers.

Invariant: PUE covers cooling and power distribution, never the host; host power is counted before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from llmco2.catalog import tables
from llmco2.errors import UnknownNameError

INDUSTRY: Final = "industry"
_FILE: Final = "pue.csv"
_COLUMNS: Final = ("provider", "scope", "year", "pue", "source", "confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pue:
    """PUE of a provider's fleet, or of the industry, with the range that goes with it (dimensionless)."""

    provider: str
    pue: float
    low: float
    high: float
    source: str
    date: str  # year
    confidence: str  # high | medium | low


@cache
@tables.shipped(_FILE)
def _by_provider() -> Mapping[str, Pue]:
    """Return the newest figure of each provider; its range spans that provider's years.

    The industry's range spans every figure of the table, fleets of hyperscalers included: an unnamed site
    may be either.
    """
    rows = tables.read_table(_FILE, _COLUMNS)
    figures: dict[str, list[tuple[int, float, Mapping[str, str]]]] = {}
    for row in rows:
        where = f"{_FILE}, {row['provider']} {row['year']}"
        figure = (tables.whole(row, "year", where), tables.number(row, "pue", where, low=1.0), row)
        figures.setdefault(row["provider"], []).append(figure)
    everything = [pue for entries in figures.values() for _, pue, _ in entries]
    answer: dict[str, Pue] = {}
    for provider, entries in figures.items():
        year, pue, newest = max(entries, key=lambda entry: entry[0])
        span = everything if provider == INDUSTRY else [value for _, value, _ in entries]
        answer[provider] = Pue(
            provider=provider,
            pue=pue,
            low=min(span),
            high=max(span),
            source=f"{newest['source']} ({newest['scope']})",
            date=str(year),
            confidence=newest["confidence"],
        )
    return answer


def pue_for(provider: str | None = None) -> Pue:
    """Return the PUE of ``provider`` ("aws", "azure", "gcp", "meta", "equinix"), or the industry's average.

    The average stands wherever no provider is named: it is the higher, so nothing is flattered by silence.
    Raise UnknownNameError for a provider without a published figure.
    """
    by_provider = _by_provider()
    key = INDUSTRY if provider is None else provider.casefold()
    if key not in by_provider:
        raise UnknownNameError("PUE provider", str(provider), by_provider, "Or give a PUE of your own.")
    return by_provider[key]


def has_pue(provider: str) -> bool:
    """Return whether ``provider`` has published a figure."""
    return provider.casefold() in _by_provider()
