"""Read the shipped CSV tables: text cells in, typed cells out, errors that name file, row and column.

Invariant: an empty cell means "unknown" or "not there" and reads as None; it never becomes zero.
"""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from json import JSONDecodeError
from pathlib import Path

from llmco2.bounded import MAX_JSON_BYTES, json_value, read_plain_file, shown
from llmco2.errors import FileFormatError, InputError, InstallationError, explain
from llmco2.resources import REINSTALL, datasets_dir

Row = Mapping[str, object]


def read_table(name: str, required: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of the shipped table ``name`` (a file of ``datasets/``), keyed by its header.

    Raises InstallationError when the file is missing, is not UTF-8, lacks one of the ``required`` columns or
    breaks off within a row.
    """
    path = datasets_dir() / name
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            header = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise damaged(name, error) from error
    missing = [column for column in required if column not in header]
    if missing:
        raise damaged(name, f"no column {missing[0]}")
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise damaged(name, f"a row of another length than the header at row {line}")
    return rows


@contextlib.contextmanager
def shipped(name: str) -> Iterator[None]:
    """Turn what is wrong with a cell of the shipped table ``name``, read within, into InstallationError."""
    try:
        yield
    except InputError as error:
        raise damaged(name, error) from error


def damaged(name: str, got: object) -> InstallationError:
    """Return the error that says what is wrong with the shipped table ``name``, to raise."""
    return InstallationError(
        explain(f"the table {name} that ships with llmco2 is damaged", got=got, remedy=REINSTALL)
    )


def text(row: Row, column: str, where: str) -> str:
    """Return a text cell that must not be empty."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise FileFormatError(explain(f"{where}: {column} is missing", got=shown(value), expected="a text"))
    return value.strip()


def optional_text(row: Row, column: str) -> str:
    """Return a text cell, or the empty text."""
    value = row.get(column)
    return "" if value is None else str(value).strip()


def names(row: Row, column: str) -> tuple[str, ...]:
    """Return the names of a cell that separates them by semicolons; a list (from JSON) is taken as it is."""
    value = row.get(column)
    parts = value if isinstance(value, list | tuple) else str(value or "").split(";")
    return tuple(str(part).strip() for part in parts if str(part).strip())


def optional_number(
    row: Row, column: str, where: str, *, low: float = 0.0, high: float = math.inf
) -> float | None:
    """Return a finite number from ``low`` to ``high``, or None for an empty cell."""
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or not low <= number <= high:
        expected = f"a number from {low:g}" + (f" to {high:g}" if math.isfinite(high) else "")
        raise FileFormatError(explain(f"{where}: {column} is no number", got=shown(value), expected=expected))
    return number


def number(row: Row, column: str, where: str, *, low: float = 0.0, high: float = math.inf) -> float:
    """Return a finite number from ``low`` to ``high`` from a cell that must not be empty."""
    value = optional_number(row, column, where, low=low, high=high)
    if value is None:
        raise FileFormatError(explain(f"{where}: {column} is missing", expected=f"a number from {low:g}"))
    return value


def whole(
    row: Row, column: str, where: str, *, default: int | None = None, low: int = 0, high: float = math.inf
) -> int:
    """Return a whole number; an empty cell gives ``default``, or an error where there is none."""
    value = optional_number(row, column, where, low=low, high=high)
    if value is None:
        if default is None:
            raise FileFormatError(explain(f"{where}: {column} is missing", expected="a whole number"))
        return default
    if value != int(value):
        raise FileFormatError(explain(f"{where}: {column} is no whole number", got=f"{value:g}"))
    return int(value)


def flag(row: Row, column: str, where: str, *, default: bool) -> bool:
    """Return a yes/no cell written as 1 or 0 (or a JSON boolean)."""
    value = row.get(column)
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    if str(value).strip() in {"0", "1"}:
        return str(value).strip() == "1"
    raise FileFormatError(explain(f"{where}: {column} is neither 0 nor 1", got=shown(value)))


def read_json_object(path: Path, what: str) -> dict[str, object]:
    """Return the JSON object in ``path``; ``what`` says in errors what it should be ("a GPU datasheet").

    Raises FileFormatError for a missing, truncated, foreign or oversized file.
    """
    content = read_plain_file(path, limit_bytes=MAX_JSON_BYTES, expected=what)
    try:
        value = json_value(content, constants=float)
    except UnicodeDecodeError as error:
        raise FileFormatError(explain(f"{path} is not UTF-8 text", expected=what)) from error
    except ValueError as error:
        got = f"{error.msg} at line {error.lineno}" if isinstance(error, JSONDecodeError) else error
        raise FileFormatError(
            explain(f"{path} is not valid JSON", got=got, expected=what, remedy="is the file complete?")
        ) from error
    if not isinstance(value, dict):
        raise FileFormatError(
            explain(f"{path} holds no JSON object", got=type(value).__name__, expected=what)
        )
    return value
