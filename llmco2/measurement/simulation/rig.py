"""A rig of simulated GPUs, so that the real zeus and pynvml code runs where there is no GPU.

Invariant: everything measured here is marked simulated, because the driver that answers calls itself so;
and the truth can be asked for (:meth:`SimulatedNvml.true_energy_j`), which is what makes a meter testable.

::

    with SimulatedNvml(virtual_time=True) as rig, ZeusMeter(clock=rig.clock) as meter:
        rig.set_power(0, 600.0)
        meter.begin_window("prefill")
        rig.clock.sleep(1.5)
        meter.end_window("prefill").energy_j          # 900 J, within the counter's own error
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from llmco2.errors import InputError, MeasurementError, explain
from llmco2.measurement.meters.clock import MonotonicClock, PollingClock, VirtualClock
from llmco2.measurement.scratch import scratch_folder
from llmco2.measurement.simulation.library import (
    build_library,
    in_place_of_nvml,
    load_library,
)
from llmco2.measurement.simulation.python_library import PythonNvml
from llmco2.measurement.simulation.state import SimulatedState

CONTROL_VARIABLE: Final = "LLMCO2_SIM_NVML"
DRIVER_VERSION: Final = "0.0-simulated"
_HIDDEN_VARIABLES: Final = ("CUDA_VISIBLE_DEVICES", "ZEUSD_SOCK_PATH", "ZEUSD_HOST_PORT")
_FORMAT_LINE: Final = "llmco2-simulated-nvml 1"
MAX_GPUS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedGpu:
    """One GPU of the rig as it is when the rig starts; the values are those of an H100 at rest."""

    name: str = "NVIDIA H100 80GB HBM3"
    memory_total_bytes: int = 85_520_809_984
    memory_used_bytes: int = 0
    idle_power_w: float = 70.0
    power_limit_w: float = 700.0
    counter_period_s: float = 0.02  # how often the energy counter moves
    tick_jitter: float = 0.0  # share of a period by which a tick may be early or late
    sensor_period_s: float = 0.02  # how often the instant power reading moves
    power_jitter: float = 0.0  # relative noise of the instant power reading
    sensor_gain: float = 1.0  # what the sensor shows over what is drawn
    has_counter: bool = True
    has_instant_power: bool = True
    permitted: bool = True
    architecture: int = 9  # NVML's number: 5 Volta, 6 Turing, 7 Ampere, 8 Ada, 9 Hopper, 10 Blackwell
    persistence: bool = True
    mig: bool = False
    temperature_c: float = 35.0
    sm_clock_mhz: float = 1980.0
    memory_clock_mhz: float = 2619.0
    utilization_percent: float = 0.0

    def commands(self, index: int, t_s: float) -> list[str]:
        """Return the control lines that set GPU ``index`` up at time ``t_s``."""
        values: dict[str, object] = {
            "name": self.name,
            "uuid": f"GPU-51a10000-0000-4000-8000-{index:012x}",
            "memory": f"{self.memory_total_bytes} {self.memory_used_bytes}",
            "power": f"{t_s!r} {self.idle_power_w!r}",
            "limit": self.power_limit_w,
            "period": self.counter_period_s,
            "tick_jitter": self.tick_jitter,
            "sensor": self.sensor_period_s,
            "power_jitter": self.power_jitter,
            "gain": self.sensor_gain,
            "counter": int(self.has_counter),
            "instant": int(self.has_instant_power),
            "permission": int(self.permitted),
            "arch": self.architecture,
            "persistence": int(self.persistence),
            "mig": int(self.mig),
            "temperature": self.temperature_c,
            "sm_clock": self.sm_clock_mhz,
            "memory_clock": self.memory_clock_mhz,
            "utilization": self.utilization_percent,
        }
        return [f"{key} {index} {value}" for key, value in values.items()]


class SimulatedNvml:
    """Simulated GPUs behind NVML for this process, and with a compiler for its children too."""

    def __init__(
        self,
        gpus: int | Sequence[SimulatedGpu] = 1,
        *,
        virtual_time: bool = False,
        use_compiler: bool = True,
    ) -> None:
        """Describe the rig; it starts when the context is entered.

        ``virtual_time`` lets :attr:`clock` decide what time it is: sleeping on it costs none.
        ``use_compiler=False`` forces the stand-in in Python, which child processes do not see.
        """
        self.gpus = tuple([SimulatedGpu()] * gpus if isinstance(gpus, int) else gpus)
        if not 1 <= len(self.gpus) <= MAX_GPUS:
            raise InputError(
                explain("cannot simulate that many GPUs", got=len(self.gpus), expected=f"1 to {MAX_GPUS}")
            )
        self._use_compiler = use_compiler
        self.in_children = False  # whether child processes see the GPUs; known once the rig has started
        self.note = ""  # one line on why they do not
        self._virtual_time = virtual_time
        self._state = SimulatedState()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder("llmco2-sim-"))
            self.control_file = folder / "control"
            self.clock: PollingClock = MonotonicClock()
            if self._virtual_time:
                virtual = VirtualClock(folder / "control.clock")
                self.clock = virtual
                stack.callback(virtual.close)
            self._file = self.control_file.open("a", encoding="utf-8")
            stack.callback(self._file.close)
            self._start()
            stack.enter_context(self._environment())
            self._enter_library(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables a child process needs; they are already set in this process's environment."""
        names = (CONTROL_VARIABLE, "LD_LIBRARY_PATH") if self.in_children else ()
        return {name: os.environ[name] for name in names}

    def set_power(self, gpu: int, watts: float) -> None:
        """Have ``gpu`` draw ``watts`` from now on."""
        self.plan_power(gpu, [(self.clock.now_s(), watts)])

    def plan_power(self, gpu: int, points: Iterable[tuple[float, float]]) -> None:
        """Have ``gpu`` draw each of the watts from its time (the rig's clock, s) on; times must grow."""
        self._say(*(f"power {self._index(gpu)} {float(t_s)!r} {float(watts)!r}" for t_s, watts in points))

    @contextmanager
    def drawing(self, watts: float, gpus: Iterable[int] | None = None) -> Iterator[None]:
        """Draw ``watts`` on each of ``gpus`` (all) inside the context; after it, what they drew before."""
        chosen = range(len(self.gpus)) if gpus is None else list(gpus)
        before = {gpu: self._state.gpus[gpu].watts_at(self.clock.now_s()) for gpu in chosen}
        for gpu in chosen:
            self.set_power(gpu, watts)
        try:
            yield
        finally:
            for gpu in chosen:
                self.set_power(gpu, before[gpu])

    def set(self, gpu: int, **values: object) -> None:
        """Set readings of ``gpu`` by the names of the control commands (``temperature=71, throttle=4``)."""
        self._say(*(f"{key} {self._index(gpu)} {value}" for key, value in values.items()))

    def set_process(self, gpu: int, pid: int, used_bytes: int = 1 << 30) -> None:
        """Put a process on ``gpu``."""
        self._say(f"process {self._index(gpu)} {pid} {used_bytes}")

    def end_process(self, gpu: int, pid: int) -> None:
        """Take a process off ``gpu``."""
        self._say(f"endprocess {self._index(gpu)} {pid}")

    def lose(self, gpu: int, at_s: float | None = None) -> None:
        """Have ``gpu`` fall off the bus, now or at a time of the rig's clock."""
        self._say(f"lost {self._index(gpu)} {self.clock.now_s() if at_s is None else at_s!r}")

    def find(self, gpu: int, at_s: float | None = None) -> None:
        """Have a lost ``gpu`` come back."""
        self._say(f"found {self._index(gpu)} {self.clock.now_s() if at_s is None else at_s!r}")

    def fail_to_start(self, nvml_error: int) -> None:
        """Have every later ``nvmlInit`` return this NVML error code (9: driver not loaded); 0 heals it."""
        self._say(f"init_error {nvml_error}")

    def true_energy_j(self, gpu: int, start_s: float, end_s: float) -> float:
        """Return what ``gpu`` really drew between two times of the rig's clock, J."""
        state = self._state.gpus[self._index(gpu)]
        return state.joules_at(end_s) - state.joules_at(start_s)

    def _index(self, gpu: int) -> int:
        if not 0 <= gpu < len(self.gpus):
            raise InputError(explain("no such simulated GPU", got=gpu, expected=f"0 to {len(self.gpus) - 1}"))
        return gpu

    def _start(self) -> None:
        now_s = self.clock.now_s()
        clock = "virtual" if self._virtual_time else "real"
        self._say(
            _FORMAT_LINE,
            f"clock {clock}",
            f"origin {now_s!r}",
            f"driver {DRIVER_VERSION}",
            f"gpus {len(self.gpus)}",
        )
        for index, gpu in enumerate(self.gpus):
            self._say(*gpu.commands(index, now_s))

    def _say(self, *lines: str) -> None:
        # One write for whole lines, so that a reader in another process never sees half a command.
        self._file.write("".join(line + "\n" for line in lines))
        self._file.flush()
        for line in lines:
            self._state.apply(line)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Point children at the rig; hide the variables that choose among the machine's real GPUs."""
        kept = {
            name: os.environ.get(name) for name in (CONTROL_VARIABLE, "LD_LIBRARY_PATH", *_HIDDEN_VARIABLES)
        }
        os.environ[CONTROL_VARIABLE] = str(self.control_file)
        for name in _HIDDEN_VARIABLES:
            os.environ.pop(name, None)
        try:
            yield
        finally:
            for name, value in kept.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def _enter_library(self, stack: ExitStack) -> None:
        library: Any = PythonNvml(self._state, self.clock.now_s)
        if self._use_compiler:
            try:
                folder = build_library()
            except MeasurementError as error:
                self.note = f"the simulated GPUs exist in this process only: {error}"
            else:
                self.in_children = True
                paths = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
                os.environ["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)
                library = load_library(folder)
        stack.enter_context(in_place_of_nvml(library))
