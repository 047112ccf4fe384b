"""The session file: readings of a meter over time with what was measured between them, one JSON object a line.

Format, version 1. The first line is the header; every other line has a ``kind``::

    {"kind": "session", "format": "llmco2-session", "version": 1, "started_at": "2026-01-01T12:00:00+00:00",
     "simulated": false, "devices": [{"index": 0, "uuid": "…", …}]}
    {"kind": "sample", "t_s": 12.5, "gpu_index": 0, "energy_counter_j": 1034.2, …}      a meter's Sample
    {"kind": "window", "name": "prefill", "start_s": 12.4, "duration_s": 1.0, "gpus": […]}   a WindowReading
    {"kind": "event", "t_s": 12.5, "name": "request", "data": {…}}         anything else a screen wants again

Fields are those of the records in ``meter.py``; a field left out has its default. Times are seconds of the
clock of the meter that was recorded.

Invariant: a line is written before the next reading is taken, and synced once a second; a torn last line,
which is all that a kill can leave, is passed over on reading, any other damage is refused with its line
number.
"""

from __future__ import annotations

import errno
import gc
import json
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Self

from llmco2.bounded import plain_file_bytes
from llmco2.errors import FileFormatError, InputError, explain
from llmco2.measurement.meters.json_records import record_from, strict_json
from llmco2.measurement.meters.meter import Device, EnergyMeter, Sample, WindowReading

