"""The carbon of one request batch, with its intervals and its factors.

Invariant: each interval contains its figure. Its low end takes every factor at its low end and its high end
every factor at its high end, so it is an outer envelope: at least as wide as the energy interval's coverage
promises.

What the batch is charged with: a batch holds its GPUs for its latency, so host energy and the time share of
embodied carbon run over latency × GPUs. Under static batching nothing else runs meanwhile and that is
exact. Under continuous serving, charge one of two things, never a mix: the whole running batch over its
latency (what ``batch_size`` of an InferenceRequest means), or one request with its share of both energy and
time. Charging each request with the full latency on all GPUs would count the same GPU-seconds once for
every request that runs beside it.
"""

from __future__ import annotations

import math

from llmco2.carbon import formulas
from llmco2.carbon.factors import CarbonFactors, highest, lowest
from llmco2.errors import RequestError, explain
from llmco2.records.footprint import Carbon, Interval


def check_quantity(name: str, value: object) -> float:
    """Return ``value`` as a float if it is a finite number from zero; else raise RequestError."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number < 0.0:
        raise RequestError(
            explain(f"{name} is out of range", got=repr(value), expected="a number of at least 0")
        )
    return float(number)


def _facility_energy_kwh(energy_j: float, host_w: float, n_gpus: float, time_s: float, pue: float) -> float:
    host_j = formulas.host_energy_j(host_w, n_gpus, time_s)
    return float(formulas.facility_energy_kwh(formulas.facility_energy_j(energy_j, host_j, pue)))


def _embodied_gco2e(
    kgco2e: float, n_gpus: float, time_s: float, lifetime: float, utilization: float
) -> float:
    share = formulas.embodied_time_share(time_s, lifetime, utilization)
    return float(formulas.embodied_gco2e(kgco2e, n_gpus, share))


def footprint_carbon(  # noqa: PLR0917 - the four inputs and the two ends of the interval
    energy_j: float,
    time_s: float,
    n_gpus: float,
    factors: CarbonFactors,
    energy_low_j: float | None = None,
    energy_high_j: float | None = None,
) -> Carbon:
    """Return the emissions of one batch.

    ``energy_j`` is the energy of all its GPUs, J, and ``time_s`` the time for which it holds them, s; the
    energy's interval widens the operational interval. Raise RequestError for a negative or non-finite
    quantity, or an interval that does not contain the energy.
    """
    energy_j, time_s = check_quantity("energy_j", energy_j), check_quantity("time_s", time_s)
    n_gpus = check_quantity("n_gpus", n_gpus)
    low_j = energy_j if energy_low_j is None else check_quantity("energy_low_j", energy_low_j)
    high_j = energy_j if energy_high_j is None else check_quantity("energy_high_j", energy_high_j)
    if not low_j <= energy_j <= high_j:
        raise RequestError(
            explain(
                "the energy interval does not contain the energy",
                got=f"{low_j:g} to {high_j:g} J around {energy_j:g} J",
            )
        )
    host, pue, intensity = factors.host_power, factors.pue, factors.carbon_intensity
    life, use = factors.lifetime, factors.utilization
    kwh = _facility_energy_kwh(energy_j, host.value, n_gpus, time_s, pue.value)
    low_kwh = _facility_energy_kwh(low_j, lowest(host), n_gpus, time_s, lowest(pue))
    high_kwh = _facility_energy_kwh(high_j, highest(host), n_gpus, time_s, highest(pue))
    return Carbon(
        operational_gco2e=float(formulas.operational_gco2e(kwh, intensity.value)),
        operational_interval_gco2e=Interval(
            low=float(formulas.operational_gco2e(low_kwh, lowest(intensity))),
            high=float(formulas.operational_gco2e(high_kwh, highest(intensity))),
        ),
        embodied_gco2e=_embodied_gco2e(
            factors.embodied_kgco2e_per_gpu, n_gpus, time_s, life.value, use.value
        ),
        embodied_interval_gco2e=Interval(
            low=_embodied_gco2e(
                factors.embodied_low_kgco2e_per_gpu, n_gpus, time_s, highest(life), highest(use)
            ),
            high=_embodied_gco2e(
                factors.embodied_high_kgco2e_per_gpu, n_gpus, time_s, lowest(life), lowest(use)
            ),
        ),
        facility_energy_kwh=kwh,
        factors=factors.all(),
    )
