"""Carbon arithmetic: energy and time in, grams of CO2e out, with every factor that entered.

Invariant: pure functions over sourced factors. ``formulas`` holds one formula each, for floats and numpy
arrays alike; ``factors`` finds the factors; ``footprint`` answers one request and ``columns`` a table of
them, both through the same formulas; ``functional_units`` expresses the result as ISO/IEC 21031 (SCI) asks.
"""

from llmco2.carbon.columns import carbon_columns
from llmco2.carbon.factors import CarbonFactors, resolve_factors
from llmco2.carbon.footprint import footprint_carbon
from llmco2.carbon.functional_units import SciScore, sci_score

__all__ = [
    "CarbonFactors",
    "SciScore",
    "carbon_columns",
    "footprint_carbon",
    "resolve_factors",
    "sci_score",
]
