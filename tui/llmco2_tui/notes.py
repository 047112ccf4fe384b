"""What a person did in a sitting, as events of its recording, and doing it again when the recording is played.

Invariant: a recording played to its end shows the request, the marks and the zone that the sitting ended with, unless
whoever plays it asked for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from llmco2.errors import InputError, LLMCO2Error, explain
from llmco2.measurement.meters.session_file import Session, SessionEvent
from llmco2.records.request import InferenceRequest
from llmco2_tui.grid import GridAccount
from llmco2_tui.measured import MeasuredPhase, entry_data, entry_from, request_data, request_from
from llmco2_tui.monitor_state import MonitorState

TYPED: Final = "typed_request"
MARKED: Final = "marked"
UNMARKED: Final = "unmarked"
ZONE: Final = "zone"
WALL_CLOCK: Final = "wall_clock"
NOTES: Final = (TYPED, MARKED, UNMARKED, ZONE)

Data = dict[str, Any]


def typed_data(request: InferenceRequest) -> Data:
    """Return a typed request as the data of a note."""
    return {"request": request_data(request)}


def marked_data(entry: MeasuredPhase) -> Data:
    """Return a batch that was marked as the data of a note."""
    return {"request": request_data(entry.request), **entry_data(entry)}


def zone_data(account: GridAccount) -> Data:
    """Return the zone in view as the data of a note."""
    return {"zone": account.view.zone.zone_id, "assumed": account.view.assumed}


def wall_clock_data() -> Data:
    """Return the time of day as the data of a note; its event has the time of the meter's clock."""
    return {"utc": datetime.now(UTC).isoformat(timespec="milliseconds")}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteTaker:
    """Does again what a recording notes."""

    account: Callable[[str | None], GridAccount]
    keep_zone: bool  # whoever plays it asked for a zone
    keep_request: bool  # … for a request

    def take(self, sitting: MonitorState, events: Iterable[SessionEvent]) -> None:
        """Do what ``events`` note; ``InputError`` where one is damaged."""
        for event in events:
            self._take_one(sitting, event)

    def _take_one(self, sitting: MonitorState, event: SessionEvent) -> None:
        if event.name == TYPED and not self.keep_request:
            sitting.type_in(_request(event.data))
        elif event.name == MARKED:
            request = _request(event.data)
            simulated = sitting.devices_simulated()
            sitting.add_mark(entry_from(event, request, simulated=simulated))
        elif event.name == UNMARKED:
            sitting.undo_mark()
        elif event.name == ZONE and not self.keep_zone:
            assumed = event.data.get("assumed") is True
            try:
                sitting.set_account(self.account(None if assumed else str(event.data.get("zone"))))
            except LLMCO2Error as error:
                raise InputError(explain("a recorded zone is not known here", got=str(error))) from error


class RecordedNotes:
    """The notes of a recording, as its clock passes them."""

    def __init__(self, session: Session, clock: Any) -> None:
        self._events = notes_of(session)
        self._clock = clock
        self._taken = 0

    def take(self) -> list[SessionEvent]:
        """Return the notes between the last call and now, oldest first."""
        now_s, start = self._clock.now_s(), self._taken
        while self._taken < len(self._events) and self._events[self._taken].t_s <= now_s:
            self._taken += 1
        return self._events[start : self._taken]

    def rewind(self) -> None:
        """Begin again."""
        self._taken = 0


def notes_of(session: Session) -> list[SessionEvent]:
    """Return what a person did in a recorded sitting, oldest first."""
    return sorted((event for event in session.events if event.name in NOTES), key=lambda event: event.t_s)


def wall_clock_at(session: Session, t_s: float) -> datetime | None:
    """Return the time of day (UTC) at ``t_s`` of the recording's clock; ``None`` where it was not recorded.

    It follows from the last note of the time of day up to then, or else from the first.
    """
    notes = [event for event in session.events if event.name == WALL_CLOCK]
    if not notes:
        return None
    note = max((event for event in notes if event.t_s <= t_s), key=lambda event: event.t_s, default=notes[0])
    try:
        return datetime.fromisoformat(str(note.data["utc"])) + timedelta(seconds=t_s - note.t_s)
    except (KeyError, ValueError, OverflowError) as error:
        raise InputError(explain("a recorded time of day is damaged", got=str(error))) from error


def _request(data: Mapping[str, Any]) -> InferenceRequest:
    request = data.get("request")
    if not isinstance(request, Mapping):
        raise InputError(explain("a recorded request is damaged", got=repr(request)[:60]))
    return request_from(request)
