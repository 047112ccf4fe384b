"""Serving engines beside the GPUs: which GPUs are theirs, and the thread that watches them.

Invariant: the screen is told of whole intervals with both their work and their joules; a server that cannot be read
costs nobody else anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

from llmco2.carbon.factors import CarbonFactors
from llmco2.errors import InputError, MeasurementError, explain
from llmco2.measurement.meters.meter import Clock, Device, EnergyMeter
from llmco2.records.request import InferenceRequest
from llmco2.serving.comparing import ServerComparison
from llmco2.serving.deployment import Given, is_here
from llmco2.serving.errors import ServerError
from llmco2.serving.session import OwnGpus, ServerSession
from llmco2_tui.measured import WHOLE, MeasuredPhase
from llmco2_tui.predicting import Predict

LOOK_S = 1.0
_MOST_ANSWERS = 512
Factors = Callable[[str], CarbonFactors | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The servers that the command line names; ``gpus`` beside ``urls``, ``None`` where nothing was said."""

    urls: tuple[str, ...] = ()
    gpus: tuple[tuple[int, ...] | None, ...] = ()
    served_model: str | None = None
    given: Given = field(default_factory=Given)


def _by_process(url: str) -> tuple[int, ...]:
    from llmco2.measurement.workloads.gpu_processes import gpus_of_server  # noqa: PLC0415 - opens the driver

    try:
        return gpus_of_server(url)
    except MeasurementError:
        return ()


def own_gpus(
    url: str,
    said: Sequence[int] | None,
    devices: Sequence[Device],
    by_process: Callable[[str], tuple[int, ...]] = _by_process,
) -> OwnGpus:
    """Return which of the machine's GPUs are a server's: as said, by its processes, or the only one there is.

    Raises:
        InputError: a GPU that is not here was said, GPUs of several kinds, or nobody can tell which are its own.
    """
    known = {device.index: device for device in devices}
    if said is not None:
        lacking = [index for index in said if index not in known]
        if lacking:
            raise InputError(
                explain(f"--server-gpus names GPU {lacking[0]}", expected=f"of {', '.join(map(str, known))}")
            )
        return _owned(url, said, known, "given")
    if not is_here(url):
        return OwnGpus(indices=(), origin="it runs on another machine, whose GPUs cannot be read from here")
    found = by_process(url)
    if found:
        return _owned(url, found, known, "by its processes")
    if len(devices) == 1:
        return _owned(
            url, tuple(known), known, "assumed: the only GPU here, and its processes cannot be seen"
        )
    raise InputError(
        explain(
            f"cannot tell which GPUs {url} uses: its processes are not to be seen",
            remedy=f"say so with --server-gpus {','.join(map(str, known))} or fewer",
        )
    )


def _owned(url: str, indices: Sequence[int], known: dict[int, Device], origin: str) -> OwnGpus:
    names = {known[index].name for index in indices if index in known}
    if len(names) > 1:
        raise InputError(
            explain(f"the GPUs of {url} differ", got=", ".join(sorted(names)), expected="one kind")
        )
    return OwnGpus(indices=tuple(sorted(set(indices))), device=next(iter(names), None), origin=origin)


def open_sessions(
    options: ServerOptions, meter: EnergyMeter | None, clock: Clock, predict: Predict, factors: Factors
) -> list[ServerSession]:
    """Return a session for each server; nothing is read yet. Raises ``InputError`` as :func:`own_gpus`."""
    devices = () if meter is None else meter.devices()
    predict = lru_cache(maxsize=_MOST_ANSWERS)(predict)
    sessions = []
    for place, url in enumerate(options.urls):
        said = options.gpus[place] if place < len(options.gpus) else None
        if meter is None:
            gpus = OwnGpus(indices=(), origin="this machine has no GPU that can be read")
        else:
            gpus = own_gpus(url, said, devices)
        sessions.append(
            ServerSession(
                url,
                predict=predict,
                gpus=gpus,
                now_s=clock.now_s,
                given=options.given,
                served_model=options.served_model,
                factors=factors,
            )
        )
    return sessions


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
