"""Grid zones: names, ranges, sources, and what happens when ecologits is absent or reshaped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmco2.catalog import grids, tables
from llmco2.catalog.grids import all_zones, country_intensity_range, read_ecologits_mix, resolve_zone
from llmco2.errors import UnknownNameError


@pytest.fixture
def only_installed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make an otherwise empty folder the only place where packages are looked for."""
    grids.forget_zones()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    yield tmp_path
    grids.forget_zones()


def install_ecologits(folder: Path, mixes: str, version: str = "9.8.7") -> None:
    data = folder / "ecologits" / "data"
    data.mkdir(parents=True)
    (folder / "ecologits" / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    (folder / f"ecologits-{version}.dist-info").mkdir()
    (data / "electricity_mixes.json").write_text(mixes, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "zone_id"),
    [
        ("FRA", "FRA"), ("fr", "FRA"), ("France", "FRA"), (" france ", "FRA"), ("UK", "GBR"), ("usa", "USA"),
        ("United States of America", "USA"), ("south  korea", "KOR"), ("WOR", "WOR"), ("world", "WOR"),
        ("aws:eu-west-3", "aws:eu-west-3"), ("EU-WEST-3", "aws:eu-west-3"), ("eu_west_3", "aws:eu-west-3"),
        ("gcp:europe-west9", "gcp:europe-west9"), ("google:europe-west9", "gcp:europe-west9"),
        ("azure:francecentral", "azure:francecentral"), ("francecentral", "azure:francecentral"),
        ("us-east-1", "aws:us-east-1"), ("us-east1", "gcp:us-east1"), ("Namibia", "NAM"), ("NA", "NAM"),
        ("me-central1", "gcp:me-central1"), ("me-central-1", "aws:me-central-1"),
    ],
)  # fmt: skip
def test_a_zone_answers_to_its_names(name: str, zone_id: str) -> None:
    assert resolve_zone(name).zone_id == zone_id


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Frnace", "France"),
        ("aws:eu-west-33", "aws:eu-west-3"),
        ("Germny", "Germany"),
        ("eastus9", "azure:eastus2"),
    ],
)
def test_an_unknown_zone_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve_zone(name)
    assert near in caught.value.suggestions
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", ":", "aws:", "☃", "x" * 10_000])
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(UnknownNameError):
        resolve_zone(name)


def test_every_zone_has_a_source_a_date_a_confidence_and_a_range_around_its_figure() -> None:
    for zone in all_zones():
        assert zone.source, zone
        assert zone.date, zone
        assert zone.confidence in {"high", "medium", "low"}, zone
        low, high = zone.low_gco2e_per_kwh, zone.high_gco2e_per_kwh
        assert 0.0 < low <= zone.carbon_intensity_gco2e_per_kwh <= high < 1500.0, zone
        assert (zone.kind == "cloud_region") == (zone.provider is not None), zone


def test_every_zone_answers_to_its_own_id_and_name() -> None:
    for zone in all_zones():
        assert resolve_zone(zone.zone_id) == zone
        if zone.kind == "country":
            assert resolve_zone(zone.name) == zone


def test_a_region_without_a_figure_of_its_own_has_that_of_its_country() -> None:
    region, country = resolve_zone("aws:eu-south-2"), resolve_zone("ESP")
    assert region.carbon_intensity_gco2e_per_kwh == country.carbon_intensity_gco2e_per_kwh
    assert region.low_gco2e_per_kwh <= country.low_gco2e_per_kwh
    assert region.high_gco2e_per_kwh >= country.high_gco2e_per_kwh


def test_sources_that_disagree_widen_the_range() -> None:
    # Virginia's own generation 244.8 g, the regional grid 415.8 g: what AWS draws from lies in between
    zone = resolve_zone("aws:us-east-1")
    assert (zone.low_gco2e_per_kwh, zone.high_gco2e_per_kwh) == (244.8, 415.8)
    assert zone.confidence == "low"


