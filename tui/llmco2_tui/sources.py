"""Where readings come from: this machine's GPUs, simulated ones, or a recording.

Invariant: a source is opened in a thread, closed once, and says what it is; the application never learns which
library answers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from llmco2.measurement.meters.clock import MonotonicClock, PollingClock
from llmco2.measurement.meters.meter import EnergyMeter, Sample
from llmco2.measurement.meters.processes import GpuProcess
from llmco2.measurement.meters.session_file import SessionEvent
from llmco2.resources import datasets_dir
from llmco2.serving.memory import Memory
from llmco2.serving.opening import ServerOptions, open_sessions
from llmco2.serving.session import ServerSession
from llmco2_tui.grid import zone_factors
from llmco2_tui.measured import RecordedFeed, RecordedSamples, RunFeed, WorkloadFeed
from llmco2_tui.predicting import Predict, predictor
from llmco2_tui.servers import ServerFeed

LIVE: Final = "live"
SIMULATED: Final = "simulated"
REPLAY: Final = "replay"
DEMO_SESSION: Final = "demo_session.jsonl"
_REPLAY_RATE_HZ: Final = 10.0  # a recording is looked at this often at most, however fast it plays
_LEAST_REPLAY_RATE_HZ: Final = 1.0


class PlaybackClock(Protocol):
    """What the keys of a replay need."""

    start_s: float
    end_s: float

    @property
    def speed(self) -> float:
        """Recorded seconds a second; 0 is paused."""
        ...

    def set_speed(self, speed: float) -> None:
        """Change it."""
        ...

    def seek(self, t_s: float) -> None:
        """Go to a time of the recording."""
        ...

    def now_s(self) -> float:
        """The time of the recording."""
        ...


@dataclass(slots=True, kw_only=True)
class Source:
    """A meter in use, with the workload that runs on it as far as anybody knows."""

    kind: str  # LIVE | SIMULATED | REPLAY
    meter: EnergyMeter
    feed: WorkloadFeed
    poll_clock: PollingClock = field(default_factory=MonotonicClock)
    name: str = ""  # of a recording
    playback: PlaybackClock | None = None
    passed: Callable[[], list[tuple[Sample, ...]]] | None = (
        None  # samplings since the last look, of a recording
    )
    notes: Callable[[], list[SessionEvent]] | None = (
        None  # what a person did since the last look, of a recording
    )
    processes: Callable[[], tuple[GpuProcess, ...] | None] | None = (
        None  # who computes on the GPUs; not of a recording
    )
    rewind: Callable[[], None] | None = None  # have a recording handed out again from its start
    servers: tuple[ServerSession, ...] = ()  # serving engines that are watched beside the GPUs
    on_close: Callable[[], None] = lambda: None

    def rate_hz(self, wanted_hz: float) -> float:
        """Return how often to look, so that ``wanted_hz`` readings a recorded second are seen."""
        if self.playback is None:
            return wanted_hz
        return min(_REPLAY_RATE_HZ, max(_LEAST_REPLAY_RATE_HZ, wanted_hz * self.playback.speed))

    def close(self) -> None:
        """Let go of the meter and of what runs on it."""
        self.on_close()
        self.meter.close()


class Sources(Protocol):
    """Opens sources; each call may take a second or raise ``LLMCO2Error``."""

    def open(self) -> Source:
        """Open what was asked for on the command line."""
        ...

    def simulate(self) -> Source:
        """Open simulated GPUs."""
        ...

    def replay(self) -> Source:
        """Open the recording that ships, or the one asked for."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSources:
    """Sources as the command line asks for them."""

    first: str = LIVE
    scene: str = "one"
    recording: Path | None = None
    speed: float = 1.0
    servers: ServerOptions = field(default_factory=ServerOptions)
    predict: Predict = field(default_factory=predictor)
    zone: str | None = None

    def open(self) -> Source:
        """Open the first source; ``MeasurementError`` where there is no GPU."""
        source = {LIVE: open_live, SIMULATED: self.simulate, REPLAY: self.replay}[self.first]()
        return self._with_servers(source) if self.servers.urls else source

    def _with_servers(self, source: Source) -> Source:
        """Let serving engines say what the workload is."""
        with ExitStack() as failing:
            failing.callback(source.close)
            sessions = open_sessions(
                self.servers,
                source.meter,
                source.meter.clock,
                self.predict,
                zone_factors(self.zone),
                None if source.kind == SIMULATED else Memory(),
            )
            feed = ServerFeed(sessions, source.meter)
            failing.pop_all()

        def close() -> None:
            feed.close()
            source.on_close()

        return replace(source, feed=feed, servers=feed.sessions, on_close=close)

    def simulate(self) -> Source:
        """Open simulated GPUs that serve batches."""
        return open_simulated(self.scene)

    def replay(self) -> Source:
        """Open the recording."""
        return open_recording(self.recording or demo_session(), self.speed)


def demo_session() -> Path:
    """Return the recording that ships."""
    return datasets_dir() / DEMO_SESSION


def open_live() -> Source:
    """Open this machine's GPUs; ``MeasurementError`` says why there are none."""
    from llmco2.measurement.meters.zeus_meter import open_meter  # noqa: PLC0415 - a recording needs no driver

    meter = open_meter(windows=False)
    return Source(kind=LIVE, meter=meter, feed=RunFeed(), processes=meter.processes)


def open_simulated(scene_name: str) -> Source:
    """Open a simulated machine, at work."""
    from llmco2.measurement.meters.zeus_meter import ZeusMeter  # noqa: PLC0415 - a recording needs no driver
    from llmco2_tui.simulation import SCENES, SimulatedServing, start_rig  # noqa: PLC0415 - as above

    scene = SCENES[scene_name]
    rig, stack = start_rig(scene)
    with ExitStack() as failing:
        failing.push(stack)
        meter = ZeusMeter(clock=rig.clock, windows=False)
        feed = RunFeed()
        work = SimulatedServing(rig, meter, feed, clock=rig.clock, lost=scene.lost)
        work.start()
        failing.pop_all()

    class _Rig:
        """The meter must go before the library that it reads."""

        closed = False

        def close(self) -> None:
            if not self.closed:
                self.closed = True
                work.stop()
                meter.close()
                stack.close()

    return Source(kind=SIMULATED, meter=meter, feed=feed, processes=meter.processes, on_close=_Rig().close)


def open_recording(path: Path, speed: float) -> Source:
    """Open a recording and start playing it; ``InputError`` for one that cannot be read."""
    from llmco2.measurement.meters.replay import ReplayMeter  # noqa: PLC0415 - only a replay needs it
    from llmco2_tui.notes import RecordedNotes, wall_clock_at  # noqa: PLC0415 - as above

    meter = ReplayMeter(path, speed=speed)
    began = wall_clock_at(meter.session, meter.clock.start_s)
    at = "" if began is None else f" of {began:%Y-%m-%d %H:%M:%S} UTC"
    feed = RecordedFeed(meter.session, meter.clock)
    passed = RecordedSamples(meter.session, meter.clock)
    noted = RecordedNotes(meter.session, meter.clock)

    def rewind() -> None:
        feed.rewind()
        passed.rewind()
        noted.rewind()

    return Source(
        kind=REPLAY,
        meter=meter,
        feed=feed,
        name=f"{path.name}{at}",
        playback=meter.clock,
        passed=passed.take,
        notes=noted.take,
        rewind=rewind,
    )
