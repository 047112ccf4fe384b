"""Which importer reads which source, and the two entry points."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pandas as pd

from benchmarks.public_runs import (
    alejandroldz,
    argonne,
    dfki,
    ecocompute,
    jetson,
    joulebench,
    kernels,
    mlenergy,
    serving,
    splitwise,
    spot_checks,
    wilkins,
)
from benchmarks.public_runs.rows import EXCLUDED_BY_DEFAULT
from benchmarks.public_runs.sanity import flag_power, flag_time
from llmco2.data.flags import has_flag
from llmco2.errors import FileFormatError, InputError, UnknownNameError, explain

_LOG = logging.getLogger(__name__)

RUNS_FILE: Final = "runs.csv.gz"
LATENCY_FILE: Final = "latency.csv.gz"
DFKI_BATCHES_FILE: Final = "dfki_batches.csv.gz"
JETSON_FILE: Final = "jetson_phases.csv.gz"
KERNELS_FILE: Final = "kernels.parquet"
SERVING_FILE: Final = "serving_2026.csv.gz"
SERVING: Final = "serving_2026"

Converter = Callable[[pd.DataFrame], pd.DataFrame]
# source → the file it is in and its converter; sources of RUNS_FILE are picked by the column ``file``
SOURCES: Final[dict[str, tuple[str, Converter]]] = {
    joulebench.SOURCE: (RUNS_FILE, joulebench.convert),
    wilkins.SOURCE: (RUNS_FILE, wilkins.convert),
    mlenergy.V3: (RUNS_FILE, mlenergy.convert_v3),
    mlenergy.V2: (RUNS_FILE, mlenergy.convert_v2),
    mlenergy.LEGACY: (RUNS_FILE, mlenergy.convert_legacy),
    splitwise.SOURCE: (RUNS_FILE, splitwise.convert),
    argonne.POWER: (RUNS_FILE, argonne.convert_power),
    alejandroldz.SOURCE: (RUNS_FILE, alejandroldz.convert),
    ecocompute.SOURCE: (RUNS_FILE, ecocompute.convert),
    spot_checks.CHUYISHANG: (RUNS_FILE, spot_checks.convert_chuyishang),
    spot_checks.BENCHLAB: (RUNS_FILE, spot_checks.convert_benchlab),
    argonne.LATENCY: (LATENCY_FILE, argonne.convert_latency),
    jetson.SOURCE: (JETSON_FILE, jetson.convert),
    SERVING: (SERVING_FILE, serving.convert),
}


def import_source(name: str, path: str | Path) -> pd.DataFrame:
    """Return the measured runs of one source, flagged rows included.

    Args:
        name: one of :data:`SOURCES` or ``dfki``.
        path: the folder of the public files, or the one file that holds the source (``dfki`` finds its
            batch shapes beside it).

    Raises:
        UnknownNameError: no such source.
        FileFormatError: the file is damaged or another table.
        InputError: the file is missing or has no row of this source.
    """
    if name == dfki.SOURCE:
        file = _file(path, RUNS_FILE)
        return dfki.convert(_rows_of(_read(file), name, file), _read(file.parent / DFKI_BATCHES_FILE))
    if name not in SOURCES:
        raise UnknownNameError("source", name, [*SOURCES, dfki.SOURCE])
    file_name, convert = SOURCES[name]
    file = _file(path, file_name)
    raw = _read(file)
    return convert(_rows_of(raw, name, file) if file_name == RUNS_FILE else raw)


def import_all(
    shared_data_dir: str | Path, *, include_flagged: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (runs, kernels) of every public source found in the folder.

    Args:
        shared_data_dir: folder with the public files; ``runs.csv.gz`` must be there, the others may be.
        include_flagged: keep rows that answer another question (vision-language, edge board, emulated
            precision).

    Raises:
        InputError: the folder has no ``runs.csv.gz``.
        FileFormatError: a file is damaged or another table.
    """
    runs = import_runs(shared_data_dir, include_flagged=include_flagged)
    kernels_file = Path(shared_data_dir) / KERNELS_FILE
    return runs, import_kernels(kernels_file) if kernels_file.is_file() else kernels.empty()


def import_runs(shared_data_dir: str | Path, *, include_flagged: bool = False) -> pd.DataFrame:
    """Return the runs of every public source found in the folder, without reading its kernels.

    Raises:
        InputError: the folder has no ``runs.csv.gz``.
        FileFormatError: a file is damaged or another table.
    """
    folder = Path(shared_data_dir)
    runs_file = _file(folder, RUNS_FILE)
    raw = _read(runs_file)
    tables = []
    for name, (file_name, convert) in SOURCES.items():
        if file_name == RUNS_FILE and (raw["file"] == name).any():
            tables.append(convert(_rows_of(raw, name, runs_file)))
        elif file_name != RUNS_FILE and (folder / file_name).is_file():
            tables.append(convert(_read(folder / file_name)))
    if (raw["file"] == dfki.SOURCE).any() and (folder / DFKI_BATCHES_FILE).is_file():
        tables.append(dfki.convert(_rows_of(raw, dfki.SOURCE, runs_file), _read(folder / DFKI_BATCHES_FILE)))
    known = {*SOURCES, dfki.SOURCE}
    strangers = sorted(set(raw["file"].dropna().unique()) - known)
    if strangers:
        _LOG.warning("no importer for %s in %s", ", ".join(strangers), runs_file.name)
    runs = flag_time(flag_power(pd.concat(tables, ignore_index=True)))
    return runs if include_flagged else drop_flagged(runs)


def import_kernels(path: str | Path) -> pd.DataFrame:
    """Return the measured kernels of ``kernels.parquet``.

    Raises:
        FileFormatError: the file is damaged or another table.
        InputError: there is no such file.
    """
    return kernels.convert(_read(_file(path, KERNELS_FILE)))


def drop_flagged(runs: pd.DataFrame, flags: tuple[str, ...] = EXCLUDED_BY_DEFAULT) -> pd.DataFrame:
    """Return the runs that carry none of ``flags``."""
    return runs[~has_flag(runs["flags"], flags)].reset_index(drop=True)


def _file(path: str | Path, name: str) -> Path:
    file = Path(path)
    file = file / name if file.is_dir() else file
    if not file.is_file():
        raise InputError(explain("no such file", got=file, expected=f"{name} of the public measurements"))
    return file


def _rows_of(raw: pd.DataFrame, source: str, file: Path) -> pd.DataFrame:
    if "file" not in raw.columns:
        raise FileFormatError(explain(f"{file.name} is not the table of public runs", got="no column 'file'"))
    rows = raw[raw["file"] == source]
    if rows.empty:
        raise InputError(explain(f"{file.name} has no row of the source {source!r}"))
    return rows


def _read(file: Path) -> pd.DataFrame:
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        return pd.read_csv(file, low_memory=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileFormatError(
            explain(f"cannot read {file.name}", got=first, remedy="fetch the file again")
        ) from error
