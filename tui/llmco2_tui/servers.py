"""Serving engines beside the GPUs: the thread that watches them.

Invariant: the screen is told of whole intervals with both their work and their joules; a server that cannot be read
costs nobody else anything.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from llmco2.errors import MeasurementError
from llmco2.measurement.meters.meter import EnergyMeter
from llmco2.records.request import InferenceRequest
from llmco2.serving.comparing import ServerComparison
from llmco2.serving.errors import ServerError
from llmco2.serving.session import ServerSession
from llmco2_tui.measured import WHOLE, MeasuredPhase

LOOK_S: Final = 1.0


def entry_of(found: ServerComparison) -> MeasuredPhase | None:
    """Return an interval as an entry of the comparison; ``None`` for one with only one side, or without work.

    Its seconds are those of every replica together, as its batches are.
    """
    work, joules = found.workload, found.measured_j
    if work is None or joules is None or not (work.decode_batches or work.prefill_batches):
        return None
    idle_j = 0.0 if found.predicted is None else found.predicted.idle_j
    return MeasuredPhase(
        t_s=found.interval.end_s,
        request=work.request,
        phase=WHOLE,
        batches=work.decode_batches,
        prefill_batches=work.prefill_batches,
        predicted_idle_j=idle_j,
        energy_j=joules,
        time_s=found.interval.duration_s * max(1.0, work.n_gpus / work.request.n_gpus),
    )


class ServerFeed:
    """The workload in view as serving engines tell it; watches them in a thread of its own."""

    def __init__(self, sessions: Sequence[ServerSession], meter: EnergyMeter | None) -> None:
        """Start at once."""
        self.sessions = tuple(sessions)
        self._meter = meter
        self._request: InferenceRequest | None = None
        self._waiting: list[MeasuredPhase] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=partial(self._watch, one), name="llmco2-server", daemon=True)
            for one in self.sessions
        ]
        for thread in self._threads:
            thread.start()

    @property
    def request(self) -> InferenceRequest | None:
        """The newest steady batch that was seen."""
        return self._request

    def take(self) -> list[MeasuredPhase]:
        """Return what was measured since the last call."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    def close(self) -> None:
        """Stop watching; returns once the threads have ended, or will at their next look."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=2 * LOOK_S)
        for session in self.sessions:
            session.close()

    def _watch(self, session: ServerSession) -> None:
        while not self._stopping.is_set():
            try:
                session.look(None if self._meter is None else self._meter.sample)
                self._step(session)
            except (ServerError, MeasurementError):
                pass  # the session keeps the reason; the next look may go better
            self._stopping.wait(LOOK_S)

    def _step(self, session: ServerSession) -> None:
        found = session.step()
        entry = None if found is None else entry_of(found)
        if entry is None:
            return
        with self._lock:
            self._request = entry.request
            self._waiting.append(replace(entry, group=session.url))
