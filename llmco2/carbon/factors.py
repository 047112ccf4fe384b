"""Which factors a carbon figure uses: each with value, unit, source, date and range, and each overridable.

Invariant: a factor that a person gives replaces the table's and says so; a factor that is not given comes from a
table or from a default stated here, with its range. A record that exists has been checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from llmco2.bounded import shown
from llmco2.catalog.embodied import Embodied, EmbodiedPart, embodied_for
from llmco2.catalog.grids import WORLD_ZONE_ID, GridZone, country_intensity_range, resolve_zone
from llmco2.catalog.pue import has_pue, pue_for
from llmco2.catalog.servers import host_power_for
from llmco2.errors import RequestError, explain
from llmco2.records.footprint import Factor

# A default lifetime between what operators state: five years (Amazon, part of its servers since 2025), six
# (Microsoft since 2022, Alphabet since 2023); EcoLogits counts three.
DEFAULT_LIFETIME: Final = Factor(
    name="lifetime",
    value=5.0,
    unit="years",
    source="Amazon 10-K 2024 (five years from 2025 on); low: EcoLogits 0.11.3; "
    "high: Microsoft 10-Q 2022, Alphabet 10-K 2022",
    date="2025",
    low=3.0,
    high=6.0,
)
DEFAULT_UTILIZATION: Final = Factor(
    name="utilization",
    value=0.5,
    unit="1",
    source="default of this project; Alibaba's cluster traces (ATC 2023) show 54 % of their GPUs in use; "
    "range: a lightly used and a well-filled cluster",
    date="2023",
    low=0.3,
    high=0.9,
)
GIVEN: Final = "given by the user"
_MAX: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonFactors:
    """Every factor between joules and grams, for one GPU model at one place."""

    carbon_intensity: Factor  # gCO2e/kWh
    pue: Factor  # 1, at least 1
    host_power: Factor  # W per GPU
    gpu_embodied: Factor  # kgCO2e per GPU
    server_embodied: Factor | None  # kgCO2e per GPU; None where the GPU's figure was given and includes it
    lifetime: Factor  # years
    utilization: Factor  # share of the lifetime in use, 0 to 1

    def __post_init__(self) -> None:
        for factor in self.all():
            _check_factor(factor)

    def all(self) -> tuple[Factor, ...]:
        """Return the factors in the order in which the arithmetic uses them."""
        chain = (self.host_power, self.pue, self.carbon_intensity, self.gpu_embodied, self.server_embodied)
        return (*(factor for factor in chain if factor is not None), self.lifetime, self.utilization)

    @property
    def embodied_kgco2e_per_gpu(self) -> float:
        """The GPU and its share of the server, kgCO2e."""
        return self.gpu_embodied.value + (self.server_embodied.value if self.server_embodied else 0.0)

    @property
    def embodied_low_kgco2e_per_gpu(self) -> float:
        """The low end of the GPU and its share of the server, kgCO2e."""
        return lowest(self.gpu_embodied) + (lowest(self.server_embodied) if self.server_embodied else 0.0)

    @property
    def embodied_high_kgco2e_per_gpu(self) -> float:
        """The high end of the GPU and its share of the server, kgCO2e."""
        return highest(self.gpu_embodied) + (highest(self.server_embodied) if self.server_embodied else 0.0)


def lowest(factor: Factor) -> float:
    """Return the low end of a factor; its value where it has no range."""
    return factor.value if factor.low is None else factor.low


def highest(factor: Factor) -> float:
    """Return the high end of a factor; its value where it has no range."""
    return factor.value if factor.high is None else factor.high


# The limits of each factor: (least, least excluded, most).
_LIMITS: Final = {
    "carbon_intensity": (0.0, False, 1e5),
    "pue": (1.0, False, 100.0),
    "host_power": (0.0, False, 1e6),
    "gpu_embodied": (0.0, False, _MAX),
    "server_embodied": (0.0, False, _MAX),
    "lifetime": (0.0, True, 1000.0),
    "utilization": (0.0, True, 1.0),
}


def check_factor(name: str, value: object) -> float:
    """Return ``value`` as a float if the factor ``name`` can have it; else raise RequestError."""
    least, excluded, most = _LIMITS[name]
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not least <= number <= most or (excluded and number == least):  # NaN is no number between
        bound = f"above {least:g}" if excluded else f"at least {least:g}"
        raise RequestError(
            explain(
                f"{name} is out of range", got=shown(value), expected=f"a number {bound}, at most {most:g}"
            )
        )
    return float(number)


def _check_factor(factor: Factor) -> None:
    if factor.name not in _LIMITS:
        raise RequestError(explain("unknown factor", got=repr(factor.name), expected=", ".join(_LIMITS)))
    for value in (factor.value, lowest(factor), highest(factor)):
        check_factor(factor.name, value)
    if not lowest(factor) <= factor.value <= highest(factor):
        got = f"{lowest(factor):g} to {highest(factor):g} around {factor.value:g}"
        raise RequestError(explain(f"the range of {factor.name} does not contain its value", got=got))


def _given(name: str, value: float, unit: str, note: str = "") -> Factor:
    return Factor(
        name=name,
        value=check_factor(name, value),
        unit=unit,
        source=GIVEN + note,
        date="as given",
        low=None,
        high=None,
    )


def _intensity(zone: GridZone | None, given: float | None) -> Factor:
    unit = "gCO2e/kWh"
    if given is not None:
        return _given("carbon_intensity", given, unit)
    if zone is not None:
        low, high = zone.low_gco2e_per_kwh, zone.high_gco2e_per_kwh
        source = f"{zone.zone_id} ({zone.name}): {zone.source}; confidence {zone.confidence}"
    else:
        zone = resolve_zone(WORLD_ZONE_ID)
        low, high = country_intensity_range()
        source = (
            f"no zone given, so the world average: {zone.source}; "
            "range: 10th to 90th percentile of the countries"
        )
    value = zone.carbon_intensity_gco2e_per_kwh
    return Factor(
        name="carbon_intensity",
        value=value,
        unit=unit,
        source=source,
        date=zone.date,
        low=min(low, value),
        high=max(high, value),
    )


def _pue(zone: GridZone | None, given: float | None) -> Factor:
    if given is not None:
        return _given("pue", given, "1")
    provider = zone.provider if zone is not None and zone.provider is not None else None
    entry = pue_for(provider if provider is not None and has_pue(provider) else None)
    what = (
        f"fleet of {entry.provider}"
        if provider == entry.provider
        else "no figure of a provider, so the industry's average"
    )
    source = f"{what}: {entry.source}; confidence {entry.confidence}"
    return Factor(
        name="pue", value=entry.pue, unit="1", source=source, date=entry.date, low=entry.low, high=entry.high
    )


def _host_power(gpu_id: str, given: float | None) -> Factor:
    if given is not None:
        return _given("host_power", given, "W per GPU")
    host = host_power_for(gpu_id)
    return Factor(
        name="host_power",
        value=host.typical_w,
        unit="W per GPU",
        source=f"server {host.server_id}, {host.basis}; range idle to maximum; {host.source}; "
        f"confidence {host.confidence}",
        date=host.date,
        low=host.idle_w,
        high=host.max_w,
    )


def _embodied_factor(name: str, part: EmbodiedPart) -> Factor:
    return Factor(
        name=name,
        value=part.mid_kgco2e,
        unit="kgCO2e per GPU",
        source=f"{part.item}: {part.source}; confidence {part.confidence}",
        date=part.date,
        low=part.low_kgco2e,
        high=part.high_kgco2e,
    )


def _embodied(embodied: Embodied, given: float | None) -> tuple[Factor, Factor | None]:
    if given is not None:
        return _given("gpu_embodied", given, "kgCO2e per GPU", ", server share included"), None
    return (
        _embodied_factor("gpu_embodied", embodied.gpu),
        _embodied_factor("server_embodied", embodied.server_share),
    )


def resolve_factors(
    gpu_id: str,
    *,
    zone: str | None = None,
    carbon_intensity: float | None = None,
    pue: float | None = None,
    lifetime_years: float | None = None,
    utilization: float | None = None,
    host_power_w_per_gpu: float | None = None,
    embodied_kgco2e_per_gpu: float | None = None,
    gpu_memory_gib: float | None = None,
    gpu_tdp_w: float | None = None,
) -> CarbonFactors:
    """Return the factors for ``gpu_id`` at ``zone``, what the caller gives replacing the tables' figures.

    Without a zone the world average stands in, with a range as wide as the countries are. A cloud region
    brings its provider's PUE; everything else takes the industry's average. ``carbon_intensity`` is in
    gCO2e/kWh and wins over the zone; ``embodied_kgco2e_per_gpu`` includes the share of the server. Memory and
    power limit choose the nearest card for a GPU that no table lists. Raise
    UnknownNameError for an unknown zone, RequestError for a factor that cannot be.
    """
    place = resolve_zone(zone) if zone is not None else None
    gpu_embodied, server_embodied = _embodied(
        embodied_for(gpu_id, memory_gb=gpu_memory_gib, tdp_w=gpu_tdp_w), embodied_kgco2e_per_gpu
    )
    return CarbonFactors(
        carbon_intensity=_intensity(place, carbon_intensity),
        pue=_pue(place, pue),
        host_power=_host_power(gpu_id, host_power_w_per_gpu),
        gpu_embodied=gpu_embodied,
        server_embodied=server_embodied,
        lifetime=DEFAULT_LIFETIME if lifetime_years is None else _given("lifetime", lifetime_years, "years"),
        utilization=DEFAULT_UTILIZATION if utilization is None else _given("utilization", utilization, "1"),
    )
