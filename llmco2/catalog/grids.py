"""Grid zones: grams of CO2e per kWh in a country or a cloud region, with the spread of the sources.

Invariant: no zone without a source, a date and a range that contains its figure. Countries come from the
data file of the installed ``ecologits`` (read, never imported: an import costs more than a whole
prediction), and from the shipped table where that file is absent or has another shape. The shipped table
also holds what other tools state, and that makes the range.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final, NamedTuple

from llmco2.catalog import tables
from llmco2.errors import InputError, UnknownNameError, explain
from llmco2.units import GRAMS_PER_KILOGRAM

WORLD_ZONE_ID: Final = "WOR"
COUNTRY: Final = "country"
CLOUD_REGION: Final = "cloud_region"

_COUNTRY_FILE: Final = "grid_countries.csv"
_REGION_FILE: Final = "grid_regions.csv"
_COUNTRY_COLUMNS: Final = (
    "zone_id", "iso2", "name", "aliases", "g_per_kwh", "date", "source", "codecarbon_g_per_kwh",
    "carbontracker_g_per_kwh", "confidence",
)  # fmt: skip
_REGION_COLUMNS: Final = (
    "zone_id", "provider", "region", "iso3", "place", "g_per_kwh", "date", "source", "other_g_per_kwh",
    "other_source", "confidence",
)  # fmt: skip
# Zones that ecologits knows and no country table does.
_AREA_NAMES: Final = {"EEE": ("European Economic Area", "Europe", "EEA", "EU", "European Union")}
_PROVIDER_ALIASES: Final = {
    "amazon": "aws",
    "google": "gcp",
    "gcloud": "gcp",
    "microsoft": "azure",
    "az": "azure",
}
# Codes of electricity maps and of ISO 3166-2: a country's two letters, then a number or parts behind dashes.
_PART_OF_COUNTRY: Final = re.compile(r"^(?P<country>[a-z]{2})(?:-?\d{1,2}|(?:[-_][a-z0-9]{1,8}){1,3})$")
_REGIONS_SHOWN: Final = 8
_SAME_FIGURE: Final = 0.005  # two sources within half a percent carry the same vintage


@dataclass(frozen=True, slots=True, kw_only=True)
class GridZone:
    """Carbon intensity of the electricity of one zone, gCO2e per kWh, yearly and location-based."""

    zone_id: str  # "FRA", "WOR", "aws:eu-west-3"
    name: str  # "France", "Paris (aws eu-west-3)"
    kind: str  # country | cloud_region
    carbon_intensity_gco2e_per_kwh: float
    low_gco2e_per_kwh: float  # lowest figure among the sources
    high_gco2e_per_kwh: float  # highest figure among the sources
    source: str
    date: str  # year of the data, or the release that tabulates it
    confidence: str  # high | medium | low
    provider: str | None = None  # aws | azure | gcp | scaleway, for cloud regions


class EcologitsMix(NamedTuple):
    """Country intensities, gCO2e/kWh by ISO 3166-1 alpha-3 code, from an installed ecologits."""

    version: str
    by_zone: Mapping[str, float]


def read_ecologits_mix() -> EcologitsMix | None:
    """Return the electricity mixes of the installed ecologits, or None where they are absent or reshaped.

    The package is located and its JSON read; nothing of it is imported or run. Its ``gwp`` is in
    kgCO2e/kWh.
    """
    spec = PathFinder.find_spec("ecologits")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    try:
        content = json.loads((folder / "data" / "electricity_mixes.json").read_bytes())
        by_zone = {
            str(mix["name"]): round(float(mix["gwp"]) * GRAMS_PER_KILOGRAM, 2)
            for mix in content["electricity_mixes"]
            if float(mix["gwp"]) > 0.0  # a mix rounded to zero is a gap, not a carbon-free country
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the shipped table answers instead, and says so in its source
    versions = [
        p.name.removesuffix(".dist-info").partition("-")[2]
        for p in folder.parent.glob("ecologits-*.dist-info")
    ]
    return EcologitsMix(version=max(versions, default="of unknown version"), by_zone=by_zone)


def _where(row: Mapping[str, str]) -> str:
    return f"grid table, zone {row['zone_id']}"


@tables.shipped(_COUNTRY_FILE)
def _country(row: Mapping[str, str], mix: EcologitsMix | None) -> GridZone:
    shipped = tables.number(row, "g_per_kwh", _where(row))
    others = [
        tables.optional_number(row, column, _where(row))
        for column in ("codecarbon_g_per_kwh", "carbontracker_g_per_kwh")
    ]
    value, source, date = shipped, row["source"], row["date"]
    live = mix.by_zone.get(row["zone_id"]) if mix else None
    if mix is not None and live is not None:
        value, source = live, f"ecologits {mix.version} (MPL-2.0), from Ember / Our World in Data"
        if abs(live - shipped) > _SAME_FIGURE * shipped:
            date = f"ecologits {mix.version}"
    figures = [value, shipped, *(figure for figure in others if figure is not None)]
    return GridZone(
        zone_id=row["zone_id"],
        name=row["name"],
        kind=COUNTRY,
        carbon_intensity_gco2e_per_kwh=value,
        low_gco2e_per_kwh=min(figures),
        high_gco2e_per_kwh=max(figures),
        source=source,
        date=date,
        confidence=row["confidence"],
    )


def _area(zone_id: str, mix: EcologitsMix) -> GridZone:
    value = mix.by_zone[zone_id]
    return GridZone(
        zone_id=zone_id,
        name=_AREA_NAMES[zone_id][0],
        kind=COUNTRY,
        carbon_intensity_gco2e_per_kwh=value,
        low_gco2e_per_kwh=value,
        high_gco2e_per_kwh=value,
        source=f"ecologits {mix.version} (MPL-2.0)",
        date=f"ecologits {mix.version}",
        confidence="medium",
    )


@tables.shipped(_REGION_FILE)
def _region(row: Mapping[str, str], country: GridZone) -> GridZone:
    own, other = (
        tables.optional_number(row, column, _where(row)) for column in ("g_per_kwh", "other_g_per_kwh")
    )
    figures = [figure for figure in (own, other) if figure is not None]
    source = row["source"]
    if own is None:
        figures += [
            country.low_gco2e_per_kwh,
            country.high_gco2e_per_kwh,
            country.carbon_intensity_gco2e_per_kwh,
        ]
        source = f"{source}; {country.source}"
    value = country.carbon_intensity_gco2e_per_kwh if own is None else own
    return GridZone(
        zone_id=row["zone_id"],
        name=f"{row['place']} ({row['provider']} {row['region']})",
        kind=CLOUD_REGION,
        carbon_intensity_gco2e_per_kwh=value,
        low_gco2e_per_kwh=min(figures),
        high_gco2e_per_kwh=max(figures),
        source=f"{source}; range with {row['other_source']}" if other is not None else source,
        date=row["date"] or country.date,
        confidence=row["confidence"],
        provider=row["provider"],
    )


def _key(name: str) -> str:
    text = " ".join(name.casefold().replace("_", "-").split())
    for separator in (":", "/"):
        provider, found, region = text.partition(separator)
        if found:
            provider = provider.strip()
            return f"{_PROVIDER_ALIASES.get(provider, provider)}:{region.strip()}"
    return text


class _Index(NamedTuple):
    """The tables as read; a zone becomes a record only when somebody asks for it."""

    countries: Mapping[str, Mapping[str, str]]  # row by zone id
    regions: Mapping[str, Mapping[str, str]]  # row by zone id
    id_by_name: Mapping[str, str]
    mix: EcologitsMix | None


@cache
def _index() -> _Index:
    mix = read_ecologits_mix()
    countries = {row["zone_id"]: row for row in tables.read_table(_COUNTRY_FILE, _COUNTRY_COLUMNS)}
    regions = {row["zone_id"]: row for row in tables.read_table(_REGION_FILE, _REGION_COLUMNS)}
    id_by_name: dict[str, str] = {}
    for zone_id, row in countries.items():
        for name in (zone_id, row["iso2"], row["name"], *tables.names(row, "aliases")):
            if name:
                id_by_name[_key(name)] = zone_id
    for zone_id in _areas(mix):
        id_by_name.update({_key(alias): zone_id for alias in (zone_id, *_AREA_NAMES[zone_id])})
    for zone_id, row in regions.items():
        id_by_name[_key(zone_id)] = zone_id
        id_by_name.setdefault(_key(row["region"]), zone_id)
    return _Index(countries, regions, id_by_name, mix)


def _areas(mix: EcologitsMix | None) -> tuple[str, ...]:
    return tuple(zone_id for zone_id in _AREA_NAMES if mix is not None and zone_id in mix.by_zone)


@cache
def _zone(zone_id: str) -> GridZone:
    index = _index()
    if zone_id in index.regions:
        row = index.regions[zone_id]
        return _region(row, _zone(row["iso3"]))
    if zone_id in index.countries:
        return _country(index.countries[zone_id], index.mix)
    assert index.mix is not None  # an area is known only where ecologits is
    return _area(zone_id, index.mix)


def all_zones() -> tuple[GridZone, ...]:
    """Return every zone: countries first, then the areas made of them, then cloud regions."""
    index = _index()
    return tuple(_zone(zone_id) for zone_id in (*index.countries, *_areas(index.mix), *index.regions))


def resolve_zone(name: str) -> GridZone:
    """Return the zone that ``name`` means.

    Taken: ISO codes ("FRA", "FR"), country names ("France"), "world", cloud regions with or without their
    provider ("aws:eu-west-3", "eu-west-3", "azure:francecentral"), all without regard to case. Raise
    UnknownNameError, with the nearest names, for any other name, and InputError for what is no text.
    """
    if not isinstance(name, str):
        raise InputError(explain("zone is not a name", got=repr(name), expected="text"))
    index = _index()
    zone_id = index.id_by_name.get(_key(name))
    if zone_id is None:
        part = _part_of_a_country(name)
        if part:
            raise UnknownNameError("grid zone", name, (), part)
        known = [row["name"] for row in index.countries.values()] + [*index.countries, *index.regions]
        remedy = "Give a country, an ISO code or a cloud region, or a carbon intensity of your own."
        raise UnknownNameError("grid zone", name, known, remedy)
    return _zone(zone_id)


def _part_of_a_country(name: str) -> str:
    """Return what to give in place of a part of a country ("SE3", "US-CAL-CISO", "Virginia"); "" for another name.

    No table has yearly figures of such parts: the country's, or a cloud region's in it, are the nearest.
    """
    index = _index()
    key = _key(name)
    inside = [
        row["zone_id"]
        for row in index.regions.values()
        if len(key) > 3 and key in {_key(row["place"]), _key(row["place"]).removeprefix("n. ")}
    ]
    if inside:
        return f"it is no zone of its own; cloud regions there are {', '.join(inside)}"
    coded = _PART_OF_COUNTRY.match(name.strip().casefold())
    country = index.id_by_name.get(coded["country"]) if coded else None
    family = f"{key.rpartition('-')[0]}-"
    slip = family.count("-") > 1 and any(row["region"].startswith(family) for row in index.regions.values())
    if country is None or country not in index.countries or slip:  # "us-east-99" is a region misspelt
        return ""
    regions = [row["zone_id"] for row in index.regions.values() if row["iso3"] == country]
    lines = f"it is a part of {index.countries[country]['name']}, for which only the whole has a figure: give {country}"
    more = f", or a cloud region there: {', '.join(regions[:_REGIONS_SHOWN])}" if regions else ""
    return (
        lines + more + ("…" if len(regions) > _REGIONS_SHOWN else "") + ", or a carbon intensity of your own"
    )


@cache
def country_intensity_range(low_share: float = 0.1, high_share: float = 0.9) -> tuple[float, float]:
    """Return the two quantiles of the countries' intensities, gCO2e/kWh: what an unnamed place may have."""
    countries = (_zone(zone_id) for zone_id in _index().countries if zone_id != WORLD_ZONE_ID)
    values = sorted(zone.carbon_intensity_gco2e_per_kwh for zone in countries)
    last = len(values) - 1
    return values[round(low_share * last)], values[round(high_share * last)]


def forget_zones() -> None:
    """Drop what was read, so that the next question reads the tables and the installed ecologits anew."""
    for cached in (_index, _zone, country_intensity_range):
        cached.cache_clear()
