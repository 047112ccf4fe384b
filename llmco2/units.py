"""Unit conversions; the only place where a factor between units is written.

Invariant: inside the package everything is SI (J, W, s, byte, FLOP/s). Conversions happen here and are called
at the borders: catalog tables in, NVML in, reports out.
"""

from __future__ import annotations

from typing import Final

JOULES_PER_MILLIJOULE: Final = 1e-3
JOULES_PER_KILOJOULE: Final = 1e3
JOULES_PER_MILLIWATT_HOUR: Final = 3.6
JOULES_PER_WH: Final = 3.6e3
JOULES_PER_KWH: Final = 3.6e6
WATTS_PER_KILOWATT: Final = 1e3
SECONDS_PER_MICROSECOND: Final = 1e-6
SECONDS_PER_MILLISECOND: Final = 1e-3
HOURS_PER_YEAR: Final = 8766.0  # Julian year of 365.25 days
SECONDS_PER_YEAR: Final = HOURS_PER_YEAR * 3600.0
BYTES_PER_GB: Final = 1e9
BYTES_PER_GIB: Final = 2.0**30
GRAMS_PER_MICROGRAM: Final = 1e-6
GRAMS_PER_MILLIGRAM: Final = 1e-3
GRAMS_PER_KILOGRAM: Final = 1e3
KILOGRAMS_PER_TONNE: Final = 1e3
KWH_PER_MWH: Final = 1e3


def joules_from_millijoules(energy_mj: float) -> float:
    """Return joules; NVML's energy counter is in mJ."""
    return energy_mj / 1e3


def watts_from_milliwatts(power_mw: float) -> float:
    """Return watts; NVML's power readings are in mW."""
    return power_mw / 1e3


def kwh_from_joules(energy_j: float) -> float:
    """Return kWh; the unit of grid factors."""
    return energy_j / JOULES_PER_KWH


def joules_from_kwh(energy_kwh: float) -> float:
    """Return joules; what a facility is billed in kWh."""
    return energy_kwh * JOULES_PER_KWH