FORMAT: Final = "llmco2-session"
VERSION: Final = 1
MAX_RECORDING_BYTES: Final = 2 << 30  # a month of eight GPUs at one reading a second
_SYNC_INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent:
    """Something that happened in a session besides readings."""

    t_s: float
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A whole recorded session; samples in the order in which they were taken."""

    started_at: str  # ISO 8601, UTC
    simulated: bool
    devices: tuple[Device, ...]
    samples: tuple[Sample, ...]
    windows: tuple[WindowReading, ...]
    events: tuple[SessionEvent, ...]


_READERS: Final[dict[str, type[Any]]] = {"sample": Sample, "window": WindowReading, "event": SessionEvent}


_NEVER_BELOW_ZERO: Final = (
    "energy_counter_j",
    "power_w",
    "utilization_percent",
    "memory_used_bytes",
    "memory_total_bytes",
    "power_limit_w",
)


_NEVER_BELOW_ZERO_OF: Final = attrgetter(*_NEVER_BELOW_ZERO)


class SessionRecorder:
    """Writes a session file; safe to call from several threads."""

    def __init__(self, path: Path, meter: EnergyMeter, *, overwrite: bool = False) -> None:
        """Create ``path`` and write its header; an existing file is refused unless ``overwrite``."""
        try:
            # Unbuffered: what a write could not put on disk must not come again when the file is closed.
            self._file = path.open("wb" if overwrite else "xb", buffering=0)
        except OSError as error:
            remedy = "choose another name" if path.exists() else "choose a folder you may write to"
            raise InputError(
                explain("the session cannot be recorded", got=f"{path}: {error.strerror}", remedy=remedy)
            ) from error
        self.path = path
        self._lock = threading.Lock()
        self._synced_s = time.monotonic()
        self._write(
            {
                "kind": "session",
                "format": FORMAT,
                "version": VERSION,
                "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "simulated": meter.simulated,
                "devices": [asdict(device) for device in meter.devices()],
            },
            sync=True,
        )

    def write_samples(self, samples: Iterable[Sample]) -> None:
        """Write one sampling of all GPUs."""
        for sample in samples:
            self._write({"kind": "sample", **_brief(sample)})

    def write_window(self, reading: WindowReading) -> None:
        """Write a closed window; it is on disk when this returns."""
        self._write({"kind": "window", **_brief(reading)}, sync=True)

    def write_event(self, t_s: float, name: str, data: Mapping[str, Any]) -> None:
        """Write anything else; ``data`` must be JSON."""
        self._write({"kind": "event", "t_s": t_s, "name": name, "data": dict(data)})

    def close(self) -> None:
        """Sync and close; a second call does nothing."""
        with self._lock:
            if not self._file.closed:
                self._sync()
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _write(self, entry: Mapping[str, Any], *, sync: bool = False) -> None:
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with self._lock:
            if self._file.closed:
                raise InputError(
                    explain("the session can no longer be recorded", got=f"{self.path} is closed")
                )
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) or 0 :]
                if sync or time.monotonic() - self._synced_s > _SYNC_INTERVAL_S:
                    self._sync()
            except OSError as error:
                self._file.close()  # half a line may stand there: nothing may follow it
                raise InputError(
                    explain("the session can no longer be recorded", got=f"{self.path}: {error.strerror}")
                ) from error

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno != errno.EINVAL:  # a pipe or a device has nothing to sync
                raise
        self._synced_s = time.monotonic()


def read_session(path: Path) -> Session:
    """Read a session file; ``FileFormatError`` names the line of any damage but a torn last one.

    Damage is also what no meter writes: a number that is not finite, joules or watts below zero, a GPU that the
    header does not name, a clock that runs back.
    """
    lines = _text(path).split("\n")
    torn = lines.pop()  # what follows the last newline: nothing, or a line whose writing was cut off
    header = _header(path, lines[0] if lines else torn)
    devices = _devices(header, path)
    with _no_garbage_collection():  # none is made, and a long recording is read in half the time
        found = _records(lines, devices, path)
    return Session(
        started_at=str(header.get("started_at", "")),
        simulated=header.get("simulated", False) is not False,
        devices=devices,
        samples=tuple(found["sample"]),
        windows=tuple(found["window"]),
        events=tuple(found["event"]),
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _records(lines: Sequence[str], devices: Sequence[Device], path: Path) -> dict[str, list[Any]]:
    """Return the records of every line but the header, by kind."""
    found: dict[str, list[Any]] = {"sample": [], "window": [], "event": []}
    order = _Order({device.index for device in devices})
    for number, line in enumerate(lines[1:], start=2):
        try:
            entry = _entry(line)
            kind = entry.pop("kind", None)
            if not isinstance(kind, str) or kind not in found:
                raise FileFormatError(explain(f"{path}, line {number}: unknown kind", got=repr(kind)[:60]))
            record = record_from(_READERS[kind], entry)
            if kind == "sample":
                order.check(record)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(explain(f"{path}, line {number}: damaged", got=str(error))) from error
        found[kind].append(record)
    return found


class _Order:
    """Refuses samples of GPUs that are not there, clocks that run back, and readings below zero."""

    def __init__(self, indices: set[int]) -> None:
        self._last_s = dict.fromkeys(indices, -math.inf)

    def check(self, sample: Sample) -> None:
        last_s = self._last_s.get(sample.gpu_index)
        if last_s is None:
            known = ", ".join(map(str, sorted(self._last_s))) or "none"
            raise ValueError(f"a sample of GPU {sample.gpu_index}, where the header names {known}")
        if sample.t_s < last_s:
            raise ValueError(f"t_s {sample.t_s:g} after {last_s:g}: the clock runs back")
        self._last_s[sample.gpu_index] = sample.t_s
        values = _NEVER_BELOW_ZERO_OF(sample)
        if min(value or 0.0 for value in values) >= 0.0:
            return
        for name, value in zip(_NEVER_BELOW_ZERO, values, strict=True):
            if value is not None and value < 0:
                raise ValueError(f"{name} {value:g} is below zero")


def _text(path: Path) -> str:
    expected = "a file of --record"
    try:
        return plain_file_bytes(path, limit_bytes=MAX_RECORDING_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            explain(f"{path} is no recording", got="bytes that are no UTF-8 text", expected=expected)
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileFormatError(explain(f"cannot read the recording {path}", got=reason)) from error


def _header(path: Path, line: str) -> dict[str, Any]:
    try:
        header = strict_json(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileFormatError(
            explain(f"{path} is not a recorded session", expected=f"a first line with format {FORMAT}")
        )
    if header.get("version") != VERSION:
        raise FileFormatError(
            explain(
                f"{path} is of another version",
                got=repr(header.get("version"))[:60],
                expected=VERSION,
                remedy="replay it with the llmco2 that recorded it",
            )
        )
    return header


def _devices(header: dict[str, Any], path: Path) -> tuple[Device, ...]:
    """Return the GPUs of the header; ``FileFormatError`` where one is damaged or two have one index."""
    try:
        listed = header.get("devices", [])
        if not isinstance(listed, list) or not all(isinstance(device, dict) for device in listed):
            raise TypeError("devices is no list of objects")
        devices = tuple(record_from(Device, device) for device in listed)
        if len({device.index for device in devices}) < len(devices):
            raise ValueError("two devices of one index")
    except (TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(explain(f"{path}, line 1: damaged", got=str(error))) from error
    return devices


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = strict_json(line)
    except json.JSONDecodeError:
        raise ValueError(line[:60]) from None
    if not isinstance(entry, dict):
        raise TypeError(line[:60])
    return entry


def _brief(record: Any) -> dict[str, Any]:
    """Return the fields of a record that differ from their defaults: files a third as long."""
    whole = asdict(record)
    return {item.name: whole[item.name] for item in fields(record) if whole[item.name] != item.default}
