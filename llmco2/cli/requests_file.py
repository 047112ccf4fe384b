"""Tables of requests, in from CSV, Parquet or JSON lines.

Invariant: a file that is damaged, truncated or no table of requests is refused as a whole with its line; a
bad value in a sound row is left for the predictor to report in that row.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pandas as pd

from llmco2.catalog.gpus import counted_gpus
from llmco2.errors import FileFormatError, InputError, explain
from llmco2.extras import imported
from llmco2.predictor.named_gpus import named_degree
from llmco2.records.columns import (
    ANSWER_COLUMNS,
    REQUIRED_COLUMNS,
    RESOLVED_COLUMNS,
    YEARLY_COLUMNS,
    misspelt_column,
)
from llmco2.records.request import REQUEST_COLUMNS, InferenceRequest

SUFFIXES: Final = (".csv", ".parquet", ".jsonl")
_DEFAULTS: Final = {
    field.name: field.default for field in fields(InferenceRequest) if field.name not in REQUIRED_COLUMNS
}
_ANSWERED: Final = frozenset((*ANSWER_COLUMNS, *YEARLY_COLUMNS, *RESOLVED_COLUMNS))
_LARGEST_WHOLE: Final = 2**63  # that Parquet and JSON readers take for an integer
_NAMES_SHOWN: Final = 12


def read_requests(path: Path) -> pd.DataFrame:
    """Return the requests of ``path``, one a row, absent values of request columns at their defaults.

    Columns of a person's own are kept as they are, in place; those of an earlier answer are dropped. Raises
    InputError for a file that cannot be read and FileFormatError, with the line where there is one, for one
    that is no table of requests.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_json_lines}
    check_suffix(path)
    try:
        frame = readers[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(explain(f"cannot read {path}", got=error.strerror or error)) from error
    frame.columns = pd.Index([str(column) for column in frame.columns])
    _check_columns(path, list(frame.columns))
    frame = frame[[column for column in frame.columns if column not in _ANSWERED]]
    asked = [column for column in frame.columns if column in REQUEST_COLUMNS]
    own = [column for column in frame.columns if column not in REQUEST_COLUMNS]
    kept = {name: _plain(frame[name]) for name in own if frame[name].dtype == object}
    if "tensor_parallel" in asked:
        frame = frame.assign(tensor_parallel=_with_named_gpus(frame))
    return frame.assign(**{name: _completed(frame[name], name) for name in asked}, **kept)


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
    pa = imported("pyarrow", "a Parquet table")
    with path.open("rb"):  # a missing or unreadable file is no damaged one
        pass
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, ValueError) as error:
        raise FileFormatError(
            explain(f"{path} is damaged or no Parquet file", got=str(error).splitlines()[0])
        ) from error


def check_suffix(path: Path) -> None:
    """Raise InputError where the ending of ``path`` is not one of SUFFIXES, or its format needs an extra."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            explain(f"unknown kind of file {path}", got=repr(path.suffix), expected=" or ".join(SUFFIXES))
        )
    if path.suffix.lower() == ".parquet":
        imported("pyarrow", "a Parquet table")


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


def _with_named_gpus(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return tensor_parallel with an empty cell as the number of GPUs that the row's name of them counts."""
    said = frame["tensor_parallel"]
    silent = said.isna()
    counted = {name: counted_gpus(name) for name in frame.loc[silent, "gpu"].map(str).unique()}
    if not any(counted.values()):
        return said
    stages = pd.to_numeric(frame.get("pipeline_parallel", pd.Series(1, index=frame.index)), errors="coerce")
    degrees = [
        named_degree(str(gpu), float(n)) for gpu, n in zip(frame["gpu"], stages.fillna(1.0), strict=True)
    ]
    return said.astype(object).where(~silent, pd.Series(degrees, index=frame.index))


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
