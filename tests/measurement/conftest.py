"""Rigs of simulated GPUs for the tests of everything that measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from llmco2.measurement.meters.meter import EnergyMeter, WindowReading
from llmco2.measurement.simulation.rig import SimulatedGpu, SimulatedNvml

MakeRig = Callable[..., SimulatedNvml]


@pytest.fixture(autouse=True, scope="session")
def library_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the simulated library once a session, away from the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture
def make_rig() -> Iterator[MakeRig]:
    """Start rigs; simulated time unless asked otherwise."""
    with ExitStack() as stack:

        def make(*gpus: SimulatedGpu, virtual_time: bool = True, use_compiler: bool = True) -> SimulatedNvml:
            rig = SimulatedNvml(gpus or 1, virtual_time=virtual_time, use_compiler=use_compiler)
            return stack.enter_context(rig)

        yield make


@pytest.fixture
def rig(make_rig: MakeRig) -> SimulatedNvml:
    """One simulated H100 on simulated time."""
    return make_rig()


def measure(rig: SimulatedNvml, meter: EnergyMeter, watts: float, duration_s: float) -> WindowReading:
    """Draw a constant power inside one window."""
    with rig.drawing(watts):
        meter.begin_window("phase")
        rig.clock.sleep(duration_s)
        return meter.end_window("phase")
