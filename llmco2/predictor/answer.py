"""The whole answer for many requests at once: energies, intervals, bounds, times, carbon, verdict.

Invariant: lower bound ≤ interval low ≤ energy ≤ interval high ≤ upper bound, for every answered request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmco2.carbon import CarbonFactors, resolve_factors
from llmco2.deployment.deployment import Deployment
from llmco2.operators.columns import Column
from llmco2.physics.hosts import known_host
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.predictor.columns import PhaseColumns, PredictionColumns, SizeColumns, predict_columns
from llmco2.predictor.domain import deployment_notes, size_note, size_outside
from llmco2.predictor.intervals import LEAST_MEASURED_SHARE, LogQuantiles, log_quantiles, unmeasured
from llmco2.predictor.memory_check import memory_verdicts
from llmco2.predictor.remarks import deployment_remarks, size_remarks
from llmco2.units import BYTES_PER_GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseAnswer:
    """One phase, or both, of every request; ``(n_requests,)`` each."""

    energy_j: Column
    low_j: Column
    high_j: Column
    lower_bound_j: Column
    upper_bound_j: Column
    time_s: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Everything but carbon, for every request."""

    prefill: PhaseAnswer
    decode: PhaseAnswer
    total: PhaseAnswer
    ttft_s: Column
    tpot_s: Column
    time_ends: LogQuantiles  # of the interval of every time: seconds × exp(low) to seconds × exp(high)
    prediction: PredictionColumns
    in_domain: NDArray[np.bool_]
    notes: list[tuple[str, ...]]  # what lies outside the domain, then remarks that do not bear on it
    errors: list[str]  # empty where answered


def answer_requests(
    checkpoint: Checkpoint,
    deployments: list[Deployment],
    sizes: SizeColumns,
    *,
    scales: Mapping[str, float] | None = None,
    width_scale: float = 1.0,
) -> Answer:
    """Return the answers; ``scales`` and ``width_scale`` come from a calibration."""
    prediction = predict_columns(checkpoint, deployments, sizes, scales)
    ends, time_ends = interval_ends(checkpoint, deployments, sizes, prediction, width_scale)
    factor = checkpoint.intervals["phase_factor"]
    wider = LogQuantiles(low=ends.low * factor, high=ends.high * factor)
    prefill = _phase_answer(prediction.prefill, prediction.power_limit_w, wider)
    decode = _phase_answer(prediction.decode, prediction.power_limit_w, wider)
    notes = _notes(checkpoint, deployments, sizes, prediction)
    errors = [""] * len(notes)
    for row, verdict in memory_verdicts(deployments, sizes, prediction).items():
        errors[row] = verdict.error
        notes[row] = (*notes[row], *verdict.notes)
    in_domain = np.array([not row for row in notes], dtype=bool)
    fixed = [deployment_remarks(deployment) for deployment in deployments]
    notes = [(*row, *fixed[i]) for row, i in zip(notes, sizes.deployment.tolist(), strict=True)]
    for row, remarks in size_remarks(deployments, sizes, prediction).items():
        notes[row] = (*notes[row], *remarks)
    return Answer(
        prefill=prefill,
        decode=decode,
        total=_total_answer(prefill, decode, ends),
        ttft_s=prediction.ttft_s,
        tpot_s=prediction.tpot_s,
        time_ends=time_ends,
        prediction=prediction,
        in_domain=in_domain,
        notes=notes,
        errors=errors,
    )


def deployment_factors(deployment: Deployment, **carbon: Any) -> CarbonFactors:
    """Return the carbon factors of a deployment's GPU; ``carbon`` as in ``llmco2.carbon.resolve_factors``."""
    gpu = deployment.gpu
    memory_gib = gpu.memory_bytes / BYTES_PER_GIB
    return resolve_factors(deployment.gpu_id, gpu_memory_gib=memory_gib, gpu_tdp_w=gpu.tdp_w, **carbon)


def _phase_answer(phase: PhaseColumns, power_limit_w: Column, ends: LogQuantiles) -> PhaseAnswer:
    # No energy above the power limit for the longest time the interval allows.
    upper = power_limit_w * phase.time_s * np.exp(np.maximum(ends.high, 0.0))
    return PhaseAnswer(
        energy_j=phase.energy_j,
        low_j=np.clip(phase.energy_j * np.exp(ends.low), phase.least_energy_j, phase.energy_j),
        high_j=np.clip(phase.energy_j * np.exp(ends.high), phase.energy_j, upper),
        lower_bound_j=phase.least_energy_j,
        upper_bound_j=upper,
        time_s=phase.time_s,
    )


def _total_answer(prefill: PhaseAnswer, decode: PhaseAnswer, ends: LogQuantiles) -> PhaseAnswer:
    energy = prefill.energy_j + decode.energy_j
    lower = prefill.lower_bound_j + decode.lower_bound_j
    upper = prefill.upper_bound_j + decode.upper_bound_j
    return PhaseAnswer(
        energy_j=energy,
        low_j=np.clip(energy * np.exp(ends.low), lower, energy),
        high_j=np.clip(energy * np.exp(ends.high), energy, upper),
        lower_bound_j=lower,
        upper_bound_j=upper,
        time_s=prefill.time_s + decode.time_s,
    )


def interval_ends(
    checkpoint: Checkpoint,
    deployments: list[Deployment],
    sizes: SizeColumns,
    prediction: PredictionColumns,
    width_scale: float = 1.0,
) -> tuple[LogQuantiles, LogQuantiles]:
    """Return the ends of the intervals of energies and of times, ``(n_requests,)`` each."""
    news = [
        unmeasured(checkpoint.hosts, checkpoint.domain, deployment, share)
        for deployment, share in zip(deployments, prediction.measured_share.tolist(), strict=True)
    ]
    engines = [known_host(deployment.engine, checkpoint.hosts) for deployment in deployments]
    both = []
    for quantity in ("energy", "time"):
        ends = log_quantiles(quantity, checkpoint.intervals, engines, news, sizes.deployment)
        both.append(LogQuantiles(low=ends.low * width_scale, high=ends.high * width_scale))
    return both[0], both[1]


def _notes(
    checkpoint: Checkpoint, deployments: list[Deployment], sizes: SizeColumns, prediction: PredictionColumns
) -> list[tuple[str, ...]]:
    """Return what of each request lies outside the domain."""
    domain = checkpoint.domain
    known = prediction.measured_share >= LEAST_MEASURED_SHARE
    fixed = [
        deployment_notes(checkpoint.hosts, domain, deployment, kernels_measured=bool(measured))
        for deployment, measured in zip(deployments, known.tolist(), strict=True)
    ]
    notes = [fixed[i] for i in sizes.deployment.tolist()]
    named = {name: getattr(sizes, name) for name in ("batch_size", "prompt_tokens", "output_tokens")}
    for name, outside in size_outside(domain, named).items():
        for row in np.flatnonzero(outside):
            notes[row] = (*notes[row], size_note(domain, name, named[name][row]))
    return notes
