"""From a kernel and a meter to the label of one launch.

Invariant: windows, warm-up and choice of energy are those of phases (:mod:`llmco2.measurement.campaigns.phases`); what
is repeated inside a window is a cycle of launches, and what leaves here is per launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llmco2.measurement.campaigns.label_flags import label_flags
from llmco2.measurement.campaigns.phases import (
    UNSETTLED,
    Block,
    Report,
    first_guess,
    label,
    measure_block,
    next_repeats,
    warm_up,
)
from llmco2.measurement.campaigns.plan import MeasurePlan, repeats_to_span
from llmco2.measurement.campaigns.row import mean_per_run
from llmco2.measurement.kernels.kernel import Kernel
from llmco2.measurement.meters.meter import EnergyMeter, WindowReading
from llmco2.measurement.workloads.workload import RequestTiming

WINDOW: Final = "kernel"
_WARM_UP_BATCH_S: Final = 0.1  # latency is judged over batches, not over single launches


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLabel:
    """One launch: means over windows, and the standard deviation between them."""

    latency_s: float
    latency_std_s: float | None  # None: a single window has no spread
    energy_j: float
    energy_std_j: float | None
    integrated_energy_j: float | None
    launches: int  # inside windows, all of them together
    window_s: float  # all windows together
    readings: tuple[WindowReading, ...]
    flags: tuple[str, ...]


def measure_kernel(kernel: Kernel, meter: EnergyMeter, plan: MeasurePlan, report: Report) -> KernelLabel:
    """Warm up, then measure the windows of a loaded kernel.

    ``report(stage, energy_j)`` is called after each window with the joules that it took.

    Raises:
        MeasurementError: a window has no energy reading; the text gives the meter's reason.
    """

    def run(cycles: int) -> tuple[RequestTiming, ...]:
        kernel.run(cycles)
        return ()

    report("warm-up", 0.0)
    flags = [] if _settles(kernel, meter, plan) else [UNSETTLED]
    repeats = first_guess(run, meter, plan)
    blocks: list[Block] = []
    for _ in range(int(plan.blocks)):
        block = measure_block(WINDOW, run, repeats, meter, plan)
        repeats = next_repeats(block, meter, plan)
        blocks.append(block)
        report(WINDOW, block.energy_j)
    flags += label_flags([block.reading for block in blocks])
    return _per_launch(blocks, kernel.launches_per_cycle, tuple(dict.fromkeys(flags)))


def _settles(kernel: Kernel, meter: EnergyMeter, plan: MeasurePlan) -> bool:
    kernel.run(1)
    began_s = meter.clock.now_s()
    kernel.run(1)
    batch = repeats_to_span(_WARM_UP_BATCH_S, meter.clock.now_s() - began_s)

    def run(times: int) -> tuple[RequestTiming, ...]:
        kernel.run(times * batch)
        return ()

    return warm_up(run, meter, plan).settled


def _per_launch(blocks: list[Block], launches: int, flags: tuple[str, ...]) -> KernelLabel:
    cycle = label(blocks)
    total = cycle.repeats * launches
    return KernelLabel(
        latency_s=cycle.time_s / launches,
        latency_std_s=None if cycle.time_std_s is None else cycle.time_std_s / launches,
        energy_j=cycle.energy_j / launches,
        energy_std_j=None if cycle.energy_std_j is None else cycle.energy_std_j / launches,
        integrated_energy_j=mean_per_run([r.integrated_energy_j for r in cycle.readings], total),
        launches=total,
        window_s=cycle.window_s,
        readings=cycle.readings,
        flags=flags,
    )
