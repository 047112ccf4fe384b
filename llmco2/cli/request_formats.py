"""The formats of tables of requests, CSV, Parquet, JSON and JSON lines, read within limits into plain columns.

Invariant: a file that is damaged, truncated, larger than the limits or no table of requests is refused as a whole, with
the line where there is one. Cells come back as they are written; texts are Unicode that can be written again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from llmco2.bounded import MAX_CELLS, MAX_COLUMNS, MAX_TEXT_BYTES, check_json, json_value, read_plain_file
from llmco2.errors import FileFormatError, InputError, explain
from llmco2.records.columns import REQUIRED_COLUMNS, ZONE_COLUMN, misspelt_column
from llmco2.records.request import REQUEST_COLUMNS

_SEPARATORS: Final = (",", ";", "\t", "|")
_NAMES_SHOWN: Final = 12
_TRUNCATED: Final = "the file may be truncated"
_ONE_OBJECT: Final = "one JSON object a line"


def read_table(path: Path) -> pd.DataFrame:
    """Return the columns of the table of requests in ``path``, in the format that its ending says.

    Raises InputError for a file that cannot be read and FileFormatError for one that is no table of requests.
    """
    frame = FORMATS[path.suffix.lower()](path)
    frame.columns = pd.Index([str(column) for column in frame.columns])
    check_columns(path, list(frame.columns))
    return frame


def _content(path: Path) -> bytes:
    return read_plain_file(path, limit_bytes=MAX_TEXT_BYTES)


def _read_csv(path: Path) -> pd.DataFrame:
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise foreign(path, line, "bytes that are no UTF-8 text", "a CSV file of requests") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=_separator(text))
    rows: list[list[str]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                check_columns(path, header)  # before a foreign file's rows are counted against its first line
            elif len(cells) != len(header):
                got, expected = f"{len(cells)} cells", f"{len(header)}, as in the header"
                raise foreign(path, reader.line_num, got, expected, _TRUNCATED)
            else:
                rows.append(cells)
    except csv.Error as error:
        raise foreign(path, reader.line_num, error, "a CSV file of requests") from error
    if not header:
        raise foreign(path, 1, "an empty file", "a header with at least model and gpu")
    _check_cells(path, len(rows), len(header))
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    stripped = ([cell.strip() or None for cell in column] for column in columns)
    return pd.DataFrame(
        {name: pd.Series(cells, dtype=object) for name, cells in zip(header, stripped, strict=True)}
    )


def _separator(text: str) -> str:
    """Return what separates the cells where the first line then names the required columns; else a comma."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    for separator in _SEPARATORS:
        try:
            names = next(csv.reader([first], delimiter=separator), [])
        except csv.Error:
            continue
        if {name.strip() for name in names[:MAX_COLUMNS]}.issuperset(REQUIRED_COLUMNS):
            return separator
    return _SEPARATORS[0]


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows: list[Mapping[str, Any]] = []
    for line, content in enumerate(_content(path).splitlines(), start=1):
        if not content.strip():
            continue
        try:
            row = json_value(
                content, constants=str, usable=False, keys_once=True
            )  # NaN as text: no number, and not absent either
            _check_row(row)
        except ValueError as error:
            raise foreign(path, line, error, _ONE_OBJECT, _TRUNCATED) from error
        if not isinstance(row, dict):
            raise foreign(path, line, type(row).__name__, _ONE_OBJECT)
        rows.append(row)
    if not rows:
        raise foreign(path, 1, "an empty file", _ONE_OBJECT)
    return _frame_of(path, rows)


def _read_json(path: Path) -> pd.DataFrame:
    expected = "an array of one JSON object a request"
    try:
        rows = json_value(_content(path), constants=str, usable=False, keys_once=True)
        for row in rows if isinstance(rows, list) else ():
            _check_row(row)
    except ValueError as error:
        raise FileFormatError(explain(f"{path} is not valid JSON", got=error, expected=expected)) from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        got = (
            type(rows).__name__
            if not isinstance(rows, list)
            else "an empty array"
            if not rows
            else "other elements"
        )
        raise FileFormatError(explain(f"{path} is no table of requests", got=got, expected=expected))
    return _frame_of(path, rows)


def _check_row(row: object) -> None:
    """Raise ValueError for a name or a request's cell that cannot be used; cells of a person's own may be anything."""
    if isinstance(row, dict):
        check_json([*row, *(row[name] for name in (*REQUEST_COLUMNS, ZONE_COLUMN) if name in row)])


def _frame_of(path: Path, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    check_columns(path, list(names))
    _check_cells(path, len(rows), len(names))
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})


def _read_parquet(path: Path) -> pd.DataFrame:
    from llmco2.data.bounded_parquet import read_parquet  # noqa: PLC0415 - needs the extra

    try:
        return read_parquet(path)
    except OSError as error:
        raise InputError(explain(f"cannot read {path}", got=error.strerror or error)) from error
    except ValueError as error:
        raise FileFormatError(explain(f"{path} is damaged or no Parquet file", got=error)) from error


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Raise FileFormatError for columns that are too many, twice, misspelt or not those of requests."""
    if len(names) > MAX_COLUMNS:
        raise foreign(path, 1, f"{len(names):,} columns", f"at most {MAX_COLUMNS:,}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise foreign(path, 1, f"the column {twice!r} twice", "each column once")
    slip = misspelt_column(names)
    if slip:
        raise foreign(path, 1, f"an unknown column {slip[0][:80]!r}", None, f"did you mean {slip[1]}?")
    for name in REQUIRED_COLUMNS:
        if name not in names:
            raise foreign(path, 1, f"columns {_listed(names)}", f"a column {name!r}")


def _listed(names: Sequence[str]) -> str:
    """Return the first few names, fit for a terminal though a foreign file's first line may be anything."""
    shown = [name[:40] if name.isprintable() else repr(name[:40]) for name in names[:_NAMES_SHOWN]]
    return ", ".join([*shown, "…"] if len(names) > _NAMES_SHOWN else shown)


def _check_cells(path: Path, n_rows: int, n_columns: int) -> None:
    if n_rows * n_columns > MAX_CELLS:
        raise FileFormatError(
            explain(
                f"{path} is too large", got=f"{n_rows * n_columns:,} cells", expected=f"at most {MAX_CELLS:,}"
            )
        )


def foreign(path: Path, line: int, got: object, expected: object, remedy: str = "") -> FileFormatError:
    """Return the error of a file that is no table of requests, to raise."""
    return FileFormatError(explain(f"{path} line {line}", got=got, expected=expected, remedy=remedy))


FORMATS: Final = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
}
