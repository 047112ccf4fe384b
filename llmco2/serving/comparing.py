"""Predicted beside measured for the work of one interval of one server.

Invariant: both sides are of the same seconds, the same GPUs and the same tokens. Idle time is predicted apart, from the
GPU's idle power, so that an empty server is no error of the predictor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from llmco2.carbon import formulas
from llmco2.carbon.factors import CarbonFactors
from llmco2.errors import LLMCO2Error
from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2.serving import sample as q
from llmco2.serving.interval import Interval
from llmco2.serving.workload import Workload

Predict = Callable[[InferenceRequest], Footprint]
TOKENS_PER_THOUSAND: Final = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedEnergy:
    """Predicted joules of all GPUs of the server over one interval; ``low`` and ``high`` are of the total."""

    prefill_j: float
    decode_j: float
    idle_j: float
    low_j: float
    high_j: float
    in_domain: bool = True

    @property
    def energy_j(self) -> float:
        """Prefill, decode and idle together."""
        return self.prefill_j + self.decode_j + self.idle_j


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerComparison:
    """One interval of one server: what was predicted for it, and what its GPUs drew."""

    interval: Interval
    workload: Workload | None
    predicted: PredictedEnergy | None
    why_not: str | None = None  # why nothing is predicted
    measured_j: float | None = None
    predicted_gco2e: float | None = None  # operational
    measured_gco2e: float | None = None

    @property
    def error_percent(self) -> float | None:
        """Signed error of the prediction against the measurement: + is predicted too much."""
        if self.predicted is None or not self.measured_j:
            return None
        return 100.0 * (self.predicted.energy_j - self.measured_j) / self.measured_j

    @property
    def output_tokens(self) -> float | None:
        """Tokens that were generated."""
        return self.interval.counts.get(q.GENERATION_TOKENS)

    @property
    def total_tokens(self) -> float | None:
        """Prompt tokens, cached or not, and generated ones."""
        prompt, made = self.interval.prompt_tokens, self.output_tokens
        return None if prompt is None or made is None else prompt + made

    @property
    def joules_per_output_token(self) -> float | None:
        """Measured."""
        return per(self.measured_j, self.output_tokens)

    @property
    def joules_per_total_token(self) -> float | None:
        """Measured."""
        return per(self.measured_j, self.total_tokens)

    @property
    def gco2e_per_1k_tokens(self) -> float | None:
        """Measured, operational, per thousand output tokens."""
        each = per(self.measured_gco2e, self.output_tokens)
        return None if each is None else TOKENS_PER_THOUSAND * each


def predict_energy(
    work: Workload, footprint: Footprint, duration_s: float, idle_power_w: float | None
) -> PredictedEnergy:
    """Return the predicted joules of an interval from the footprint of its steady batch.

    Each phase scales with its tokens: prefill E × computed prompt tokens / (batch × prompt), decode E × generated
    tokens / (batch × output). The interval of the active part is that of the batch's total. What the phases do not fill
    of the interval is idle, at ``idle_power_w`` a GPU, or at none where it is not known.
    """
    prefill_j = work.prefill_batches * footprint.prefill.energy_j
    decode_j = work.decode_batches * footprint.decode.energy_j
    replicas = max(1.0, work.n_gpus / work.request.n_gpus)
    prefill_s = work.prefill_batches * footprint.prefill.time_s / replicas
    idle_s = min(duration_s, max(0.0, work.idle_s - prefill_s))
    idle_j = 0.0 if idle_power_w is None else idle_s * idle_power_w * work.n_gpus
    total = footprint.total
    active_j = prefill_j + decode_j
    return PredictedEnergy(
        prefill_j=prefill_j,
        decode_j=decode_j,
        idle_j=idle_j,
        low_j=active_j * total.energy_interval_j.low / total.energy_j + idle_j,
        high_j=active_j * total.energy_interval_j.high / total.energy_j + idle_j,
        in_domain=footprint.in_domain,
    )


def compare_interval(
    short: Interval,
    work: Workload | str,
    predict: Predict,
    *,
    n_gpus: int,
    idle_power_w: float | None,
    factors: CarbonFactors | None,
) -> ServerComparison:
    """Return predicted beside measured; a prediction that cannot be had leaves its reason."""
    predicted, why_not = None, work if isinstance(work, str) else None
    if isinstance(work, Workload):
        try:
            predicted = predict_energy(work, predict(work.request), short.duration_s, idle_power_w)
        except LLMCO2Error as error:
            why_not = str(error)

    def grams(energy_j: float | None) -> float | None:
        if energy_j is None or factors is None:
            return None
        return operational_gco2e(energy_j, short.duration_s, n_gpus, factors)

    return ServerComparison(
        interval=short,
        workload=work if isinstance(work, Workload) else None,
        predicted=predicted,
        why_not=why_not,
        measured_j=short.energy_j,
        predicted_gco2e=grams(None if predicted is None else predicted.energy_j),
        measured_gco2e=grams(short.energy_j),
    )


def operational_gco2e(energy_j: float, time_s: float, n_gpus: float, factors: CarbonFactors) -> float:
    """Return gCO2e of ``energy_j`` of ``n_gpus`` held for ``time_s``: (GPUs + host) × PUE × intensity."""
    host_j = formulas.host_energy_j(factors.host_power.value, n_gpus, time_s)
    kwh = formulas.facility_energy_kwh(formulas.facility_energy_j(energy_j, host_j, factors.pue.value))
    return float(formulas.operational_gco2e(kwh, factors.carbon_intensity.value))


def per(quantity: float | None, count: float | None) -> float | None:
    """Return a quantity per count, or ``None`` where either is not known or nothing was counted."""
    return None if quantity is None or not count else quantity / count
