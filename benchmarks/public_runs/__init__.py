"""Importers: public measurement files, as their authors publish them in one normalised table, to our own
records.

The files are not shipped. A user who has them points :func:`import_all` at their folder: ``runs.csv.gz``
(whose column ``file`` names the source), ``latency.csv.gz``, ``dfki_batches.csv.gz``,
``jetson_phases.csv.gz``, ``serving_2026.csv.gz``, ``kernels.parquet``. Each module's docstring states what its source
measured and which rows are dropped, merged or trusted less, and why.
"""

from __future__ import annotations

from benchmarks.public_runs.registry import (
    SOURCES,
    drop_flagged,
    import_all,
    import_kernels,
    import_runs,
    import_source,
)
from benchmarks.public_runs.sanity import source_report

__all__ = [
    "SOURCES",
    "drop_flagged",
    "import_all",
    "import_kernels",
    "import_runs",
    "import_source",
    "source_report",
]
