"""Campaigns of kernels: latency and energy of one launch, shape after shape.

Invariant: as :mod:`llmco2.measurement.campaigns.runner` says: one durable row a shape, measured or failed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from llmco2.errors import DoesNotFitError, explain
from llmco2.measurement.campaigns.progress import CampaignListener, SilentListener
from llmco2.measurement.campaigns.row import Machine
from llmco2.measurement.campaigns.run_log import KernelLog
from llmco2.measurement.campaigns.runner import CampaignRunner, MachineTools, Summary
from llmco2.measurement.kernels.campaign_file import KernelCampaign
from llmco2.measurement.kernels.kernel import Kernel
from llmco2.measurement.kernels.measure import measure_kernel
from llmco2.measurement.kernels.row import failed_kernel, finished_kernel
from llmco2.measurement.kernels.shapes import KernelShape
from llmco2.measurement.kernels.work import work_of
from llmco2.measurement.meters.meter import EnergyMeter
from llmco2.records.run import KernelMeasurement

_IDLE_ATTEMPTS: Final = 3  # a GPU that is never at rest costs three seconds each


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTools(MachineTools):
    """What a campaign of kernels is handed beside the machine."""

    make_kernel: Callable[[KernelShape], Kernel]


def run_kernel_campaign(
    campaign: KernelCampaign,
    log: KernelLog,
    tools: KernelTools,
    *,
    listener: CampaignListener | None = None,
    allow_shared: bool = False,
    retry_failed: bool = False,
) -> Summary:
    """Measure what the log does not hold yet, appending one row per shape.

    A keyboard interrupt ends the campaign once the kernel and the meter have been let go; the summary says
    so, nothing is raised.

    Raises:
        MeasurementError: there is no GPU to measure, or the log cannot be written any further.
        InputError: the log holds rows of another nature (simulated beside real), or the GPU is shared.
    """
    runner = _KernelRunner(
        campaign,
        log,
        tools,
        listener=listener or SilentListener(),
        allow_shared=allow_shared,
        retry_failed=retry_failed,
    )
    return runner.run()


class _KernelRunner(CampaignRunner[KernelShape, KernelMeasurement]):
    def __init__(
        self,
        campaign: KernelCampaign,
        log: KernelLog,
        tools: KernelTools,
        *,
        listener: CampaignListener,
        allow_shared: bool,
        retry_failed: bool,
    ) -> None:
        super().__init__(
            name=campaign.name,
            configurations=campaign.shapes,
            n_runs=len(campaign.shapes),
            log=log,
            tools=tools,
            listener=listener,
            allow_shared=allow_shared,
            retry_failed=retry_failed,
        )
        self._plan, self._tools = campaign.plan, tools
        self._context_idle_w: float | None = None
        self._idle_attempts = 0

    def attempt(self, configuration: KernelShape, machine: Machine) -> KernelMeasurement:
        """Load the kernel and measure its windows."""
        meter = self.open_meter(1)
        devices = meter.devices()
        memory_bytes = min((d.total_memory_bytes for d in devices if d.total_memory_bytes), default=None)
        if memory_bytes is not None:
            check_memory(configuration, float(memory_bytes))
        with ExitStack() as stack:
            kernel = self._tools.make_kernel(configuration)
            stack.callback(kernel.close)
            self._listener.stage("loading", 0.0)
            kernel.load()
            context_idle_w = self._context_idle(meter)
            label = measure_kernel(kernel, meter, self._plan, self._listener.stage)
            here = replace(machine, devices=meter.look_again(), context_idle_power_w=context_idle_w)
            return finished_kernel(configuration, here, label, kernel.facts, measured_at=self.now())

    def failed_row(self, configuration: KernelShape, machine: Machine, reason: str) -> KernelMeasurement:
        """Return the row of a shape that could not be measured."""
        return failed_kernel(configuration, machine, reason, measured_at=self.now())

    def _context_idle(self, meter: EnergyMeter) -> float | None:
        """Return what a GPU draws with a context loaded and at rest; measured once, for all shapes."""
        if self._context_idle_w is None and self._idle_attempts < _IDLE_ATTEMPTS:
            self._idle_attempts += 1
            self._listener.stage("idle with a context loaded", 0.0)
            self._context_idle_w = self._tools.idle_power_w(meter, False)
        return self._context_idle_w


def check_memory(shape: KernelShape, memory_bytes: float) -> None:
    """Refuse operands and a result that do not fit one GPU's real memory.

    Raises:
        DoesNotFitError: they exceed ``memory_bytes``.
    """
    need_bytes = work_of(shape).memory_bytes
    if need_bytes > memory_bytes:
        raise DoesNotFitError(
            explain(
                f"{shape.label} does not fit one GPU",
                got=f"{need_bytes / 1e9:.4g} GB of operands and result",
                expected=f"at most {memory_bytes / 1e9:.4g} GB",
            )
        )
