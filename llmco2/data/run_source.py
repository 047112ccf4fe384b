"""Runs to train on, from wherever a person keeps them: a table, or what ships.

Invariant: simulated rows train nothing unless somebody asked for them, and the log says so whenever they do.
A run whose deployment cannot be resolved is dropped, counted and named in the log, never in silence.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Final

import pandas as pd

from llmco2.data.simulate import SHIPPED_FILE
from llmco2.data.tables import read_runs
from llmco2.deployment.resolving import resolve_deployment
from llmco2.errors import InputError, explain
from llmco2.records.request import UNKNOWN
from llmco2.resources import datasets_dir

_LOG = logging.getLogger(__name__)
DEPLOYMENT_COLUMNS: Final = (
    "model", "gpu", "tensor_parallel", "pipeline_parallel", "expert_parallel", "engine", "precision",
    "kv_precision",
)  # fmt: skip
_REASONS_SHOWN: Final = 5


def load_runs(
    path: str | None, *, allow_simulated: bool = False, include_flagged: bool = False
) -> pd.DataFrame:
    """Return the runs at ``path`` whose deployments can be resolved, in file order.

    Args:
        path: a run table, or None for the simulated set that ships.
        allow_simulated: accept simulated rows in a table of one's own.
        include_flagged: keep rows whose flags say that they answer another question.

    Raises:
        InputError: no such file, nothing usable, or simulated rows that were not asked for.
        FileFormatError: a damaged or foreign file.
    """
    if path is None:
        runs = read_runs(datasets_dir() / SHIPPED_FILE, allow_simulated=True)
    elif Path(path).is_dir():
        raise InputError(
            explain("runs are one table", got=f"the folder {path}", expected=".jsonl, .csv, .csv.gz or .parquet",
                    remedy="python -m benchmarks.public_runs makes one of public sources, in a checkout")
        )  # fmt: skip
    else:
        runs = read_runs(path, allow_simulated=allow_simulated, include_flagged=include_flagged)
    n_simulated = int(runs["simulated"].sum())
    if n_simulated:
        _LOG.warning(
            "SIMULATED DATA: %d of %d runs were drawn by no GPU; what they train predicts nothing real",
            n_simulated,
            len(runs),
        )
    return resolvable(runs)


def resolvable(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs whose deployment can be; the log counts the others by reason.

    Raises InputError when none is left.
    """
    keys = runs[list(DEPLOYMENT_COLUMNS)].astype(object)
    keys = keys.where(keys.notna(), UNKNOWN)
    rows = list(keys.itertuples(index=False, name=None))
    reason = {key: _why_not(key) for key in dict.fromkeys(rows)}
    dropped = Counter(reason[key] for key in rows if reason[key])
    for text, count in dropped.most_common(_REASONS_SHOWN):
        _LOG.info("dropped %d runs: %s", count, text)
    if dropped:
        _LOG.warning("dropped %d of %d runs whose deployment cannot be resolved (%d reasons)",
                     dropped.total(), len(runs), len(dropped))  # fmt: skip
    kept = runs[[not reason[key] for key in rows]].reset_index(drop=True)
    if kept.empty:
        first = next(iter(dropped), "no rows")
        raise InputError(explain("no run is left to train on", got=f"{len(runs)} runs dropped", remedy=first))
    return kept


def _why_not(key: tuple[object, ...]) -> str:
    model, gpu, tp, pp, ep, engine, precision, kv = key
    try:
        resolve_deployment(str(model), str(gpu), int(tp), int(pp), int(ep),  # type: ignore[call-overload]
                           str(engine), str(precision), str(kv))  # fmt: skip
    except InputError as error:
        return str(error)
    return ""
