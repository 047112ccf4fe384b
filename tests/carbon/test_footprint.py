"""One batch: hand-computed grams, intervals, properties, refusals, and the table form agreeing with it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.carbon import carbon_columns, footprint_carbon, resolve_factors, sci_score
from llmco2.carbon.factors import CarbonFactors
from llmco2.errors import InputError, RequestError

GPU = "H100-SXM5-80GB"
OVERRIDES: dict[str, float] = {
    "carbon_intensity": 400.0,
    "pue": 1.5,
    "lifetime_years": 4.0,
    "utilization": 0.5,
    "host_power_w_per_gpu": 150.0,
    "embodied_kgco2e_per_gpu": 1000.0,
}

energies = st.floats(0.0, 1e12)
times = st.floats(0.0, 1e8)
gpus = st.integers(1, 1024)


def given_factors(**changes: float) -> CarbonFactors:
    return resolve_factors(GPU, **{**OVERRIDES, **changes})


def test_a_batch_computed_by_hand() -> None:
    carbon = footprint_carbon(3.6e6, 3600.0, 8, given_factors())
    # host 150 W × 8 × 3600 s = 4.32e6 J; (3.6e6 + 4.32e6) × 1.5 = 11.88e6 J = 3.3 kWh; × 400 g = 1320 g
    assert carbon.facility_energy_kwh == pytest.approx(3.3, rel=1e-12)
    assert carbon.operational_gco2e == pytest.approx(1320.0, rel=1e-12)
    # 1000 kg × 8 = 8e6 g; one hour of 4 × 8766 h × 0.5 = 17 532 h; 8e6 / 17 532 = 456.3084…
    assert carbon.embodied_gco2e == pytest.approx(8e6 / 17_532.0, rel=1e-12)
    assert carbon.total_gco2e == pytest.approx(1320.0 + 8e6 / 17_532.0, rel=1e-12)


def test_the_intervals_computed_by_hand() -> None:
    table = resolve_factors("A100-SXM4-80GB", carbon_intensity=100.0, pue=1.0)
    carbon = footprint_carbon(1000.0, 10.0, 2, table, energy_low_j=800.0, energy_high_j=1500.0)
    # host of a p4d server: 46.7 to 248 W per GPU × 2 GPUs × 10 s = 934 to 4960 J
    assert carbon.operational_interval_gco2e.low == pytest.approx((800 + 934) / 3.6e6 * 100, rel=1e-12)
    assert carbon.operational_interval_gco2e.high == pytest.approx((1500 + 4960) / 3.6e6 * 100, rel=1e-12)
    # embodied: GPU 129 to 486 kg and server 217 to 869 kg; lifetime 3 to 6 years, utilization 0.3 to 0.9
    low = (129 + 217) * 1e3 * 2 * 10 / (6 * 365.25 * 86_400 * 0.9)
    high = (486 + 869) * 1e3 * 2 * 10 / (3 * 365.25 * 86_400 * 0.3)
    assert carbon.embodied_interval_gco2e.low == pytest.approx(low, rel=1e-12)
    assert carbon.embodied_interval_gco2e.high == pytest.approx(high, rel=1e-12)


def test_every_factor_that_entered_is_named_with_source_and_date() -> None:
    names = [factor.name for factor in footprint_carbon(1.0, 1.0, 1, resolve_factors(GPU)).factors]
    assert names == [
        "host_power", "pue", "carbon_intensity", "gpu_embodied", "server_embodied", "lifetime", "utilization",
    ]  # fmt: skip
    for factor in (*resolve_factors(GPU, zone="FRA").all(), *given_factors().all()):
        assert factor.source, factor.name
        assert factor.date, factor.name
        assert factor.unit, factor.name


def test_the_factors_alone_reproduce_the_grams() -> None:
    carbon = footprint_carbon(5e5, 20.0, 4, resolve_factors(GPU, zone="DEU"))
    by_name = {factor.name: factor.value for factor in carbon.factors}
    kwh = (5e5 + by_name["host_power"] * 4 * 20.0) * by_name["pue"] / 3.6e6
    assert carbon.operational_gco2e == pytest.approx(kwh * by_name["carbon_intensity"], rel=1e-12)
    life_s = by_name["lifetime"] * 31_557_600 * by_name["utilization"]
    kilograms = by_name["gpu_embodied"] + by_name["server_embodied"]
    assert carbon.embodied_gco2e == pytest.approx(kilograms * 1e3 * 4 * 20.0 / life_s, rel=1e-12)


def test_pue_never_stands_in_for_the_host() -> None:
    without_host = footprint_carbon(1e6, 100.0, 1, given_factors(host_power_w_per_gpu=0.0))
    with_host = footprint_carbon(1e6, 100.0, 1, given_factors())
    # 150 W × 100 s = 15 kJ on 1 MJ: 1.5 % more, whatever the PUE
    assert with_host.operational_gco2e / without_host.operational_gco2e == pytest.approx(1.015, rel=1e-12)


def test_nothing_done_emits_nothing() -> None:
    carbon = footprint_carbon(0.0, 0.0, 8, resolve_factors(GPU))
    assert carbon.total_gco2e == 0.0
    assert carbon.operational_interval_gco2e.high == 0.0
    assert carbon.embodied_interval_gco2e.high == 0.0


@given(energies, st.floats(0.0, 1e3))
def test_operational_emissions_are_linear_in_energy_when_the_host_draws_nothing(
    energy_j: float, scale: float
) -> None:
    factors = given_factors(host_power_w_per_gpu=0.0)
    once = footprint_carbon(energy_j, 1.0, 1, factors).operational_gco2e
    scaled = footprint_carbon(energy_j * scale, 1.0, 1, factors).operational_gco2e
    assert scaled == pytest.approx(once * scale, rel=1e-9, abs=1e-300)


@given(energies, energies, times, gpus)
def test_emissions_of_two_batches_add_up(first_j: float, second_j: float, time_s: float, n_gpus: int) -> None:
    factors = given_factors()
    apart = [footprint_carbon(energy_j, time_s, n_gpus, factors) for energy_j in (first_j, second_j)]
    together = footprint_carbon(first_j + second_j, 2.0 * time_s, n_gpus, factors)
    assert together.total_gco2e == pytest.approx(sum(carbon.total_gco2e for carbon in apart), rel=1e-9)


@given(
    st.sampled_from(sorted(OVERRIDES)),
    st.floats(1.0, 10.0),
    st.floats(0.0, 1e9),
    st.floats(0.0, 1e6),
    gpus,
)
def test_emissions_are_monotone_in_every_factor(
    name: str, times_more: float, energy_j: float, time_s: float, n_gpus: int
) -> None:
    falls = name in {"lifetime_years", "utilization"}
    more = min(OVERRIDES[name] * times_more, 1.0) if name == "utilization" else OVERRIDES[name] * times_more
    base = footprint_carbon(energy_j, time_s, n_gpus, given_factors()).total_gco2e
    changed = footprint_carbon(energy_j, time_s, n_gpus, given_factors(**{name: more})).total_gco2e
    tolerance = 1e-9 * base
    assert changed <= base + tolerance if falls else changed >= base - tolerance


@given(
    energies,
    times,
    gpus,
    st.sampled_from(["FRA", "POL", "aws:us-east-1", None]),
    st.floats(0, 1),
    st.floats(1, 5),
)
def test_every_interval_contains_its_figure(  # noqa: PLR0917 - one argument per strategy
    energy_j: float, time_s: float, n_gpus: int, zone: str | None, low: float, high: float
) -> None:
    factors = resolve_factors(GPU, zone=zone)
    carbon = footprint_carbon(
        energy_j, time_s, n_gpus, factors, energy_low_j=low * energy_j, energy_high_j=high * energy_j
    )
    for figure, interval in (
        (carbon.operational_gco2e, carbon.operational_interval_gco2e),
        (carbon.embodied_gco2e, carbon.embodied_interval_gco2e),
    ):
        assert interval.low <= figure <= interval.high


def test_changing_the_country_scales_every_operational_gram_by_the_intensities() -> None:
    france, poland = (resolve_factors(GPU, zone=zone) for zone in ("FRA", "POL"))
    ratio = poland.carbon_intensity.value / france.carbon_intensity.value
    assert ratio > 5.0
    for energy_j, time_s in ((1.0, 0.0), (1e6, 30.0), (0.0, 5.0)):
        here, there = (footprint_carbon(energy_j, time_s, 8, factors) for factors in (france, poland))
        assert there.operational_gco2e == pytest.approx(ratio * here.operational_gco2e, rel=1e-12)
        assert there.embodied_gco2e == here.embodied_gco2e


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, True, "12", None])
@pytest.mark.parametrize("name", ["energy_j", "time_s", "n_gpus"])
def test_an_impossible_quantity_is_refused_in_one_line(name: str, bad: Any) -> None:
    quantities: dict[str, Any] = {"energy_j": 1.0, "time_s": 1.0, "n_gpus": 1, name: bad}
    with pytest.raises(RequestError, match=name) as caught:
        footprint_carbon(**quantities, factors=given_factors())
    assert "\n" not in str(caught.value)


def test_an_interval_that_misses_its_energy_is_refused() -> None:
    with pytest.raises(RequestError, match="does not contain the energy"):
        footprint_carbon(10.0, 1.0, 1, given_factors(), energy_low_j=11.0, energy_high_j=12.0)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("carbon_intensity", -1.0),
        ("carbon_intensity", math.nan),
        ("pue", 0.99),
        ("pue", math.inf),
        ("lifetime_years", 0.0),
        ("lifetime_years", -3.0),
        ("utilization", 0.0),
        ("utilization", 1.01),
        ("host_power_w_per_gpu", -5.0),
        ("embodied_kgco2e_per_gpu", -1.0),
    ],
)
def test_an_impossible_factor_is_refused_in_one_line(name: str, bad: float) -> None:
    with pytest.raises(InputError, match="out of range") as caught:
        given_factors(**{name: bad})
    assert "\n" not in str(caught.value)


def test_a_factor_whose_range_misses_its_value_is_refused() -> None:
    factors = given_factors()
    astray = dataclasses.replace(factors.pue, low=1.6, high=1.7)
    with pytest.raises(RequestError, match="range of pue"):
        dataclasses.replace(factors, pue=astray)


def test_sci_scores_computed_by_hand() -> None:
    factors = given_factors(
        host_power_w_per_gpu=0.0, embodied_kgco2e_per_gpu=0.0, pue=1.0, carbon_intensity=360.0
    )
    carbon = footprint_carbon(1e6, 10.0, 1, factors)  # 1e6 / 3.6e6 × 360 = 100 g
    score = sci_score(carbon, batch_size=4, prompt_tokens=300, output_tokens=200)
    assert score.gco2e_per_request == pytest.approx(25.0, rel=1e-12)
    assert score.gco2e_per_output_token == pytest.approx(0.125, rel=1e-12)  # 100 g / 800 tokens
    assert score.gco2e_per_1000_tokens == pytest.approx(50.0, rel=1e-12)  # 100 g / 2000 tokens


def test_no_functional_unit_is_refused() -> None:
    carbon = footprint_carbon(1.0, 1.0, 1, given_factors())
    with pytest.raises(RequestError, match="functional unit"):
        sci_score(carbon, batch_size=0, prompt_tokens=1, output_tokens=1)


request_rows = st.tuples(energies, times, gpus, st.sampled_from(["FRA", "USA", "gcp:us-west1"]))


@given(st.lists(request_rows, min_size=1, max_size=8))
def test_a_table_answers_as_its_rows_do(rows: list[tuple[float, float, int, str]]) -> None:
    factors = [resolve_factors(GPU, zone=zone) for *_, zone in rows]
    operational, embodied = carbon_columns(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [entry.carbon_intensity.value for entry in factors],
        [entry.pue.value for entry in factors],
        [entry.host_power.value for entry in factors],
        factors[0].embodied_kgco2e_per_gpu,
        factors[0].lifetime.value,
        factors[0].utilization.value,
    )
    for i, (energy_j, time_s, n_gpus, _) in enumerate(rows):
        carbon = footprint_carbon(energy_j, time_s, n_gpus, factors[i])
        assert operational[i] == carbon.operational_gco2e
        assert embodied[i] == carbon.embodied_gco2e


def test_a_row_without_a_prediction_stays_empty_and_the_others_are_answered() -> None:
    operational, embodied = carbon_columns([np.nan, 3.6e6], [np.nan, 0.0], 1, 100.0, 1.0, 0.0, 1.0, 5.0, 0.5)
    assert np.isnan([operational[0], embodied[0]]).all()
    assert (operational[1], embodied[1]) == (100.0, 0.0)


@pytest.mark.parametrize(
    ("position", "name", "bad"),
    [
        (0, "energy_j", -1.0), (1, "time_s", np.inf), (2, "n_gpus", np.nan), (3, "intensity", -2.0),
        (4, "pue", 0.9), (5, "host_w", -1.0), (6, "embodied_kg", np.nan),
        (7, "lifetime", 0.0), (8, "utilization", 1.5),
    ],
)  # fmt: skip
def test_a_table_names_the_row_that_cannot_be(position: int, name: str, bad: float) -> None:
    columns: list[Any] = [1.0, 1.0, 1.0, 100.0, 1.2, 150.0, 700.0, 5.0, 0.5]
    columns[position] = [columns[position], bad]
    with pytest.raises(RequestError, match=f"{name} is out of range in row 1"):
        carbon_columns(*columns)
