"""What ``llmco2 measure`` hands to a campaign: meters, workloads, the catalog, the memory check, the model.

Invariant: measurement itself knows none of these; here is the only place where they meet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmco2.catalog.gpu import Gpu
from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.errors import DoesNotFitError, InputError, UnknownNameError, explain
from llmco2.measurement.campaigns.acquisition import Scores
from llmco2.measurement.campaigns.campaign import Tools
from llmco2.measurement.campaigns.campaign_file import Campaign
from llmco2.measurement.meters.clock import PollingClock
from llmco2.measurement.meters.meter import EnergyMeter
from llmco2.measurement.workloads.configuration import SERVER, RunConfiguration
from llmco2.measurement.workloads.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

    from llmco2.measurement.simulation.rig import SimulatedNvml
    from llmco2.measurement.workloads.kept_model import KeptModel
    from llmco2.measurement.workloads.parallel import CommandChannel

DEFAULT_SIMULATED_GPU: Final = "H100-SXM5-80GB"
CUDA_VISIBLE_DEVICES: Final = "CUDA_VISIBLE_DEVICES"
_SIMULATED_IDLE_SHARE: Final = 0.1  # of TDP, where the catalog knows no idle power
_REST_S: Final = 1.0  # for power to fall back after loading
_RESERVED_BYTES: Final = 0.3e9  # what the driver keeps of a GPU's memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """Tools for one command, and the simulation they need for as long as they are used."""

    tools: Tools
    context: AbstractContextManager[Any]


def real_rig(
    campaign: Campaign,
    *,
    allow_shared: bool,
    own_pids: Collection[int] = (),
    channel: CommandChannel | None = None,
) -> Rig:
    """Return tools for the GPUs of this machine; ``channel`` leads to the other processes of ``torchrun``."""
    from llmco2.measurement.workloads.attention_support import supported_attention  # noqa: PLC0415
    from llmco2.measurement.workloads.kept_model import KeptModel  # noqa: PLC0415

    models, context = KeptModel(), ExitStack()
    context.callback(models.drop)
    tools = Tools(
        open_meter=lambda gpus: real_meter(gpus, allow_shared=allow_shared, own_pids=own_pids),
        make_workload=lambda configuration, meter: _real_workload(configuration, meter, channel, models),
        gpu_name=catalog_name,
        idle_power_w=rest_power_w,
        check_memory=check_memory,
        scores=_scores_of(campaign),
        run_s=_run_s,
        supported_attention=supported_attention,
    )
    return Rig(tools=tools, context=context)


def simulated_rig(campaign: Campaign, *, gpu: str, allow_shared: bool) -> Rig:
    """Return tools over simulated GPUs of the catalog's kind ``gpu``; time is simulated, too."""
    record = resolve_gpu(gpu)
    idle_w = simulated_idle_w(record)
    rig = simulated_gpus(record, max(c.tensor_parallel for c in campaign.configurations))

    tools = Tools(
        open_meter=lambda gpus: real_meter(gpus, allow_shared=allow_shared, clock=rig.clock),
        make_workload=lambda configuration, _: _simulated_workload(configuration, rig, record.gpu_id, idle_w),
        gpu_name=catalog_name,
        idle_power_w=rest_power_w,
        check_memory=check_memory,
        scores=_scores_of(campaign),
        run_s=_run_s,
    )
    return Rig(tools=tools, context=rig)


def real_meter(
    gpus: int, *, allow_shared: bool, own_pids: Collection[int] = (), clock: PollingClock | None = None
) -> EnergyMeter:
    """Open the meter of the first ``gpus`` visible GPUs; ``clock`` is a simulation's own."""
    from llmco2.measurement.meters.zeus_meter import ZeusMeter  # noqa: PLC0415

    meter = ZeusMeter(clock=clock, environ=_first_gpus(gpus), allow_shared=allow_shared, own_pids=own_pids)
    return _enough(meter, gpus)


def simulated_idle_w(record: Gpu) -> float:
    """Return what a simulated GPU of that kind draws at rest, W."""
    return record.idle_power_w or _SIMULATED_IDLE_SHARE * record.tdp_w


