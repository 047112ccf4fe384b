"""The host's time of a phase: steps, launches and sequences, each by hand."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.resolving import resolve_deployment
from llmco2.operators.names import PHASES
from llmco2.physics.basis import phase_basis
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, PhaseBasis, phase_readout

LEAST_SLOT = {name: np.full((1, 1), low) for name, (low, _, _) in SLOT_COEFFICIENTS.items()}
LEAST_PHASE = {name: np.full(1, low) for name, (low, _, _) in PHASE_COEFFICIENTS.items()}


def _idle_basis(**changed: float) -> PhaseBasis:
    """Return a phase without kernels on one 100 W GPU."""
    slots = ("compute_s", "weight_s", "activation_s", "kv_s", "network_s", "launches")
    values = {f.name: np.zeros((1, 1) if f.name in slots else 1) for f in fields(PhaseBasis)}
    for name, value in {
        "n_gpus": 1.0,
        "n_shards": 1.0,
        "tdp_w": 100.0,
        "power_limit_w": 100.0,
        **changed,
    }.items():
        values[name] = np.full_like(values[name], value)
    return PhaseBasis(**values)


def test_a_scheduler_that_handles_sequences_one_by_one_adds_up() -> None:
    """100 steps of 64 sequences: 100·2 ms + 6,400·0.25 ms = 1.8 s, at a tenth of 100 W."""
    phase = {
        **LEAST_PHASE,
        "host_step_s": np.array([2e-3]),
        "host_sequence_s": np.array([2.5e-4]),
        "idle_power": np.array([0.1]),
    }
    answer = phase_readout(np, _idle_basis(steps=100.0, sequence_steps=6400.0), LEAST_SLOT, phase)
    assert answer.time_s[0] == pytest.approx(1.8, rel=1e-6)
    assert answer.energy_j[0] == pytest.approx(18.0, rel=1e-6)


@pytest.mark.parametrize(("phase", "expected"), [(PHASES[0], 8.0), (PHASES[1], 8.0 * 99.0)])
def test_every_sequence_of_every_step_is_counted(phase: str, expected: float) -> None:
    deployment = resolve_deployment("Qwen/Qwen3-8B", "A100-SXM4-80GB", 1, 1, 1, "vllm", "bf16", "unknown")
    columns = deployment_columns([deployment])
    one = np.ones(1)
    work = columns.workload(8.0 * one, 512.0 * one, 100.0 * one, 0.0 * one)
    basis, _ = phase_basis(phase, columns, work)
    assert basis.sequence_steps.tolist() == [expected]
