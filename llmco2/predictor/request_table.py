"""A table of requests read into columns, whatever its dtypes, with what is wrong with each row.

Invariant: a cell means the same in any dtype: empty (None, NA, NaN, blank text) is "not said" and takes the
request's default; a number may be written as text; anything else becomes that row's one-line error, in the
words :class:`InferenceRequest` uses for a single request.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.catalog.gpus import counted_gpus
from llmco2.errors import InputError, explain
from llmco2.operators.columns import Column
from llmco2.predictor.named_gpus import named_degree
from llmco2.records.columns import REQUIRED_COLUMNS, ZONE_COLUMN, misspelt_column
from llmco2.records.request import (
    MAX_BATCH_SIZE,
    MAX_PARALLEL,
    MAX_TOKENS,
    REQUEST_COLUMNS,
    SERVING_MODES,
    InferenceRequest,
)

DEFAULTS: Final[dict[str, Any]] = {
    name: field.default
    for name, field in InferenceRequest.__dataclass_fields__.items()
    if name not in REQUIRED_COLUMNS
}
NAMES: Final = ("model", "gpu", "engine", "precision", "kv_precision")
PARALLEL: Final = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
_LIMITS: Final = {
    **dict.fromkeys(PARALLEL, MAX_PARALLEL),
    "batch_size": MAX_BATCH_SIZE,
    "prompt_tokens": MAX_TOKENS,
    "output_tokens": MAX_TOKENS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NameColumn:
    """A column of names: each row's index among the distinct ones."""

    codes: NDArray[np.intp]  # (n_rows,)
    distinct: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTable:
    """Requests as columns, ``(n_rows,)`` each."""

    names: dict[str, NameColumn]  # with "zone", "" where no cell says one
    numbers: dict[str, Column]  # NaN where the cell is no number
    continuous: Column
    errors: NDArray[np.object_]  # one line; empty where the row is well formed


def read_request_table(requests: pd.DataFrame) -> RequestTable:
    """Return the requests of a table; raise InputError where its columns are not those of requests."""
    _check_columns(requests)
    names = {name: _names(requests, name) for name in (*NAMES, "serving")}
    numbers = {name: _numbers(requests, name) for name in _LIMITS}
    numbers["tensor_parallel"] = _with_named_gpus(requests, names["gpu"], numbers)
    serving = names.pop("serving")
    errors = np.full(len(requests), "", dtype=object)
    for row in np.flatnonzero(~_well_formed(names, numbers, serving)).tolist():
        errors[row] = _row_error(requests, row, names, numbers, serving)
    continuous = np.array([name == "continuous" for name in serving.distinct], dtype=np.float64)
    names[ZONE_COLUMN] = _names(requests, ZONE_COLUMN)
    return RequestTable(names=names, numbers=numbers, continuous=continuous[serving.codes], errors=errors)


def _check_columns(requests: pd.DataFrame) -> None:
    if not isinstance(requests, pd.DataFrame):
        raise InputError(
            explain(
                "requests are no pandas DataFrame",
                got=type(requests).__name__,
                remedy="pandas.DataFrame(requests) makes one of a list of dicts or a dict of columns",
            )
        )
    columns = [str(column) for column in requests.columns]
    twice = [name for name in (*REQUEST_COLUMNS, ZONE_COLUMN) if columns.count(name) > 1]
    if twice:
        raise InputError(explain(f"the table of requests has the column {twice[0]!r} twice", expected="once"))
    slip = misspelt_column(columns)
    if slip:
        raise InputError(explain("unknown column", got=repr(slip[0]), remedy=f"did you mean {slip[1]}?"))
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise InputError(
            explain(
                "the table of requests lacks a column",
                got=", ".join(columns) or "no columns",
                expected=" and ".join(missing),
            )
        )


def _names(requests: pd.DataFrame, name: str) -> NameColumn:
    default = str(DEFAULTS.get(name, ""))
    if name not in requests:
        return NameColumn(codes=np.zeros(len(requests), dtype=np.intp), distinct=[default])
    column = requests[name]
    try:
        codes, distinct = pd.factorize(column)
    except TypeError:  # lists and the like, which are no names
        codes, distinct = pd.factorize(column.map(str))
    # The code of an empty cell is -1: the last of the distinct names.
    return NameColumn(codes=codes, distinct=[*(str(cell).strip() or default for cell in distinct), default])


def _numbers(requests: pd.DataFrame, name: str, default: float | None = None) -> Column:
    if default is None:
        default = float(DEFAULTS[name])
    if name not in requests:
        return np.full(len(requests), default)
    column = requests[name]
    if column.dtype.kind in "iuf":  # numpy's, the nullable ones and pyarrow's alike
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isnan(values), default, values)
    return np.array([_number(cell, default) for cell in column.tolist()], dtype=np.float64)


def _with_named_gpus(requests: pd.DataFrame, gpus: NameColumn, numbers: dict[str, Column]) -> Column:
    """Return tensor_parallel, where no cell says it, as the number of GPUs that the row's name of them counts."""
    said, stages = numbers["tensor_parallel"], numbers["pipeline_parallel"]
    counting = np.array([counted_gpus(name) is not None for name in gpus.distinct], dtype=bool)[gpus.codes]
    if not counting.any():
        return said
    column = "tensor_parallel"
    silent = counting & (_numbers(requests, column, np.inf) == np.inf) & (said != np.inf)
    degrees = said.copy()
    for row in np.flatnonzero(silent).tolist():
        degrees[row] = named_degree(gpus.distinct[gpus.codes[row]], float(stages[row]))
    return degrees


def _number(cell: Any, default: float) -> float:
    """Return a cell as a number; NaN where it is none."""
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, str) and not cell.strip()):
        return default
    if isinstance(cell, bool | np.bool_ | bytes):
        return np.nan  # a truth value is no count, though Python would take it for one
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return np.nan
    return default if np.isnan(value) and not isinstance(cell, str) else value


def _well_formed(
    names: dict[str, NameColumn], numbers: dict[str, Column], serving: NameColumn
) -> NDArray[np.bool_]:
    good = np.array([mode in SERVING_MODES for mode in serving.distinct], dtype=bool)[serving.codes]
    for name in REQUIRED_COLUMNS:
        good &= np.array([bool(text) for text in names[name].distinct], dtype=bool)[names[name].codes]
    for name, limit in _LIMITS.items():
        good &= (numbers[name] >= 1.0) & (numbers[name] <= limit)
    for name in PARALLEL:
        good &= numbers[name] == np.floor(numbers[name])
    return good


def _row_error(
    requests: pd.DataFrame,
    row: int,
    names: dict[str, NameColumn],
    numbers: dict[str, Column],
    serving: NameColumn,
) -> str:
    request: dict[str, Any] = {name: column.distinct[column.codes[row]] for name, column in names.items()}
    for name in REQUIRED_COLUMNS:
        if not request[name]:
            return explain(f"{name} is missing", expected=f"a name (llmco2 {name}s lists them)")
    request["serving"] = serving.distinct[serving.codes[row]]
    for name, values in numbers.items():
        value = float(values[row])
        request[name] = _as_written(requests[name].iloc[row]) if np.isnan(value) else value
    try:
        InferenceRequest(**request)
    except InputError as error:
        return str(error)
    return ""


def _as_written(cell: Any) -> Any:
    """Return a cell that is no usable number as its error shows it: the text "nan" as nan."""
    if isinstance(cell, str):
        with suppress(ValueError):
            return float(cell)
    return cell.item() if isinstance(cell, np.generic) else cell