def test_the_installed_ecologits_is_read_without_being_imported() -> None:
    mix = read_ecologits_mix()
    assert mix is not None
    assert len(mix.by_zone) > 150
    assert mix.version[0].isdigit()
    assert mix.version in resolve_zone("FRA").source
    code = (
        "import sys; from llmco2.catalog.grids import read_ecologits_mix; "
        "assert read_ecologits_mix() is not None; sys.exit('ecologits' in sys.modules)"
    )  # in a process of its own: other tests compare with the package itself
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_newer_ecologits_moves_the_figure_and_its_date(only_installed_in: Path) -> None:
    install_ecologits(only_installed_in, json.dumps({"electricity_mixes": [{"name": "FRA", "gwp": 0.0301}]}))
    zone = resolve_zone("FRA")
    assert zone.carbon_intensity_gco2e_per_kwh == 30.1
    assert zone.low_gco2e_per_kwh == 30.1
    assert zone.high_gco2e_per_kwh == 56.039  # what codecarbon states still bounds it
    assert zone.date == "ecologits 9.8.7"
    assert resolve_zone("DEU").source.startswith("Ember")  # not in that file: the shipped table answers


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"electricity_mixes": 3}', '{"electricity_mixes": [{"name": "FRA"}]}', '{"mixes": []}',
     '{"electricity_mixes": [{"name": "FRA", "gwp": "much"}]}', '{"electricity_mixes": [null]}'],
)  # fmt: skip
def test_a_reshaped_ecologits_leaves_the_shipped_table(only_installed_in: Path, content: str) -> None:
    install_ecologits(only_installed_in, content)
    zone = resolve_zone("FRA")
    assert zone.carbon_intensity_gco2e_per_kwh == 41.4
    assert zone.source.startswith("Ember / Our World in Data")
    assert zone.date == "2025"


def test_without_ecologits_every_default_still_answers(only_installed_in: Path) -> None:
    assert read_ecologits_mix() is None
    assert resolve_zone("world").carbon_intensity_gco2e_per_kwh == 458.0
    low, high = country_intensity_range()
    assert low < 458.0 < high


def test_a_mix_of_zero_is_a_gap_and_not_a_carbon_free_country(only_installed_in: Path) -> None:
    install_ecologits(only_installed_in, json.dumps({"electricity_mixes": [{"name": "CAF", "gwp": 0.0}]}))
    assert resolve_zone("CAF").carbon_intensity_gco2e_per_kwh == 111.1


@pytest.mark.parametrize("file_name", ["grid_countries.csv", "grid_regions.csv"])
def test_every_shipped_row_has_a_source_and_dates_and_nothing_of_boavizta(file_name: str) -> None:
    rows = tables.read_table(file_name, ("zone_id", "source", "date", "retrieved", "confidence"))
    assert len(rows) > 100
    assert len({row["zone_id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["source"], row
        assert row["retrieved"], row
        assert row["date"] or row["g_per_kwh"] == "", (
            row
        )  # a region without a figure takes its country's date
        assert "boavizta" not in " ".join(row.values()).casefold(), row


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "SE3",
            "a part of Sweden, for which only the whole has a figure: give SWE, or a cloud region there: aws",
        ),
        ("SE-SE3", "a part of Sweden"),
        ("US-CAL-CISO", "a part of United States, for which only the whole has a figure: give USA"),
        ("us_va", "a part of United States"),
        ("DK1", "a part of Denmark"),
        ("NO2", "give NOR, or a cloud region there: azure:norwayeast, azure:norwaywest"),
        ("CA-ON", "a part of Canada"),
        ("GR-I", "a part of Greece, for which only the whole has a figure: give GRC, or a carbon intensity"),
        ("Virginia", "cloud regions there are aws:us-east-1, azure:eastus, azure:eastus2, gcp:us-east4"),
        ("california", "cloud regions there are aws:us-west-1, azure:westus"),
        ("Frankfurt", "cloud regions there are aws:eu-central-1, azure:germanywestcentral, gcp:europe-west3"),
        ("São Paulo", "aws:sa-east-1, gcp:southamerica-east1"),
    ],
)
def test_a_part_of_a_country_is_refused_with_what_has_a_figure(name: str, says: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve_zone(name)
    assert says in str(caught.value)
    assert "did you mean" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ZZ9", "SE-1234567890", "us-east-99", "Virg", "X"])
def test_what_is_no_part_of_a_country_is_answered_with_the_nearest_names(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Give a country, an ISO code or a cloud region"):
        resolve_zone(name)


def test_every_region_named_for_a_place_has_a_figure() -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve_zone("Virginia")
    named = str(caught.value).rpartition(" are ")[2].split(", ")
    assert {resolve_zone(zone).kind for zone in named} == {"cloud_region"}
