"""What a person sees while a campaign runs: a bar with the time left and the energy spent, or plain lines.

Invariant: a campaign never waits for its audience, and works the same with none.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from llmco2.records.run import KernelMeasurement, MeasuredRun
from llmco2.units import kwh_from_joules


class Labelled(Protocol):
    """A configuration, as far as its audience knows it."""

    @property
    def label(self) -> str:
        """A short name."""
        ...


class CampaignListener(Protocol):
    """Who is told what a campaign does, in this order."""

    def campaign_started(self, *, total: int, done: int, simulated: bool) -> None:
        """``done`` of ``total`` configurations are on record already."""
        ...

    def configuration_started(self, configuration: Labelled) -> None:
        """A configuration is about to be loaded."""
        ...

    def stage(self, name: str, energy_j: float) -> None:
        """A stage began or a window closed, with the joules it took."""
        ...

    def configuration_ended(self, run: MeasuredRun | KernelMeasurement, *, counts: bool) -> None:
        """The row is durable; ``counts``: it is one of the runs that were wanted."""
        ...


class SilentListener:
    """Listens to nothing."""

    def campaign_started(self, *, total: int, done: int, simulated: bool) -> None:
        """Ignore it."""

    def configuration_started(self, configuration: Labelled) -> None:
        """Ignore it."""

    def stage(self, name: str, energy_j: float) -> None:
        """Ignore it."""

    def configuration_ended(self, run: MeasuredRun | KernelMeasurement, *, counts: bool) -> None:
        """Ignore it."""


class ProgressDisplay:
    """A Rich progress bar on a terminal; one line per finished configuration anywhere else."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spent_j = 0.0
        self._task = TaskID(0)
        self._label = ""
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[spent]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def campaign_started(self, *, total: int, done: int, simulated: bool) -> None:
        """Show the bar; what was done before counts towards the total, not towards the time left."""
        if simulated:
            self._console.print(
                "[bold black on yellow] SIMULATED [/] no real GPU: labels are of a simulated one"
            )
        if done:
            self._console.print(f"{done} of {total} configurations are on record already")
        self._task = self._progress.add_task("starting", total=total - done, spent=energy_text(0.0))

    def configuration_started(self, configuration: Labelled) -> None:
        """Name the configuration."""
        self._label = escape(configuration.label)
        self._progress.update(self._task, description=self._label)

    def stage(self, name: str, energy_j: float) -> None:
        """Name the stage and count its joules."""
        self._spent_j += energy_j
        self._progress.update(
            self._task, description=f"{self._label} · {escape(name)}", spent=energy_text(self._spent_j)
        )

    def configuration_ended(self, run: MeasuredRun | KernelMeasurement, *, counts: bool) -> None:
        """Advance where a run is used up, and leave one line behind."""
        self._progress.update(self._task, advance=int(counts))
        self._console.print(f"{self._label}  {escape(outcome_text(run))}", highlight=False)


def outcome_text(run: MeasuredRun | KernelMeasurement) -> str:
    """Return one line on how a configuration ended."""
    if run.status != "ok":
        return f"failed: {run.failure_reason}"
    flags = f"  [{run.flags}]" if run.flags else ""
    if isinstance(run, KernelMeasurement):
        energy = "no energy" if run.energy_j is None else energy_text(run.energy_j)
        time = "" if run.latency_s is None else f"{1e6 * run.latency_s:.4g} µs, "
        return f"{time}{energy} a launch{flags}"
    parts = [
        f"{name} {energy_text(energy_j)}"
        for name, energy_j in (("prefill", run.prefill_energy_j), ("decode", run.decode_energy_j))
        if energy_j is not None
    ]
    return " + ".join(parts) + flags


def energy_text(energy_j: float) -> str:
    """Return joules as a person reads them, in J, kJ or kWh."""
    if energy_j >= 3.6e6:
        return f"{kwh_from_joules(energy_j):.2f} kWh"
    return f"{energy_j / 1e3:.1f} kJ" if energy_j >= 1e3 else f"{energy_j:.3g} J"
