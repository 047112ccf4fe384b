"""From joules to grams at the zone in view, with the figure's source and age.

Invariant: predicted and measured energy go through the same factors, so their relative error is the same in
joules as far as time agrees, and a change of zone changes every gram at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from llmco2.carbon import formulas
from llmco2.carbon.factors import CarbonFactors, resolve_factors
from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.grids import WORLD_ZONE_ID, GridZone, resolve_zone
from llmco2.errors import LLMCO2Error

STALE_AFTER_YEARS: Final = 2  # grids change by several percent a year
_YEAR: Final = re.compile(r"\b(19|20)\d\d\b")

Resolve = Callable[[str, str], CarbonFactors]  # (GPU as named by catalog or driver, zone id)
FindZone = Callable[[str], GridZone]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridView:
    """The zone in view and how old its figure is."""

    zone: GridZone
    age_years: int | None  # None: its source does not say
    assumed: bool  # no zone was chosen: the world's average stands in

    @property
    def stale(self) -> bool:
        """Whether the figure is known to be too old."""
        return self.age_years is not None and self.age_years > STALE_AFTER_YEARS

    @property
    def age_text(self) -> str:
        """The age in words."""
        if self.age_years is None:
            return "year not stated"
        return "this year" if self.age_years <= 0 else f"{self.age_years} y old"


class GridAccount:
    """Grams at one zone for any GPU."""

    def __init__(
        self,
        zone: str | None,
        *,
        today: date,
        find_zone: FindZone = resolve_zone,
        resolve: Resolve | None = None,
    ) -> None:
        """Look the zone up; ``UnknownNameError`` for an unknown one, ``None`` is the world's average."""
        found = find_zone(zone or WORLD_ZONE_ID)
        self.view = GridView(zone=found, age_years=age_years(found.date, today), assumed=zone is None)
        self._resolve = resolve or catalog_factors

    def operational_g(self, gpu: str, energy_j: float, time_s: float, n_gpus: float) -> float | None:
        """Return gCO2e of ``energy_j`` on ``n_gpus`` held for ``time_s``: (GPUs + host) × PUE × intensity.

        ``None`` where no factors are known for the GPU.
        """
        factors = self.factors(gpu)
        if factors is None:
            return None
        host_j = formulas.host_energy_j(factors.host_power.value, n_gpus, time_s)
        facility_j = formulas.facility_energy_j(energy_j, host_j, factors.pue.value)
        kwh = formulas.facility_energy_kwh(facility_j)
        return float(formulas.operational_gco2e(kwh, factors.carbon_intensity.value))

    def embodied_g(self, gpu: str, time_s: float, n_gpus: float) -> float | None:
        """Return the embodied gCO2e of ``n_gpus`` held for ``time_s``, or ``None``."""
        factors = self.factors(gpu)
        if factors is None:
            return None
        share = formulas.embodied_time_share(time_s, factors.lifetime.value, factors.utilization.value)
        return float(formulas.embodied_gco2e(factors.embodied_kgco2e_per_gpu, n_gpus, share))

    def factors(self, gpu: str) -> CarbonFactors | None:
        """Return the factors for a GPU at this zone, or ``None`` where there are none."""
        try:
            return self._resolve(gpu, self.view.zone.zone_id)
        except LLMCO2Error:
            return None


@lru_cache(maxsize=256)
def catalog_factors(gpu: str, zone_id: str) -> CarbonFactors:
    """Return the catalog's factors for a GPU by any of its names."""
    return resolve_factors(catalog_gpu_id(gpu), zone=zone_id)


def zone_factors(zone: str | None) -> Callable[[str], CarbonFactors | None]:
    """Return what answers the catalog's factors for a GPU at ``zone``; ``None`` where there are none."""

    def answer(gpu: str) -> CarbonFactors | None:
        try:
            return catalog_factors(gpu, zone or WORLD_ZONE_ID)
        except LLMCO2Error:
            return None

    return answer


def catalog_gpu_id(name: str) -> str:
    """Return the catalog's id for a driver's device name, or the name itself where the catalog has none."""
    try:
        return resolve_gpu(name).gpu_id
    except LLMCO2Error:
        return name


def age_years(stated: str, today: date) -> int | None:
    """Return the years since the newest year that ``stated`` names, or ``None``."""
    years = [int(match.group()) for match in _YEAR.finditer(stated)]
    return today.year - max(years) if years else None
