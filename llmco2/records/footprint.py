"""What is known of a request's energy and carbon: per phase, with intervals and bounds and every factor used.

Invariant: no bare number. A predicted energy carries its interval and physical bounds, a gram its factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmco2.records.request import InferenceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A closed range with the share of cases it is meant to contain."""

    low: float
    high: float
    coverage: float = 0.90


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEnergy:
    """Energy and time of one phase (or of both) for the whole batch over all its GPUs."""

    energy_j: float
    energy_interval_j: Interval
    energy_bounds_j: Interval  # physical: coverage 1
    time_s: float
    average_power_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One number that entered a carbon figure, with where it came from."""

    name: str
    value: float
    unit: str
    source: str
    date: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Carbon:
    """Operational and embodied emissions of one request batch, gCO2e, with the factors that made them."""

    operational_gco2e: float
    embodied_gco2e: float
    operational_interval_gco2e: Interval
    embodied_interval_gco2e: Interval
    facility_energy_kwh: float  # GPUs and host, times PUE
    factors: tuple[Factor, ...]

    @property
    def total_gco2e(self) -> float:
        """Operational plus embodied."""
        return self.operational_gco2e + self.embodied_gco2e


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseParts:
    """Where the time (s) and the energy (J) of a phase go, by part; each adds up to the phase's whole."""

    time_s: Mapping[str, float] = field(hash=False)
    energy_j: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """The whole answer to one request."""

    request: InferenceRequest  # names resolved, precision decided
    n_gpus: int
    prefill: PhaseEnergy
    decode: PhaseEnergy
    total: PhaseEnergy
    ttft_s: float
    tpot_s: float
    latency_s: float
    energy_per_output_token_j: float
    energy_per_total_token_j: float
    carbon: Carbon
    memory_needed_bytes: float  # per GPU: weights, KV cache and workspace
    memory_available_bytes: float
    in_domain: bool
    notes: tuple[str, ...] = ()
    predictor: str = ""  # which checkpoint answered
    ttft_interval_s: Interval | None = None
    tpot_interval_s: Interval | None = None
    latency_interval_s: Interval | None = None
    prefill_parts: PhaseParts | None = None
    decode_parts: PhaseParts | None = None
    measured_kernel_share: float | None = (
        None  # of a small step's kernel time, in kernels measured on such a board
    )
    precision_by_part: str = ""  # which number format each part of the model is in
