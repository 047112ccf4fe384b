"""Run the configurations of a campaign one after another, and let none of them take the others down.

Invariant: a configuration ends as one durable row, measured or failed with its reason, before the next
begins. Only a full disk, an interrupt, or a machine that fails again and again ends the campaign early; the
same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from llmco2.errors import DoesNotFitError, InputError, MeasurementError, explain
from llmco2.measurement.acquisition import Scores, choose_next
from llmco2.measurement.campaign_file import Campaign
from llmco2.measurement.configuration import SERVER, RunConfiguration
from llmco2.measurement.meter import EnergyMeter
from llmco2.measurement.phases import measure_phases
from llmco2.measurement.progress import CampaignListener, SilentListener
from llmco2.measurement.row import Machine, failed_run, finished_run
from llmco2.measurement.run_log import RunLog
from llmco2.measurement.workloads.workload import Workload, WorkloadError
from llmco2.records.run import MeasuredRun

MACHINE_FAILURES: Final = ("measurement", "gpu_error")
GIVE_UP_AFTER: Final = 3  # machine failures in a row: the machine, not the configuration, is at fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a campaign is handed; everything that touches hardware, the catalog or a model comes in here."""

    open_meter: Callable[[int], EnergyMeter]  # for the first so many GPUs in use
    make_workload: Callable[[RunConfiguration, EnergyMeter], Workload]
    gpu_name: Callable[[str], str]  # the catalog's name of a driver's device name
    idle_power_w: Callable[[EnergyMeter, bool], float | None]  # mean W of a GPU at rest; bare or loaded
    check_memory: Callable[[RunConfiguration, str, float], None]  # (…, GPU, its bytes) may refuse
    scores: Callable[[str], Scores] | None = None  # of a focused campaign, by GPU
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a campaign ended."""

    measured: int
    failed: int
    left: int
    stopped_because: str | None = None  # None: it ran to its end


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
    runner = _Runner(
        campaign,
        log,
        tools,
        listener=listener or SilentListener(),
        allow_shared=allow_shared,
        retry_failed=retry_failed,
    )
    return runner.run()


class _Runner:
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
        self._campaign, self._log, self._tools, self._listener = campaign, log, tools, listener
        self._allow_shared, self._retry_failed = allow_shared, retry_failed
        self._meter: EnergyMeter | None = None
        self._meter_gpus = 0
        self._measured = self._failed = 0
        self._in_a_row = 0

    def run(self) -> Summary:
        try:
            machine = self._first_look()
            finished = self._log.finished_ids(retry_failed=self._retry_failed)
            done = [c for c in self._campaign.configurations if self._id(c, machine) in finished]
            self._listener.campaign_started(
                total=self._campaign.n_runs,
                done=min(len(done), self._campaign.n_runs),
                simulated=machine.simulated,
            )
            return self._run_all(done, machine)
        except KeyboardInterrupt:  # before the first configuration; later ones are counted below
            return Summary(measured=0, failed=0, left=self._campaign.n_runs, stopped_because="interrupted")
        finally:
            self._close_meter()

    def _run_all(self, done: list[RunConfiguration], machine: Machine) -> Summary:
        stopped = None
        try:
            for configuration in self._pending(done, machine):
                self._one(configuration, machine)
                if self._in_a_row >= GIVE_UP_AFTER:
                    reason = self._log.rows[-1].failure_reason
                    stopped = f"the machine failed {GIVE_UP_AFTER} times in a row: {reason}"
                    break
        except KeyboardInterrupt:
            stopped = "interrupted"
        left = self._campaign.n_runs - len(done) - self._measured - self._failed
        return Summary(
            measured=self._measured, failed=self._failed, left=max(0, left), stopped_because=stopped
        )

    def _pending(self, done: list[RunConfiguration], machine: Machine) -> Iterator[RunConfiguration]:
        """Yield what is still to be measured: in order, or as the focused acquisition chooses."""
        ended = list(done)
        remaining = [c for c in self._campaign.configurations if c not in set(done)]
        focus = self._campaign.focus
        if focus is None:
            yield from remaining
            return
        if self._tools.scores is None:
            raise InputError(
                explain("a focused campaign needs a model's uncertainty", remedy="use grid or list")
            )
        scores = self._tools.scores(machine.gpu)
        while remaining and len(ended) < focus.runs:
            chosen = choose_next(remaining, ended, focus, scores)
            remaining.remove(chosen)
            ended.append(chosen)
            yield chosen

    def _one(self, configuration: RunConfiguration, machine: Machine) -> None:
        self._listener.configuration_started(configuration)
        run, kind = self._measure(configuration, machine)
        self._log.append(run)
        self._measured += run.status == "ok"
        self._failed += run.status != "ok"
        self._in_a_row = self._in_a_row + 1 if kind in MACHINE_FAILURES else 0
        if kind in MACHINE_FAILURES:
            self._close_meter()  # a lost GPU may come back under a fresh handle
        self._listener.configuration_ended(run)

    def _measure(self, configuration: RunConfiguration, machine: Machine) -> tuple[MeasuredRun, str | None]:
        """Return the row, and the kind of the failure if it is one."""
        try:
            return self._attempt(configuration, machine), None
        except WorkloadError as error:
            kind, reason = error.kind, str(error)
        except DoesNotFitError as error:
            kind, reason = "does_not_fit", str(error)
        except InputError as error:
            kind, reason = "refused", str(error)
        except MeasurementError as error:
            kind, reason = "measurement", str(error)
        except Exception as error:  # any library may raise anything; the reason is on record
            kind, reason = "unexpected", f"{type(error).__name__}: {error}"
        row = failed_run(configuration, machine, f"{kind}: {reason}", measured_at=self._now())
        return row, kind

    def _attempt(self, configuration: RunConfiguration, machine: Machine) -> MeasuredRun:
        meter = self._open_meter(configuration.tensor_parallel)
        devices = meter.devices()
        self._refuse_shared(meter)
        memory_bytes = min((d.total_memory_bytes for d in devices if d.total_memory_bytes), default=None)
        if memory_bytes is not None:
            self._tools.check_memory(configuration, machine.gpu, float(memory_bytes))
        with ExitStack() as stack:
            workload = self._tools.make_workload(configuration, meter)
            stack.callback(workload.close)
            self._listener.stage("loading", 0.0)
            workload.load()
            self._listener.stage("idle with the workload loaded", 0.0)
            context_idle_w = self._tools.idle_power_w(meter, False)
            labels = measure_phases(
                workload,
                meter,
                self._campaign.plan,
                output_tokens=configuration.output_tokens,
                report=self._listener.stage,
            )
            here = replace(machine, devices=devices, context_idle_power_w=context_idle_w)
            return finished_run(configuration, here, labels, workload.facts, measured_at=self._now())

    def _first_look(self) -> Machine:
        """Learn the machine before anything is loaded on it."""
        meter = self._open_meter(min(c.tensor_parallel for c in self._campaign.configurations))
        self._refuse_shared(meter)
        devices = meter.devices()
        # a server is loaded before we come, so nobody can see its GPU bare
        occupied = any(c.workload == SERVER for c in self._campaign.configurations)
        machine = Machine(
            source=self._campaign.name,
            gpu=self._tools.gpu_name(devices[0].name),
            simulated=meter.simulated,
            devices=devices,
            idle_power_w=None if occupied else self._tools.idle_power_w(meter, True),
        )
        if any(row.simulated != machine.simulated for row in self._log.rows):
            held, now = ("real", "simulated") if machine.simulated else ("simulated", "real")
            raise InputError(
                explain(
                    f"{self._log.path} holds {held} runs",
                    got=f"a {now} campaign",
                    remedy="choose another --output: simulated and real labels never share a file",
                )
            )
        return machine

    def _refuse_shared(self, meter: EnergyMeter) -> None:
        shared = [str(device.index) for device in meter.devices() if device.shared]
        if shared and not self._allow_shared:
            raise InputError(
                explain(
                    "other processes are on the GPU",
                    got=f"GPU {', '.join(shared)} shared",
                    expected="a GPU to oneself",
                    remedy="stop them, or measure anyway with --allow-shared (rows are flagged)",
                )
            )

    def _open_meter(self, gpus: int) -> EnergyMeter:
        if self._meter is None or gpus != self._meter_gpus:
            self._close_meter()
            self._meter = self._tools.open_meter(gpus)
            self._meter_gpus = gpus
        return self._meter

    def _close_meter(self) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.close()

    def _now(self) -> str:
        return self._tools.now().isoformat(timespec="seconds")

    @staticmethod
    def _id(configuration: RunConfiguration, machine: Machine) -> str:
        return configuration.run_id(gpu=machine.gpu, simulated=machine.simulated)
