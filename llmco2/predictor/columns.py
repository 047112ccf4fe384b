"""Predictions for many requests at once: energies, times and bounds as columns.

Invariant: this is the only place that turns sizes into joules for an answer; a single request is a table of
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.deployment.columns import DeploymentColumns, deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.kernel_model.curves import StepCurves, step_curves
from llmco2.kernel_model.deployments import step_deployments
from llmco2.kernel_model.lanes import Lanes
from llmco2.kernel_model.node_functions import NodeFunctions
from llmco2.operators.columns import Column, WorkloadColumns
from llmco2.operators.counting import count_phase, expected_experts_hit
from llmco2.operators.memory import MemoryNeed, memory_need
from llmco2.operators.names import PHASES, Phase
from llmco2.operators.roofline import roofline_times
from llmco2.operators.table import KernelTable
from llmco2.physics.breakdown import Breakdown, phase_breakdown
from llmco2.physics.hosts import HOST_CONSTANTS, host_columns
from llmco2.physics.phase_times import HostColumns, PhaseTimes, RequestColumns, above_bounds, phase_times
from llmco2.physics.power import LIMIT_SHARE, PowerColumns, Work, gpu_power_w, power_columns
from llmco2.physics.work import flop_cost, phase_work
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.records.engines import ENGINES

# What a calibration multiplies, by the name its file uses.
FACTORS: Final = ("kernel time", "host time", "prefill time", "dynamic power")
_HOST_TIMES: Final = tuple(name for name in HOST_CONSTANTS if name.endswith("_s"))
_BLOCK_EXPERTS: Final = "fp8-block"


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
    least_energy_j: Column  # the roofline at bare idle power
    least_time_s: Column
    breakdown: Breakdown


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionColumns:
    """The bare prediction of every request, before intervals."""

    prefill: PhaseColumns
    decode: PhaseColumns
    steps: Column  # decode steps
    ttft_s: Column
    tpot_s: Column
    measured_share: Column  # of a step's kernel time, in kernels measured so; (n_deployments,)
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedRequests:
    """All of a table of requests that depends on no constant of a host or of power: what fits and answers share."""

    deployments: list[Deployment]
    request: RequestColumns
    curves: StepCurves
    rows: DeploymentColumns  # (n_requests,)
    work: WorkloadColumns
    tables: dict[Phase, KernelTable]
    narrow_cost: Column  # (n_requests,)


def prepare_requests(
    nodes: NodeFunctions, lanes: Lanes, deployments: list[Deployment], sizes: SizeColumns
) -> PreparedRequests:
    """Return the requests counted, with the curves of their deployments."""
    steps, devices = step_deployments(deployments)
    rows = deployment_columns(deployments).take(sizes.deployment)
    work = rows.workload(sizes.batch_size, sizes.prompt_tokens, sizes.output_tokens, sizes.continuous)
    tables = {phase: count_phase(phase, rows.shape, work) for phase in PHASES}
    return PreparedRequests(
        deployments=deployments,
        request=_request_columns(deployments, sizes, rows, tables),
        curves=step_curves(nodes, lanes, steps, devices),
        rows=rows,
        work=work,
        tables=tables,
        narrow_cost=np.array([flop_cost(d) for d in deployments])[sizes.deployment],
    )


def predict_columns(
    checkpoint: Checkpoint,
    deployments: list[Deployment],
    sizes: SizeColumns,
    scales: Mapping[str, float] | None = None,
) -> PredictionColumns:
    """Return the predictions of all requests; ``scales`` multiplies FACTORS by name (a calibration)."""
    prepared = prepare_requests(checkpoint.nodes, checkpoint.lanes, deployments, sizes)
    return predict_prepared(checkpoint, prepared, scales)


def predict_prepared(
    checkpoint: Checkpoint, prepared: PreparedRequests, scales: Mapping[str, float] | None = None
) -> PredictionColumns:
    """Return the predictions of requests that are counted; ``scales`` as in :func:`predict_columns`."""
    factors = {**dict.fromkeys(FACTORS, 1.0), **(scales or {})}
    deployments, row, work = prepared.deployments, prepared.request.deployment, prepared.work
    host = _scaled(host_columns(deployments, checkpoint.hosts, checkpoint.boards), factors).take(row)
    bounds = {phase: _bound_s(phase, prepared) for phase in PHASES}
    times = above_bounds(
        phase_times(prepared.curves, prepared.request, host),
        prepared.request,
        bounds["prefill"],
        bounds["decode"],
    )
    power = _power(checkpoint, deployments, factors["dynamic power"]).take(row)
    shares = {phase: _phase_share(phase, times, prepared) for phase in PHASES}
    energies = _energies(shares, power, host.busy_factor, work)
    phases = {
        phase: _phase_columns(
            share=share,
            energy_j=energies[phase],
            least_time_s=bounds[phase],
            power=power,
            busy_factor=host.busy_factor,
            prepared=prepared,
        )
        for phase, share in shares.items()
    }
    return PredictionColumns(
        prefill=phases["prefill"],
        decode=phases["decode"],
        steps=times.steps,
        ttft_s=times.ttft_s,
        tpot_s=times.tpot_s,
        measured_share=prepared.curves.measured,
        power_limit_w=power.limit_w * work.n_gpus,
        n_gpus=work.n_gpus,
        memory=memory_need(prepared.rows.shape, work),
        memory_available_bytes=prepared.rows.device.memory_bytes,
    )


def _request_columns(
    deployments: list[Deployment],
    sizes: SizeColumns,
    rows: DeploymentColumns,
    tables: Mapping[Phase, KernelTable],
) -> RequestColumns:
    """Return sizes with what the host counts: layers of each kind, operators launched, one pass over the cache."""
    kinds = np.array(
        [
            (
                ENGINES[d.engine].launches_from_python,
                d.architecture.n_moe_layers * (d.parts.experts.precision != _BLOCK_EXPERTS),
                d.architecture.n_moe_layers * (d.parts.experts.precision == _BLOCK_EXPERTS),
                d.architecture.n_attention_layers * d.architecture.is_mla,
            )
            for d in deployments
        ],
        dtype=np.float64,
    ).reshape(len(deployments), 4)[sizes.deployment]
    prefill, decode = tables["prefill"], tables["decode"]
    once = prefill.launches.sum(axis=1) / np.maximum(prefill.steps, 1.0)
    decoding = decode.steps > 0
    operators = np.divide(decode.launches.sum(axis=1), decode.steps, out=once, where=decoding)
    operators = operators + _expert_loops(rows, sizes)
    read = np.zeros_like(once)
    np.divide(decode.kv_bytes.sum(axis=1), decode.steps, out=read, where=decoding)
    return RequestColumns(
        deployment=sizes.deployment,
        batch_size=sizes.batch_size,
        prompt_tokens=sizes.prompt_tokens,
        output_tokens=sizes.output_tokens,
        continuous=sizes.continuous,
        eager=kinds[:, 0],
        operators=operators,
        expert_layers=kinds[:, 1],
        block_expert_layers=kinds[:, 2],
        latent_layers=kinds[:, 3],
        cache_pass_s=read / rows.device.memory_bandwidth_bytes_per_s,
    )


def _expert_loops(rows: DeploymentColumns, sizes: SizeColumns) -> Column:
    """Return the operators of a step that a loop over the experts in use launches, ``(n_requests,)``."""
    shape = rows.shape
    hit = expected_experts_hit(shape.n_experts, shape.experts_per_token, sizes.batch_size)
    loops: Column = shape.n_moe_layers * hit
    return loops


def _scaled(host: HostColumns, factors: Mapping[str, float]) -> HostColumns:
    changed = {name: getattr(host, name) * factors["host time"] for name in _HOST_TIMES}
    changed["kernel_factor"] = host.kernel_factor * factors["kernel time"]
    changed["prefill_factor"] = host.prefill_factor * factors["kernel time"] * factors["prefill time"]
    return replace(host, **changed)


def _power(checkpoint: Checkpoint, deployments: list[Deployment], dynamic: float) -> PowerColumns:
    columns = power_columns([d.gpu for d in deployments], checkpoint.busy_factor * dynamic)
    return replace(columns, flop_j=columns.flop_j * dynamic, byte_j=columns.byte_j * dynamic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PhaseShare:
    """What one GPU does in a phase: seconds, those of its kernels by part, and work."""

    time_s: Column
    kernels_s: NDArray[np.float64]
    work: Work


def _phase_share(phase: Phase, times: PhaseTimes, prepared: PreparedRequests) -> _PhaseShare:
    prefill = phase == "prefill"
    stages = prepared.work.pipeline_parallel
    done = phase_work(prepared.tables[phase], prepared.narrow_cost, _own_weight_share(phase, prepared))
    # A rank's totals run through all stages; one GPU holds one of them and waits while the others work.
    return _PhaseShare(
        time_s=times.prefill_s if prefill else times.decode_s,
        kernels_s=(times.prefill_kernels_s if prefill else times.decode_kernels_s) / stages[:, None],
        work=Work(**{name: getattr(done, name) / stages for name in Work.__slots__}),
    )


def _busy(share: _PhaseShare, factor: Column) -> Column:
    """Return the share of a phase's time in which kernels draw power."""
    kernels = share.kernels_s.sum(axis=1)
    busy = np.divide(kernels, share.time_s, out=np.zeros_like(kernels), where=share.time_s > 0.0)
    result: Column = np.minimum(busy * factor, 1.0)
    return result


