"""The record schemas as table columns: names, kinds, defaults, and the check of a whole frame at once.

Invariant: a frame that went through :func:`canonical_frame` has exactly the record's columns in its order;
numbers are float64 with NaN for "not measured", whole numbers are int64 where the record requires them.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd

from llmco2.errors import FileFormatError, explain, nearest_names
from llmco2.records.run import KERNEL_COLUMNS, RUN_COLUMNS, RUN_SCHEMA_VERSION, KernelMeasurement, MeasuredRun

Kind = Literal["text", "whole", "number", "flag"]
Record = type[MeasuredRun] | type[KernelMeasurement]
_KINDS: Final[dict[type, Kind]] = {str: "text", int: "whole", float: "number", bool: "flag"}
_SIGNED: Final = frozenset({"temperature_c"})
_AT_LEAST_ONE: Final = frozenset(
    {
        "tensor_parallel",
        "pipeline_parallel",
        "expert_parallel",
        "data_parallel",
        "batch_size",
        "repeats",
        "n_gpus",
    }
)

_EXPECTED_KIND: Final[dict[Kind, str]] = {
    "text": "text",
    "whole": "a whole number",
    "number": "a number",
    "flag": "true or false",
}
_FLAGS: Final = {"true": True, "false": False}  # as text formats spell them
# what pandas calls a column that holds nothing else; a column of nothing at all is "empty"
_INFERRED: Final[dict[Kind, tuple[str, ...]]] = {"text": ("string", "empty"), "flag": ("boolean", "empty")}
Place = Callable[[int], str]

__all__ = [
    "KERNEL_COLUMNS",
    "RUN_COLUMNS",
    "ColumnSpec",
    "canonical_frame",
    "check_values",
    "column_specs",
]


def row_place(index: int) -> str:
    """Return the name of a row that stands in no text file."""
    return f"row {index + 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """One column of a record table."""

    name: str
    kind: Kind
    optional: bool  # may be absent in a row
    required: bool  # the record has no default for it
    default: Any


def column_specs(record: Record) -> tuple[ColumnSpec, ...]:
    """Return the columns of ``record`` in field order."""
    return _SPECS[record]


def _read_specs(record: Record) -> tuple[ColumnSpec, ...]:
    hints = get_type_hints(record)
    specs = []
    for field in fields(record):
        hint = hints[field.name]
        optional = get_origin(hint) in (Union, types.UnionType)
        base = next(arg for arg in get_args(hint) if arg is not type(None)) if optional else hint
        specs.append(
            ColumnSpec(
                name=field.name,
                kind=_KINDS[base],
                optional=optional,
                required=field.default is MISSING,
                default=None if field.default is MISSING else field.default,
            )
        )
    return tuple(specs)


_SPECS: Final[dict[Record, tuple[ColumnSpec, ...]]] = {
    record: _read_specs(record) for record in (MeasuredRun, KernelMeasurement)
}


def canonical_frame(
    frame: pd.DataFrame, record: Record, *, origin: str = "table", place: Place = row_place
) -> pd.DataFrame:
    """Return ``frame`` with exactly the columns of ``record``, in order, typed, defaults filled in.

    Raises:
        FileFormatError: a required column is missing, a column is unknown, or a cell is of the wrong kind.
    """
    specs = column_specs(record)
    known = {spec.name for spec in specs}
    missing = [spec.name for spec in specs if spec.required and spec.name not in frame.columns]
    if missing:
        raise FileFormatError(
            explain(
                f"{origin} is not a table of {_noun(record)}",
                got=f"no column {', '.join(missing)}",
                expected=", ".join(spec.name for spec in specs if spec.required),
            )
        )
    unknown = [str(name) for name in frame.columns if name not in known]
    if unknown:
        near = nearest_names(unknown[0], known)
        hint = f"did you mean {', '.join(near)}?" if near else "remove or rename it"
        raise FileFormatError(explain(f"{origin} has an unknown column", got=repr(unknown[0]), remedy=hint))
    columns = {spec.name: _typed(frame, spec, origin, place) for spec in specs}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))


def _typed(frame: pd.DataFrame, spec: ColumnSpec, origin: str, place: Place) -> pd.Series:
    if spec.name not in frame.columns:
        return _defaults(spec, len(frame))
    values = frame[spec.name].reset_index(drop=True)
    try:
        return _cast(values, spec)
    except (TypeError, ValueError, OverflowError):
        index, cell = _first_bad_cell(values, spec)
        raise FileFormatError(
            explain(
                f"{origin}, {place(index)}: bad {spec.name}",
                got=repr(cell),
                expected=_EXPECTED_KIND[spec.kind],
            )
        ) from None


def _defaults(spec: ColumnSpec, n_rows: int) -> pd.Series:
    value = np.nan if spec.default is None and spec.kind in ("number", "whole") else spec.default
    kinds = {"number": "float64", "whole": "float64" if spec.optional else "int64", "flag": "bool"}
    dtype = "object" if spec.optional and spec.kind == "flag" else kinds.get(spec.kind, "object")
    return pd.Series(np.full(n_rows, value, dtype=dtype), dtype=dtype)


def _first_bad_cell(values: pd.Series, spec: ColumnSpec) -> tuple[int, object]:
    for index, cell in enumerate(values):
        try:
            _cast(pd.Series([cell], dtype=object), spec)
        except (TypeError, ValueError, OverflowError):
            return index, cell
    return 0, values.iloc[0]


def _cast(values: pd.Series, spec: ColumnSpec) -> pd.Series:
    """Return the cells as the column's type; raises ValueError where one is of another kind."""
    absent = values.isna()
    if absent.all() and (spec.optional or not len(values)):
        return _defaults(replace(spec, default=None) if spec.optional else spec, len(values))
    if not spec.optional and not spec.required and absent.any():
        values = values.astype(object).where(~absent, spec.default)
        absent = values.isna()
    if spec.kind in ("number", "whole"):
        if values.dtype == object and pd.api.types.infer_dtype(values) in (
            "boolean",
            "mixed",
            "mixed-integer",
        ):
            values = values.where(~values.map(lambda cell: isinstance(cell, bool)), "a truth value")
        if values.dtype == bool:
            raise ValueError("a truth value among numbers")
        numbers = pd.to_numeric(values).astype("float64")
        if spec.kind == "number":
            return numbers
        if not np.all(absent | (numbers == np.floor(numbers))) or (absent.any() and not spec.optional):
            raise ValueError("not whole")
        return numbers if spec.optional else numbers.astype("int64")
    if spec.kind == "flag" and values.dtype != bool:
        values = values.map(lambda cell: _FLAGS.get(cell.casefold(), cell) if isinstance(cell, str) else cell)
    if pd.api.types.infer_dtype(values, skipna=True) not in _INFERRED[spec.kind]:
        raise ValueError(f"not {spec.kind}")
    if spec.kind == "flag" and not spec.optional:
        return values.astype(bool)
    return values.astype(object).where(~absent, None)


