"""Run and kernel tables on disk: read with every row checked, written whole or not at all.

Formats by file name: ``.jsonl``, ``.csv``, ``.csv.gz``, ``.parquet``. An empty CSV cell, a JSON null and a
Parquet null all mean "not measured"; a literal NaN is refused in every format, because it hides whether
something failed.

Invariant: what :func:`read_runs` returns can be trained on: rows that failed are out (and counted in
``attrs["excluded_failed"]``), each ``run_id`` occurs once, and no row is simulated, or measured with reference
code where kernels were missing, unless that was asked for.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from llmco2.data.flags import LEFT_OUT, has_flag
from llmco2.data.formats import parse_file, write_file
from llmco2.data.schema import (
    KERNEL_COLUMNS,
    RUN_COLUMNS,
    Record,
    canonical_frame,
    check_values,
)
from llmco2.errors import FileFormatError, InputError, explain
from llmco2.records.run import KernelMeasurement, MeasuredRun

__all__ = [
    "KERNEL_COLUMNS",
    "RUN_COLUMNS",
    "read_kernels",
    "read_runs",
    "run_rows",
    "write_kernels",
    "write_runs",
]

_LOG = logging.getLogger(__name__)
OK: Final = "ok"


def read_runs(
    path: str | Path,
    *,
    allow_simulated: bool = False,
    require_ok: bool = True,
    include_flagged: bool = False,
) -> pd.DataFrame:
    """Return the measured runs of a file, one row per ``run_id``, in file order.

    Of rows with one ``run_id`` the last that succeeded counts, as in a log that was resumed. ``attrs`` of the
    frame holds ``excluded_failed``, ``excluded_duplicates`` and ``excluded_flagged``, numbers of rows.

    Args:
        path: ``.jsonl``, ``.csv``, ``.csv.gz`` or ``.parquet``.
        allow_simulated: accept rows that no real GPU drew.
        require_ok: leave out rows whose ``status`` is not ``ok``.
        include_flagged: keep rows with a flag of :data:`~llmco2.data.flags.LEFT_OUT`.

    Raises:
        FileFormatError: damaged, truncated, foreign or of another version; the message names file and line.
        InputError: no such file, no usable row, or simulated rows that were not asked for.
    """
    everything = _read(Path(path), MeasuredRun)
    frame = everything if include_flagged else everything[~has_flag(everything["flags"], LEFT_OUT)]
    flagged = len(everything) - len(frame)
    failed = frame["status"] != OK
    order = failed.astype(int).to_numpy()
    # stable: among equals the file order stands, and failures come first so that a success is the last
    ranked = frame.iloc[np.argsort(-order, kind="stable")]
    unique = ranked[~ranked["run_id"].duplicated(keep="last")].sort_index()
    duplicates = len(frame) - len(unique)
    lost = int((unique["status"] != OK).sum()) if require_ok else 0
    kept = unique[unique["status"] == OK] if require_ok else unique
    _refuse_simulated(kept, Path(path), allow_simulated)
    if kept.empty:
        raise InputError(
            explain(
                f"{Path(path).name} has no usable run",
                got=f"{len(everything)} rows, {lost} failed" + (f", {flagged} flagged" if flagged else ""),
                remedy=f"include_flagged keeps rows flagged {', '.join(LEFT_OUT)}" if flagged else "",
            )
        )
    if flagged:
        _LOG.warning("%s: left out %d rows flagged %s; include_flagged keeps them", Path(path).name, flagged,
                     ", ".join(LEFT_OUT))  # fmt: skip
    if lost or duplicates:
        _LOG.info("%s: left out %d failed and %d repeated rows", Path(path).name, lost, duplicates)
    kept = kept.reset_index(drop=True)
    kept.attrs.update(excluded_failed=lost, excluded_duplicates=duplicates, excluded_flagged=flagged)
    return kept


def read_kernels(path: str | Path, *, allow_simulated: bool = False) -> pd.DataFrame:
    """Return the kernel measurements of a file, in file order, without those that failed.

    ``attrs["excluded_failed"]`` of the frame is the number of those.

    Raises:
        FileFormatError: damaged, truncated, foreign or of another version; the message names file and line.
            Or a kernel that succeeded has no latency.
        InputError: no such file, or simulated rows that were not asked for.
    """
    frame = _read(Path(path), KernelMeasurement)
    kept = frame[frame["status"] == OK].reset_index(drop=True)
    lost = len(frame) - len(kept)
    _refuse_simulated(kept, Path(path), allow_simulated)
    untimed = int(kept["latency_s"].isna().sum())
    if untimed:
        got = f"{untimed} of {len(kept)} rows without latency_s"
        raise FileFormatError(explain(f"{Path(path).name}: kernels that were not timed", got=got))
    if lost:
        _LOG.info("%s: left out %d kernels that failed", Path(path).name, lost)
    kept.attrs["excluded_failed"] = lost
    return kept


def write_runs(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write measured runs; the file appears whole or not at all. Returns the path.

    Raises:
        InputError: the frame is not one of runs, or the place cannot be written.
    """
    return _write(frame, Path(path), MeasuredRun)


def write_kernels(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write kernel measurements; the file appears whole or not at all. Returns the path.

    Raises:
        InputError: the frame is not one of kernels, or the place cannot be written.
    """
    return _write(frame, Path(path), KernelMeasurement)


def run_rows(frame: pd.DataFrame) -> list[MeasuredRun]:
    """Return the rows of a canonical frame as records, NaN becoming ``None``."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [MeasuredRun(**{str(name): value for name, value in row.items()}) for row in rows]


def _read(path: Path, record: Record) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(
            explain("no such file", got=path, expected="a .jsonl, .csv, .csv.gz or .parquet table")
        )
    parsed = parse_file(path)
    if "schema_version" not in parsed.frame.columns:
        raise FileFormatError(explain(f"{path.name} is not a llmco2 table", got="no column 'schema_version'"))
    frame = canonical_frame(parsed.frame, record, origin=path.name, place=parsed.place)
    check_values(frame, record, origin=path.name, place=parsed.place)
    return frame


def _refuse_simulated(frame: pd.DataFrame, path: Path, allowed: bool) -> None:
    n_simulated = int(frame["simulated"].sum())
    if n_simulated and not allowed:
        raise InputError(
            explain(
                f"{path.name} holds simulated rows",
                got=f"{n_simulated} of {len(frame)}",
                expected="rows that a real GPU drew",
                remedy="set allow_simulated to use them all the same",
            )
        )


def _write(frame: pd.DataFrame, path: Path, record: Record) -> Path:
    canonical = canonical_frame(frame, record)
    check_values(canonical, record, origin="table")
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(canonical, temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(explain(f"cannot write {path}", got=error.strerror or str(error))) from error
    finally:
        with suppress(OSError):  # gone already, or its folder never was
            temporary.unlink()
    return path


def frame_of(rows: list[Any]) -> pd.DataFrame:
    """Return records of one class as their canonical frame.

    Raises:
        InputError: there are no rows to tell the class from.
    """
    if not rows:
        raise InputError(explain("no rows", expected="at least one record"))
    record = type(rows[0])
    names = RUN_COLUMNS if record is MeasuredRun else KERNEL_COLUMNS
    return canonical_frame(
        pd.DataFrame([{name: getattr(row, name) for name in names} for row in rows]), record
    )
