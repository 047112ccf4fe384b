"""What was measured of a workload, phase by phase, and where it comes from.

Invariant: an entry is the joules of whole batches of one known request, so predicted and measured are sums over
the same batches. Whoever measures (a campaign, a run in this process, a recording) hands over entries and
nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Protocol

from llmco2.errors import InputError, explain
from llmco2.measurement.meters.meter import Sample, WindowReading
from llmco2.measurement.meters.session_file import Session, SessionEvent
from llmco2.records.request import InferenceRequest
from llmco2.records.run import MeasuredRun

PREFILL: Final = "prefill"
DECODE: Final = "decode"
WHOLE: Final = "total"  # both together, where they were not measured apart
PHASES: Final = (PREFILL, DECODE, WHOLE)
REQUEST_EVENT: Final = "request"
MEASURED_EVENT: Final = "measured"
_MOST_ENTRIES: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPhase:
    """Energy and time of one phase of ``batches`` batches of ``request``."""

    t_s: float  # when it ended, on the clock of its source
    request: InferenceRequest
    phase: str  # PREFILL | DECODE | WHOLE
    batches: float
    energy_j: float
    time_s: float
    prefill_batches: float | None = None  # of a whole whose phases are not of equally many batches
    predicted_idle_j: float = 0.0  # of time in it in which nothing ran
    simulated: bool = False  # no real GPU drew these joules
    group: str = ""  # entries of one group are summed though their requests differ: a server's load over time

    @property
    def prefilled_batches(self) -> float:
        """Batches whose prefill a whole holds."""
        return self.batches if self.prefill_batches is None else self.prefill_batches

    @property
    def start_s(self) -> float:
        """When it began, on the clock of its source."""
        return self.t_s - self.time_s

    @property
    def output_tokens(self) -> float:
        """Output tokens of these batches."""
        return self.batches * self.request.batch_size * self.request.output_tokens


class WorkloadFeed(Protocol):
    """Who knows the workload in view."""

    @property
    def request(self) -> InferenceRequest | None:
        """The request being served, once known."""
        ...

    def take(self) -> list[MeasuredPhase]:
        """Return what was measured since the last call."""
        ...


class RunFeed:
    """The feed of a run in this process; the run calls, the screen takes, each in its own thread."""

    def __init__(self, request: InferenceRequest | None = None) -> None:
        self._request = request
        self._waiting: list[MeasuredPhase] = []
        self._lock = threading.Lock()

    @property
    def request(self) -> InferenceRequest | None:
        """The request being served."""
        return self._request

    def serve(self, request: InferenceRequest) -> None:
        """Say what is being served from now on."""
        self._request = request

    def measured(self, entry: MeasuredPhase) -> None:
        """Hand over one measurement."""
        with self._lock:
            self._waiting.append(entry)

    def window(self, reading: WindowReading, *, batches: float = 1.0) -> None:
        """Hand over a closed window named ``prefill`` or ``decode`` that held ``batches`` batches."""
        if self._request is None:
            raise InputError(
                explain("nobody said which request this window measured", remedy="call serve first")
            )
        if reading.energy_j is not None and reading.name in (PREFILL, DECODE):
            self.measured(
                MeasuredPhase(
                    t_s=reading.start_s + reading.duration_s,
                    request=self._request,
                    phase=reading.name,
                    batches=batches,
                    energy_j=reading.energy_j,
                    time_s=reading.duration_s,
                    simulated=reading.simulated,
                )
            )

    def take(self) -> list[MeasuredPhase]:
        """Return what was measured since the last call."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken


class RecordedFeed:
    """The feed of a recording: entries come when the recording's clock passes them."""

    def __init__(self, session: Session, clock: Any) -> None:
        self._entries = recorded_entries(session)
        self._requests = [
            (event.t_s, request_from(event.data)) for event in session.events if event.name == REQUEST_EVENT
        ]
        self._clock = clock
        self._taken = 0

    @property
    def request(self) -> InferenceRequest | None:
        """The newest request up to now; before the first, the first."""
        now_s = self._clock.now_s()
        past = [request for t_s, request in self._requests if t_s <= now_s]
        return past[-1] if past else self._requests[0][1] if self._requests else None

    def take(self) -> list[MeasuredPhase]:
        """Return what the recording measured between the last call and now."""
        now_s, start = self._clock.now_s(), self._taken
        while self._taken < len(self._entries) and self._entries[self._taken].t_s <= now_s:
            self._taken += 1
        return self._entries[start : self._taken]

    def rewind(self) -> None:
        """Begin again."""
        self._taken = 0


class RecordedSamples:
    """Every sampling of a recording, as its clock passes it, however fast it plays."""

    def __init__(self, session: Session, clock: Any) -> None:
        self._rounds = samplings(session.samples)
        self._clock = clock
        self._taken = 0

    def take(self) -> list[tuple[Sample, ...]]:
        """Return the samplings between the last call and now, oldest first."""
        now_s, start = self._clock.now_s(), self._taken
        while self._taken < len(self._rounds) and self._rounds[self._taken][-1].t_s <= now_s:
            self._taken += 1
        return self._rounds[start : self._taken]

    def rewind(self) -> None:
        """Begin again."""
        self._taken = 0


def samplings(samples: Iterable[Sample]) -> list[tuple[Sample, ...]]:
    """Return samples by sampling: a new one begins where a GPU comes again."""
    rounds: list[list[Sample]] = []
    seen: set[int] = set()
    for sample in samples:
        if not rounds or sample.gpu_index in seen:
            rounds.append([])
            seen = set()
        seen.add(sample.gpu_index)
        rounds[-1].append(sample)
    return [tuple(found) for found in rounds]


