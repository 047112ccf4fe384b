"""Measure one configuration after another, of whatever kind, and let none of them take the others down.

Invariant: a configuration ends as one durable row, measured or failed with its reason, before the next
begins. Only a full disk, an interrupt, or a machine that fails again and again ends the campaign early; the
same command goes on from there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, Protocol, TypeVar

from llmco2.errors import DoesNotFitError, InputError, MeasurementError, explain
from llmco2.measurement.campaigns.budget import Budget
from llmco2.measurement.campaigns.progress import CampaignListener
from llmco2.measurement.campaigns.row import Machine
from llmco2.measurement.campaigns.run_log import Row, RowLog
from llmco2.measurement.meters.meter import EnergyMeter
from llmco2.measurement.workloads.workload import WorkloadError

MACHINE_FAILURES: Final = ("measurement", "gpu_error", "shared")
GIVE_UP_AFTER: Final = 3  # machine failures in a row: the machine, not the configuration, is at fault


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTools:
    """What every campaign is handed; everything that touches hardware or the catalog comes in here."""

    open_meter: Callable[[int], EnergyMeter]  # for the first so many GPUs in use
    gpu_name: Callable[[str], str]  # the catalog's name of a driver's device name
    idle_power_w: Callable[[EnergyMeter, bool], float | None]  # mean W of a GPU at rest; bare or loaded
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a campaign ended."""

    measured: int
    failed: int
    left: int
    stopped_because: str | None = None  # None: it ran to its end


class SharedGpuError(InputError):
    """Somebody else is on a GPU that was to be measured, or it was cut into slices."""


class Measurable(Hashable, Protocol):
    """One configuration of a campaign."""

    @property
    def label(self) -> str:
        """A short name for a progress line."""
        ...

    @property
    def tensor_parallel(self) -> int:
        """GPUs that it takes."""
        ...

    def run_id(self, *, gpu: str, simulated: bool) -> str:
        """Return its identity on that kind of GPU."""
        ...


Configuration = TypeVar("Configuration", bound=Measurable)


