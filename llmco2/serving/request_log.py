"""Logs of requests and of meters, in from files.

Invariant: a file that is damaged or lacks a column is refused with its line or column; a person's own columns are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from llmco2.errors import FileFormatError, InputError, explain, nearest_names
from llmco2.extras import imported
from llmco2.measurement.meters.session_file import FORMAT as SESSION_FORMAT
from llmco2.measurement.meters.session_file import Session, read_session
from llmco2.serving.attribution import MeterReadings, Numbers, RequestLog

START: Final = "start"
END: Final = "end"
FIRST_TOKEN: Final = "first_token"
TTFT: Final = "ttft_s"
PROMPT: Final = "prompt_tokens"
CACHED: Final = "cached_tokens"
OUTPUT: Final = "output_tokens"
REQUIRED: Final = (START, END, PROMPT, OUTPUT)
TIME: Final = "time"
ENERGY: Final = "energy_j"
POWER: Final = "power_w"
MAX_BYTES: Final = 2 << 30


def read_request_log(path: Path) -> tuple[pd.DataFrame, RequestLog]:
    """Return the file's rows and the log that they hold, in its order.

    Columns: ``start`` and ``end`` of a request (seconds of any clock, or ISO 8601), ``prompt_tokens``,
    ``output_tokens``; where they were logged ``first_token`` (a time) or ``ttft_s``, and ``cached_tokens``. Others are
    labels.

    Raises:
        InputError: the file cannot be read, or lacks a column; FileFormatError: a cell that cannot be, with its line.
    """
    frame = _read_table(path, REQUIRED)
    start, end = _times(path, frame, START), _times(path, frame, END)
    prompt, output = _counts(path, frame, PROMPT), _counts(path, frame, OUTPUT)
    cached = _counts(path, frame, CACHED) if CACHED in frame else np.zeros_like(prompt)
    first = np.full_like(start, np.nan)
    if FIRST_TOKEN in frame:
        first = _times(path, frame, FIRST_TOKEN, optional=True)
    elif TTFT in frame:
        first = start + _numbers(path, frame, TTFT, optional=True)
    bad = ~(end > start)
    if bad.any():
        raise _cell(
            path, int(np.flatnonzero(bad)[0]), "a request ends before it starts", frame[END], "a later end"
        )
    if (cached > prompt).any():
        row = int(np.flatnonzero(cached > prompt)[0])
        raise _cell(path, row, "more cached tokens than prompt tokens", frame[CACHED], "at most the prompt's")
    log = RequestLog(
        start_s=start,
        end_s=end,
        first_token_s=first,
        prompt_tokens=prompt - cached,
        output_tokens=output,
        context_tokens=prompt,
    )
    return frame, log


def read_meter_log(path: Path, gpus: Sequence[int] | None = None) -> MeterReadings:
    """Return the cumulative joules of a file: CSV, or a recording of ``llmco2 monitor --record``.

    CSV has ``time`` (seconds, or ISO 8601) and ``energy_j``, a counter that may begin anew, or ``power_w``. Of a
    recording, ``gpus`` are added up (all of them by default); its times are wall-clock times to about a second.

    Raises:
        InputError: the file cannot be read, or lacks a column or a GPU; FileFormatError: a cell that cannot be.
    """
    if path.suffix.lower() == ".jsonl":
        return _recorded(path, read_session(path), gpus)
    if gpus is not None:
        raise InputError(
            explain("GPUs of a meter's CSV", remedy=f"leave them out: they go with a {SESSION_FORMAT}")
        )
    frame = _read_table(path, (TIME,))
    t_s = _times(path, frame, TIME)
    if ENERGY in frame:
        return MeterReadings(t_s=t_s, energy_j=_without_restarts(_counts(path, frame, ENERGY)))
    if POWER not in frame:
        raise InputError(
            explain(
                f"{path} holds no energy",
                got=", ".join(map(str, frame.columns)),
                expected=f"{ENERGY} or {POWER}",
            )
        )
    power_w = _counts(path, frame, POWER)
    steps_j = np.diff(t_s) * (power_w[1:] + power_w[:-1]) / 2
    if np.any(np.diff(t_s) <= 0):
        raise InputError(
            explain(f"the times of {path} do not rise", remedy="sort them, and leave out repeats")
        )
    return MeterReadings(t_s=t_s, energy_j=np.concatenate([[0.0], np.cumsum(steps_j)]))


def _recorded(path: Path, session: Session, gpus: Sequence[int] | None) -> MeterReadings:
    known = {device.index for device in session.devices}
    wanted = sorted(known if gpus is None else set(gpus))
    if not set(wanted) <= known:
        raise InputError(
            explain(
                f"{path} has no such GPU", got=", ".join(map(str, wanted)), expected=f"of {sorted(known)}"
            )
        )
    by_gpu: dict[int, list[tuple[float, float]]] = {index: [] for index in wanted}
    for sample in session.samples:
        if (
            sample.gpu_index in by_gpu
            and sample.energy_counter_j is not None
            and sample.stale_since_s is None
        ):
            by_gpu[sample.gpu_index].append((sample.t_s, sample.energy_counter_j))
    if not all(len(found) > 1 for found in by_gpu.values()):
        raise InputError(explain(f"{path} has no energy of every GPU", expected=f"counters of GPU {wanted}"))
    series = [np.array(found).T for found in by_gpu.values()]
    t_s = np.unique(np.concatenate([found[0] for found in series]))
    t_s = t_s[(t_s >= max(found[0][0] for found in series)) & (t_s <= min(found[0][-1] for found in series))]
    energy_j = sum(np.interp(t_s, found[0], _without_restarts(found[1])) for found in series)
    offset_s = _started_s(path, session) - min(sample.t_s for sample in session.samples)
    return MeterReadings(t_s=t_s + offset_s, energy_j=np.asarray(energy_j, dtype=np.float64))


def _started_s(path: Path, session: Session) -> float:
    try:
        return datetime.fromisoformat(session.started_at).timestamp()
    except ValueError as error:
        raise FileFormatError(
            explain(f"{path} does not say when it began", got=repr(session.started_at))
        ) from error


def _without_restarts(energy_j: Numbers) -> Numbers:
    """Return a counter that goes on where it began anew: what it shows then was drawn since."""
    steps = np.diff(energy_j)
    steps = np.where(steps < 0, energy_j[1:], steps)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(explain(f"{path} is too large", expected=f"at most {MAX_BYTES >> 30} GiB"))
        if path.suffix.lower() == ".parquet":
            imported("pyarrow", f"reading {path.name}")
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], index_col=False)
    except OSError as error:
        raise InputError(explain(f"cannot read {path}", got=error.strerror or error)) from error
    except (ValueError, pd.errors.ParserError) as error:  # pyarrow's errors are ValueErrors
        raise FileFormatError(explain(f"{path} is no table", got=str(error).strip()[:160])) from error
    frame.columns = pd.Index([str(column).strip() for column in frame.columns])
    for name in required:
        if name not in frame:
            near = nearest_names(name, [str(column) for column in frame.columns], limit=1)
            remedy = f"is it {near[0]}?" if near else ""
            got = ", ".join(map(str, list(frame.columns)[:12]))
            raise InputError(explain(f"{path} has no column {name}", got=got, remedy=remedy))
    if frame.columns.has_duplicates:
        twice = str(frame.columns[frame.columns.duplicated()][0])
        raise InputError(explain(f"{path} has a column twice", got=twice))
    if frame.empty:
        raise InputError(explain(f"{path} has no rows"))
    return frame


def _numbers(path: Path, frame: pd.DataFrame, name: str, *, optional: bool = False) -> Numbers:
    values = np.asarray(pd.to_numeric(frame[name], errors="coerce"), dtype=np.float64)
    wrong = ~np.isfinite(values) & ~(
        frame[name].isna().to_numpy() if optional else np.zeros(len(values), bool)
    )
    if wrong.any():
        raise _cell(path, int(np.flatnonzero(wrong)[0]), f"{name} is not a number", frame[name], "a number")
    return values


def _counts(path: Path, frame: pd.DataFrame, name: str) -> Numbers:
    values = _numbers(path, frame, name)
    if (values < 0).any():
        raise _cell(
            path, int(np.flatnonzero(values < 0)[0]), f"{name} is negative", frame[name], "at least 0"
        )
    return values


def _times(path: Path, frame: pd.DataFrame, name: str, *, optional: bool = False) -> Numbers:
    """Return a column of times in s: numbers as they are, ISO 8601 as seconds since 1970; without a zone it is UTC."""
    column = frame[name]
    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    if not np.isfinite(values).any() and column.notna().any():
        stamps = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
        since = (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        values = np.asarray(since, dtype=np.float64)
    wrong = ~np.isfinite(values) & ~(column.isna().to_numpy() if optional else np.zeros(len(values), bool))
    if wrong.any():
        expected = "seconds or ISO 8601, one way in the whole column"
        raise _cell(path, int(np.flatnonzero(wrong)[0]), f"{name} is no time", column, expected)
    return values


def _cell(path: Path, row: int, what: str, column: pd.Series[Any], expected: str) -> FileFormatError:
    return FileFormatError(
        explain(f"{path}, line {row + 2}: {what}", got=repr(str(column.iloc[row])[:60]), expected=expected)
    )
