"""Software carbon intensity: emissions per functional unit, as ISO/IEC 21031 asks.

Invariant: SCI = (E × I + M) per R, with operational and embodied emissions both in; the unit R is named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmco2.errors import RequestError, explain
from llmco2.records.footprint import Carbon


@dataclass(frozen=True, slots=True, kw_only=True)
class SciScore:
    """Emissions of a batch per functional unit, gCO2e, operational and embodied together."""

    gco2e_per_request: float
    gco2e_per_output_token: float
    gco2e_per_1000_tokens: float  # prompt and output tokens together


def sci_per_unit(total_gco2e: float, n_units: float) -> float:
    """Return SCI = (operational + embodied) / R, gCO2e per unit. Raise RequestError unless R > 0."""
    if not (math.isfinite(n_units) and n_units > 0.0):
        raise RequestError(
            explain("no functional unit to divide by", got=f"{n_units:g}", expected="a number above 0")
        )
    return total_gco2e / n_units


def sci_score(carbon: Carbon, *, batch_size: float, prompt_tokens: float, output_tokens: float) -> SciScore:
    """Return the SCI of one batch per request, per output token and per 1000 tokens of prompt and output.

    ``prompt_tokens`` and ``output_tokens`` are those of one request; the batch has ``batch_size`` of them.
    """
    total = carbon.total_gco2e
    return SciScore(
        gco2e_per_request=sci_per_unit(total, batch_size),
        gco2e_per_output_token=sci_per_unit(total, batch_size * output_tokens),
        gco2e_per_1000_tokens=sci_per_unit(total, batch_size * (prompt_tokens + output_tokens) / 1000.0),
    )
