"""The work list, and its way through the worker processes into the results file.

Invariant: a job whose result is on file for the same rows, seed and code is not run again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.accuracy.fingerprint import method_group_fingerprint
from benchmarks.accuracy.method import MethodGroup
from benchmarks.accuracy.pool import Outcome, outcomes
from benchmarks.accuracy.results_file import JobKey, JobResult, ResultsFile, rounded
from benchmarks.accuracy.shipped import SHIPPED
from benchmarks.accuracy.splits_file import SplitRow
from benchmarks.release.heldout import Fold, folds
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.errors import LLMCO2Error, explain

LoadMethodGroups = Callable[[], Sequence[MethodGroup]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One fit: a method on a fold with a seed."""

    method_group: int  # place among the methods
    key: JobKey


def planned_jobs(
    chosen: Iterable[Fold], splits: dict[str, SplitRow], method_groups: Sequence[MethodGroup],
    methods: Sequence[str], *, n_seeds: int, n_baseline_seeds: int | None = None,
) -> list[Job]:  # fmt: skip
    """Return the fits that the wanted methods need: seed by seed, so that an early look has every fold.

    Fits of what ships are made with ``n_seeds`` seeds, all others with ``n_baseline_seeds`` where that is given.
    """
    wanted, every = set(methods), list(chosen)
    codes = [method_group_fingerprint(method_group) for method_group in method_groups]
    jobs = []
    for seed in range(n_seeds):
        for place, method_group in enumerate(method_groups):
            if seed and not method_group.seeded:
                continue
            fits = n_seeds if n_baseline_seeds is None or SHIPPED in method_group.names else n_baseline_seeds
            if not wanted & {*method_group.names} or seed >= fits:
                continue
            for fold in every:
                split = splits[fold.name]
                key = JobKey(
                    fold=fold.name,
                    test_sha256=split.test_sha256,
                    train_sha256=split.train_sha256,
                    methods=method_group.names,
                    seed=seed,
                    code=codes[place],
                )
                jobs.append(Job(method_group=place, key=key))
    return jobs


def run_jobs(
    jobs: Sequence[Job], results: ResultsFile, *, runs: str | None, load: LoadMethodGroups, n_workers: int,
    console: Console,
) -> None:  # fmt: skip
    """Run the jobs that are not on file, each result onto the file as it comes.

    Args:
        jobs: the whole plan.
        results: the open results file.
        runs: as the data module takes it; None for the shipped simulated set.
        load: importable; returns the methods that jobs count by place.
        n_workers: processes; 0 works in this process.
        console: shows the progress.

    Raises:
        LLMCO2Error: some job failed; the others are on file.
    """
    missing = [job for job in jobs if job.key not in results.finished]
    failures: list[tuple[Job, Outcome]] = []
    with _progress(console) as progress:
        task = progress.add_task("fits", total=len(jobs), completed=len(jobs) - len(missing))
        for outcome in outcomes(missing, n_workers, start_worker, (runs, load)):
            job = missing[outcome.index]
            if outcome.failure:
                failures.append((job, outcome))
                progress.console.print(
                    f"{job.key.fold}, {job.key.methods[0]}: {outcome.failure}", markup=False, highlight=False
                )
            else:
                results.add(JobResult(key=job.key, errors=outcome.value))
            progress.advance(task)
    if failures:
        job, outcome = failures[0]
        raise LLMCO2Error(
            explain(
                f"{len(failures)} of {len(missing)} fits failed",
                got=f"{job.key.methods[0]} on {job.key.fold}: {outcome.failure}",
                remedy="the others are kept; run the command again once it is mended",
            )
        )


def start_worker(runs: str | None, load: LoadMethodGroups) -> Callable[[Job], dict[str, object]]:
    """Read the data once, and return the function that does a job and gives its errors by run id."""
    torch.set_num_threads(1)
    for name in ("llmco2", "lightning.pytorch", "lightning.fabric"):  # the parent has said it, once
        logging.getLogger(name).setLevel(logging.ERROR)
    data = EnergyDataModule(runs=runs, split=SplitOptions(kind="none"))
    data.setup()
    by_name = {fold.name: fold for fold in folds(data)}
    method_groups = load()

    def work(job: Job) -> dict[str, object]:
        fold, method_group = by_name[job.key.fold], method_groups[job.method_group]
        errors = method_group.fold_errors(data, fold, job.key.seed)
        _check_answer(errors.keys(), job)
        order = data.frame["run_id"].iloc[fold.test].astype(str).to_numpy().argsort(kind="stable")
        return {name: rounded(values[order]) for name, values in errors.items()}

    return work


def _check_answer(names: Iterable[str], job: Job) -> None:
    if set(names) != set(job.key.methods):
        raise ValueError(
            explain(
                "a method returned other methods than it names",
                got=", ".join(names),
                expected=", ".join(job.key.methods),
            )
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False), console=console,
    )  # fmt: skip
