"""An interrupted evaluation goes on with the fits that are missing, and recomputes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.accuracy.evidence import gathered
from benchmarks.accuracy.jobs import Job, planned_jobs, run_jobs
from benchmarks.accuracy.method import LabelErrors, MethodGroup
from benchmarks.accuracy.results_file import ResultsFile
from benchmarks.accuracy.shipped import FORMULA, SHIPPED, SHIPPED_METHODS
from benchmarks.accuracy.splits_file import split_rows
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule
from llmco2.errors import LLMCO2Error

QUIET = Console(quiet=True)


def plan(
    data: EnergyDataModule, folds: Sequence[Fold], *method_groups: MethodGroup, seeds: int = 2
) -> list[Job]:
    splits = {row.fold: row for row in split_rows(data, folds)}
    return planned_jobs(folds, splits, method_groups, (SHIPPED, FORMULA), n_seeds=seeds)


def test_a_plan_asks_each_fold_and_seed_once(
    data: EnergyDataModule, all_folds: list[Fold], cheap: MethodGroup
) -> None:
    jobs = plan(data, all_folds, SHIPPED_METHODS, replace(cheap, seeded=False))
    assert len(jobs) == len(set(jobs))
    own = [job for job in jobs if job.method_group == 0]
    assert sorted((job.key.fold, job.key.seed) for job in own) == sorted(
        (fold.name, seed) for fold in all_folds for seed in range(2)
    )
    assert {job.key.seed for job in jobs if job.method_group == 1} == {0}


def test_baselines_may_have_fewer_seeds_than_what_ships(
    data: EnergyDataModule, all_folds: list[Fold], cheap: MethodGroup
) -> None:
    splits = {row.fold: row for row in split_rows(data, all_folds)}
    baseline = replace(cheap, names=("baseline",), seeded=True)
    jobs = planned_jobs(
        all_folds, splits, [SHIPPED_METHODS, baseline], (SHIPPED, "baseline"), n_seeds=3, n_baseline_seeds=1
    )
    seeds = {(job.method_group, job.key.fold): 0 for job in jobs}
    for job in jobs:
        seeds[job.method_group, job.key.fold] += 1
    assert seeds == {(0, fold.name): 3 for fold in all_folds} | {(1, fold.name): 1 for fold in all_folds}


def test_an_interrupted_run_goes_on_where_it_was(
    data: EnergyDataModule,
    all_folds: list[Fold],
    cheap: MethodGroup,
    calls: list[tuple[str, int]],
    tmp_path: Path,
) -> None:
    def errors_until_third(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:
        errors = cheap.fold_errors(data, fold, seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return errors

    chosen, path = all_folds[:3], tmp_path / "r.jsonl"
    jobs = plan(data, chosen, cheap)
    interrupted = replace(cheap, fold_errors=errors_until_third)
    with pytest.raises(KeyboardInterrupt), ResultsFile(path, "d") as results:
        run_jobs(jobs, results, runs=None, load=lambda: (interrupted,), n_workers=0, console=QUIET)
    assert len(calls) == 3
    with path.open("ab") as stream:
        stream.write(b'{"fold":"half a li')
    with ResultsFile(path, "d") as results:
        assert len(results.finished) == 2
        run_jobs(jobs, results, runs=None, load=lambda: (cheap,), n_workers=0, console=QUIET)
        assert len(results.finished) == 6
        assert calls[3:] == [(fold.name, seed) for seed in range(2) for fold in chosen][2:]
        run_jobs(jobs, results, runs=None, load=lambda: (cheap,), n_workers=0, console=QUIET)
    assert len(calls) == 7
    assert len(path.read_bytes().splitlines()) == 7


def test_results_come_back_in_the_order_of_their_rows(
    data: EnergyDataModule, all_folds: list[Fold], cheap: MethodGroup, tmp_path: Path
) -> None:
    chosen = all_folds[-1:]
    jobs = plan(data, chosen, cheap)
    with ResultsFile(tmp_path / "r.jsonl", "d") as results:
        run_jobs(jobs, results, runs=None, load=lambda: (cheap,), n_workers=0, console=QUIET)
    with ResultsFile(tmp_path / "r.jsonl", "d") as results:
        (one,) = gathered(data, chosen, jobs, results.finished, (SHIPPED,))
    assert set(one.errors) == {SHIPPED}
    assert one.errors[SHIPPED].shape == (2, len(chosen[0].test), 6)
    np.testing.assert_allclose(one.errors[SHIPPED][1, :, 2], 0.01 * (one.rows % 7) + 0.001, atol=1e-9)


def no_errors(data: EnergyDataModule, fold: Fold, seed: int) -> dict[str, LabelErrors]:
    raise ValueError("singular matrix")


def test_a_failed_fit_is_named_and_the_others_are_kept(
    data: EnergyDataModule, all_folds: list[Fold], cheap: MethodGroup, tmp_path: Path
) -> None:
    broken = MethodGroup(names=(FORMULA,), fold_errors=no_errors, seeded=False, about="")
    jobs = plan(data, all_folds[:2], broken, cheap, seeds=1)
    with ResultsFile(tmp_path / "r.jsonl", "d") as results:
        with pytest.raises(
            LLMCO2Error, match=r"2 of 4 fits failed: got formula on .*singular matrix"
        ) as caught:
            run_jobs(jobs, results, runs=None, load=lambda: (broken, cheap), n_workers=0, console=QUIET)
        assert len(results.finished) == 2
    assert "\n" not in str(caught.value)