class CampaignRunner(ABC, Generic[Configuration, Row]):
    """The course of a campaign; what is measured of a configuration is up to :meth:`attempt`."""

    def __init__(
        self,
        *,
        name: str,
        configurations: Sequence[Configuration],
        n_runs: int,
        log: RowLog[Row],
        tools: MachineTools,
        listener: CampaignListener,
        allow_shared: bool,
        retry_failed: bool,
        spare_failures: int = 0,
    ) -> None:
        self._name, self._configurations, self._n_runs = name, tuple(configurations), n_runs
        self.budget = Budget(runs=n_runs, spare_failures=spare_failures)
        self._log: RowLog[Row] = log
        self._machine_tools, self._listener = tools, listener
        self._allow_shared, self._retry_failed = allow_shared, retry_failed
        self._meter: EnergyMeter | None = None
        self._meter_gpus = 0
        self._measured = self._failed = 0
        self._in_a_row = 0

    @abstractmethod
    def attempt(self, configuration: Configuration, machine: Machine) -> Row:
        """Measure one configuration; whatever it raises becomes the reason of a failed row."""

    @abstractmethod
    def failed_row(self, configuration: Configuration, machine: Machine, reason: str) -> Row:
        """Return the row of a configuration that could not be measured."""

    def pending(self, done: Sequence[Configuration], machine: Machine) -> Iterable[Configuration]:
        """Return what is still to be measured, in order."""
        del machine
        finished = set(done)
        return [c for c in self._configurations if c not in finished]

    def occupied(self) -> bool:
        """Whether something is loaded on the GPUs already, so that their bare idle power cannot be measured."""
        return False

    def run(self) -> Summary:
        """Measure what the log does not hold yet; see the campaigns' own functions."""
        try:
            machine = self._first_look()
            finished = self._log.finished_ids(retry_failed=self._retry_failed)
            done = [c for c in self._configurations if self._id(c, machine) in finished]
            succeeded = {row.run_id for row in self._log.rows if row.status == "ok"}
            for configuration in done:
                self.budget.add(succeeded=self._id(configuration, machine) in succeeded)
            self._listener.campaign_started(
                total=self._n_runs, done=self.budget.spent, simulated=machine.simulated
            )
            return self._run_all(done, machine)
        except KeyboardInterrupt:  # before the first configuration; later ones are counted below
            return Summary(measured=0, failed=0, left=self._n_runs, stopped_because="interrupted")
        finally:
            self._close_meter()

    def open_meter(self, gpus: int) -> EnergyMeter:
        """Return the meter of the first ``gpus`` GPUs, and refuse those that other processes use."""
        if self._meter is None or gpus != self._meter_gpus:
            self._close_meter()
            self._meter = self._machine_tools.open_meter(gpus)
            self._meter_gpus = gpus
        self._refuse_company(self._meter)
        return self._meter

    def now(self) -> str:
        """Return the time of day for a row."""
        return self._machine_tools.now().isoformat(timespec="seconds")

    def _run_all(self, done: Sequence[Configuration], machine: Machine) -> Summary:
        stopped, left = None, 0
        try:
            for configuration in self.pending(done, machine):
                self._one(configuration, machine)
                if self._in_a_row >= GIVE_UP_AFTER:
                    reason = self._log.rows[-1].failure_reason
                    stopped = f"the machine failed {GIVE_UP_AFTER} times in a row: {reason}"
                    break
        except KeyboardInterrupt:
            stopped = "interrupted"
        if stopped is not None:  # else there was nothing more to choose from, whatever had been wanted
            left = self.budget.left
        return Summary(measured=self._measured, failed=self._failed, left=left, stopped_because=stopped)

    def _one(self, configuration: Configuration, machine: Machine) -> None:
        self._listener.configuration_started(configuration)
        row, kind = self._measure(configuration, machine)
        self._log.append(row)
        self._measured += row.status == "ok"
        self._failed += row.status != "ok"
        self._in_a_row = self._in_a_row + 1 if kind in MACHINE_FAILURES else 0
        if kind in MACHINE_FAILURES:
            self._close_meter()  # a lost GPU may come back under a fresh handle
        self._listener.configuration_ended(row, counts=self.budget.add(succeeded=row.status == "ok"))

    def _measure(self, configuration: Configuration, machine: Machine) -> tuple[Row, str | None]:
        """Return the row, and the kind of the failure if it is one."""
        try:
            row = self.attempt(configuration, machine)
            if self._meter is not None:
                self._refuse_company(self._meter)  # who came meanwhile has joules in the label
            return row, None
        except WorkloadError as error:
            kind, reason = error.kind, str(error)
        except DoesNotFitError as error:
            kind, reason = "does_not_fit", str(error)
        except SharedGpuError as error:
            kind, reason = "shared", str(error)
        except InputError as error:
            kind, reason = "refused", str(error)
        except MeasurementError as error:
            kind, reason = "measurement", str(error)
        except Exception as error:  # any library may raise anything; the reason is on record
            kind, reason = "unexpected", f"{type(error).__name__}: {error}"
        return self.failed_row(configuration, machine, f"{kind}: {reason}"), kind

    def _first_look(self) -> Machine:
        """Learn the machine before anything is loaded on it."""
        meter = self.open_meter(min(c.tensor_parallel for c in self._configurations))
        devices = meter.devices()
        machine = Machine(
            source=self._name,
            gpu=self._machine_tools.gpu_name(devices[0].name),
            simulated=meter.simulated,
            devices=devices,
            idle_power_w=None if self.occupied() else self._machine_tools.idle_power_w(meter, True),
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

    def _refuse_company(self, meter: EnergyMeter) -> None:
        """Look again at the GPUs, and refuse those that others use or that are cut into slices."""
        devices = meter.look_again()
        cut = [str(device.index) for device in devices if device.mig]
        if cut:
            raise SharedGpuError(
                explain(
                    "MIG is on, and no counter measures the joules of a slice",
                    got=f"GPU {', '.join(cut)}",
                    remedy="turn it off (nvidia-smi -mig 0)",
                )
            )
        shared = [str(device.index) for device in devices if device.shared]
        if shared and not self._allow_shared:
            raise SharedGpuError(
                explain(
                    "other processes are on the GPU",
                    got=f"GPU {', '.join(shared)} shared",
                    expected="a GPU to oneself",
                    remedy="stop them, or measure anyway with --allow-shared (rows are flagged)",
                )
            )

    def _close_meter(self) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.close()

    @staticmethod
    def _id(configuration: Configuration, machine: Machine) -> str:
        return configuration.run_id(gpu=machine.gpu, simulated=machine.simulated)
