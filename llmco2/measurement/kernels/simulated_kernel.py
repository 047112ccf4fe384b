"""A stand-in for a kernel: it draws on the simulated GPU what a roofline says a launch would take.

Invariant: the joules of a launch are known in closed form (:func:`simulated_launch`), so labels measured over
the simulated library can be held against the truth. Nothing here is a claim about a real kernel.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from llmco2.catalog.gpu import Gpu
from llmco2.measurement.kernels.kernel import KernelFacts
from llmco2.measurement.kernels.shapes import KernelShape
from llmco2.measurement.kernels.work import work_of
from llmco2.measurement.workloads.simulated_workload import (
    BUSY_PERCENT,
    CONTEXT_POWER_W,
    Rig,
    SimulatedPhase,
    simulated_roofline,
)
from llmco2.measurement.workloads.workload import WorkloadError

_LAUNCH_OVERHEAD_S: Final = 2e-6
_CYCLE_S: Final = 1e-3


def simulated_launch(shape: KernelShape, gpu: Gpu, *, idle_power_w: float) -> SimulatedPhase:
    """Return time and power of one launch by a plain roofline."""
    work = work_of(shape)
    return simulated_roofline(
        work.flops,
        work.bytes_moved,
        precision=shape.precision,
        gpu=gpu,
        idle_power_w=idle_power_w,
        overhead_s=_LAUNCH_OVERHEAD_S,
    )


class SimulatedKernel:
    """Lets time pass on the rig's clock while its first GPU draws the power of the kernel."""

    def __init__(self, shape: KernelShape, launch: SimulatedPhase, *, rig: Rig, idle_power_w: float) -> None:
        """``idle_power_w`` is what the rig draws with nothing loaded."""
        self._shape, self._launch, self._rig, self._idle_power_w = shape, launch, rig, idle_power_w
        self._loaded = False

    @property
    def launches_per_cycle(self) -> int:
        """As many as take a millisecond."""
        return max(1, ceil(_CYCLE_S / self._launch.time_s))

    @property
    def facts(self) -> KernelFacts:
        """The implementation that a row names: none, because the kernel is simulated."""
        return KernelFacts(
            implementation="simulated",
            engine_version="simulated",
            cold_cache=self._shape.cold_cache,
            notes=("simulated: a roofline's power on a simulated GPU",),
        )

    def load(self) -> None:
        """Begin to draw what a loaded context draws."""
        self._loaded = True
        self._rest()

    def run(self, cycles: int) -> None:
        """Draw the kernel's power for the time of all launches."""
        if not self._loaded:
            raise WorkloadError("engine_error", "the simulated kernel is not loaded")
        self._rig.set(0, utilization=BUSY_PERCENT)
        self._rig.set_power(0, self._launch.power_w)
        self._rig.clock.sleep(cycles * self.launches_per_cycle * self._launch.time_s)
        self._rest()

    def close(self) -> None:
        """Go back to bare idle."""
        if self._loaded:
            self._loaded = False
            self._rig.set_power(0, self._idle_power_w)

    def _rest(self) -> None:
        self._rig.set(0, utilization=0.0)
        self._rig.set_power(0, self._idle_power_w + CONTEXT_POWER_W)
