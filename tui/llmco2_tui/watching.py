"""Watching a run of this very process.

::

    from llmco2.measurement.meters.zeus_meter import open_meter
    from llmco2_tui.watching import watch

    def work(meter, feed):
        feed.serve(request)                     # an InferenceRequest: what is predicted
        meter.begin_window("prefill")
        ...                                     # synchronise the GPU before begin and before end
        feed.window(meter.end_window("prefill"), batches=4)

    watch(work, open_meter())

Invariant: the work runs in a thread of its own and never waits for the screen; what it raises is shown when the
screen is closed, and closing the screen waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from llmco2.measurement.meters.clock import MonotonicClock, PollingClock
from llmco2.measurement.meters.meter import EnergyMeter
from llmco2_tui.app import MonitorApp
from llmco2_tui.measured import RunFeed
from llmco2_tui.options import Options
from llmco2_tui.predicting import Predict, known_names, known_zones, predictor
from llmco2_tui.sources import LIVE, MachineSources, Source

Work = Callable[[EnergyMeter, RunFeed], None]


@dataclass(slots=True)
class _Run:
    """One run and how it ended."""

    work: Work
    meter: EnergyMeter
    poll_clock: PollingClock
    error: BaseException | None = None
    thread: threading.Thread | None = None

    def open(self) -> Source:
        """Start the work beside the screen; the meter stays open for it until the screen is closed."""
        feed = RunFeed()
        if self.thread is None:
            self.thread = threading.Thread(
                target=self._work, args=(feed,), name="llmco2-watched-run", daemon=True
            )
            self.thread.start()
        return Source(
            kind=LIVE, meter=self.meter, feed=feed, poll_clock=self.poll_clock, on_close=self.finish
        )

    def simulate(self) -> Source:
        """There is something to watch: this run."""
        return self.open()

    def replay(self) -> Source:
        """Open the recording that ships."""
        return MachineSources().replay()

    def finish(self) -> None:
        """Wait for the work: its meter goes with the screen."""
        if self.thread is not None:
            self.thread.join()

    def _work(self, feed: RunFeed) -> None:
        try:
            self.work(self.meter, feed)
        except BaseException as error:
            self.error = error  # raised again by watch, in the thread of whoever called it


def watching(
    work: Work,
    meter: EnergyMeter,
    *,
    predict: Predict | None = None,
    options: Options | None = None,
    poll_clock: PollingClock | None = None,
) -> tuple[MonitorApp, _Run]:
    """Return the screen over ``meter`` and the run that starts with it."""
    run = _Run(work=work, meter=meter, poll_clock=poll_clock or MonotonicClock())
    return MonitorApp(run, predict or predictor(), options or Options()), run


def watch(work: Work, meter: EnergyMeter, *, zone: str | None = None) -> None:
    """Run ``work(meter, feed)`` beside the screen until the screen is closed and the work has ended.

    Raises whatever ``work`` raised; ``UnknownNameError`` for an unknown grid zone.
    """
    options = Options(zone=zone, names=known_names(), zones=known_zones)
    app, run = watching(work, meter, options=options)
    app.run()
    run.finish()
    if run.error is not None:
        raise run.error
