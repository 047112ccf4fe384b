"""A screen over simulated GPUs on simulated time, with a predictor and a grid whose figures never change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from llmco2.carbon.factors import CarbonFactors
from llmco2.catalog.grids import GridZone
from llmco2.errors import MeasurementError, RequestError, UnknownNameError
from llmco2.measurement.meters.session_file import SessionRecorder
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedGpu, SimulatedNvml
from llmco2.records.footprint import Carbon, Factor, Footprint, Interval, PhaseEnergy
from llmco2.records.request import InferenceRequest
from llmco2_tui.app import MonitorApp
from llmco2_tui.grid import GridAccount
from llmco2_tui.measured import DECODE, PREFILL, MeasuredPhase, RunFeed
from llmco2_tui.options import Options
from llmco2_tui.sampling_thread import SamplingThread
from llmco2_tui.sources import SIMULATED, Source
from llmco2_tui.views import Names

os.environ.setdefault("COLORTERM", "truecolor")

REQUEST = InferenceRequest(
    model="meta-llama/Llama-3.1-8B-Instruct",
    gpu="H100-SXM5-80GB",
    precision="bf16",
    batch_size=8,
    prompt_tokens=512,
    output_tokens=256,
)
TODAY = date(2026, 6, 1)
SIZE = (80, 24)
PREFILL_J, DECODE_J, SHARE = 70.0, 630.0, 0.25  # one batch of REQUEST, and half its interval


def zone(zone_id: str, name: str, intensity: float, dated: str) -> GridZone:
    return GridZone(
        zone_id=zone_id,
        name=name,
        kind="country",
        carbon_intensity_gco2e_per_kwh=intensity,
        low_gco2e_per_kwh=intensity,
        high_gco2e_per_kwh=intensity,
        source="a table of tests",
        date=dated,
        confidence="high",
    )


ZONES = {
    found.zone_id: found
    for found in (
        zone("WOR", "World", 480.0, "2025"),
        zone("FRA", "France", 48.0, "2025"),
        zone("POL", "Poland", 720.0, "2019"),
    )
}


def find_zone(name: str) -> GridZone:
    if name not in ZONES:
        raise UnknownNameError("grid zone", name, ZONES)
    return ZONES[name]


def fixed_factors(gpu: str, zone_id: str) -> CarbonFactors:
    """No host, a PUE of 1.2, and 876.6 kgCO2e a GPU over five years at half use: 0.02 g a second."""

    def factor(name: str, value: float) -> Factor:
        return Factor(name=name, value=value, unit="", source="tests", date="2025")

    return CarbonFactors(
        carbon_intensity=factor("carbon_intensity", ZONES[zone_id].carbon_intensity_gco2e_per_kwh),
        pue=factor("pue", 1.2),
        host_power=factor("host_power", 0.0),
        gpu_embodied=factor("gpu_embodied", 876.6),
        server_embodied=None,
        lifetime=factor("lifetime", 5.0),
        utilization=factor("utilization", 0.5),
    )


def account(zone_id: str | None = None) -> GridAccount:
    return GridAccount(zone_id, today=TODAY, find_zone=find_zone, resolve=fixed_factors)


def phase(energy_j: float, time_s: float) -> PhaseEnergy:
    return PhaseEnergy(
        energy_j=energy_j,
        energy_interval_j=Interval(low=energy_j * (1 - SHARE), high=energy_j * (1 + SHARE)),
        energy_bounds_j=Interval(low=energy_j / 10, high=energy_j * 10, coverage=1.0),
        time_s=time_s,
        average_power_w=energy_j / time_s,
    )


def footprint(request: InferenceRequest, *, notes: tuple[str, ...] = ()) -> Footprint:
    """Energy proportional to tokens: what a test can work out by hand."""
    batch = request.batch_size / 8
    prefill_j = PREFILL_J * batch * request.prompt_tokens / 512
    decode_j = DECODE_J * batch * request.output_tokens / 256
    none = Interval(low=0.0, high=0.0)
    tokens = request.batch_size * request.output_tokens
    return Footprint(
        request=request,
        n_gpus=1,
        prefill=phase(prefill_j, 0.1),
        decode=phase(decode_j, 1.9),
        total=phase(prefill_j + decode_j, 2.0),
        ttft_s=0.1,
        tpot_s=0.0075,
        latency_s=2.0,
        energy_per_output_token_j=(prefill_j + decode_j) / tokens,
        energy_per_total_token_j=(prefill_j + decode_j)
        / (tokens + request.batch_size * request.prompt_tokens),
        carbon=Carbon(
            operational_gco2e=0.0,
            embodied_gco2e=0.0,
            operational_interval_gco2e=none,
            embodied_interval_gco2e=none,
            facility_energy_kwh=0.0,
            factors=(),
        ),
        memory_needed_bytes=18 * 2**30,
        memory_available_bytes=80 * 2**30,
        in_domain=not notes,
        notes=notes,
        predictor="fixed",
    )


def predict(request: InferenceRequest) -> Footprint:
    """Know one model only, and nothing about a batch above 64."""
    if "Llama-3.1-8B" not in request.model:
        raise UnknownNameError("model", request.model, [REQUEST.model])
    notes = ("batch_size 128 outside 1 to 64",) if request.batch_size > 64 else ()
    return footprint(request, notes=notes)


def predict_nothing(request: InferenceRequest) -> Footprint:
    raise RequestError(f"{request.model} does not fit one {request.gpu}: got 163 GB, expected at most 80 GB")


def entry(phase_name: str, t_s: float, energy_j: float, *, batches: float = 1.0) -> MeasuredPhase:
    return MeasuredPhase(
        t_s=t_s,
        request=REQUEST,
        phase=phase_name,
        batches=batches,
        energy_j=energy_j,
        time_s=0.1 if phase_name == PREFILL else 1.9,
    )


@dataclass
class Desk:
    """A simulated machine and the screen in front of it."""

    rig: SimulatedNvml
    feed: RunFeed = field(default_factory=RunFeed)

    def open(self) -> Source:
        meter = ZeusMeter(clock=self.rig.clock, windows=False)
        return Source(
            kind=SIMULATED,
            meter=meter,
            feed=self.feed,
            poll_clock=self.rig.clock,
            processes=meter.processes,
        )

    def simulate(self) -> Source:
        return self.open()

    def replay(self) -> Source:
        raise MeasurementError("no recording at this desk")

    def app(self, **options: Any) -> MonitorApp:
        return MonitorApp(self, options.pop("predict", predict), self.options(**options))

    @staticmethod
    def options(**options: Any) -> Options:
        defaults: Mapping[str, Any] = {
            "account": account,
            "zone": "FRA",
            "zones": lambda: list(ZONES.values()),
            "names": Names(models=(REQUEST.model,), gpus=(REQUEST.gpu,), zones=tuple(ZONES)),
        }
        return Options(**{**defaults, **options})

    async def pass_s(
        self, pilot: Pilot[Any], seconds: int, *, each: Callable[[int], None] | None = None
    ) -> None:
        """Let simulated seconds pass, the screen keeping up with each."""
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        for second in range(seconds):
            if each is not None:
                each(second)
            self.rig.clock.sleep(1.0)
            while pilot.app.message_queue_size:
                await asyncio.sleep(0)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()

    def work(self, second: int) -> None:
        """Draw prefill's and decode's power in turn on the first GPU, and measure a batch every five seconds."""
        busy = second % 5 < 4
        self.rig.set_power(0, 600.0 if second % 5 == 0 else 320.0 if busy else 70.0)
        self.rig.set(0, utilization=98 if busy else 0, temperature=40 + min(20, second))
        if second % 5 == 4:
            self.feed.serve(REQUEST)
            self.feed.measured(entry(PREFILL, float(second), 75.0))
            self.feed.measured(entry(DECODE, float(second), 600.0))


class NoGpu(Desk):
    """A machine without a driver until it is simulated."""

    def open(self) -> Source:
        raise MeasurementError(
            "no NVIDIA GPU can be read: libnvidia-ml.so.1 was not found; install the driver"
        )

    def simulate(self) -> Source:
        return Desk.open(self)


MakeDesk = Callable[..., Desk]
STEADY = SimulatedGpu(memory_used_bytes=18_000_000_000, temperature_c=40.0)


@pytest.fixture
def make_desk() -> Iterator[MakeDesk]:
    """Start machines on simulated time; readings have no noise unless asked for."""
    with ExitStack() as stack:

        def make(*gpus: SimulatedGpu) -> Desk:
            machine = SimulatedNvml(gpus or [STEADY], virtual_time=True, use_compiler=False)
            return Desk(rig=stack.enter_context(machine))

        yield make


@pytest.fixture
def desk(make_desk: MakeDesk) -> Desk:
    """One simulated H100."""
    return make_desk()


@pytest.fixture
def eight(make_desk: MakeDesk) -> Desk:
    """Eight simulated H100s at different powers; the last rests."""
    desk = make_desk(*[STEADY] * 8)
    for gpu in range(7):
        desk.rig.set_power(gpu, 300.0 + 50.0 * gpu)
        desk.rig.set(gpu, utilization=90 + gpu)
    return desk


@pytest.fixture
def recording(tmp_path: Path, desk: Desk) -> Path:
    """A recording of 20 seconds of work on one GPU."""
    path = tmp_path / "sitting.jsonl"
    source = desk.open()
    sampling = SamplingThread(
        source, 1, lambda _: None, rate_hz=1.0, recorder=SessionRecorder(path, source.meter)
    )
    for second in range(20):
        desk.work(second)
        desk.rig.clock.sleep(1.0)
    sampling.stop()
    return path


def with_state(gpu: SimulatedGpu = STEADY, **changes: Any) -> SimulatedGpu:
    return replace(gpu, **changes)


def text(app: MonitorApp, selector: str) -> str:
    """What a widget of the first screen shows."""
    found: Any = app.screen_stack[0].query_one(selector)
    return str(found.text)


async def typed(pilot: Pilot[Any], name: str, value: str) -> None:
    """Type into a field of the form and wait for the answer."""
    found = pilot.app.query_one(f"#field-{name}", Input)
    found.focus()
    await pilot.pause()  # focus selects what stands there
    found.value = value[:-1]
    found.cursor_position = len(value) - 1
    await pilot.press(value[-1])  # the last one by key, so that keys are seen to reach the form
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
