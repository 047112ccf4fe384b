"""The formulas against arithmetic done by hand, and their floats against their arrays."""

from __future__ import annotations

import numpy as np
import pytest

from llmco2.carbon import formulas


def test_host_energy_is_power_times_gpus_times_time() -> None:
    # 150 W per GPU × 8 GPUs × 60 s = 72 000 J
    assert formulas.host_energy_j(150.0, 8, 60.0) == 72_000.0


def test_pue_multiplies_gpus_and_host_together() -> None:
    # (100 J + 20 J) × 1.5 = 180 J
    assert formulas.facility_energy_j(100.0, 20.0, 1.5) == 180.0


def test_pue_of_one_leaves_the_host_in() -> None:
    assert formulas.facility_energy_j(100.0, 20.0, 1.0) == 120.0


def test_a_kilowatt_hour_is_three_point_six_megajoules() -> None:
    assert formulas.facility_energy_kwh(7.2e6) == 2.0


def test_operational_emissions_are_energy_times_intensity() -> None:
    # 2 kWh × 56 g/kWh = 112 g
    assert formulas.operational_gco2e(2.0, 56.0) == 112.0


def test_the_unused_hours_are_shared_out_over_the_used_ones() -> None:
    # one day of a life of 2 years (730.5 days) used half of the time: 1 / 365.25
    assert formulas.embodied_time_share(86_400.0, 2.0, 0.5) == pytest.approx(1.0 / 365.25, rel=1e-12)


def test_embodied_emissions_of_the_whole_useful_life_are_the_whole_hardware() -> None:
    useful_life_s = 5.0 * 365.25 * 86_400.0 * 0.5
    share = formulas.embodied_time_share(useful_life_s, 5.0, 0.5)
    # 779 kg per GPU × 8 GPUs = 6 232 000 g
    assert formulas.embodied_gco2e(779.0, 8, share) == pytest.approx(6_232_000.0, rel=1e-12)


def test_arrays_and_floats_agree_element_by_element() -> None:
    power_w, n_gpus, time_s = (
        np.array([0.0, 46.7, 150.0]),
        np.array([1.0, 2.0, 8.0]),
        np.array([3.0, 0.0, 7.5]),
    )
    together = formulas.host_energy_j(power_w, n_gpus, time_s)
    apart = [
        formulas.host_energy_j(*numbers)
        for numbers in zip(power_w.tolist(), n_gpus.tolist(), time_s.tolist(), strict=True)
    ]
    assert together.tolist() == apart
