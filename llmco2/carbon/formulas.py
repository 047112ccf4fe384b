"""The formulas of carbon accounting, one function each.

Invariant: every function is plain arithmetic on its arguments, so it takes floats and numpy arrays alike,
imports nothing heavy and checks nothing; the callers in ``footprint`` and ``columns`` check.

The chain: GPU energy + host energy = energy of the computers; × PUE = energy of the facility; × grid
intensity = operational emissions. Embodied emissions are a share by time of what the hardware cost to make.
PUE covers cooling and power distribution only: the host is counted on its own, before PUE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from llmco2.units import GRAMS_PER_KILOGRAM, JOULES_PER_KWH, SECONDS_PER_YEAR

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Values: TypeAlias = float | npt.NDArray[np.float64]


def host_energy_j(host_power_w_per_gpu: Values, n_gpus: Values, time_s: Values) -> Values:
    """Return the energy of the host beside the GPUs, J: power per GPU × GPUs × time.

    ``host_power_w_per_gpu`` is the typical draw of CPUs, memory, network and fans, W per GPU; ``time_s`` is
    the time for which the batch holds its GPUs.
    """
    return host_power_w_per_gpu * n_gpus * time_s


def facility_energy_j(gpu_energy_j: Values, host_energy_j: Values, pue: Values) -> Values:
    """Return the energy that the facility draws, J: (GPUs + host) × PUE (ISO/IEC 30134-2)."""
    return (gpu_energy_j + host_energy_j) * pue


def facility_energy_kwh(facility_energy_j: Values) -> Values:
    """Return the facility's energy in kWh, the unit of grid factors."""
    return facility_energy_j / JOULES_PER_KWH


def operational_gco2e(energy_kwh: Values, carbon_intensity_gco2e_per_kwh: Values) -> Values:
    """Return operational emissions, gCO2e: E × I of ISO/IEC 21031, location-based."""
    return energy_kwh * carbon_intensity_gco2e_per_kwh


def embodied_time_share(time_s: Values, lifetime_years: Values, utilization: Values) -> Values:
    """Return the share of a device's useful life that ``time_s`` takes up, dimensionless.

    time / (lifetime × utilization): idle hours are shared out over the hours that somebody
    does (the time share TS of ISO/IEC 21031, over the reserved part of the expected lifespan). A year has
    365.25 days.
    """
    return time_s / (lifetime_years * SECONDS_PER_YEAR * utilization)


def embodied_gco2e(embodied_kgco2e_per_gpu: Values, n_gpus: Values, time_share: Values) -> Values:
    """Return embodied emissions, gCO2e: (GPU + server share) × GPUs × time share (M of ISO/IEC 21031)."""
    return embodied_kgco2e_per_gpu * GRAMS_PER_KILOGRAM * n_gpus * time_share
