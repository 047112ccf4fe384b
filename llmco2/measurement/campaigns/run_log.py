"""The durable log of measured runs or kernels: one JSON object a line, appended and synced before work goes on.

Invariant: once :meth:`RowLog.append` has returned, that row survives ``kill -9`` and a power cut. A row that
was being written when the process died is moved aside on the next open, never read as data. One writer only.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from llmco2.errors import FileFormatError, InputError, MeasurementError, explain
from llmco2.measurement.campaigns.output_file import OpenedFile, open_for_appending
from llmco2.measurement.meters.json_records import check_finite, strict_json
from llmco2.records.run import RUN_SCHEMA_VERSION, KernelMeasurement, MeasuredRun

Row = TypeVar("Row", MeasuredRun, KernelMeasurement)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
}
_START: Final = b'{"schema_version"'  # the first column of every record
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What opening a log had to mend: a torn last line, moved to a file beside the log."""

    fragment_bytes: int
    moved_to: Path

    def __str__(self) -> str:
        size = f"{self.fragment_bytes} bytes of an unfinished run"
        return f"torn last line ({size}) moved to {self.moved_to.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat(Generic[Row]):
    """What one kind of log holds: its record, the columns that none of its rows lacks, and its name."""

    record: type[Row]
    required: tuple[str, ...]
    noun: str

    def kinds(self) -> dict[str, tuple[type, ...]]:
        """Return the types that each column may hold."""
        return {
            field.name: tuple(
                kind for name in str(field.type).split(" | ") for kind in _KINDS.get(name, (NoneType,))
            )
            for field in fields(self.record)
        }


RUNS: Final = RowFormat(
    record=MeasuredRun,
    required=("schema_version", "run_id", "source", "model", "gpu"),
    noun="a measured run",
)
KERNELS: Final = RowFormat(
    record=KernelMeasurement,
    required=("schema_version", "run_id", "source", "kind", "gpu"),
    noun="a measured kernel",
)


class RowLog(Generic[Row]):
    """An append-only file of rows of one record, held under an exclusive lock while open.

    Use it as a context manager. ``repair`` says what opening had to mend, ``None`` where nothing.
    """

    def __init__(self, path: Path | str, form: RowFormat[Row]) -> None:
        """Open or create the log.

        Raises:
            InputError: another process writes the file, or it cannot be created or written here.
            FileFormatError: the file holds something else than such rows; the message names the line.
        """
        self.path = Path(path)
        self._form: RowFormat[Row] = form
        self.repair: Repair | None = None
        self._file = _open_locked(self.path)
        self._descriptor = self._file.descriptor
        try:
            content = _read_all(self._descriptor)
            complete, fragment = _split_torn(content)
            self._rows: list[Row] = list(_parse(complete, self.path, form))
            if fragment:
                self._check_ours(fragment)
                self._mend(len(complete), fragment)
            self._size = os.fstat(self._descriptor).st_size
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every complete row, oldest first."""
        return tuple(self._rows)

    def finished_ids(self, *, retry_failed: bool = False) -> frozenset[str]:
        """Return the ``run_id`` of every configuration that needs no further run.

        A failed configuration counts as finished (its reason is on record) unless ``retry_failed``.
        """
        return frozenset(
            row.run_id
            for row in self._rows
            if row.run_id is not None and (row.status == "ok" or not retry_failed)
        )

    def append(self, run: Row) -> None:
        """Write one row and sync it to the disk; it is durable when this returns.

        Raises:
            MeasurementError: the disk is full or failed; the file is left with its complete rows only. Or a
                value is not a finite number.
        """
        try:
            line = (json.dumps(asdict(run), allow_nan=False) + "\n").encode()
        except ValueError as error:
            bad = [
                key for key, value in asdict(run).items() if isinstance(value, float) and not isfinite(value)
            ]
            raise MeasurementError(
                explain(
                    f"{', '.join(bad)} is not a finite number",
                    got=str(run.run_id),
                    expected="a reading or nothing",
                )
            ) from error
        try:
            _write_fully(self._descriptor, line)
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise MeasurementError(_append_failure(self.path, error)) from error
        except BaseException:  # an interrupt in the middle of a row
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)
        self._rows.append(run)

    def close(self) -> None:
        """Release the lock, and leave no empty file of ours behind; closing twice is harmless."""
        if self._descriptor >= 0:
            self._file.remove_if_unused(self.path)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_ours(self, fragment: bytes) -> None:
        """Refuse to cut a file without a single complete row unless its text is the start of one of ours."""
        if not self._rows and not fragment.startswith(_START) and not _START.startswith(fragment):
            shown = repr(fragment[:40].decode(errors="replace"))
            raise _foreign(f"{self.path}, line 1", self._form, got=shown)

    def _mend(self, keep_bytes: int, fragment: bytes) -> None:
        """Move ``fragment`` to a file beside the log, then cut it off: in this order nothing is ever lost."""
        if _is_row(fragment, self._form):  # only the newline is missing
            self._rows.append(_row(json.loads(fragment), "the last line", self._form))
            _write_fully(self._descriptor, b"\n")
            os.fsync(self._descriptor)
            return
        aside = self.path.with_name(self.path.name + ".torn")
        with aside.open("ab") as file:
            file.write(fragment + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._descriptor, keep_bytes)
        os.fsync(self._descriptor)
        self.repair = Repair(fragment_bytes=len(fragment), moved_to=aside)


class RunLog(RowLog[MeasuredRun]):
    """The log of a campaign of phases; see :class:`RowLog`."""

    def __init__(self, path: Path | str) -> None:
        """Open or create the log."""
        super().__init__(path, RUNS)


class KernelLog(RowLog[KernelMeasurement]):
    """The log of a campaign of kernels; see :class:`RowLog`."""

    def __init__(self, path: Path | str) -> None:
        """Open or create the log."""
        super().__init__(path, KERNELS)


def read_runs(path: Path | str) -> list[MeasuredRun]:
    """Return the complete runs of a log without locking it, so that a running campaign can be watched.

    Raises:
        InputError: the file cannot be read.
        FileFormatError: the file holds something else than measured runs; the message names the line.
    """
    return read_rows(path, RUNS)


def read_rows(path: Path | str, form: RowFormat[Row]) -> list[Row]:
    """Return the complete rows of a log of any kind; see :func:`read_runs`."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(explain(f"cannot read {path}", got=error.strerror)) from error
    complete, _ = _split_torn(content)
    return list(_parse(complete, path, form))


