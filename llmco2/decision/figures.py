"""What each option costs: GPUs, energy and carbon per request, per million tokens and, at a rate, in a year.

Invariant: with a rate, everything that the held hardware draws and was made of is shared out over the requests, so rate
× figure per request is the year: requests plus idle are the GPUs' energy, with the host and PUE that of the facility,
times the grid's intensity the operational emissions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.carbon import CarbonFactors, formulas, resolve_factors
from llmco2.carbon.yearly import batches_per_year
from llmco2.catalog.gpus import resolve_gpu
from llmco2.decision.load import Replicas
from llmco2.physics.power import power_columns
from llmco2.records.columns import ZONE_COLUMN
from llmco2.units import (
    BYTES_PER_GIB,
    GRAMS_PER_KILOGRAM,
    HOURS_PER_YEAR,
    JOULES_PER_WH,
    SECONDS_PER_YEAR,
    WATTS_PER_KILOWATT,
    joules_from_kwh,
    kwh_from_joules,
)

Column = NDArray[np.float64]
_MILLION: Final = 1e6
# Per request and per million output tokens, with the 90 % interval of energy and times.
FIGURES: Final = (
    "gpus_needed",
    "gpus_needed_high",
    "energy_per_request_wh",
    "energy_per_million_output_tokens_wh",
    "gco2e_per_request",
    "gco2e_per_million_output_tokens",
    "energy_relative_low",
    "energy_relative_high",
)
LOAD_FIGURES: Final = (
    "running_requests",
    "replicas",
    "requests_per_s_each",
    "saturation_requests_per_s",
    "load_share",
)
YEAR_FIGURES: Final = (
    "request_energy_per_year_kwh",
    "idle_energy_per_year_kwh",
    "energy_per_year_kwh",
    "host_energy_per_year_kwh",
    "pue",
    "facility_energy_per_year_kwh",
    "carbon_intensity_gco2e_per_kwh",
    "operational_per_year_kgco2e",
    "embodied_per_year_kgco2e",
)


def with_figures(options: pd.DataFrame) -> pd.DataFrame:
    """Return answered ``options`` with FIGURES of their requests alone: no GPU waits.

    Energy is that of the GPUs; CO2e is operational and embodied together.
    """
    requests = _numbers(options, "batch_size")
    energy = _numbers(options, "energy_j")
    grams = _numbers(options, "operational_gco2e") + _numbers(options, "embodied_gco2e")
    gpus = _numbers(options, "resolved_n_gpus")
    columns = _per_unit(energy / requests, grams / requests, _numbers(options, "output_tokens"))
    columns["gpus_needed"] = columns["gpus_needed_high"] = gpus
    columns["energy_relative_low"] = _numbers(options, "energy_low_j") / energy
    columns["energy_relative_high"] = _numbers(options, "energy_high_j") / energy
    return options.assign(**{name: columns[name] for name in FIGURES})


def with_year(
    options: pd.DataFrame, load: Replicas, running: Column, rate_per_s: float, **carbon: Any
) -> pd.DataFrame:
    """Return answered ``options`` with FIGURES, LOAD_FIGURES and YEAR_FIGURES at a steady rate of requests.

    Args:
        options: answered at the larger of one and ``running`` requests, their ``batch_size``.
        load: the replicas that hold them.
        running: mean number of requests in a replica; below one, the share of the time in which it works.
        rate_per_s: requests per second, all replicas together.
        carbon: factors as in :func:`llmco2.carbon.resolve_factors`, in place of the tables'.
    """
    gpus = load.replicas * _numbers(options, "resolved_n_gpus")
    served = _numbers(options, "batch_size")
    batches = np.asarray(batches_per_year(rate_per_s, served))
    busy_kwh = kwh_from_joules(1.0) * batches * _numbers(options, "energy_j")
    factors, idle_w = _places(options, carbon)
    waiting = 1.0 - np.minimum(running, 1.0)
    idle_kwh = waiting * gpus * idle_w * HOURS_PER_YEAR / WATTS_PER_KILOWATT
    host_kwh = factors["host_w"] * gpus * HOURS_PER_YEAR / WATTS_PER_KILOWATT
    energy_kwh = busy_kwh + idle_kwh
    facility_kwh = np.asarray(
        formulas.facility_energy_j(energy_kwh, host_kwh, factors["pue"])
    )  # kWh in, kWh out
    operational_g = np.asarray(formulas.operational_gco2e(facility_kwh, factors["intensity"]))
    embodied_g = np.asarray(formulas.embodied_gco2e(factors["embodied_kg"], gpus, 1.0 / factors["lifetime"]))
    requests = rate_per_s * SECONDS_PER_YEAR
    columns = _per_unit(
        joules_from_kwh(1.0) * energy_kwh / requests,
        (operational_g + embodied_g) / requests,
        _numbers(options, "output_tokens"),
    )
    for end in ("low", "high"):
        moved = busy_kwh * _numbers(options, f"energy_{end}_j") / _numbers(options, "energy_j")
        columns[f"energy_relative_{end}"] = (moved + idle_kwh) / energy_kwh
    slower = _numbers(options, "latency_high_s") / _numbers(options, "latency_s")
    columns["gpus_needed"] = gpus
    columns["gpus_needed_high"] = _numbers(options, "resolved_n_gpus") * np.maximum(
        load.replicas, np.ceil(load.replicas * load.load_share * slower)
    )
    columns["running_requests"] = running
    columns["replicas"] = load.replicas
    columns["requests_per_s_each"] = load.requests_per_s
    columns["saturation_requests_per_s"] = load.saturation_requests_per_s
    columns["load_share"] = load.load_share
    columns["request_energy_per_year_kwh"] = busy_kwh
    columns["idle_energy_per_year_kwh"] = idle_kwh
    columns["energy_per_year_kwh"] = energy_kwh
    columns["host_energy_per_year_kwh"] = host_kwh
    columns["pue"] = factors["pue"]
    columns["facility_energy_per_year_kwh"] = facility_kwh
    columns["carbon_intensity_gco2e_per_kwh"] = factors["intensity"]
    columns["operational_per_year_kgco2e"] = operational_g / GRAMS_PER_KILOGRAM
    columns["embodied_per_year_kgco2e"] = embodied_g / GRAMS_PER_KILOGRAM
    return options.assign(**{name: columns[name] for name in (*FIGURES, *LOAD_FIGURES, *YEAR_FIGURES)})


def _per_unit(energy_j: Column, grams: Column, output_tokens: Column) -> dict[str, Column]:
    """Return energy and CO2e of a request as figures per request and per million output tokens."""
    watt_hours = energy_j / JOULES_PER_WH
    return {
        "energy_per_request_wh": watt_hours,
        "energy_per_million_output_tokens_wh": watt_hours / output_tokens * _MILLION,
        "gco2e_per_request": grams,
        "gco2e_per_million_output_tokens": grams / output_tokens * _MILLION,
    }


def _places(options: pd.DataFrame, carbon: dict[str, Any]) -> tuple[dict[str, Column], Column]:
    """Return each option's carbon factors, and the draw of one of its GPUs that waits, W, ``(n_options,)`` each."""
    zones = options[ZONE_COLUMN] if ZONE_COLUMN in options else pd.Series("", index=options.index)
    keys = list(zip(options["gpu"].tolist(), zones.tolist(), strict=True))
    distinct = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    gpus = [resolve_gpu(name) for name, _ in distinct]
    found: list[CarbonFactors] = [
        resolve_factors(
            gpu.gpu_id,
            gpu_memory_gib=gpu.memory_bytes / BYTES_PER_GIB,
            gpu_tdp_w=gpu.tdp_w,
            **(carbon | ({ZONE_COLUMN: zone} if zone else {})),
        )
        for gpu, (_, zone) in zip(gpus, distinct, strict=True)
    ]
    row = np.array([distinct[key] for key in keys], dtype=np.intp)
    columns = {
        "intensity": [f.carbon_intensity.value for f in found],
        "pue": [f.pue.value for f in found],
        "host_w": [f.host_power.value for f in found],
        "embodied_kg": [f.embodied_kgco2e_per_gpu for f in found],
        "lifetime": [f.lifetime.value for f in found],
    }
    idle_w: Column = power_columns(gpus).idle_w[row]
    return {name: np.array(values)[row] for name, values in columns.items()}, idle_w


def _numbers(options: pd.DataFrame, name: str) -> Column:
    return options[name].to_numpy(dtype=np.float64, na_value=np.nan)
