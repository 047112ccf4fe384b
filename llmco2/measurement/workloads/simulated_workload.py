"""A stand-in for a real engine: it draws on the simulated GPUs what a roofline says the phase would take.

Invariant: the joules of each phase are known in closed form (:func:`simulated_phases`), so labels measured
over the simulated library can be held against the truth. Nothing here is a claim about a real engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpu import Gpu
from llmco2.catalog.params import active_parameter_count, parameter_count
from llmco2.measurement.meters.meter import Clock
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import RequestTiming, WorkloadError, WorkloadFacts

_BYTES: Final = {"fp32": 4.0, "int8": 1.0, "nf4": 0.5}  # per weight; the rest take two
_COMPUTE_EFFICIENCY: Final = 0.6  # share of the dense peak that a large product reaches
_BANDWIDTH_EFFICIENCY: Final = 0.8
_STEP_OVERHEAD_S: Final = 2e-3  # of the host, per pass
_COMPUTE_POWER: Final = 0.9  # share of the power above idle at full use of the tensor cores
_MEMORY_POWER: Final = 0.5  # … of the memory
_FALLBACK_PEAK: Final = 1e14
BUSY_PERCENT: Final = 98.0
CONTEXT_POWER_W: Final = 40.0  # a loaded context above a bare card


class Rig(Protocol):
    """The part of the simulated library that a workload drives."""

    @property
    def clock(self) -> Clock:
        """The simulation's clock."""
        ...

    def set_power(self, gpu: int, watts: float) -> None:
        """Have ``gpu`` draw ``watts`` from now on."""
        ...

    def set(self, gpu: int, **values: object) -> None:
        """Set readings of ``gpu``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPhase:
    """One phase of one run: how long, and what each GPU draws meanwhile."""

    time_s: float
    power_w: float
    n_gpus: int

    @property
    def energy_j(self) -> float:
        """Joules of all GPUs."""
        return self.time_s * self.power_w * self.n_gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPhases:
    """The truth that labels are held against."""

    prefill: SimulatedPhase
    decode: SimulatedPhase
    step_time_batch1_s: float


def simulated_phases(
    configuration: RunConfiguration, architecture: Architecture, gpu: Gpu, *, idle_power_w: float
) -> SimulatedPhases:
    """Return time and power of both phases by a plain roofline: two FLOPs per active weight and token."""
    machine = _Roofline(configuration, architecture, gpu, idle_power_w)
    prompt, batch = configuration.prompt_tokens, configuration.batch_size
    steps = configuration.output_tokens - 1
    middle = prompt + configuration.output_tokens / 2.0
    step = machine.a_pass(tokens=batch, sequences=batch, context=middle)
    return SimulatedPhases(
        prefill=machine.a_pass(tokens=batch * prompt, sequences=batch, context=prompt),
        decode=SimulatedPhase(time_s=steps * step.time_s, power_w=step.power_w, n_gpus=step.n_gpus),
        step_time_batch1_s=machine.a_pass(tokens=1, sequences=1, context=middle).time_s,
    )


def simulated_roofline(
    flops: float,
    bytes_moved: float,
    *,
    precision: str,
    gpu: Gpu,
    idle_power_w: float,
    n_gpus: int = 1,
    overhead_s: float,
) -> SimulatedPhase:
    """Return time and power of some work shared by ``n_gpus``: the larger of compute and memory time."""
    peaks = gpu.peak_flops_per_s
    peak = peaks.get(precision) or peaks.get("bf16") or peaks.get("fp16") or _FALLBACK_PEAK
    compute_s = flops / n_gpus / (_COMPUTE_EFFICIENCY * peak)
    memory_s = bytes_moved / n_gpus / (_BANDWIDTH_EFFICIENCY * gpu.memory_bandwidth_bytes_per_s)
    time_s = max(compute_s, memory_s) + overhead_s
    share = (_COMPUTE_POWER * compute_s + _MEMORY_POWER * memory_s) / time_s
    above_idle_w = min(1.0, share) * (gpu.tdp_w - idle_power_w)
    return SimulatedPhase(time_s=time_s, power_w=idle_power_w + above_idle_w, n_gpus=n_gpus)


class _Roofline:
    def __init__(
        self, configuration: RunConfiguration, architecture: Architecture, gpu: Gpu, idle_power_w: float
    ) -> None:
        self._configuration, self._architecture = configuration, architecture
        self._gpu, self._idle_power_w = gpu, idle_power_w
        self._weight_bytes = _BYTES.get(configuration.precision, 2.0)

    def a_pass(self, *, tokens: float, sequences: float, context: float) -> SimulatedPhase:
        """One forward pass of ``tokens`` new tokens over ``sequences`` with ``context`` tokens each."""
        shape = self._architecture
        kv_elements = 2.0 * shape.n_attention_layers * shape.n_kv_heads * shape.head_dim
        return simulated_roofline(
            2.0 * active_parameter_count(shape) * tokens,
            parameter_count(shape) * self._weight_bytes + kv_elements * 2.0 * sequences * context,
            precision=self._configuration.precision,
            gpu=self._gpu,
            idle_power_w=self._idle_power_w,
            n_gpus=self._configuration.tensor_parallel,
            overhead_s=_STEP_OVERHEAD_S,
        )


class SimulatedWorkload:
    """Lets time pass on the rig's clock while its GPUs draw the power of each phase."""

    decodes_alone = True

    def __init__(
        self, configuration: RunConfiguration, phases: SimulatedPhases, *, rig: Rig, idle_power_w: float
    ) -> None:
        """``idle_power_w`` is what the rig draws with nothing loaded."""
        self._configuration = configuration
        self._phases = phases
        self._rig = rig
        self._idle_power_w = idle_power_w
        self._loaded = False

    @property
    def facts(self) -> WorkloadFacts:
        """A simulated engine has no version of anybody's."""
        return WorkloadFacts(
            engine_version="simulated",
            attention_backend=self._configuration.attention,
            cuda_graphs=self._configuration.compiled,
            notes=("simulated: a roofline's power on a simulated GPU",),
        )

    def load(self) -> None:
        """Begin to draw what a loaded context draws."""
        self._loaded = True
        self._rest()

    def prefill(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Draw prefill's power for its time, ``repeats`` times."""
        self._run((self._phases.prefill,), repeats)
        return ()

    def decode(self, repeats: int) -> None:
        """Draw decode's power for its time, ``repeats`` times."""
        self._run((self._phases.decode,), repeats)

    def whole(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Draw both, one behind the other, ``repeats`` times."""
        self._run((self._phases.prefill, self._phases.decode), repeats)
        return ()

    def step_time_batch1_s(self) -> float | None:
        """Return the roofline's step time at batch size 1."""
        return self._phases.step_time_batch1_s

    def close(self) -> None:
        """Go back to bare idle."""
        if self._loaded:
            self._loaded = False
            self._draw(self._idle_power_w)

    def _run(self, phases: tuple[SimulatedPhase, ...], repeats: int) -> None:
        if not self._loaded:
            raise WorkloadError("engine_error", "the simulated workload is not loaded")
        self._show(BUSY_PERCENT)
        for _ in range(repeats):
            for phase in phases:
                self._draw(phase.power_w)
                self._rig.clock.sleep(phase.time_s)
        self._rest()

    def _rest(self) -> None:
        self._show(0.0)
        self._draw(self._idle_power_w + CONTEXT_POWER_W)

    def _show(self, utilization_percent: float) -> None:
        for gpu in range(self._configuration.tensor_parallel):
            self._rig.set(gpu, utilization=utilization_percent)

    def _draw(self, watts: float) -> None:
        for gpu in range(self._configuration.tensor_parallel):
            self._rig.set_power(gpu, watts)
