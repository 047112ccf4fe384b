"""What requests need at peak rates, counted from shapes: the input of every baseline.

Invariant: only counted work and catalog facts are read here, never a label. A request whose deployment cannot be has
NaN everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.catalog.params import active_parameter_count, parameter_count
from llmco2.deployment.columns import DeploymentColumns, deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import resolve_deployment
from llmco2.errors import InputError
from llmco2.operators.columns import WorkloadColumns
from llmco2.operators.counting import count_phase
from llmco2.operators.names import Phase
from llmco2.operators.roofline import roofline_times
from llmco2.records.request import UNKNOWN

Array = NDArray[np.float64]
_DEPLOYMENT: Final = (
    "model",
    "gpu",
    "tensor_parallel",
    "pipeline_parallel",
    "expert_parallel",
    "engine",
    "precision",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseWork:
    """One phase of every request at peak rates, ``(n_requests, n_slots)`` seconds of one GPU; counts beside them."""

    compute_s: Array
    weight_s: Array
    activation_s: Array  # activations and cache
    network_s: Array
    launches: Array
    steps: Array  # (n_requests,) forward passes

    @property
    def roofline_s(self) -> Array:
        """Seconds of the phase: of each kernel its slowest resource, ``(n_requests,)``."""
        memory = self.weight_s + self.activation_s
        total: Array = np.maximum(np.maximum(self.compute_s, memory), self.network_s).sum(axis=1)
        return total

    def take(self, index: NDArray[np.intp]) -> PhaseWork:
        """Return the rows ``index``."""
        return PhaseWork(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestWork:
    """All requests: their phases and the facts of their boards and models, ``(n_requests,)`` each."""

    prefill: PhaseWork
    decode: PhaseWork
    n_gpus: Array
    n_shards: Array  # GPUs that work at the same time
    tdp_w: Array
    idle_w: Array
    peak_flops_per_s: Array
    bandwidth_bytes_per_s: Array
    memory_bytes: Array
    weight_bytes_per_element: Array
    parameters: Array
    active_parameters: Array
    answered: NDArray[np.bool_]

    def take(self, index: NDArray[np.intp]) -> RequestWork:
        """Return the rows ``index``."""
        taken: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            taken[field.name] = value.take(index) if isinstance(value, PhaseWork) else value[index]
        return RequestWork(**taken)


def request_work(requests: pd.DataFrame) -> RequestWork:
    """Return the work of requests; rows of deployments that cannot be are not answered."""
    deployments, place = request_deployments(requests)
    answered = place >= 0
    place = np.maximum(place, 0)
    columns = deployment_columns(deployments).take(place)
    sizes = [
        requests[name].to_numpy(dtype=np.float64) for name in ("batch_size", "prompt_tokens", "output_tokens")
    ]
    steady = (requests["serving"] == "continuous").to_numpy().astype(np.float64)
    work = columns.workload(sizes[0], sizes[1], sizes[2], steady)
    device = columns.device
    facts = np.array(
        [
            (parameter_count(d.architecture), active_parameter_count(d.architecture),
             d.precision.weight_bytes_per_element) for d in deployments
        ],
        dtype=np.float64,
    )[place]  # fmt: skip
    return RequestWork(
        prefill=_phase("prefill", columns, work),
        decode=_phase("decode", columns, work),
        n_gpus=work.n_gpus,
        n_shards=work.tensor_parallel,
        tdp_w=device.tdp_w,
        idle_w=device.idle_power_w,
        peak_flops_per_s=device.matmul_flops_per_s,
        bandwidth_bytes_per_s=device.memory_bandwidth_bytes_per_s,
        memory_bytes=device.memory_bytes,
        parameters=facts[:, 0],
        active_parameters=facts[:, 1],
        weight_bytes_per_element=facts[:, 2],
        answered=answered,
    )


def request_deployments(requests: pd.DataFrame) -> tuple[list[Deployment], NDArray[np.intp]]:
    """Return distinct deployments and each request's index among them, -1 where it cannot be."""
    codes, keys = pd.factorize(pd.MultiIndex.from_frame(requests[list(_DEPLOYMENT)]))
    deployments: list[Deployment] = []
    place = np.full(len(keys), -1, dtype=np.intp)
    for i, (model, gpu, tensor, pipeline, expert, engine, precision) in enumerate(keys):
        try:
            found = resolve_deployment(
                model, gpu, int(tensor), int(pipeline), int(expert), engine, precision, UNKNOWN
            )
        except InputError:
            continue
        place[i] = len(deployments)
        deployments.append(found)
    return deployments, place[codes]


def unanswered(answers: pd.DataFrame, answered: NDArray[np.bool_]) -> pd.DataFrame:
    """Return answers with NaN in the rows that are not answered."""
    return answers.where(pd.Series(answered, index=answers.index), np.nan)


def _phase(phase: Phase, columns: DeploymentColumns, work: WorkloadColumns) -> PhaseWork:
    table = count_phase(phase, columns.shape, work)
    times = roofline_times(table, columns.device)
    return PhaseWork(
        compute_s=times.compute_s,
        weight_s=times.weight_s,
        activation_s=times.activation_s + times.kv_s,
        network_s=times.network_s,
        launches=table.launches,
        steps=table.steps,
    )
