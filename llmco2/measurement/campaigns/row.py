"""From what was measured to the row that is written.

Invariant: a row carries everything that decides how its label may be used; what was not measured is ``None``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from llmco2.measurement.campaigns.phases import PhaseLabels
from llmco2.measurement.meters.meter import MIG_UNKNOWN, SHARED_GPU, SHARING_UNKNOWN, Device, GpuEnergy
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import RequestTiming, WorkloadFacts
from llmco2.records.request import UNKNOWN
from llmco2.records.run import MeasuredRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What does not change between the configurations of a campaign on one machine."""

    source: str  # the campaign's name
    gpu: str  # catalog name, or the driver's where the catalog knows none
    simulated: bool
    devices: tuple[Device, ...] = ()
    idle_power_w: float | None = None  # one GPU before anything was loaded
    context_idle_power_w: float | None = None  # one GPU, the workload loaded and at rest


def finished_run(
    configuration: RunConfiguration,
    machine: Machine,
    labels: PhaseLabels,
    facts: WorkloadFacts,
    *,
    measured_at: str,
) -> MeasuredRun:
    """Return the row of a configuration that was measured."""
    whole, decode = labels.whole, labels.decode
    gpus = [gpu for reading in whole.readings for gpu in reading.gpus]
    integrated_j = mean_per_run([reading.integrated_energy_j for reading in whole.readings], whole.repeats)
    timing = _timing(labels, configuration.output_tokens)
    notes = (f"prefill repeats {labels.prefill.repeats}", *facts.notes)
    return MeasuredRun(
        **_identity(configuration, machine, facts),
        flags="; ".join(dict.fromkeys((*labels.flags, *facts.flags, *company_flags(machine.devices)))),
        engine_version=facts.engine_version,
        prefill_energy_j=labels.prefill.energy_j,
        prefill_energy_std_j=labels.prefill.energy_std_j,
        decode_energy_j=decode.energy_j if decode else None,  # one output token: prefill makes it
        decode_energy_std_j=decode.energy_std_j if decode else None,
        energy_j=whole.energy_j,
        energy_std_j=whole.energy_std_j,
        ttft_s=timing.ttft_s,
        tpot_s=timing.tpot_s,
        latency_s=timing.latency_s,
        average_power_w=whole.energy_j / whole.time_s if whole.time_s > 0 else None,
        host_energy_j=mean_per_run([reading.cpu_energy_j for reading in whole.readings], whole.repeats),
        dram_energy_j=mean_per_run([reading.dram_energy_j for reading in whole.readings], whole.repeats),
        repeats=whole.repeats,
        window_s=whole.window_s,
        energy_method=next((r.method for r in whole.readings if r.method), UNKNOWN),
        counter_period_s=max((r.counter_period_s or 0.0 for r in whole.readings), default=0.0) or None,
        integrated_energy_j=integrated_j,
        **gpu_state(gpus),
        attention_backend=facts.attention_backend,
        cuda_graphs=facts.cuda_graphs,
        step_time_batch1_s=labels.step_time_batch1_s,
        **provenance(machine, measured_at),
        notes="; ".join(notes),
    )


def company_flags(devices: Sequence[Device]) -> tuple[str, ...]:
    """Return the flags of who else was on the GPUs, and of what the driver does not say of that."""
    found = {
        SHARED_GPU: any(device.shared for device in devices),
        SHARING_UNKNOWN: any(device.shared is None for device in devices),
        MIG_UNKNOWN: any(device.mig is None for device in devices),
    }
    return tuple(flag for flag, holds in found.items() if holds)


def failed_run(
    configuration: RunConfiguration, machine: Machine, reason: str, *, measured_at: str, flags: str = ""
) -> MeasuredRun:
    """Return the row of a configuration that could not be measured; ``reason`` is one line."""
    return MeasuredRun(
        **_identity(configuration, machine),
        status="failed",
        failure_reason=" ".join(reason.split()),
        flags=flags,
        repeats=0,
        **provenance(machine, measured_at),
    )


def _identity(
    configuration: RunConfiguration, machine: Machine, facts: WorkloadFacts | None = None
) -> dict[str, Any]:
    facts = facts or WorkloadFacts()
    return {
        "run_id": configuration.run_id(gpu=machine.gpu, simulated=machine.simulated),
        "source": machine.source,
        "simulated": machine.simulated,
        "model": configuration.model,
        "gpu": machine.gpu,
        "tensor_parallel": configuration.tensor_parallel,
        "engine": configuration.engine_name,
        "precision": configuration.precision,
        "kv_precision": configuration.kv_precision,
        "batch_size": float(configuration.batch_size),
        "prompt_tokens": float(facts.prompt_tokens or configuration.prompt_tokens),
        "output_tokens": float(facts.output_tokens or configuration.output_tokens),
        "serving": "static",
    }


def provenance(machine: Machine, measured_at: str) -> dict[str, Any]:
    """Return the columns that say where and when a row was measured."""
    device = machine.devices[0] if machine.devices else None
    return {
        "idle_power_w": machine.idle_power_w,
        "context_idle_power_w": machine.context_idle_power_w,
        "driver_version": device.driver_version if device else None,
        "device_name": device.name if device else None,
        "measured_at": measured_at,
    }


def gpu_state(gpus: Sequence[GpuEnergy]) -> dict[str, Any]:
    """Return what the GPUs said of themselves when the windows closed: means, the hottest, every reason."""
    reasons = [gpu.throttle_reasons for gpu in gpus if gpu.throttle_reasons is not None]
    named = dict.fromkeys(reason for group in reasons for reason in group)
    return {
        "power_limit_w": _mean_known(gpu.power_limit_w for gpu in gpus),
        "sm_clock_mhz": _mean_known(gpu.sm_clock_mhz for gpu in gpus),
        "memory_clock_mhz": _mean_known(gpu.memory_clock_mhz for gpu in gpus),
        "temperature_c": max(
            (gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None), default=None
        ),
        "gpu_utilization_percent": _mean_known(gpu.utilization_percent for gpu in gpus),
        "throttle_reasons": "; ".join(named) if reasons else None,  # "": read, and nothing throttled
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timing:
    ttft_s: float
    tpot_s: float | None
    latency_s: float


def _timing(labels: PhaseLabels, output_tokens: int) -> _Timing:
    if labels.timings:
        return _streamed(labels.timings)
    steps = output_tokens - 1
    return _Timing(
        ttft_s=labels.prefill.time_s,
        tpot_s=labels.decode.time_s / steps if labels.decode and steps else None,
        latency_s=labels.whole.time_s,
    )


def _streamed(timings: tuple[RequestTiming, ...]) -> _Timing:
    steps = [(t.latency_s - t.ttft_s) / (t.output_tokens - 1) for t in timings if t.output_tokens > 1]
    return _Timing(
        ttft_s=fmean(t.ttft_s for t in timings),
        tpot_s=fmean(steps) if steps else None,
        latency_s=fmean(t.latency_s for t in timings),
    )


def mean_per_run(totals: Sequence[float | None], repeats: int) -> float | None:
    """Return the sum of window totals per run, or ``None`` as soon as one window has none."""
    known = [value for value in totals if value is not None]
    return sum(known) / repeats if known and len(known) == len(totals) and repeats else None


def _mean_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