def recorded_entries(session: Session) -> list[MeasuredPhase]:
    """Return what a recording measured, oldest first: its entries, or its windows where it has none.

    A window stands for one batch of the last request before its end.
    """
    request: InferenceRequest | None = None
    entries, requests = [], []
    for event in session.events:
        if event.name == REQUEST_EVENT:
            request = request_from(event.data)
            requests.append((event.t_s, request))
        elif event.name == MEASURED_EVENT and request is not None:
            entries.append(entry_from(event, request, simulated=session.simulated))
    if entries or not requests:
        return sorted(entries, key=lambda entry: entry.t_s)
    feed = RunFeed()
    for window in sorted(session.windows, key=lambda item: item.start_s + item.duration_s):
        past = [asked for t_s, asked in requests if t_s <= window.start_s + window.duration_s]
        if past:
            feed.serve(past[-1])
            feed.window(window)
    return feed.take()


def request_data(request: InferenceRequest) -> dict[str, Any]:
    """Return a request as the data of a session event."""
    return asdict(request)


def entry_data(entry: MeasuredPhase) -> dict[str, Any]:
    """Return an entry as the data of a session event; its request is an event of its own."""
    data = {name: getattr(entry, name) for name in ("phase", "batches", "energy_j", "time_s")}
    if entry.prefill_batches is not None:
        data |= {name: getattr(entry, name) for name in ("prefill_batches", "predicted_idle_j")}
    if entry.group:
        data["group"] = entry.group
    return data


def request_from(data: Mapping[str, Any]) -> InferenceRequest:
    """Return the request of an event; unknown fields, from a later version, are passed over."""
    known = {item.name for item in fields(InferenceRequest)}
    try:
        return InferenceRequest(**{name: value for name, value in data.items() if name in known})
    except TypeError as error:
        raise InputError(explain("a recorded request is damaged", got=str(error))) from error


def entry_from(event: SessionEvent, request: InferenceRequest, *, simulated: bool) -> MeasuredPhase:
    """Return the entry of an event; ``InputError`` for one that is damaged."""
    try:
        numbers = {name: float(event.data[name]) for name in ("batches", "energy_j", "time_s")}
        prefill = event.data.get("prefill_batches")
        if min(numbers.values()) < 0 or event.data["phase"] not in PHASES:
            raise ValueError(f"{dict(event.data)}"[:80])
        return MeasuredPhase(
            t_s=event.t_s,
            request=request,
            phase=str(event.data["phase"]),
            prefill_batches=None if prefill is None else float(prefill),
            predicted_idle_j=float(event.data.get("predicted_idle_j", 0.0)),
            simulated=simulated,
            group=str(event.data.get("group", "")),
            **numbers,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            explain(f"a recorded measurement at {event.t_s:g} s is damaged", got=str(error))
        ) from error


def entries_of_run(run: MeasuredRun, t_s: float) -> list[MeasuredPhase]:
    """Return what one row of a campaign measured, as one batch; nothing for a failed row."""
    if run.status != "ok" or not run.prompt_tokens or not run.output_tokens:
        return []
    request = run.request()
    prefill_s = run.ttft_s
    decode_s = None if run.latency_s is None or prefill_s is None else max(0.0, run.latency_s - prefill_s)
    parts = ((PREFILL, run.prefill_energy_j, prefill_s), (DECODE, run.decode_energy_j, decode_s))
    found = [
        MeasuredPhase(
            t_s=t_s,
            request=request,
            phase=phase,
            batches=1.0,
            energy_j=energy_j,
            time_s=time_s or 0.0,
            simulated=run.simulated,
        )
        for phase, energy_j, time_s in parts
        if energy_j is not None
    ]
    if not found and run.energy_j is not None:
        whole = MeasuredPhase(
            t_s=t_s,
            request=request,
            phase=WHOLE,
            batches=1.0,
            energy_j=run.energy_j,
            time_s=run.latency_s or 0.0,
            simulated=run.simulated,
        )
        return [whole]
    return found


def compacted(entries: Sequence[MeasuredPhase]) -> list[MeasuredPhase]:
    """Return entries with the older half merged by request and phase where there are too many; sums stay."""
    if len(entries) <= _MOST_ENTRIES:
        return list(entries)
    old, new = entries[: len(entries) // 2], entries[len(entries) // 2 :]
    return [*_merged(old), *new]


def _prefill_sum(one: MeasuredPhase, other: MeasuredPhase) -> float | None:
    if one.prefill_batches is None and other.prefill_batches is None:
        return None
    return one.prefilled_batches + other.prefilled_batches


def _merged(entries: Iterable[MeasuredPhase]) -> list[MeasuredPhase]:
    by_key: dict[tuple[InferenceRequest, str, str, bool], MeasuredPhase] = {}
    for entry in entries:
        key = (entry.request, entry.phase, entry.group, entry.simulated)
        known = by_key.get(key)
        by_key[key] = (
            entry
            if known is None
            else replace(
                known,
                t_s=entry.t_s,
                batches=known.batches + entry.batches,
                prefill_batches=_prefill_sum(known, entry),
                predicted_idle_j=known.predicted_idle_j + entry.predicted_idle_j,
                energy_j=known.energy_j + entry.energy_j,
                time_s=known.time_s + entry.time_s,
            )
        )
    return sorted(by_key.values(), key=lambda entry: entry.t_s)
