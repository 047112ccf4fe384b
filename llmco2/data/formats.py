"""The text and binary formats behind the tables: parsed strictly, each row with its place in the file.

Invariant: a parser either returns every row of the file or raises :class:`FileFormatError` with the line
(text) or row (Parquet) at fault. Cells come back as text, numbers, booleans or ``None``; nothing in a file is
executed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from llmco2.bounded import MAX_TEXT_BYTES, json_value, read_plain_file, unpacked_gzip
from llmco2.errors import FileFormatError, InputError, explain
from llmco2.extras import imported

Place = Callable[[int], str]  # row index → "line 7"
_PARQUET: Final = "a Parquet table"
_SUFFIXES: Final = (".jsonl", ".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFile:
    """The raw rows of a file and where each of them stands."""

    frame: pd.DataFrame
    place: Place


def suffix_of(path: Path) -> str:
    """Return which of the known formats a file name asks for.

    Raises:
        InputError: none of them.
    """
    for suffix in _SUFFIXES:
        if path.name.casefold().endswith(suffix):
            return suffix
    raise InputError(explain("unknown table format", got=path.name, expected=" or ".join(_SUFFIXES)))


def parse_file(path: Path) -> ParsedFile:
    """Return the rows of a table file.

    Raises:
        FileFormatError: damaged, truncated or holding a literal NaN; the message names the line.
        InputError: the format is unknown.
    """
    suffix = suffix_of(path)
    if suffix == ".parquet":
        return _parse_parquet(path)
    text = _text_of(path, compressed=suffix == ".csv.gz")
    return _parse_jsonl(path, text) if suffix == ".jsonl" else _parse_csv(path, text)


def write_file(frame: pd.DataFrame, path: Path) -> None:
    """Write a canonical frame in the format of the file name; compressed files carry no time of writing."""
    suffix = suffix_of(path)
    if suffix == ".parquet":
        imported("pyarrow", _PARQUET)
        frame.to_parquet(path, index=False, compression="zstd")
    elif suffix == ".jsonl":
        clean = frame.astype(object).where(frame.notna(), None)
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in clean.to_dict("records"))
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        text = frame.to_csv(index=False, lineterminator="\n").encode()
        path.write_bytes(gzip.compress(text, mtime=0) if suffix == ".csv.gz" else text)


def _text_of(path: Path, *, compressed: bool) -> str:
    data = read_plain_file(path, limit_bytes=MAX_TEXT_BYTES)
    try:
        return (unpacked_gzip(data) if compressed else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise FileFormatError(
            explain(f"{path.name}, line {line}: not text", got=error.reason, expected="UTF-8")
        ) from error
    except (EOFError, ValueError, zlib.error) as error:
        raise FileFormatError(
            explain(f"{path.name} is truncated or damaged", got=str(error), remedy="fetch or write it again")
        ) from error


def _parse_jsonl(path: Path, text: str) -> ParsedFile:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(_json_row(path, line, number))
            numbers.append(number)
    if not rows:
        raise FileFormatError(explain(f"{path.name} is empty", expected="one JSON object a line"))
    return ParsedFile(frame=pd.DataFrame(rows, dtype=object), place=lambda index: f"line {numbers[index]}")


def _json_row(path: Path, line: str, number: int) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise FileFormatError(explain(f"{path.name}, line {number}: {name}", expected="a number or null"))

    try:
        row = json_value(line, constants=refuse)
    except json.JSONDecodeError as error:
        raise FileFormatError(
            explain(
                f"{path.name}, line {number}: not JSON, or cut off",
                got=f"{error.msg} at column {error.colno}",
                expected="one whole JSON object",
            )
        ) from error
    except FileFormatError:
        raise
    except ValueError as error:
        raise FileFormatError(explain(f"{path.name}, line {number}: damaged", got=error)) from error
    if not isinstance(row, dict):
        raise FileFormatError(
            explain(
                f"{path.name}, line {number}: not a row", got=type(row).__name__, expected="a JSON object"
            )
        )
    nested = next((name for name, value in row.items() if isinstance(value, dict | list)), None)
    if nested is not None:
        raise FileFormatError(
            explain(f"{path.name}, line {number}: {nested} is nested", expected="text, a number or null")
        )
    return row


def _parse_csv(path: Path, text: str) -> ParsedFile:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[Any]] = []
    numbers: list[int] = []
    try:
        header = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise FileFormatError(
                    explain(
                        f"{path.name}, line {reader.line_num}: cut off or from another table",
                        got=f"{len(cells)} cells",
                        expected=f"{len(header)}",
                    )
                )
            rows.append([_cell(path, cell, reader.line_num) for cell in cells])
            numbers.append(reader.line_num)
    except csv.Error as error:
        raise FileFormatError(explain(f"{path.name}, line {reader.line_num}: {error}")) from error
    if not header or not rows:
        raise FileFormatError(explain(f"{path.name} is empty", expected="a header line and rows"))
    if len(set(header)) != len(header):
        raise FileFormatError(explain(f"{path.name}, line 1: a column occurs twice", got=", ".join(header)))
    frame = pd.DataFrame(rows, columns=pd.Index(header), dtype=object)
    return ParsedFile(frame=frame, place=lambda index: f"line {numbers[index]}")


def _cell(path: Path, cell: str, line: int) -> object:
    key = cell.strip().casefold()
    if not key:
        return None
    if key in ("nan", "-nan", "+nan"):
        raise FileFormatError(explain(f"{path.name}, line {line}: NaN", expected="a number or an empty cell"))
    return cell


def _parse_parquet(path: Path) -> ParsedFile:
    pa, pc = (imported(name, _PARQUET) for name in ("pyarrow", "pyarrow.compute"))
    from llmco2.data.bounded_parquet import parquet_frame, read_parquet_table  # noqa: PLC0415 - needs the extra

    try:
        table = read_parquet_table(path)
    except OSError as error:
        raise FileFormatError(explain(f"cannot read {path.name}", got=error.strerror or error)) from error
    except ValueError as error:
        raise FileFormatError(explain(f"{path.name} is not a whole Parquet file", got=error)) from error
    for name in table.column_names:
        column = table[name]
        if pa.types.is_floating(column.type):
            bad = pc.index(pc.fill_null(pc.is_nan(column), False), True).as_py()
            if bad >= 0:
                raise FileFormatError(
                    explain(f"{path.name}, row {bad + 1}: NaN in {name}", expected="a number or null")
                )
    if not table.num_rows:
        raise FileFormatError(explain(f"{path.name} is empty", expected="rows"))
    try:
        frame = parquet_frame(table)
    except ValueError as error:
        raise FileFormatError(explain(f"{path.name} is not a whole Parquet file", got=error)) from error
    return ParsedFile(frame=frame, place=lambda index: f"row {index + 1}")
