"""Campaigns of whole runs: prefill and decode of one model after another.

Invariant: as :mod:`llmco2.measurement.campaigns.runner` says: one durable row a configuration, measured or failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from llmco2.errors import InputError, explain
from llmco2.measurement.campaigns.acquisition import Broken, Scores, Visits, choose_next
from llmco2.measurement.campaigns.campaign_file import Campaign
from llmco2.measurement.campaigns.phases import measure_phases
from llmco2.measurement.campaigns.plan import usual_time_s
from llmco2.measurement.campaigns.progress import CampaignListener, SilentListener
from llmco2.measurement.campaigns.row import Machine, failed_run, finished_run
from llmco2.measurement.campaigns.run_log import RunLog
from llmco2.measurement.campaigns.runner import CampaignRunner, MachineTools, Summary
from llmco2.measurement.campaigns.screening import AttentionScreen, SupportedAttention
from llmco2.measurement.meters.meter import EnergyMeter
from llmco2.measurement.workloads.configuration import SERVER, RunConfiguration
from llmco2.measurement.workloads.workload import Workload, WorkloadError
from llmco2.records.run import MeasuredRun

__all__ = ["Summary", "Tools", "run_campaign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools(MachineTools):
    """What a campaign of whole runs is handed beside the machine."""

    make_workload: Callable[[RunConfiguration, EnergyMeter], Workload]
    check_memory: Callable[[RunConfiguration, str, float], None]  # (…, GPU, its bytes) may refuse
    scores: Callable[[str], Scores] | None = None  # of a focused campaign, by GPU
    run_s: Callable[[str], Scores] | None = None  # predicted seconds of one run, by GPU
    supported_attention: SupportedAttention = lambda _: None  # nothing is known before loading


def run_campaign(
    campaign: Campaign,
    log: RunLog,
    tools: Tools,
    *,
    listener: CampaignListener | None = None,
    allow_shared: bool = False,
    retry_failed: bool = False,
) -> Summary:
    """Measure what the log does not hold yet, appending one row per configuration.

    A keyboard interrupt ends the campaign once the workload and the meter have been let go; the summary says
    so, nothing is raised.

    Raises:
        MeasurementError: there is no GPU to measure, or the log cannot be written any further.
        InputError: the log holds rows of another nature (simulated beside real), or the GPU is shared.
    """
    runner = _PhaseRunner(
        campaign,
        log,
        tools,
        listener=listener or SilentListener(),
        allow_shared=allow_shared,
        retry_failed=retry_failed,
    )
    return runner.run()


class _PhaseRunner(CampaignRunner[RunConfiguration, MeasuredRun]):
    def __init__(
        self,
        campaign: Campaign,
        log: RunLog,
        tools: Tools,
        *,
        listener: CampaignListener,
        allow_shared: bool,
        retry_failed: bool,
    ) -> None:
        super().__init__(
            name=campaign.name,
            configurations=campaign.configurations,
            n_runs=campaign.n_runs,
            log=log,
            tools=tools,
            listener=listener,
            allow_shared=allow_shared,
            retry_failed=retry_failed,
            spare_failures=campaign.focus.spared if campaign.focus else 0,
        )
        self._campaign, self._tools = campaign, tools
        self._idle_of: tuple[object, ...] | None = None
        self._context_idle_w: float | None = None
        self._screen = AttentionScreen(campaign.configurations, tools.supported_attention)

    def pending(self, done: Sequence[RunConfiguration], machine: Machine) -> Iterator[RunConfiguration]:
        """Yield what is still to be measured: in order, or as the focused acquisition chooses.

        What is known not to run is put on record once a model and attention, and not chosen from.
        """
        pending = super().pending(done, machine)
        focus = self._campaign.focus
        if focus is None:
            yield from pending
            return
        yield from (example for example in self._screen.examples() if example not in done)
        ended = [c for c in done if self._screen.reason(c) is None]
        remaining = [c for c in pending if self._screen.reason(c) is None]
        if self._tools.scores is None:
            raise InputError(
                explain("a focused campaign needs a model's uncertainty", remedy="use grid or list")
            )
        scores, costs = self._tools.scores(machine.gpu), self._costs(machine.gpu)
        visits, broken = self._visits(ended, machine), self._broken(ended, machine)
        while (remaining := [c for c in remaining if c not in broken]) and self.budget.left:
            candidates = remaining if visits is None else visits.choices(remaining)
            chosen = choose_next(candidates, ended, focus, scores, costs)
            remaining.remove(chosen)
            ended.append(chosen)
            yield chosen
            row = self._log.rows[-1]
            broken.ended(chosen, row.failure_reason)
            if visits is not None:
                visits.ended(chosen, succeeded=row.status == "ok")

    def _visits(self, ended: Sequence[RunConfiguration], machine: Machine) -> Visits | None:
        """Return the round of visits to the models, as far as it has come; ``None`` where there is none."""
        focus = self._campaign.focus
        if focus is None or focus.runs_per_visit is None:
            return None
        visits = Visits(self._campaign.configurations, runs=focus.runs_per_visit, seed=focus.seed)
        succeeded = {row.run_id for row in self._log.rows if row.status == "ok"}
        for configuration in ended:
            visits.ended(configuration, succeeded=self._id(configuration, machine) in succeeded)
        return visits

    def _broken(self, ended: Sequence[RunConfiguration], machine: Machine) -> Broken:
        """Return which ways of running a model are known not to work, from the log."""
        reasons = {row.run_id: row.failure_reason for row in self._log.rows}
        broken = Broken()
        for configuration in ended:
            broken.ended(configuration, reasons.get(self._id(configuration, machine)))
        return broken

    def _costs(self, gpu: str) -> Scores | None:
        """Return the seconds that measuring takes, where the campaign draws by them."""
        focus, plan, run_s = self._campaign.focus, self._campaign.plan, self._tools.run_s
        if focus is None or not focus.by_time or run_s is None:
            return None
        seconds = run_s(gpu)
        return lambda candidates: [usual_time_s(one_s, plan) for one_s in seconds(candidates)]

    def occupied(self) -> bool:
        """A server is loaded before we come."""
        return any(c.workload == SERVER for c in self._campaign.configurations)

    def attempt(self, configuration: RunConfiguration, machine: Machine) -> MeasuredRun:
        """Load the workload and measure its phases."""
        if (reason := self._screen.reason(configuration)) is not None:
            raise WorkloadError("unsupported", reason)
        meter = self.open_meter(configuration.tensor_parallel)
        devices = meter.devices()
        memory_bytes = min((d.total_memory_bytes for d in devices if d.total_memory_bytes), default=None)
        if memory_bytes is not None:
            self._tools.check_memory(configuration, machine.gpu, float(memory_bytes))
        with ExitStack() as stack:
            workload = self._tools.make_workload(configuration, meter)
            stack.callback(workload.close)
            self._listener.stage("loading", 0.0)
            workload.load()
            context_idle_w = self._context_idle(configuration, meter)
            labels = measure_phases(
                workload,
                meter,
                self._campaign.plan,
                output_tokens=configuration.output_tokens,
                report=self._listener.stage,
            )
            here = replace(machine, devices=meter.look_again(), context_idle_power_w=context_idle_w)
            return finished_run(configuration, here, labels, workload.facts, measured_at=self.now())

    def _context_idle(self, configuration: RunConfiguration, meter: EnergyMeter) -> float | None:
        """Return what a GPU draws with the workload loaded and at rest: measured anew with each model."""
        loaded = _loaded(configuration)
        if self._idle_of != loaded or self._context_idle_w is None:
            self._listener.stage("idle with the workload loaded", 0.0)
            self._idle_of, self._context_idle_w = loaded, self._tools.idle_power_w(meter, False)
        return self._context_idle_w

    def failed_row(self, configuration: RunConfiguration, machine: Machine, reason: str) -> MeasuredRun:
        """Return the row of a configuration that could not be measured."""
        return failed_run(configuration, machine, reason, measured_at=self.now())


def _loaded(c: RunConfiguration) -> tuple[object, ...]:
    """Return what is loaded on a GPU at rest: sizes, caches and attention are not."""
    return (c.workload, c.model, c.model_path, c.weights, c.precision, c.tensor_parallel, c.server_url)
