"""Tables of requests, in from CSV, Parquet, JSON or JSON lines, with absent values at their defaults.

Invariant: a file that is damaged, truncated or no table of requests is refused as a whole with its line; a
bad value in a sound row is left for the predictor to report in that row.
"""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pandas as pd

from llmco2.catalog.gpus import counted_gpus
from llmco2.cli.request_formats import FORMATS, read_table
from llmco2.errors import InputError, explain
from llmco2.extras import imported
from llmco2.predictor.named_gpus import named_degree
from llmco2.records.columns import (
    ANSWER_COLUMNS,
    REQUIRED_COLUMNS,
    RESOLVED_COLUMNS,
    YEARLY_COLUMNS,
)
from llmco2.records.request import REQUEST_COLUMNS, InferenceRequest

SUFFIXES: Final = tuple(FORMATS)
_DEFAULTS: Final = {
    field.name: field.default for field in fields(InferenceRequest) if field.name not in REQUIRED_COLUMNS
}
_ANSWERED: Final = frozenset((*ANSWER_COLUMNS, *YEARLY_COLUMNS, *RESOLVED_COLUMNS))
_LARGEST_WHOLE: Final = 2**63  # that Parquet and JSON readers take for an integer


def read_requests(path: Path) -> pd.DataFrame:
    """Return the requests of ``path``, one a row, absent values of request columns at their defaults.

    Columns of a person's own are kept as they are, in place; those of an earlier answer are dropped. Raises
    InputError for a file that cannot be read and FileFormatError, with the line where there is one, for one
    that is no table of requests.
    """
    check_suffix(path)
    frame = read_table(path)
    frame = frame[[column for column in frame.columns if column not in _ANSWERED]]
    asked = [column for column in frame.columns if column in REQUEST_COLUMNS]
    own = [column for column in frame.columns if column not in REQUEST_COLUMNS]
    kept = {name: _plain(frame[name]) for name in own if frame[name].dtype == object}
    if "tensor_parallel" in asked:
        frame = frame.assign(tensor_parallel=_with_named_gpus(frame))
    return frame.assign(**{name: _completed(frame[name], name) for name in asked}, **kept)


def check_suffix(path: Path) -> None:
    """Raise InputError where the ending of ``path`` is not one of SUFFIXES, or its format needs an extra."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            explain(f"unknown kind of file {path}", got=repr(path.suffix), expected=" or ".join(SUFFIXES))
        )
    if path.suffix.lower() == ".parquet":
        imported("pyarrow", "a Parquet table")


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
