"""Parquet files of other people's making, read within limits.

Invariant: what a file says of itself is checked before anything is unpacked. A megabyte of Parquet can stand for
gigabytes, for runs and dictionaries repeat a value for free: it is the number of values that counts, and how long each
is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmco2.bounded import MAX_CELLS, MAX_COLUMNS, MAX_TEXT_BYTES

MAX_TEXT: Final = 65_536  # characters of one cell
MAX_UNPACKED_BYTES: Final = 2_000_000_000
# What readers of a damaged file raise: its bytes are at fault, or the pandas metadata in it.
_DAMAGE: Final = (
    *(pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError, ImportError),
    *(OverflowError, RecursionError, MemoryError, NotImplementedError),
)


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the table of ``path``, texts as objects; errors as in :func:`read_parquet_table`."""
    return parquet_frame(read_parquet_table(path))


def read_parquet_table(path: Path) -> pa.Table:
    """Return the columns of ``path``, texts as dictionaries.

    Raises ValueError, one line, for what is no whole Parquet file or larger than the limits; OSError where the file
    cannot be read.
    """
    with path.open("rb"):  # a missing or unreadable file is no damaged one
        pass
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _check_size(file)
        texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
        table = pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True).read()
        for name in texts:
            _check_texts(name, table[name])
    except _DAMAGE as error:
        raise ValueError(_first_line(error)) from error
    return table


def parquet_frame(table: pa.Table) -> pd.DataFrame:
    """Return ``table`` as pandas has it; raises ValueError, one line, for cells or metadata that are damaged."""
    try:
        frame: pd.DataFrame = table.to_pandas()
    except _DAMAGE as error:
        raise ValueError(_first_line(error)) from error
    for name in frame.columns[frame.dtypes.map(lambda kind: isinstance(kind, pd.CategoricalDtype))]:
        frame[name] = frame[name].astype(object)
    return frame


def _first_line(error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return first.removeprefix("Could not open Parquet input source ")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _check_size(file: pq.ParquetFile) -> None:
    """Raise ValueError for what its footer says is too large.

    The footer's column chunks are left alone: pyarrow 26 ends the process on some damaged ones.
    """
    head = file.metadata
    if head.num_columns > MAX_COLUMNS:
        raise ValueError(f"{head.num_columns:,} columns, more than {MAX_COLUMNS:,}")
    groups = list(map(head.row_group, range(head.num_row_groups)))
    n_rows = max(head.num_rows, sum(group.num_rows for group in groups))
    if n_rows * head.num_columns > MAX_CELLS:
        raise ValueError(f"{n_rows * head.num_columns:,} cells, more than {MAX_CELLS:,}")
    if sum(group.total_byte_size for group in groups) > MAX_UNPACKED_BYTES:
        raise ValueError(f"more than {MAX_UNPACKED_BYTES:,} bytes unpacked")
    for field in file.schema_arrow:
        if pa.types.is_nested(field.type):
            raise ValueError(f"lists or objects in {field.name[:80]!r}; expected text or numbers")
        if pa.types.is_fixed_size_binary(field.type) and field.type.byte_width > MAX_TEXT:
            raise ValueError(f"cells of {field.type.byte_width:,} bytes in {field.name[:80]!r}")


def _check_texts(name: str, column: pa.ChunkedArray) -> None:
    """Raise ValueError where a text of ``column`` is too long, or all of them written out are too large."""
    total = 0
    for chunk in column.chunks:
        repeats = isinstance(chunk, pa.DictionaryArray)
        lengths = pc.binary_length(chunk.dictionary if repeats else chunk)
        longest = pc.max(lengths).as_py() or 0
        if longest > MAX_TEXT:
            raise ValueError(f"a text of {longest:,} bytes in {name[:80]!r}, more than {MAX_TEXT:,}")
        total += pc.sum(lengths.take(chunk.indices) if repeats else lengths).as_py() or 0
    if total > MAX_TEXT_BYTES:
        raise ValueError(f"{total:,} bytes of text in {name[:80]!r}, more than {MAX_TEXT_BYTES:,}")