def _open_locked(path: Path) -> OpenedFile:
    file = open_for_appending(path)
    try:
        fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file.descriptor)
        raise InputError(
            explain(
                f"{path} is being written by another process",
                expected="one writer a file",
                remedy="wait for it, or choose another --output",
            )
        ) from error
    if file.created:
        _sync_folder(path.parent)
    return file


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable; a file system that cannot sync folders needs no such step."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    chunks = []
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def _write_fully(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _split_torn(content: bytes) -> tuple[bytes, bytes]:
    """Return the complete lines and what follows the last newline (empty in a whole file)."""
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def _parse(content: bytes, path: Path, form: RowFormat[Row]) -> Iterator[Row]:
    kinds = form.kinds()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield row_from_line(line, f"{path}, line {number}", form, kinds)


def row_from_line(
    line: bytes, where: str, form: RowFormat[Row], kinds: dict[str, tuple[type, ...]] | None = None
) -> Row:
    """Return the row of one line of a log; ``FileFormatError`` names ``where`` and what is wrong.

    A number that is not finite is wrong, too: no reading is NaN.
    """
    try:
        value = strict_json(line.decode("utf-8"))
        check_finite(value)
    except ValueError as error:
        got = str(error) if "finite" in str(error) or "is not a number" in str(error) else None
        shown = got or repr(line[:40].decode(errors="replace"))
        raise _foreign(where, form, got=shown) from error
    return _row(value, where, form, kinds)


def _is_row(fragment: bytes, form: RowFormat[Row]) -> bool:
    try:
        value = json.loads(fragment)
    except ValueError:
        return False
    return isinstance(value, dict) and all(key in value for key in form.required)


def _row(
    value: Any, where: str, form: RowFormat[Row], kinds: dict[str, tuple[type, ...]] | None = None
) -> Row:
    if not isinstance(value, dict):
        raise _foreign(where, form, got=type(value).__name__)
    missing = [key for key in form.required if key not in value]
    if missing:
        raise _foreign(where, form, got=f"an object without {', '.join(missing)}")
    if value["schema_version"] != RUN_SCHEMA_VERSION:
        raise FileFormatError(
            explain(
                f"{where}: another schema version",
                got=repr(value["schema_version"]),
                expected=RUN_SCHEMA_VERSION,
                remedy="use the llmco2 release that wrote it",
            )
        )
    columns = kinds or form.kinds()
    for key, content in value.items():
        allowed = columns.get(key)
        if allowed is None:
            raise _foreign(where, form, got=f"the unknown column {key!r}")
        if not isinstance(content, allowed) or (isinstance(content, bool) and bool not in allowed):
            raise _foreign(where, form, got=f"{key} = {content!r}")
    return form.record(**value)


def _foreign(where: str, form: RowFormat[Row], *, got: str) -> FileFormatError:
    return FileFormatError(
        explain(
            f"{where}: not {form.noun}",
            got=got,
            expected=f"one JSON object of {form.noun} a line",
            remedy="choose another --output",
        )
    )


def _append_failure(path: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return explain(
            f"no space left to append to {path}",
            got=error.strerror,
            remedy="every finished row is kept; free some space and start the same command again",
        )
    return explain(
        f"cannot append to {path}",
        got=error.strerror,
        remedy="every finished row is kept; mend the disk and start the same command again",
    )
