"""Three digits and the right unit, also where rounding crosses into the next unit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.report import quantities as q


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (61.234, "61.2"),
        (999.6, "1,000"),
        (1234.0, "1,230"),
        (1_234_567.0, "1,230,000"),
        (0.00123456, "0.00123"),
        (1.5e-7, "1.50e-7"),
        (2.5e12, "2.50e12"),
        (-61.25, "-61.2"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "unknown"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert q.three_digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.2, "1.2"), (5.0, "5"), (100.0, "100"), (1e-9, "1e-9"), (0.5, "0.5")]
)
def test_trimmed(value: float, text: str) -> None:
    assert q.three_digits(value, trim=True) == text


@given(st.floats(min_value=1e-12, max_value=1e15))
def test_three_digits_are_within_half_a_unit_of_the_third(value: float) -> None:
    shown = float(q.three_digits(value).replace(",", ""))
    assert abs(shown - value) <= 0.5 * 10.0 ** (math.floor(math.log10(value)) - 2) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (q.energy_text(0.0), "0 J"),
        (q.energy_text(0.0123), "12.3 mJ"),
        (q.energy_text(999.4), "999 J"),
        (q.energy_text(999.6), "1.00 kJ"),
        (q.energy_text(3.6e6), "1.00 kWh"),
        (q.energy_text(7.2e9), "2,000 kWh"),
        (q.watt_hours_text(1200.0), "333 mWh"),
        (q.watt_hours_text(3600.0), "1.00 Wh"),
        (q.time_text(0.9999), "1.00 s"),
        (q.time_text(0.0961), "96.1 ms"),
        (q.time_text(2e-6), "2.00 µs"),
        (q.mass_text(0.0236), "23.6 mg"),
        (q.mass_text(1500.0), "1.50 kg"),
        (q.power_text(441.0), "441 W"),
        (q.power_text(5600.0), "5.60 kW"),
        (q.memory_text(80 * 2**30), "80 GiB"),
    ],
)
def test_the_unit_suits_the_size(text: str, expected: str) -> None:
    assert text == expected


def test_a_column_of_energies_stays_in_joules_up_to_four_digits() -> None:
    assert q.energy_scale(9_870.0) == (1.0, "J")
    assert q.energy_scale(10_000.0) == (1e3, "kJ")
    assert q.energy_scale(0.5) == (1e-3, "mJ")
    assert q.mass_scale(0.0354) == (1e-3, "mg")
