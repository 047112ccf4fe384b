"""From a kernel table to the readout's basis: seconds each resource needs at its peak rate."""

from __future__ import annotations

import numpy as np

from llmco2.deployment.columns import DeploymentColumns
from llmco2.operators.columns import Column, WorkloadColumns
from llmco2.operators.counting import count_phase
from llmco2.operators.names import Phase
from llmco2.operators.roofline import RooflineTimes, roofline_times
from llmco2.physics.readout import PhaseBasis


def phase_basis(
    phase: Phase, deployments: DeploymentColumns, work: WorkloadColumns, power_limit_w: Column | None = None
) -> tuple[PhaseBasis, RooflineTimes]:
    """Return the basis and roofline of one phase; ``deployments`` and ``work`` row by row.

    ``power_limit_w`` is the board's limit per GPU where it is not the TDP.
    """
    table = count_phase(phase, deployments.shape, work)
    times = roofline_times(table, deployments.device)
    tdp = deployments.device.tdp_w
    basis = PhaseBasis(
        compute_s=times.compute_s,
        weight_s=times.weight_s,
        activation_s=times.activation_s,
        kv_s=times.kv_s,
        network_s=times.network_s,
        launches=table.launches,
        steps=table.steps,
        sequence_steps=work.batch_size * (table.steps if phase == "decode" else 1.0),
        n_gpus=work.n_gpus,
        n_shards=work.tensor_parallel,
        tdp_w=tdp,
        compute_w=deployments.device.compute_w,
        memory_w=deployments.device.memory_w,
        power_limit_w=tdp if power_limit_w is None else np.minimum(tdp, power_limit_w),
    )
    return basis, times
