"""Where factors come from: zones, providers, defaults, overrides."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmco2.carbon import resolve_factors
from llmco2.carbon.factors import GIVEN
from llmco2.catalog.grids import all_zones, resolve_zone
from llmco2.errors import UnknownNameError


def test_without_a_zone_the_world_stands_in_and_the_range_is_that_of_the_countries() -> None:
    factor = resolve_factors("T4").carbon_intensity
    world = resolve_zone("world")
    assert factor.value == world.carbon_intensity_gco2e_per_kwh
    assert "no zone given" in factor.source
    countries = [z for z in all_zones() if z.kind == "country"]
    inside = [z for z in countries if factor.low <= z.carbon_intensity_gco2e_per_kwh <= factor.high]  # type: ignore[operator]
    assert 0.75 <= len(inside) / len(countries) <= 0.85


def test_naming_the_world_narrows_the_range_to_the_sources() -> None:
    unnamed, named = (resolve_factors("T4", zone=zone).carbon_intensity for zone in (None, "world"))
    assert named.value == unnamed.value
    assert named.high - named.low < 0.2 * (unnamed.high - unnamed.low)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("zone", "pue"), [("aws:eu-west-3", 1.15), ("gcp:europe-west9", 1.09), ("azure:francecentral", 1.17)]
)
def test_a_cloud_region_brings_the_pue_of_its_provider(zone: str, pue: float) -> None:
    factor = resolve_factors("T4", zone=zone).pue
    assert factor.value == pue
    assert zone.partition(":")[0] in factor.source


@pytest.mark.parametrize("zone", [None, "FRA", "scaleway:fr-par"])
def test_everywhere_else_the_average_of_the_industry_stands(zone: str | None) -> None:
    factor = resolve_factors("T4", zone=zone).pue
    assert (factor.low, factor.value, factor.high) == (1.08, 1.54, 1.58)
    assert "industry" in factor.source


def test_what_a_person_gives_wins_and_says_so() -> None:
    factors = resolve_factors(
        "T4",
        zone="FRA",
        carbon_intensity=12.5,
        pue=1.3,
        lifetime_years=6.0,
        utilization=1.0,
        host_power_w_per_gpu=80.0,
        embodied_kgco2e_per_gpu=222.0,
    )
    values = {factor.name: factor.value for factor in factors.all()}
    assert values == {
        "host_power": 80.0,
        "pue": 1.3,
        "carbon_intensity": 12.5,
        "gpu_embodied": 222.0,
        "lifetime": 6.0,
        "utilization": 1.0,
    }
    assert all(factor.source.startswith(GIVEN) for factor in factors.all())
    assert factors.embodied_kgco2e_per_gpu == factors.embodied_low_kgco2e_per_gpu == 222.0


def test_embodied_carbon_is_the_gpu_and_its_share_of_the_server() -> None:
    factors = resolve_factors("H100-SXM5-80GB")
    # 1312 kg / 8 GPUs = 164 kg; (1000 + 100 + 533/384 × 2032 + 10 × 100) / 8 = 615 kg
    assert factors.embodied_kgco2e_per_gpu == pytest.approx(164.0 + 615.0)


def test_an_unknown_zone_names_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean France"):
        resolve_factors("T4", zone="Frnace")


def test_a_single_answer_loads_nothing_heavy() -> None:
    code = (
        "import sys; from llmco2.carbon import footprint_carbon, resolve_factors;"
        "footprint_carbon(1.0, 1.0, 1, resolve_factors('T4', zone='FRA'));"
        "print([m for m in ('numpy', 'pandas', 'torch', 'ecologits', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
