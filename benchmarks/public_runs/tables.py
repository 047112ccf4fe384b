"""Public sources as tables that the package reads: one of runs, one of kernels.

Invariant: a table holds what the importers return, to the bit; the package itself reads tables alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.public_runs.registry import KERNELS_FILE, import_kernels, import_runs
from llmco2.data.tables import write_kernels, write_runs

RUN_TABLE: Final = "public_runs.parquet"
KERNEL_TABLE: Final = "public_kernels.parquet"


def run_table(path: str | Path, output: Path, *, include_flagged: bool = False) -> Path:
    """Return a table of runs: ``path`` itself where it is a file, else one written from the sources in that folder.

    Args:
        path: a run table, or a folder of public sources.
        output: the folder that a table goes to, as ``public_runs.parquet``.
        include_flagged: keep rows that answer another question (vision-language, edge board, emulated precision).

    Raises:
        InputError: the folder has no ``runs.csv.gz``, or the table cannot be written.
        FileFormatError: a source is damaged or another table.
    """
    if not Path(path).is_dir():
        return Path(path)
    return write_runs(import_runs(path, include_flagged=include_flagged), output / RUN_TABLE)


def kernel_table(path: str | Path, output: Path) -> Path:
    """Return a table of kernels: ``path`` itself, or one written from the public ``kernels.parquet``.

    Args:
        path: a table of kernel measurements, the public ``kernels.parquet``, or the folder that holds it.
        output: the folder that a table goes to, as ``public_kernels.parquet``.

    Raises:
        InputError: no such file, or the table cannot be written.
        FileFormatError: the source is damaged or another table.
    """
    file = Path(path)
    if not file.is_dir() and file.name != KERNELS_FILE:
        return file
    return write_kernels(import_kernels(file), output / KERNEL_TABLE)
