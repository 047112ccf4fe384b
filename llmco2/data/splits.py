"""Group-aware splits: whole groups go to one side, so that a test asks what a user would ask.

Random row splits leak, because rows of one campaign resemble each other; every split here holds out something
whole: a model family, a GPU, a (model, GPU, engine) deployment, or a request shape.

Invariant: a split depends on the rows' groups and the seed only, never on row order; a group stays on its
side when rows are added. Each side is named by a hash over its sorted ``run_id``s.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.catalog.models import resolve_model
from llmco2.data.schema import canonical_frame
from llmco2.errors import InputError, UnknownNameError, explain
from llmco2.records.run import MeasuredRun

FAMILY: Final = "family"
DEPLOYMENT: Final = ("model", "gpu", "engine")
REQUEST: Final = (
    "model",
    "gpu",
    "engine",
    "precision",
    "tensor_parallel",
    "pipeline_parallel",
    "expert_parallel",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
)
_HASH_RANGE: Final = float(2**64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Positions of the rows on each side, and the hashes that name them."""

    name: str  # "gpu=H100-SXM5-80GB", "model,gpu,engine 20 % seed 0"
    by: tuple[str, ...]
    train: NDArray[np.intp]  # (n_train,) row positions
    test: NDArray[np.intp]  # (n_test,) row positions
    train_sha256: str
    test_sha256: str


def group_keys(runs: pd.DataFrame, by: str | Sequence[str]) -> pd.Series:
    """Return one text per row that names its group; ``family`` is the model's lineage in the catalog.

    Raises:
        InputError: no such column.
    """
    columns = (by,) if isinstance(by, str) else tuple(by)
    missing = [name for name in columns if name != FAMILY and name not in runs.columns]
    if missing or not columns:
        raise InputError(explain("cannot group runs", got=f"no column {', '.join(missing)}"))
    parts = [
        model_families(runs["model"]) if name == FAMILY else runs[name].map(_text).astype(object)
        for name in columns
    ]
    keys = parts[0]
    for part in parts[1:]:
        keys = keys + " | " + part
    return keys


def model_families(models: pd.Series) -> pd.Series:
    """Return the family of each model; of one that the catalog lacks, the organisation in its name."""
    names = {name: _family(str(name)) for name in models.unique().tolist()}
    return models.map(names).astype(object)


def leave_one_out(runs: pd.DataFrame, by: str | Sequence[str], *, min_rows: int = 1) -> Iterator[Split]:
    """Yield one split per group, in name order: that group is the test side, all else the training side.

    Args:
        runs: canonical runs.
        by: ``family``, ``gpu``, ``model``, ``source`` or several columns.
        min_rows: pass over groups with fewer rows than this.

    Raises:
        InputError: fewer than two groups.
    """
    keys = group_keys(runs, by)
    counts = keys.value_counts()
    if len(counts) < 2:
        raise InputError(
            explain("cannot leave one group out", got=f"{len(counts)} group", expected="two or more")
        )
    label = by if isinstance(by, str) else ",".join(by)
    for group in sorted(counts[counts >= min_rows].index):
        yield _split(runs, (keys == group).to_numpy(), f"{label}={group}", by)


def grouped_split(
    runs: pd.DataFrame, by: str | Sequence[str] = DEPLOYMENT, *, test_share: float = 0.2, seed: int = 0
) -> Split:
    """Return a split with about ``test_share`` of the groups on the test side.

    ``by=DEPLOYMENT`` asks for unseen (model, GPU, engine) combinations, ``by=REQUEST`` for new requests to
    known deployments. A group's side follows from the hash of its name and the seed alone.

    Raises:
        InputError: the share is not between 0 and 1, or there are fewer than two groups.
    """
    if not 0 < test_share < 1:
        raise InputError(explain("bad test_share", got=test_share, expected="between 0 and 1, both excluded"))
    keys = group_keys(runs, by)
    places = {group: _place(str(group), seed) for group in keys.unique().tolist()}
    if len(places) < 2:
        raise InputError(explain("cannot split", got=f"{len(places)} group", expected="two or more"))
    ordered = sorted(places, key=lambda group: places[group])
    n_test = sum(place < test_share for place in places.values())
    chosen = set(
        ordered[: min(max(n_test, 1), len(ordered) - 1)]
    )  # both sides have a group, however few there are
    label = by if isinstance(by, str) else ",".join(by)
    return _split(runs, keys.isin(chosen).to_numpy(), f"{label} {test_share:.0%} seed {seed}", by)


def check_leakage(train: pd.DataFrame, test: pd.DataFrame, by: str | Sequence[str]) -> None:
    """Raise where a group, or a row, is on both sides.

    Raises:
        InputError: naming a shared group and how many there are.
    """
    shared_rows = set(train["run_id"]) & set(test["run_id"])
    if shared_rows:
        raise InputError(
            explain(
                "train and test share rows",
                got=f"{len(shared_rows)}, such as {min(shared_rows)}",
                expected="none",
            )
        )
    shared = set(group_keys(train, by)) & set(group_keys(test, by))
    if shared:
        label = by if isinstance(by, str) else ",".join(by)
        raise InputError(
            explain(
                f"train and test share groups of {label}",
                got=f"{len(shared)}, such as {min(shared)}",
                expected="none",
                remedy="split with grouped_split or leave_one_out",
            )
        )


def run_ids_sha256(run_ids: pd.Series) -> str:
    """Return the SHA-256 over the sorted run ids, one a line."""
    return hashlib.sha256("\n".join(sorted(run_ids.astype(str))).encode()).hexdigest()


def data_hash(runs: pd.DataFrame) -> str:
    """Return the SHA-256 of a run table's whole content, without regard to row order."""
    canonical = canonical_frame(runs, MeasuredRun).sort_values("run_id", kind="stable")
    return hashlib.sha256(canonical.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def _split(runs: pd.DataFrame, is_test: NDArray[np.bool_], name: str, by: str | Sequence[str]) -> Split:
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    return Split(
        name=name,
        by=(by,) if isinstance(by, str) else tuple(by),
        train=train,
        test=test,
        train_sha256=run_ids_sha256(runs["run_id"].iloc[train]),
        test_sha256=run_ids_sha256(runs["run_id"].iloc[test]),
    )


def _place(group: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}|{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / _HASH_RANGE


def _family(name: str) -> str:
    try:
        family = resolve_model(name).family
    except UnknownNameError:
        family = ""
    return family or name.split("/", 1)[0].casefold()


def _text(value: object) -> str:
    if isinstance(value, float):
        return "unknown" if math.isnan(value) else f"{value:.9g}"
    return "unknown" if value is None else str(value)
