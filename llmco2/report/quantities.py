"""Quantities as a person reads them: three significant digits and a unit that suits their size.

Invariant: input is SI (J, s, W, byte) or gram; the text always names its unit. A value that rounds up to the
next unit is shown in that unit (0.9999 s is "1.00 s", never "1,000 ms").
"""

from __future__ import annotations

import math
from typing import Final

from llmco2.units import (
    BYTES_PER_GIB,
    GRAMS_PER_KILOGRAM,
    GRAMS_PER_MICROGRAM,
    GRAMS_PER_MILLIGRAM,
    JOULES_PER_KILOJOULE,
    JOULES_PER_KWH,
    JOULES_PER_MILLIJOULE,
    JOULES_PER_MILLIWATT_HOUR,
    JOULES_PER_WH,
    SECONDS_PER_MICROSECOND,
    SECONDS_PER_MILLISECOND,
    WATTS_PER_KILOWATT,
)

Scale = tuple[float, str]  # size of the unit in the base unit, its symbol

_ENERGY: Final[tuple[Scale, ...]] = (
    (JOULES_PER_MILLIJOULE, "mJ"),
    (1.0, "J"),
    (JOULES_PER_KILOJOULE, "kJ"),
    (JOULES_PER_KWH, "kWh"),
)
_WATT_HOURS: Final[tuple[Scale, ...]] = (
    (JOULES_PER_MILLIWATT_HOUR, "mWh"),
    (JOULES_PER_WH, "Wh"),
    (JOULES_PER_KWH, "kWh"),
)
_TIME: Final[tuple[Scale, ...]] = (
    (SECONDS_PER_MICROSECOND, "µs"),
    (SECONDS_PER_MILLISECOND, "ms"),
    (1.0, "s"),
)
_MASS: Final[tuple[Scale, ...]] = (
    (GRAMS_PER_MICROGRAM, "µg"),
    (GRAMS_PER_MILLIGRAM, "mg"),
    (1.0, "g"),
    (GRAMS_PER_KILOGRAM, "kg"),
)
_POWER: Final[tuple[Scale, ...]] = ((1.0, "W"), (WATTS_PER_KILOWATT, "kW"))
# A table column keeps one unit: joules stay readable a little longer there ("9,870" rather than "9.87").
_COLUMN_STEP: Final = 10.0


def three_digits(value: float, *, trim: bool = False) -> str:
    """Return ``value`` with three significant digits and thousands separators; ``trim`` drops trailing zeros.

    Below 0.0001 and from a billion on the text is scientific.
    """
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "-∞"}.get(value, "unknown")
    if value == 0.0:
        return "0"
    exponent = int(f"{value:.2e}".partition("e")[2])  # of the rounded value: 999.9 is 1.00e3
    if not -4 <= exponent < 9:
        mantissa, _, power = f"{value:.2e}".partition("e")
        return f"{_trimmed(mantissa) if trim else mantissa}e{int(power)}"
    text = f"{round(value, 2 - exponent):,.{max(0, 2 - exponent)}f}"
    return _trimmed(text) if trim else text


def energy_text(energy_j: float) -> str:
    """Return an energy in mJ, J, kJ or kWh."""
    return _scaled(energy_j, _ENERGY)


def watt_hours_text(energy_j: float) -> str:
    """Return an energy in mWh, Wh or kWh."""
    return _scaled(energy_j, _WATT_HOURS)


def time_text(time_s: float) -> str:
    """Return a duration in µs, ms or s."""
    return _scaled(time_s, _TIME)


def mass_text(mass_g: float) -> str:
    """Return a mass in µg, mg, g or kg."""
    return _scaled(mass_g, _MASS)


def power_text(power_w: float) -> str:
    """Return a power in W or kW."""
    return _scaled(power_w, _POWER)


def memory_text(size_bytes: float) -> str:
    """Return a size of memory in GiB, the unit in which GPU memory is sold."""
    return f"{three_digits(size_bytes / BYTES_PER_GIB, trim=True)} GiB"


def energy_scale(energy_j: float) -> Scale:
    """Return the unit (size in J, symbol) that suits a column of energies whose total is ``energy_j``."""
    return _pick(energy_j, _ENERGY, step=_COLUMN_STEP)


def mass_scale(mass_g: float) -> Scale:
    """Return the unit (size in g, symbol) that suits a column of masses whose total is ``mass_g``."""
    return _pick(mass_g, _MASS, step=_COLUMN_STEP)


def energy_unit(energy_j: float) -> Scale:
    """Return the unit (size in J, symbol) that :func:`energy_text` writes an energy in."""
    return _pick(energy_j, _ENERGY)


def mass_unit(mass_g: float) -> Scale:
    """Return the unit (size in g, symbol) that :func:`mass_text` writes a mass in."""
    return _pick(mass_g, _MASS)


def range_text(low: float, high: float, size: float = 1.0, *, trim: bool = False) -> str:
    """Return "low – high" with both ends divided by the unit's ``size``."""
    return f"{three_digits(low / size, trim=trim)} – {three_digits(high / size, trim=trim)}"


def _scaled(value: float, scales: tuple[Scale, ...]) -> str:
    size, symbol = _pick(value, scales)
    return f"{three_digits(value / size)} {symbol}"


def _pick(value: float, scales: tuple[Scale, ...], step: float = 1.0) -> Scale:
    """Return the largest unit in which ``value``, at three digits, reaches ``step`` (base unit: 1)."""
    chosen = next((scale for scale in scales if scale[0] == 1.0), scales[0]) if value == 0.0 else scales[0]
    for scale in scales:
        enough = 1.0 if scale[0] <= 1.0 else step
        if math.isfinite(value) and float(f"{abs(value) / scale[0]:.2e}") >= enough:
            chosen = scale
    return chosen


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
