"""Predictions for many requests at once: energies, times and bounds as columns.

Invariant: this is the only place that turns sizes into joules for an answer; a single request is a table of
one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.operators.columns import Column
from llmco2.operators.memory import MemoryNeed, memory_need
from llmco2.operators.names import PHASES
from llmco2.physics.basis import phase_basis
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, PhaseBasis, phase_readout
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.predictor.network import PhaseCoefficients, coefficients
from llmco2.predictor.residual import Residual, residual_features

_LEAST_SLOT: Final = {name: np.float64(low) for name, (low, _, _) in SLOT_COEFFICIENTS.items()}
_LEAST_PHASE: Final = {name: np.float64(low) for name, (low, _, _) in PHASE_COEFFICIENTS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeColumns:
    """Request sizes, ``(n_requests,)`` each, and the deployment each belongs to."""

    deployment: NDArray[np.intp]  # index into the deployments
    batch_size: Column
    prompt_tokens: Column
    output_tokens: Column
    continuous: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseColumns:
    """One phase of every request, ``(n_requests,)`` each."""

    energy_j: Column
    time_s: Column
    least_energy_j: Column  # every coefficient at its physical least: the roofline at idle power
    least_time_s: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionColumns:
    """The bare prediction of every request, before intervals."""

    prefill: PhaseColumns
    decode: PhaseColumns
    steps: Column  # decode steps
    prefill_passes: Column
    power_limit_w: Column  # all GPUs
    n_gpus: Column
    memory: MemoryNeed  # per GPU
    memory_available_bytes: Column

    @property
    def energy_j(self) -> Column:
        """Prefill and decode together."""
        return self.prefill.energy_j + self.decode.energy_j

    @property
    def latency_s(self) -> Column:
        """Prefill and decode together."""
        return self.prefill.time_s + self.decode.time_s


def predict_columns(
    checkpoint: Checkpoint,
    deployments: list[Deployment],
    sizes: SizeColumns,
    scales: dict[str, float] | None = None,
    residual: Residual | None = None,
) -> PredictionColumns:
    """Return the predictions of all requests.

    ``scales`` multiplies coefficients by name and ``residual`` corrects energies (a calibration); the physical ranges
    and bounds still hold.
    """
    unique = deployment_columns(deployments)
    learned = coefficients(checkpoint, deployments, unique)
    if scales:
        learned = {phase: values.scaled(scales) for phase, values in learned.items()}
    rows = unique.take(sizes.deployment)
    work = rows.workload(sizes.batch_size, sizes.prompt_tokens, sizes.output_tokens, sizes.continuous)
    phases, bases = {}, {}
    for phase in PHASES:
        basis, _ = phase_basis(phase, rows, work)
        phases[phase] = _phase_columns(basis, learned[phase].take(sizes.deployment))
        bases[phase] = basis
    power_limit_w = bases["decode"].power_limit_w * work.n_gpus
    if residual is not None:
        factor = np.exp(residual.log_correction(residual_features(bases["prefill"], bases["decode"])))
        phases = {phase: _corrected(columns, factor, power_limit_w) for phase, columns in phases.items()}
    return PredictionColumns(
        prefill=phases["prefill"],
        decode=phases["decode"],
        steps=bases["decode"].steps,
        prefill_passes=bases["prefill"].steps,
        power_limit_w=power_limit_w,
        n_gpus=work.n_gpus,
        memory=memory_need(rows.shape, work),
        memory_available_bytes=rows.device.memory_bytes,
    )


def _corrected(columns: PhaseColumns, factor: Column, power_limit_w: Column) -> PhaseColumns:
    """Return the phase with its energy times ``factor``, within what physics allows in its time."""
    energy_j = np.clip(columns.energy_j * factor, columns.least_energy_j, power_limit_w * columns.time_s)
    return replace(columns, energy_j=energy_j)


def _phase_columns(basis: PhaseBasis, learned: PhaseCoefficients) -> PhaseColumns:
    answer = phase_readout(np, basis, learned.slot, learned.phase)
    least = phase_readout(np, basis, _LEAST_SLOT, _LEAST_PHASE)
    return PhaseColumns(
        energy_j=answer.energy_j,
        time_s=answer.time_s,
        least_energy_j=least.energy_j,
        least_time_s=least.time_s,
    )
