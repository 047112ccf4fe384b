"""From a measured kernel to the row that is written.

Invariant: a row is a :class:`~llmco2.records.run.KernelMeasurement`, the same that training and evaluation
read; it carries everything that decides how its label may be used.
"""

from __future__ import annotations

from typing import Any

from llmco2.measurement.campaigns.row import Machine, company_flags, gpu_state, provenance
from llmco2.measurement.kernels.kernel import KernelFacts
from llmco2.measurement.kernels.measure import KernelLabel
from llmco2.measurement.kernels.shapes import (
    DECODE_ATTENTION,
    MOE,
    PREFILL_ATTENTION,
    SIZES,
    KernelShape,
)
from llmco2.measurement.kernels.work import work_of
from llmco2.records.run import KernelMeasurement


def finished_kernel(
    shape: KernelShape, machine: Machine, label: KernelLabel, facts: KernelFacts, *, measured_at: str
) -> KernelMeasurement:
    """Return the row of a kernel that was measured."""
    gpus = [gpu for reading in label.readings for gpu in reading.gpus]
    return KernelMeasurement(
        **_identity(shape, machine),
        flags="; ".join(dict.fromkeys((*label.flags, *facts.flags, *company_flags(machine.devices)))),
        latency_s=label.latency_s,
        latency_std_s=label.latency_std_s,
        power_w=label.energy_j / label.latency_s if label.latency_s > 0 else None,
        energy_j=label.energy_j,
        energy_std_j=label.energy_std_j,
        repeats=label.launches,
        window_s=label.window_s,
        implementation=facts.implementation,
        engine_version=facts.engine_version,
        cold_cache=facts.cold_cache,
        cuda_graphs=facts.cuda_graphs,
        energy_method=next((r.method for r in label.readings if r.method), None),
        counter_period_s=max((r.counter_period_s or 0.0 for r in label.readings), default=0.0) or None,
        integrated_energy_j=label.integrated_energy_j,
        **gpu_state(gpus),
        **provenance(machine, measured_at),
        notes="; ".join(facts.notes),
    )


def failed_kernel(
    shape: KernelShape, machine: Machine, reason: str, *, measured_at: str
) -> KernelMeasurement:
    """Return the row of a kernel that could not be measured; ``reason`` is one line."""
    return KernelMeasurement(
        **_identity(shape, machine),
        status="failed",
        failure_reason=" ".join(reason.split()),
        **provenance(machine, measured_at),
    )


def _identity(shape: KernelShape, machine: Machine) -> dict[str, Any]:
    work = work_of(shape)
    values: dict[str, Any] = {name: getattr(shape, name) for name in SIZES}
    if shape.kind == PREFILL_ATTENTION:
        values["m"] = shape.context_tokens  # new tokens: all of them
    elif shape.kind == DECODE_ATTENTION:
        values["m"] = 1
    elif shape.kind == MOE:
        values |= {"expert_tensor_parallel": 1, "expert_parallel": 1, "load_balance": "balanced"}
    return {
        "run_id": shape.run_id(gpu=machine.gpu, simulated=machine.simulated),
        "source": machine.source,
        "simulated": machine.simulated,
        "gpu": machine.gpu,
        "kind": shape.kind,
        "precision": shape.precision,
        "flops": work.flops,
        "bytes_moved": work.bytes_moved,
        **values,
    }
