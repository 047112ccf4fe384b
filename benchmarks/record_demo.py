"""Record the session that ships: two simulated GPUs that serve a small batch, then a large one.

    python benchmarks/record_demo.py

Time is simulated, so it takes seconds; every line says that no real GPU drew it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from llmco2.measurement.meters.session_file import SessionRecorder
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2_tui.measured import RunFeed
from llmco2_tui.sampling_thread import SamplingThread
from llmco2_tui.simulation import SCENES, SimulatedServing, serving, start_rig
from llmco2_tui.sources import SIMULATED, Source, demo_session

BATCH_SIZES: Final = (8, 32)
SERVED_S: Final = 90.0  # each


def main() -> None:
    scene = replace(SCENES["eight"], n_gpus=2)
    path = demo_session()
    rig, stack = start_rig(scene, virtual_time=True)
    with stack:
        meter = ZeusMeter(clock=rig.clock, windows=False)
        feed = RunFeed()
        source = Source(kind=SIMULATED, meter=meter, feed=feed, poll_clock=rig.clock)
        recorder = SessionRecorder(path, meter, overwrite=True)
        sampling = SamplingThread(source, 1, lambda _: None, rate_hz=1.0, recorder=recorder)
        for batch_size in BATCH_SIZES:
            configuration = replace(serving(), batch_size=batch_size)
            work = SimulatedServing(rig, meter, feed, clock=rig.clock, configuration=configuration)
            work.announce()
            end_s = rig.clock.now_s() + SERVED_S
            while rig.clock.now_s() < end_s:
                work.round(rig.clock.sleep)
            rig.clock.sleep(1.1)  # so that the last joules are recorded with the request they belong to
        sampling.stop()
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
