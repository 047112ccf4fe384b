"""The whole answer for many requests at once: energies, intervals, bounds, times, carbon, verdict.

Invariant: lower bound ≤ interval low ≤ energy ≤ interval high ≤ upper bound, for every answered request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.catalog.params import parameter_count
from llmco2.errors import explain
from llmco2.features.deployment import Deployment
from llmco2.kernels.columns import Column
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.predictor.columns import PhaseColumns, PredictionColumns, SizeColumns, predict_columns
from llmco2.predictor.domain import deployment_notes, size_note, size_outside
from llmco2.predictor.intervals import LogQuantiles, log_quantiles

# Engines that page their KV cache: a batch too large for it waits in turns instead of failing.
PAGING_ENGINES: Final = frozenset(
    {"vllm", "vllm-0.5", "vllm-0.11", "vllm-speculative", "sglang", "tgi", "tensorrt-llm", "deepspeed-mii",
     "splitwise-server"}
)  # fmt: skip


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
    prediction: PredictionColumns
    in_domain: NDArray[np.bool_]
    notes: list[tuple[str, ...]]
    errors: list[str]  # empty where answered


def answer_requests(checkpoint: Checkpoint, deployments: list[Deployment], sizes: SizeColumns, *,
                    scales: dict[str, float] | None = None, width_scale: float = 1.0) -> Answer:  # fmt: skip
    """Return the answers; ``scales`` and ``width_scale`` come from a calibration."""
    prediction = predict_columns(checkpoint, deployments, sizes, scales)
    ends = log_quantiles(checkpoint.intervals, checkpoint.domain, deployments, sizes.deployment)
    ends = LogQuantiles(low=ends.low * width_scale, high=ends.high * width_scale)
    wider = LogQuantiles(
        low=ends.low * checkpoint.intervals["phase_factor"], high=ends.high * checkpoint.intervals["phase_factor"]
    )
    prefill = _phase_answer(prediction.prefill, prediction.power_limit_w, wider)
    decode = _phase_answer(prediction.decode, prediction.power_limit_w, wider)
    steps = prediction.steps
    tpot = np.divide(decode.time_s, steps, out=np.zeros_like(steps), where=steps > 0.0)
    waiting = np.where(sizes.continuous > 0, tpot, 0.0)  # an arriving prompt waits for the step that runs
    in_domain, notes = _verdicts(checkpoint, deployments, sizes)
    return Answer(
        prefill=prefill,
        decode=decode,
        total=_total_answer(prefill, decode, ends),
        ttft_s=prefill.time_s / prediction.prefill_passes + waiting,
        tpot_s=tpot,
        prediction=prediction,
        in_domain=in_domain,
        notes=notes,
        errors=_memory_errors(deployments, sizes, prediction, notes, in_domain),
    )


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


def _verdicts(checkpoint: Checkpoint, deployments: list[Deployment],
              sizes: SizeColumns) -> tuple[NDArray[np.bool_], list[tuple[str, ...]]]:  # fmt: skip
    domain = checkpoint.domain
    fixed = [deployment_notes(domain, d) for d in deployments]
    notes = [fixed[i] for i in sizes.deployment]
    named = {name: getattr(sizes, name) for name in ("batch_size", "prompt_tokens", "output_tokens")}
    for name, outside in size_outside(domain, named).items():
        for row in np.flatnonzero(outside):
            notes[row] = (*notes[row], size_note(domain, name, named[name][row]))
    return np.array([not row for row in notes], dtype=bool), notes


def _memory_errors(deployments: list[Deployment], sizes: SizeColumns, prediction: PredictionColumns,
                   notes: list[tuple[str, ...]], in_domain: NDArray[np.bool_]) -> list[str]:  # fmt: skip
    """Return one line for each request that does not fit; a paging engine's full cache is a note instead."""
    errors = [""] * len(notes)
    need, available = prediction.memory, prediction.memory_available_bytes
    one_sequence = need.weights_bytes + need.workspace_bytes + need.kv_cache_bytes / sizes.batch_size
    for row in np.flatnonzero(need.total_bytes > available):
        deployment = deployments[sizes.deployment[row]]
        missing = need.total_bytes[row] - available[row]
        if deployment.engine in PAGING_ENGINES and one_sequence[row] <= available[row]:
            notes[row] = (*notes[row], f"KV cache of the batch exceeds GPU memory by {missing / 1e9:.3g} GB, "
                          "so the engine would run it in turns")  # fmt: skip
            in_domain[row] = False
            continue
        errors[row] = does_not_fit(deployment, need.total_bytes[row], available[row],
                                   need.weights_bytes[row], need.kv_cache_bytes[row])  # fmt: skip
    return errors


def does_not_fit(deployment: Deployment, needed: float, available: float, weights: float, cache: float) -> str:
    """Return the line that says what is missing on each GPU and what would fit."""
    arch, degree = deployment.architecture, deployment.shard_degree
    heads = arch.n_heads or 1
    fixed = needed - weights - cache
    fitting = [n for n in range(degree + 1, 65) if heads % n == 0 and fixed + (weights + cache) * degree / n <= available]
    billions = parameter_count(arch) / 1e9
    remedy = f"tensor_parallel {fitting[0]} would fit" if fitting else "use a smaller batch, precision or model"
    return explain(
        f"{arch.model_id} ({billions:.3g}B, {deployment.precision.name}) does not fit {deployment.gpu_id}",
        got=f"{needed / 1e9:.4g} GB a GPU (weights {weights / 1e9:.4g}, KV cache {cache / 1e9:.4g})",
        expected=f"at most {available / 1e9:.4g} GB, so {(needed - available) / 1e9:.3g} GB are missing",
        remedy=remedy,
    )  # fmt: skip
