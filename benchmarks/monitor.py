"""What the screen costs: CPU at 1 and 10 Hz with eight GPUs, memory over a day, start, and key to screen.

    python benchmarks/monitor.py

The GPUs are simulated (the NVML library of this project), the terminal is a real pseudo-terminal of 120×40, and the
screen runs in a process of its own, so that its CPU is counted alone. The day is 86,400 readings of eight GPUs
as fast as they can be taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

GPUS: Final = 8
SIZE: Final = (40, 120)
MEASURED_S: Final = 20.0
DAY_S: Final = 86_400
KEYS: Final = 20
_RIG: Final = f"""
import sys, os, threading
from llmco2.measurement.simulation.rig import SimulatedGpu, SimulatedNvml
rig = SimulatedNvml([SimulatedGpu(power_jitter=0.05)] * {GPUS})
with rig:
    for gpu in range({GPUS}):
        rig.set_power(gpu, 300.0 + 40 * gpu)
        rig.set(gpu, utilization=90)
    from llmco2.cli.main import main
    sys.exit(main(["monitor", "--rate", sys.argv[1], "--zone", "FRA"]))
"""


class Screen:
    """The screen in a pseudo-terminal."""

    def __init__(self, rate_hz: str) -> None:
        self.started_s = time.monotonic()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(sys.executable, [sys.executable, "-c", _RIG, rate_hz])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))

    def wait_for(self, text: bytes, limit_s: float = 30.0) -> float:
        """Return the seconds until ``text`` is painted."""
        start_s, seen = time.monotonic(), b""
        while time.monotonic() - start_s < limit_s:
            if select.select([self.terminal], [], [], 0.05)[0]:
                seen += os.read(self.terminal, 1 << 16)
                if text in seen:
                    return time.monotonic() - start_s
        raise SystemExit(f"{text!r} was not painted within {limit_s} s")

    def read_for(self, seconds: float) -> None:
        """Keep the terminal's buffer empty."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if select.select([self.terminal], [], [], 0.05)[0]:
                os.read(self.terminal, 1 << 16)

    def cpu_s(self) -> float:
        """Return the CPU seconds of the process so far, its threads included."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def press(self, key: bytes) -> None:
        os.write(self.terminal, key)

    def quit(self) -> None:
        self.press(b"q")
        with contextlib.suppress(OSError):  # the terminal is gone once the process is
            self.read_for(3.0)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def cost(rate_hz: str) -> tuple[float, float]:
    """Return (percent of one core, seconds from start to the first reading)."""
    screen = Screen(rate_hz)
    screen.wait_for(b"/700")
    first_s = time.monotonic() - screen.started_s
    screen.read_for(5.0)
    before_s = screen.cpu_s()
    screen.read_for(MEASURED_S)
    share = (screen.cpu_s() - before_s) / MEASURED_S
    screen.quit()
    return 100.0 * share, first_s


def key_to_screen_ms() -> list[float]:
    """Return how long each key took to change the screen, ms, longest last."""
    screen = Screen("1")
    screen.wait_for(b"/700")
    screen.read_for(2.0)
    times = []
    for number in range(KEYS):
        view, text = ((b"4", b"No campaign"), (b"1", b"GiB used"))[number % 2]
        screen.read_for(0.3)
        screen.press(view)
        times.append(1000.0 * screen.wait_for(text))
    screen.quit()
    return sorted(times)


async def day() -> tuple[float, float, float]:
    """Return traced MiB after an hour and after a day of readings, and the seconds that the day took.

    Readings come faster than they can be painted, so bursts collapse as they do on a slow terminal.
    """
    from llmco2.measurement.meters.meter import Device, Sample  # noqa: PLC0415 - not in the measured children
    from llmco2_tui.app import MonitorApp  # noqa: PLC0415
    from llmco2_tui.messages import Readings  # noqa: PLC0415
    from llmco2_tui.options import Options  # noqa: PLC0415

    def no_source() -> Any:
        from llmco2.errors import MeasurementError  # noqa: PLC0415

        raise MeasurementError("readings are fed by hand")

    class Nothing:
        open = simulate = replay = staticmethod(no_source)

    def unasked(request: Any) -> Any:
        raise AssertionError(request)

    app = MonitorApp(Nothing(), unasked, Options(zone="FRA"))
    devices = [
        Device(
            index=n, nvml_index=n, uuid=str(n), name="NVIDIA H100 80GB HBM3", mig=False, total_memory_bytes=None,
            power_limit_w=700.0, has_energy_counter=True, simulated=True,
        )
        for n in range(GPUS)
    ]  # fmt: skip
    async with app.run_test(size=SIZE[::-1]) as pilot:
        await pilot.pause()
        app.monitor_state.begin(devices)
        tracemalloc.start()
        start_s, hour = time.monotonic(), 0.0
        for second in range(DAY_S):
            samples = tuple(
                Sample(
                    t_s=float(second), gpu_index=n, energy_counter_j=400.0 * second, power_w=400.0 + second % 7,
                    utilization_percent=90.0, power_limit_w=700.0, temperature_c=60.0, simulated=True,
                )
                for n in range(GPUS)
            )  # fmt: skip
            app.post_message(Readings(samplings=(samples,), source=0))
            if second % 20 == 0:
                await asyncio.sleep(0)
            if second == DAY_S // 24:
                await pilot.pause()
                hour = tracemalloc.get_traced_memory()[0]
        await pilot.pause()
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return hour / 2**20, used / 2**20, time.monotonic() - start_s


def main() -> None:
    tell: Callable[[str], None] = print
    slow, first_s = cost("1")
    fast, _ = cost("10")
    keys = key_to_screen_ms()
    hour, whole, took_s = asyncio.run(day())
    tell(f"CPU at 1 Hz, {GPUS} GPUs            {slow:6.1f} % of one core (goal: 3 %)")
    tell(f"CPU at 10 Hz, {GPUS} GPUs           {fast:6.1f} % of one core (goal: 15 %)")
    tell(f"start to first reading          {first_s:6.2f} s (goal: 2 s)")
    tell(f"key to screen, median and worst {keys[len(keys) // 2]:6.0f} ms, {keys[-1]:.0f} ms (goal: 100 ms)")
    tell(f"memory after 1 h and 24 h       {hour:6.2f} MiB, {whole:.2f} MiB ({took_s:.0f} s of real time)")


if __name__ == "__main__":
    main()