def _energies(
    shares: Mapping[Phase, _PhaseShare], power: PowerColumns, busy_factor: Column, work: WorkloadColumns
) -> dict[Phase, Column]:
    """Return the energy of each phase over all GPUs, J.

    A steady batch decodes while it prefills: its prefill is what prefill adds to the energy of decoding alone, as far
    as the power limit allows within the prefill's share of the time.
    """
    prefill, decode = shares["prefill"], shares["decode"]
    both = _PhaseShare(
        time_s=prefill.time_s + decode.time_s,
        kernels_s=prefill.kernels_s + decode.kernels_s,
        work=Work(**{n: getattr(prefill.work, n) + getattr(decode.work, n) for n in Work.__slots__}),
    )

    def energy(share: _PhaseShare) -> Column:
        watts = gpu_power_w(power, share.work, share.time_s, _busy(share, busy_factor))
        joules: Column = watts * share.time_s * work.n_gpus
        return joules

    alone = energy(decode)
    whole = energy(both)
    most = LIMIT_SHARE * power.limit_w * prefill.time_s * work.n_gpus
    added = np.clip(whole - alone, 0.0, most)
    steady = work.continuous > 0
    return {
        "prefill": np.where(steady, added, energy(prefill)),
        "decode": np.where(steady, whole - added, alone),
    }


