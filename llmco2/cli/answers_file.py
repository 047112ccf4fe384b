"""Tables of answers, out to CSV, Parquet, a JSON array or JSON lines, printed or as a file.

Invariant: a value that a format cannot hold as it is stays readable as text; none becomes an absent one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TextIO

import pandas as pd

from llmco2.cli.output_file import write_whole
from llmco2.records.columns import REQUIRED_COLUMNS
from llmco2.records.request import InferenceRequest
from llmco2.report.json_format import array_json, json_cells, row_json

_DEFAULTS: Final = {
    field.name: field.default for field in fields(InferenceRequest) if field.name not in REQUIRED_COLUMNS
}
_ROWS_AT_ONCE: Final = 5_000  # of a table as Python's own objects


def write_answers(answers: pd.DataFrame, path: Path) -> None:
    """Write ``answers`` as the ending of ``path`` says; raises InputError where that cannot be."""
    write_whole(path, lambda part: _write(answers, part, path.suffix.lower()))


def print_answers(answers: pd.DataFrame, stream: TextIO, kind: str) -> None:
    """Write ``answers`` to ``stream`` as ``csv``, ``json`` (one array) or ``jsonl`` (an object a line)."""
    narrow = not (getattr(stream, "encoding", None) or "utf-8").casefold().startswith("utf")
    if kind == "json":
        stream.writelines(array_json(_rows(answers), ascii_only=narrow))
    elif kind == "jsonl":
        stream.writelines(f"{row_json(row, ascii_only=narrow)}\n" for row in _rows(answers))
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


def _rows(answers: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    """Yield the rows as JSON can hold them, a few thousand at a time as Python's own objects."""
    names = [str(name) for name in answers.columns]
    for start in range(0, len(answers), _ROWS_AT_ONCE):
        some = answers.iloc[start : start + _ROWS_AT_ONCE]
        columns = [json_cells(some.iloc[:, i].tolist()) for i in range(len(names))]
        for cells in zip(*columns, strict=True):
            yield dict(zip(names, cells, strict=True))


def _write(answers: pd.DataFrame, path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        _one_type_a_column(answers).to_parquet(path, index=False)
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        print_answers(answers, stream, suffix.removeprefix("."))


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
