"""A simulated machine to watch: GPUs that serve batches of one request, in real time, and any state to look at.

Invariant: everything goes through the simulated NVML library and the real meter, so the screen reads what it
would read of a GPU; and the driver calls itself simulated, so every figure is marked.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.errors import MeasurementError
from llmco2.measurement.meters.meter import Clock, EnergyMeter
from llmco2.measurement.simulation.rig import SimulatedGpu, SimulatedNvml
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.simulated_workload import SimulatedPhase, simulated_phases
from llmco2_tui.measured import DECODE, PREFILL, MeasuredPhase, RunFeed

GPU: Final = "H100-SXM5-80GB"
MODEL: Final = "meta-llama/Llama-3.1-8B-Instruct"
_SENSED: Final = SimulatedGpu(tick_jitter=0.1, power_jitter=0.02, temperature_c=32.0)
_STEP_S: Final = 0.5  # how often the simulated sensors move
_BATCHES: Final = 4  # prefilled one behind the other, then decoded: one prefill is too short for a counter
_REST_S: Final = 2.0
_DECODE_STRETCH: Final = 1.4  # made up: an engine's steps take longer than the roofline that is simulated
_AMBIENT_C: Final = 32.0
_HOTTEST_C: Final = 78.0
_LOST_AFTER_S: Final = 8.0
_FOUND_AFTER_S: Final = 40.0
_STRANGER_PID: Final = 1  # a process that is surely not ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A machine to simulate."""

    text: str
    n_gpus: int = 1
    gpu: SimulatedGpu = _SENSED
    shared: bool = False
    lost: bool = False
    throttle: int = 0  # NVML's bits


SCENES: Final = {
    "one": Scene(text="one GPU serving batches"),
    "eight": Scene(text="eight GPUs, one of them idle", n_gpus=8),
    "mig": Scene(text="a GPU in MIG mode", gpu=replace(_SENSED, mig=True)),
    "shared": Scene(text="a GPU that another process uses too", shared=True),
    "lost": Scene(
        text="two GPUs, one falls off the bus after 8 s and comes back at 40 s", n_gpus=2, lost=True
    ),
    "no-counter": Scene(text="a GPU without an energy counter", gpu=replace(_SENSED, has_counter=False)),
    "throttled": Scene(text="a GPU at its power cap and too hot", throttle=0x4 | 0x20),
}


def start_rig(scene: Scene, *, virtual_time: bool = False) -> tuple[SimulatedNvml, ExitStack]:
    """Start the machine of a scene; the stack ends it."""
    stack = ExitStack()
    gpus = [replace(scene.gpu, memory_used_bytes=18_000_000_000)] * scene.n_gpus
    rig = stack.enter_context(SimulatedNvml(gpus, virtual_time=virtual_time))
    if scene.shared:
        rig.set_process(0, _STRANGER_PID)
    if scene.throttle:
        rig.set(0, throttle=scene.throttle)
    return rig, stack


def serving() -> RunConfiguration:
    """Return what the simulated machine serves."""
    return RunConfiguration(model=MODEL, engine="vllm", batch_size=8, prompt_tokens=512, output_tokens=256)


class SimulatedServing:
    """Serves batches on the first GPU of a rig, over and over, and hands the joules of each phase to a feed.

    The others do other work of their own; the last of several is idle.
    """

    def __init__(
        self,
        rig: SimulatedNvml,
        meter: EnergyMeter,
        feed: RunFeed,
        *,
        clock: Clock,
        lost: bool = False,
        configuration: RunConfiguration | None = None,
    ) -> None:
        self._rig, self._meter, self._feed, self._clock = rig, meter, feed, clock
        self._lost = lost
        self._gpu = rig.gpus[0]
        configuration = configuration or serving()
        phases = simulated_phases(
            configuration, resolve_model(MODEL), resolve_gpu(GPU), idle_power_w=self._gpu.idle_power_w
        )
        self._request = configuration.request(GPU)
        decode = replace(phases.decode, time_s=_DECODE_STRETCH * phases.decode.time_s)
        self._phases = ((PREFILL, phases.prefill), (DECODE, decode))
        self._random = random.Random(1)
        self._temperatures = [_AMBIENT_C] * len(rig.gpus)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def announce(self) -> None:
        """Say what is served."""
        self._feed.serve(self._request)

    def start(self) -> None:
        """Serve in a thread of its own until stopped."""
        self.announce()
        if self._lost:
            now_s = self._clock.now_s()
            self._rig.lose(len(self._rig.gpus) - 1, now_s + _LOST_AFTER_S)
            self._rig.find(len(self._rig.gpus) - 1, now_s + _FOUND_AFTER_S)
        self._thread = threading.Thread(target=self._serve, name="llmco2-simulated-serving", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; returns once the thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self.round(self._wait)

    def round(self, wait: Callable[[float], None]) -> None:
        """Serve prefill, then decode, then rest once; ``wait`` lets seconds pass."""
        for name, phase in self._phases:
            self._phase(name, phase, _BATCHES, wait)
            if self._stopping.is_set():
                return
        self._step(None)
        wait(_REST_S)

    def _phase(self, name: str, phase: SimulatedPhase, batches: int, wait: Callable[[float], None]) -> None:
        start_s, before_j = self._clock.now_s(), self._counter_j()
        left_s = batches * phase.time_s
        while left_s > 0 and not self._stopping.is_set():
            self._step(phase.power_w)
            wait(min(_STEP_S, left_s))
            left_s -= _STEP_S
        after_j, now_s = self._counter_j(), self._clock.now_s()
        if before_j is None or after_j is None or self._stopping.is_set():
            return
        # the machine may have been late: what was measured is what that many seconds hold
        self._feed.measured(
            MeasuredPhase(
                t_s=now_s,
                request=self._request,
                phase=name,
                batches=(now_s - start_s) / phase.time_s,
                energy_j=after_j - before_j,
                time_s=now_s - start_s,
                simulated=True,
            )
        )

    def _counter_j(self) -> float | None:
        try:
            return self._meter.sample()[0].energy_counter_j
        except MeasurementError:  # the screen was closed meanwhile
            return None

    def _step(self, power_w: float | None) -> None:
        """Move every sensor by one step; ``None`` is rest."""
        for gpu in range(len(self._rig.gpus)):
            idle = gpu == len(self._rig.gpus) - 1 and gpu > 0
            watts = self._gpu.idle_power_w if idle or power_w is None else power_w
            if gpu > 0 and not idle:
                watts = self._random.uniform(0.45, 0.8) * self._gpu.power_limit_w
            share = (watts - self._gpu.idle_power_w) / (self._gpu.power_limit_w - self._gpu.idle_power_w)
            busy = share > 0.01
            target_c = _AMBIENT_C + (_HOTTEST_C - _AMBIENT_C) * share
            self._temperatures[gpu] += 0.08 * (target_c - self._temperatures[gpu])
            self._rig.set_power(gpu, watts)
            self._rig.set(
                gpu,
                utilization=98.0 if busy else 0.0,
                temperature=round(self._temperatures[gpu]),
            )

    def _wait(self, seconds: float) -> None:
        self._stopping.wait(seconds)
