"""The state of simulated GPUs, from the same append-only commands that the simulated NVML library reads.

Invariant: a command line means the same here and in ``sim_nvml/sim_nvml.c`` (a test compares the two call
by call), and what the sensors show is a pure function of the commands and the time. The commands, one a
line::

    clock virtual | real        origin T            driver TEXT         init_error CODE     gpus N
    power G T WATTS             from time T on; replaces whatever was planned from T on
    period G S                  of the energy counter; tick_jitter G SHARE of a period
    sensor G S                  of the power sensor; power_jitter G SHARE; gain G FACTOR of the truth
    name | uuid G TEXT          memory G TOTAL USED     process G PID BYTES     endprocess G PID
    temperature | sm_clock | memory_clock | utilization | limit G NUMBER        throttle G BITS
    arch G N                    persistence | mig | counter | instant | permission G 0|1
    lost G T                    found G T

Power is piecewise constant, energy its exact integral, and the counter shows the integral up to its last
tick.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from typing import Final

_MASK: Final = (1 << 64) - 1
_SLACK_S: Final = 1e-9  # a tick counts as past when it is this close: floating point, not physics

_NUMBERS: Final = frozenset(
    [
        "period",
        "sensor",
        "tick_jitter",
        "power_jitter",
        "gain",
        "temperature",
        "sm_clock",
        "memory_clock",
        "utilization",
        "limit",
    ]
)
_SWITCHES: Final = frozenset(["arch", "persistence", "mig", "counter", "instant", "permission", "throttle"])


def noise(index: int, k: int) -> float:
    """Return the jitter of GPU ``index`` at tick ``k``, in [-1, 1): splitmix64, alike in every process."""
    z = ((index + 1) << 48) + (k & _MASK) * 0x9E3779B97F4A7C15 & _MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    z ^= z >> 31
    return (z >> 11) * 2.0**-52 - 1.0


@dataclass(slots=True)
class GpuState:
    """One simulated GPU; powers in W, times in s of the simulation's clock, energies in J."""

    index: int
    name: str = ""
    uuid: str = ""
    memory_total: int = 0
    memory_used: int = 0
    throttle: int = 0
    period: float = 0.02
    sensor: float = 0.02
    tick_jitter: float = 0.0
    power_jitter: float = 0.0
    gain: float = 1.0
    temperature: float = 0.0
    sm_clock: float = 0.0
    memory_clock: float = 0.0
    utilization: float = 0.0
    limit: float = 700.0
    arch: int = 9
    persistence: int = 1
    mig: int = 0
    counter: int = 1
    instant: int = 1
    permission: int = 1
    lost_at: float = math.inf
    found_at: float = math.inf
    processes: dict[int, int] = field(default_factory=dict)  # pid → bytes
    times: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)  # the integral up to each time

    def add_power(self, t: float, watts: float) -> None:
        """Draw ``watts`` from ``t`` on."""
        while self.times and self.times[-1] >= t:
            self.times.pop()
            self.watts.pop()
            self.joules.pop()
        before = self.joules[-1] + self.watts[-1] * (t - self.times[-1]) if self.times else 0.0
        self.times.append(t)
        self.watts.append(watts)
        self.joules.append(before)

    def watts_at(self, t: float) -> float:
        """Return the true power at ``t``, W."""
        at = bisect.bisect_right(self.times, t) - 1
        return self.watts[at] if at >= 0 else 0.0

    def joules_at(self, t: float) -> float:
        """Return the true energy drawn up to ``t``, J."""
        at = bisect.bisect_right(self.times, t) - 1
        return self.joules[at] + self.watts[at] * (t - self.times[at]) if at >= 0 else 0.0

    def is_lost(self, t: float) -> bool:
        """Return whether the GPU has fallen off the bus at ``t``."""
        return t >= self.lost_at and not (t >= self.found_at >= self.lost_at)


@dataclass(slots=True)
class SimulatedState:
    """All that the commands so far have said."""

    virtual: bool = False
    origin: float = 0.0
    driver: str = ""
    init_error: int = 0
    gpus: list[GpuState] = field(default_factory=list)

    def apply(self, line: str) -> None:
        """Obey one command line; one that means nothing is passed over, as the library does."""
        key, _, rest = line.strip().partition(" ")
        if key == "clock":
            self.virtual = rest == "virtual"
        elif key == "origin":
            self.origin = float(rest)
        elif key == "driver":
            self.driver = rest
        elif key == "init_error":
            self.init_error = int(rest)
        elif key == "gpus":
            self.gpus = [GpuState(index) for index in range(int(rest))]
        else:
            index, _, values = rest.partition(" ")
            if index.isdigit() and int(index) < len(self.gpus):
                _gpu_command(self.gpus[int(index)], key, values.strip())

    def tick_time(self, gpu: GpuState, k: int) -> float:
        """Return when the energy counter of ``gpu`` ticks for the ``k``-th time, s."""
        return self.origin + gpu.period * (k + gpu.tick_jitter * noise(gpu.index, k))

    def counter_j(self, gpu: GpuState, t: float) -> float:
        """Return what the energy counter of ``gpu`` shows at ``t``, J."""
        k = math.floor((t - self.origin) / gpu.period + _SLACK_S) + 1
        while k > 0 and self.tick_time(gpu, k) > t + _SLACK_S:
            k -= 1
        return gpu.joules_at(max(self.tick_time(gpu, k), self.origin))

    def sensor_w(self, gpu: GpuState, t: float) -> float:
        """Return what the instant power sensor shows at ``t``, W."""
        k = math.floor((t - self.origin) / gpu.sensor + _SLACK_S)
        wobble = 1 + gpu.power_jitter * noise(gpu.index, ~k)
        return gpu.watts_at(self.origin + k * gpu.sensor) * gpu.gain * wobble

    def average_w(self, gpu: GpuState, t: float) -> float:
        """Return what the one-second average of power shows at ``t``, W."""
        start = max(t - 1.0, self.origin)
        return gpu.gain * (gpu.joules_at(t) - gpu.joules_at(start)) / (t - start) if t > start else 0.0


def _gpu_command(gpu: GpuState, key: str, values: str) -> None:
    words = values.split()
    if key in ("name", "uuid"):
        setattr(gpu, key, values)
    elif key in _NUMBERS:
        setattr(gpu, key, float(words[0]))
    elif key in _SWITCHES:
        setattr(gpu, key, int(words[0]))
    elif key == "lost":
        gpu.lost_at = float(words[0])
    elif key == "found":
        gpu.found_at = float(words[0])
    elif key == "power":
        gpu.add_power(float(words[0]), float(words[1]))
    elif key == "memory":
        gpu.memory_total, gpu.memory_used = int(words[0]), int(words[1])
    elif key == "process":
        gpu.processes[int(words[0])] = int(words[1])
    elif key == "endprocess":
        gpu.processes.pop(int(words[0]), None)