def _phase_columns(
    *,
    share: _PhaseShare,
    energy_j: Column,
    least_time_s: Column,
    power: PowerColumns,
    busy_factor: Column,
    prepared: PreparedRequests,
) -> PhaseColumns:
    n_gpus = prepared.work.n_gpus
    busy = _busy(share, busy_factor)
    idle_w = prepared.rows.device.idle_power_w
    return PhaseColumns(
        energy_j=energy_j,
        time_s=share.time_s,
        least_energy_j=np.minimum(idle_w * n_gpus * least_time_s, energy_j),
        least_time_s=least_time_s,
        breakdown=phase_breakdown(
            kernels_s=share.kernels_s,
            time_s=share.time_s,
            power=power,
            work=share.work,
            busy=busy,
            energy_j=energy_j,
            n_gpus=n_gpus,
        ),
    )


def _bound_s(phase: Phase, prepared: PreparedRequests) -> Column:
    """Return the least time of a phase: the roofline of every operator, without weights that another phase reads."""
    bound = roofline_times(prepared.tables[phase], prepared.rows.device)
    memory = bound.memory_s - bound.weight_s * (1.0 - _own_weight_share(phase, prepared))[:, None]
    least: Column = np.maximum(np.maximum(bound.compute_s, memory), bound.network_s).sum(axis=1)
    return least


def _own_weight_share(phase: Phase, prepared: PreparedRequests) -> Column:
    """Return the share of counted weight traffic that a phase causes: a steady prefill rides on decode steps."""
    prefill, decode = prepared.tables["prefill"], prepared.tables["decode"]
    if phase == "decode":
        return np.ones_like(decode.steps)
    read = prefill.weight_bytes.sum(axis=1)
    steps = np.maximum(decode.steps, 1.0)
    shared = np.minimum(prefill.steps, decode.steps) * decode.weight_bytes.sum(axis=1) / steps
    alone = 1.0 - np.minimum(np.divide(shared, read, out=np.zeros_like(read), where=read > 0.0), 1.0)
    share: Column = np.where(prepared.work.continuous > 0, alone, 1.0)
    return share
