"""Tables of requests, in from CSV, Parquet or JSON lines, and tables of answers, out to the same.

Invariant: a file that is damaged, truncated or no table of requests is refused as a whole with its line; a
bad value in a sound row is left for the predictor to report in that row. An output appears whole or not
at all.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TextIO

import pandas as pd

from llmco2.errors import FileFormatError, InputError, explain
from llmco2.records.columns import ANSWER_COLUMNS, REQUIRED_COLUMNS, YEARLY_COLUMNS, misspelt_column
from llmco2.records.request import REQUEST_COLUMNS, InferenceRequest

SUFFIXES: Final = (".csv", ".parquet", ".jsonl")
_DEFAULTS: Final = {
    field.name: field.default for field in fields(InferenceRequest) if field.name not in REQUIRED_COLUMNS
}
_LARGEST_WHOLE: Final = 2**63  # that Parquet and JSON readers take for an integer
_NAMES_SHOWN: Final = 12
_JSON_DIGITS: Final = 15  # every digit that a double is sure to carry


def read_requests(path: Path) -> pd.DataFrame:
    """Return the requests of ``path``, one a row, absent values of request columns at their defaults.

    Columns of a person's own are kept as they are, in place; those of an earlier answer are dropped. Raises
    InputError for a file that cannot be read and FileFormatError, with the line where there is one, for one
    that is no table of requests.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_json_lines}
    _check_suffix(path)
    try:
        frame = readers[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(explain(f"cannot read {path}", got=error.strerror or error)) from error
    frame.columns = pd.Index([str(column) for column in frame.columns])
    _check_columns(path, list(frame.columns))
    frame = frame[[column for column in frame.columns if column not in (*ANSWER_COLUMNS, *YEARLY_COLUMNS)]]
    asked = [column for column in frame.columns if column in REQUEST_COLUMNS]
    own = [column for column in frame.columns if column not in REQUEST_COLUMNS]
    kept = {name: _plain(frame[name]) for name in own if frame[name].dtype == object}
    return frame.assign(**{name: _completed(frame[name], name) for name in asked}, **kept)


def check_target(path: Path) -> None:
    """Raise InputError, before any work is done, if answers could not be written to ``path``."""
    _check_suffix(path)
    if not path.parent.is_dir():
        raise InputError(
            explain(f"cannot write {path}", got=f"no folder {path.parent}", remedy="create it first")
        )
    if not os.access(path.parent, os.W_OK):
        raise InputError(explain(f"cannot write {path}", got=f"the folder {path.parent} is read-only"))


def write_answers(answers: pd.DataFrame, path: Path) -> None:
    """Write ``answers`` as the ending of ``path`` says: whole, by renaming a finished file into place.

    Raises InputError when the disk is full or the folder cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(descriptor)
        part = Path(name)
        try:
            _write(answers, part, path.suffix.lower())
            part.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner reads
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        raise InputError(explain(f"cannot write {path}", got=error.strerror or error)) from error


def print_answers(answers: pd.DataFrame, stream: TextIO, *, as_json: bool) -> None:
    """Write ``answers`` to ``stream`` as CSV or as JSON lines."""
    if as_json:
        answers.to_json(
            stream, orient="records", lines=True, force_ascii=False, double_precision=_JSON_DIGITS
        )
    else:
        answers.to_csv(stream, index=False, lineterminator="\n")


def summary(answers: pd.DataFrame, source: Path | None, target: Path | None) -> str:
    """Return the one line that says how many rows were answered, how many failed, and the first reason."""
    errors = answers["error"].fillna("").astype(str).reset_index(drop=True)
    failed = errors[errors != ""]
    where = f", written to {target}" if target is not None else ""
    whose = f" of {source}" if source is not None else ""
    line = f"llmco2: {len(answers) - len(failed):,} of {len(answers):,} requests{whose} answered{where}"
    if failed.empty:
        return line
    row, reason = next(iter(failed.items()))
    return f"{line}; {len(failed):,} failed, see the column error (row {int(str(row)) + 1}: {reason})"


def _read_csv(path: Path) -> pd.DataFrame:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _foreign(path, line, "bytes that are no UTF-8 text", "a CSV file of requests") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                _check_columns(
                    path, header
                )  # before a foreign file's rows are counted against its first line
            elif len(cells) != len(header):
                got, expected = f"{len(cells)} cells", f"{len(header)}, as in the header"
                raise _foreign(path, reader.line_num, got, expected, "the file may be truncated")
            else:
                rows.append(cells)
    except csv.Error as error:
        raise _foreign(path, reader.line_num, error, "a CSV file of requests") from error
    if not header:
        raise _foreign(path, 1, "an empty file", "a header with at least model and gpu")
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    stripped = ([cell.strip() or None for cell in column] for column in columns)
    return pd.DataFrame(
        {name: pd.Series(cells, dtype=object) for name, cells in zip(header, stripped, strict=True)}
    )


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for line, content in enumerate(path.read_bytes().splitlines(), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content, parse_constant=str)  # NaN as text: no number, and not absent either
        except ValueError as error:
            raise _foreign(
                path, line, error, "one JSON object a line", "the file may be truncated"
            ) from error
        if not isinstance(row, dict):
            raise _foreign(path, line, type(row).__name__, "one JSON object a line")
        rows.append(row)
    if not rows:
        raise _foreign(path, 1, "an empty file", "one JSON object a line")
    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa  # noqa: PLC0415 - only this format needs it

    with path.open("rb"):  # a missing or unreadable file is no damaged one
        pass
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, ValueError) as error:
        raise FileFormatError(
            explain(f"{path} is damaged or no Parquet file", got=str(error).splitlines()[0])
        ) from error


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            explain(f"unknown kind of file {path}", got=repr(path.suffix), expected=" or ".join(SUFFIXES))
        )


def _check_columns(path: Path, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _foreign(path, 1, f"the column {twice!r} twice", "each column once")
    slip = misspelt_column(names)
    if slip:
        raise _foreign(path, 1, f"an unknown column {slip[0][:80]!r}", None, f"did you mean {slip[1]}?")
    for name in REQUIRED_COLUMNS:
        if name not in names:
            raise _foreign(path, 1, f"columns {_listed(names)}", f"a column {name!r}")


def _listed(names: Sequence[str]) -> str:
    """Return the first few names, fit for a terminal though a foreign file's first line may be anything."""
    shown = [name[:40] if name.isprintable() else repr(name[:40]) for name in names[:_NAMES_SHOWN]]
    return ", ".join([*shown, "…"] if len(names) > _NAMES_SHOWN else shown)


def _foreign(path: Path, line: int, got: object, expected: object, remedy: str = "") -> FileFormatError:
    return FileFormatError(explain(f"{path} line {line}", got=got, expected=expected, remedy=remedy))


def _plain(column: pd.Series[Any]) -> pd.Series[Any]:
    return pd.Series([_plain_cell(cell) for cell in column], index=column.index, dtype=object)


def _plain_cell(cell: object) -> object:
    """Return a cell of a person's own column, as text where not every format could hold it."""
    if cell is None or cell is pd.NA:
        return None
    if isinstance(cell, bool | float) or (isinstance(cell, int) and abs(cell) < _LARGEST_WHOLE):
        return cell
    return str(cell).encode("utf-8", "replace").decode("utf-8")


def _completed(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Return ``column`` with absent values at the request's default, as numbers where every value is one."""
    default = _DEFAULTS.get(name)
    if not isinstance(default, str) and column.dtype.kind in "iuf" and bool(column.notna().all()):
        return column
    filled = column.astype(object).where(column.notna(), default if default is not None else "")
    if default is None or isinstance(default, str):
        return filled.map(str)
    numbers = pd.to_numeric(filled.map(_no_truth), errors="coerce")
    if numbers.notna().all():
        return numbers
    return pd.Series(list(map(_number_or_text, filled)), index=column.index, dtype=object)


def _no_truth(value: object) -> object:
    """Return ``value``, but True and False as text: a truth value is no count, though Python adds with it."""
    return str(value) if isinstance(value, bool) else value


def _number_or_text(value: object) -> object:
    if not isinstance(value, str):
        return _no_truth(value)
    try:
        number = float(value)
    except ValueError:
        return value
    return value if math.isnan(number) else number  # a NaN would read as an absent value further on


def _write(answers: pd.DataFrame, path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        _one_type_a_column(answers).to_parquet(path, index=False)
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        print_answers(answers, stream, as_json=suffix == ".jsonl")


def _one_type_a_column(answers: pd.DataFrame) -> pd.DataFrame:
    """Return ``answers`` with request numbers numeric, and other columns of mixed kinds as text.

    Parquet has one type a column, and one bad row must not change the type that readers rely on: a cell that
    is no number is null, and its error names it.
    """
    mixed = [str(name) for name in answers if answers[name].dtype == object]
    numbers = [name for name in mixed if not isinstance(_DEFAULTS.get(name, ""), str)]
    text = [name for name in mixed if name not in numbers and answers[name].dropna().map(type).nunique() > 1]
    as_text = {name: answers[name].map(lambda cell: cell if pd.isna(cell) else str(cell)) for name in text}
    return answers.assign(
        **{name: pd.to_numeric(answers[name], errors="coerce") for name in numbers}, **as_text
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
