"""All results of an evaluation, fold by fold, in a form that figures can be drawn from.

Invariant: within a fold, errors of every method and seed and the table positions of the rows have one order, that of
the run ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.jobs import Job
from benchmarks.accuracy.results_file import JobKey, JobResult
from benchmarks.accuracy.splits_file import case_of
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule, Index

# What was not measured comes first: it is what a user asks.
CASES: Final = ("new both", "new gpu", "new model", "new deployment", "new request")
CASE_TITLES: Final = {
    "new both": "a board and a model family",
    "new gpu": "a board",
    "new model": "a model family",
    "new deployment": "a deployment of known parts",
    "new request": "a request",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldEvidence:
    """What was predicted where one group was left out."""

    fold: Fold
    case: str
    rows: Index  # (n_rows,) table positions, in the order of their run ids
    errors: Mapping[str, NDArray[np.float64]]  # method → (n_seeds, n_rows, N_LABELS)


def gathered(
    data: EnergyDataModule, folds: Iterable[Fold], jobs: Sequence[Job], finished: Mapping[JobKey, JobResult],
    methods: Sequence[str],
) -> list[FoldEvidence]:  # fmt: skip
    """Return the evidence of every fold that some finished job evaluated, unseen cases first."""
    run_ids = data.frame["run_id"].astype(str).to_numpy()
    found = []
    for fold in folds:
        own = [finished[job.key] for job in jobs if job.key.fold == fold.name]
        by_method = {name: [one.errors[name] for one in own if name in one.errors] for name in methods}
        errors = {name: np.stack(seeds) for name, seeds in by_method.items() if seeds}
        if errors:
            rows = fold.test[run_ids[fold.test].argsort(kind="stable")]
            found.append(FoldEvidence(fold=fold, case=case_of(fold), rows=rows, errors=errors))
    return sorted(found, key=lambda one: CASES.index(one.case))


def by_case(evidence: Iterable[FoldEvidence]) -> dict[str, list[FoldEvidence]]:
    """Return the folds of each case that has any, unseen cases first."""
    groups: dict[str, list[FoldEvidence]] = {}
    for one in evidence:
        groups.setdefault(one.case, []).append(one)
    return groups