def check_values(frame: pd.DataFrame, record: Record, *, origin: str, place: Place = row_place) -> None:
    """Raise for the first row that cannot be: infinite or negative numbers, an empty name, a foreign version.

    Args:
        frame: a canonical frame.
        record: the record class it holds.
        origin: the file's name, for the message.
        place: what a row is called in the message: "line 7" of a text file, "row 6" of others.

    Raises:
        FileFormatError: with file, line and column.
    """
    for spec in column_specs(record):
        values = frame[spec.name]
        if spec.kind in ("number", "whole"):
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            low = 1.0 if spec.name in _AT_LEAST_ONE else (-np.inf if spec.name in _SIGNED else 0.0)
            bad = np.isinf(numbers) | (numbers < low)
            expected = f"a finite number of at least {low:g}" if np.isfinite(low) else "a finite number"
        elif spec.kind == "text" and spec.required:
            bad = values.map(lambda cell: not isinstance(cell, str) or not cell.strip()).to_numpy(dtype=bool)
            expected = "a name"
        else:
            continue
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise FileFormatError(
                explain(
                    f"{origin}, {place(row)}: bad {spec.name}",
                    got=_shown(values.iloc[row]),
                    expected=expected,
                )
            )
    foreign = frame["schema_version"].to_numpy() != RUN_SCHEMA_VERSION
    if foreign.any():
        row = int(np.flatnonzero(foreign)[0])
        raise FileFormatError(
            explain(
                f"{origin}, {place(row)}: another schema version",
                got=frame["schema_version"].iloc[row],
                expected=RUN_SCHEMA_VERSION,
                remedy="write it again with this version of llmco2",
            )
        )


def _shown(cell: object) -> str:
    return f"{cell:g}" if isinstance(cell, float | int | np.number) else repr(cell)


def _noun(record: Record) -> str:
    return "measured runs" if record is MeasuredRun else "kernel measurements"