def simulated_gpus(record: Gpu, count: int) -> SimulatedNvml:
    """Return a rig of ``count`` simulated GPUs of that kind, in simulated time."""
    from llmco2.measurement.simulation.rig import SimulatedGpu, SimulatedNvml  # noqa: PLC0415

    device = SimulatedGpu(
        name=record.nvml_names[0] if record.nvml_names else record.gpu_id,
        memory_total_bytes=int(record.memory_bytes),
        idle_power_w=simulated_idle_w(record),
        power_limit_w=record.tdp_w,
        tick_jitter=0.1,
        power_jitter=0.02,
        temperature_c=55.0,
    )
    return SimulatedNvml([device] * count, virtual_time=True)


def catalog_name(device_name: str) -> str:
    """Return the catalog's id of a GPU, or the driver's own name where the catalog does not know it."""
    try:
        return resolve_gpu(device_name).gpu_id
    except UnknownNameError:
        return device_name


def rest_power_w(meter: EnergyMeter, bare: bool) -> float | None:
    """Return the mean W of one GPU at rest; ``None`` where it is busy, or not ``bare`` as it should be."""
    from llmco2.measurement.meters.idle import cuda_initialised, measure_idle  # noqa: PLC0415

    if bare and cuda_initialised():
        return None
    meter.clock.sleep(_REST_S)
    readings = measure_idle(meter, make_context=lambda _: "not asked for", context_exists=lambda: False)
    watts = [reading.bare_w for reading in readings if reading.bare_w is not None]
    return sum(watts) / len(watts) if watts and len(watts) == len(readings) else None


def check_memory(configuration: RunConfiguration, gpu: str, memory_bytes: float) -> None:
    """Refuse a model that does not fit the GPU's real memory, with the arithmetic.

    A model whose shape is not known passes; whether it fits shows when it is loaded.

    Raises:
        DoesNotFitError: weights, KV cache and workspace exceed ``memory_bytes`` on one GPU.
    """
    import numpy as np  # noqa: PLC0415

    from llmco2.deployment.columns import deployment_columns  # noqa: PLC0415
    from llmco2.deployment.resolving import resolve_deployment  # noqa: PLC0415
    from llmco2.operators.memory import memory_need  # noqa: PLC0415

    request = configuration.request(gpu)
    try:
        deployment = resolve_deployment(
            configuration.model_path or request.model,
            gpu,
            request.tensor_parallel,
            1,
            1,
            request.engine,
            request.precision,
            request.kv_precision,
        )
    except UnknownNameError:
        return
    columns = deployment_columns([deployment])
    sizes = (configuration.batch_size, configuration.prompt_tokens, configuration.output_tokens, 0)
    need = memory_need(columns.shape, columns.workload(*(np.array([float(size)]) for size in sizes)))
    parts = [float(part[0]) for part in (need.weights_bytes, need.kv_cache_bytes, need.workspace_bytes)]
    available = memory_bytes - _RESERVED_BYTES
    if sum(parts) > available:
        names = ("weights", "KV cache", "workspace")
        arithmetic = " + ".join(f"{name} {part / 1e9:.4g}" for name, part in zip(names, parts, strict=True))
        raise DoesNotFitError(
            explain(
                f"{configuration.model} does not fit one {gpu}",
                got=f"{arithmetic} = {sum(parts) / 1e9:.4g} GB",
                expected=f"at most {available / 1e9:.4g} GB",
                remedy="use fewer sequences, narrower weights, or more GPUs (tensor_parallel)",
            )
        )


def _first_gpus(count: int) -> dict[str, str]:
    """Return this environment with only the first ``count`` of its visible GPUs."""
    setting = os.environ.get(CUDA_VISIBLE_DEVICES)
    names = setting.split(",") if setting is not None else [str(index) for index in range(count)]
    return {**os.environ, CUDA_VISIBLE_DEVICES: ",".join(names[:count])}


def _enough(meter: EnergyMeter, gpus: int) -> EnergyMeter:
    found = len(meter.devices())
    if found < gpus:
        meter.close()
        raise InputError(
            explain(
                "too few GPUs", got=found, expected=f"{gpus} for tensor_parallel {gpus}", remedy="lower it"
            )
        )
    return meter


def _real_workload(
    configuration: RunConfiguration, meter: EnergyMeter, channel: CommandChannel | None, models: KeptModel
) -> Workload:
    if configuration.workload == SERVER or configuration.tensor_parallel > 1:
        models.drop()
    if configuration.workload == SERVER:
        from llmco2.measurement.workloads.server_workload import ServerWorkload  # noqa: PLC0415

        return ServerWorkload(configuration, clock=meter.clock)
    from llmco2.measurement.workloads.parallel import ParallelWorkload, require_world  # noqa: PLC0415
    from llmco2.measurement.workloads.transformers_workload import TransformersWorkload  # noqa: PLC0415

    require_world(configuration)
    if configuration.tensor_parallel > 1 and channel is not None:
        return ParallelWorkload(configuration, channel=channel, clock=meter.clock, device="cuda")
    return TransformersWorkload(configuration, clock=meter.clock, device="cuda", models=models)


def _simulated_workload(
    configuration: RunConfiguration, rig: SimulatedNvml, gpu: str, idle_w: float
) -> Workload:
    from llmco2.measurement.workloads.simulated_workload import (  # noqa: PLC0415
        SimulatedWorkload,
        simulated_phases,
    )

    architecture = resolve_model(configuration.model_path or configuration.model)
    phases = simulated_phases(configuration, architecture, resolve_gpu(gpu), idle_power_w=idle_w)
    return SimulatedWorkload(configuration, phases, rig=rig, idle_power_w=idle_w)


def _scores_of(campaign: Campaign) -> Callable[[str], Scores] | None:
    """Return how much a focused campaign wants to know each candidate: uncertainty × how common it is."""
    focus = campaign.focus
    if focus is None:
        return None

    def for_gpu(gpu: str) -> Scores:
        def scores(candidates: Sequence[RunConfiguration]) -> Sequence[float]:
            return _wanted(candidates, gpu, focus.workload_prior)

        return scores

    return for_gpu


def _wanted(candidates: Sequence[RunConfiguration], gpu: str, prior_name: str) -> list[float]:
    import numpy as np  # noqa: PLC0415

    from llmco2.data.workload import azure_workload, workload_from_csv  # noqa: PLC0415

    prior = workload_from_csv(prior_name) if prior_name.endswith(".csv") else azure_workload(prior_name)
    answer = _predicted(candidates, gpu)
    width = np.log(answer["energy_high_j"].to_numpy(float) / answer["energy_low_j"].to_numpy(float))
    sizes = ("prompt_tokens", "output_tokens", "batch_size")
    density = prior.density(*(np.array([getattr(c, name) for c in candidates]) for name in sizes))
    return [float(score) for score in np.nan_to_num(width * density, nan=0.0, posinf=0.0)]


def _run_s(gpu: str) -> Scores:
    """Return the seconds that a run of each candidate is predicted to take; where that is not known, the median."""
    import numpy as np  # noqa: PLC0415

    def seconds(candidates: Sequence[RunConfiguration]) -> Sequence[float]:
        predicted = _predicted(candidates, gpu)["latency_s"].to_numpy(float)
        known = predicted[np.isfinite(predicted)]
        usual = float(np.median(known)) if len(known) else 1.0
        return [float(value) for value in np.nan_to_num(predicted, nan=usual, posinf=usual)]

    return seconds


def _predicted(candidates: Sequence[RunConfiguration], gpu: str) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    from llmco2 import predict_frame  # noqa: PLC0415

    requests = pd.DataFrame(
        [
            {
                "model": c.model_path or c.model,
                "gpu": gpu,
                "tensor_parallel": c.tensor_parallel,
                "engine": c.engine_name,
                "precision": c.precision,
                "batch_size": c.batch_size,
                "prompt_tokens": c.prompt_tokens,
                "output_tokens": c.output_tokens,
            }
            for c in candidates
        ]
    )
    return predict_frame(requests)
