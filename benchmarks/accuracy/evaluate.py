"""From measured runs to accuracy tables: folds, fits, figures, files.

Invariant: tables are written only from a complete set of results; what was interrupted is finished by the same
command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.accuracy.breakdowns import case_table, fold_table, label_table, part_table
from benchmarks.accuracy.coverage import interval_table
from benchmarks.accuracy.evidence import FoldEvidence, gathered
from benchmarks.accuracy.jobs import LoadMethodGroups, planned_jobs, run_jobs
from benchmarks.accuracy.levels import level_table
from benchmarks.accuracy.plots import draw_pictures
from benchmarks.accuracy.registry import chosen_methods, method_groups, method_names
from benchmarks.accuracy.results_file import RESULTS_FILE, ResultsFile
from benchmarks.accuracy.row_facts import RowFacts, row_facts
from benchmarks.accuracy.splits_file import (
    SAME,
    SPLITS_FILE,
    SplitRow,
    compared,
    read_splits,
    split_rows,
    write_splits,
)
from benchmarks.accuracy.tables import Report, write_report
from benchmarks.release.heldout import Fold, folds
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.data.splits import data_hash
from llmco2.errors import InputError, explain


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """What to evaluate, and where to."""

    runs: str | None  # a run table; None for the shipped simulated set
    output: Path  # a folder; made where absent
    methods: str | None = None  # comma-separated names; None for all
    folds: str = ""  # only folds whose name contains this
    seeds: int = 5
    baseline_seeds: int | None = None  # of methods other than what ships; None: as many
    workers: int = 1  # processes; 0 works in this one
    splits: Path | None = None  # the committed list of folds; None for the one in the output folder
    load: LoadMethodGroups = method_groups


def evaluate(options: EvaluationOptions, console: Console) -> pd.DataFrame:
    """Evaluate, write the tables and pictures, and return the table of cases.

    Raises:
        InputError: unusable runs, an unknown method, no such fold, results of other data.
        LLMCO2Error: the extra is missing, or some fit failed.
    """
    baselines = options.load()
    methods = chosen_methods(options.methods, baselines)
    data = EnergyDataModule(runs=options.runs, split=SplitOptions(kind="none"))
    data.setup()
    every = list(folds(data))
    chosen = _chosen_folds(every, options.folds)
    options.output.mkdir(parents=True, exist_ok=True)
    splits = {row.fold: row for row in split_rows(data, every)}
    committed = options.output / SPLITS_FILE if options.splits is None else options.splits
    states = _checked_splits(committed, splits, console)
    if committed.resolve() != (options.output / SPLITS_FILE).resolve():
        write_splits(options.output / SPLITS_FILE, list(splits.values()))
    jobs = planned_jobs(
        chosen, splits, baselines, methods, n_seeds=options.seeds, n_baseline_seeds=options.baseline_seeds
    )
    sha256 = data_hash(data.frame)
    with ResultsFile(options.output / RESULTS_FILE, sha256) as results:
        run_jobs(
            jobs, results, runs=options.runs, load=options.load, n_workers=options.workers, console=console
        )
        evidence = gathered(data, chosen, jobs, results.finished, methods)
    facts = row_facts(data, np.unique(np.concatenate([fold.test for fold in every])))
    tables = all_tables(evidence, facts)
    selection = _selection(options, len(chosen), len(every), methods, len(method_names(baselines)))
    report = Report(
        tables=tables,
        splits={fold.name: states[fold.name] for fold in chosen},
        splits_file=committed.name,
        about=_about(options, data, sha256, len(jobs), selection),
        methods={", ".join(one.names): one.about for one in baselines if set(one.names) & set(methods)},
        pictures=draw_pictures(options.output, evidence, tables, facts),
    )
    write_report(options.output, report)
    return tables["cases"]


def _chosen_folds(every: Sequence[Fold], text: str) -> list[Fold]:
    chosen = [fold for fold in every if text.casefold() in fold.name.casefold()]
    if not chosen:
        known = ", ".join(fold.name for fold in every) or "none: the runs have no groups to leave out"
        raise InputError(explain("no such group of runs", got=repr(text), expected=known))
    return chosen


def all_tables(evidence: Sequence[FoldEvidence], facts: RowFacts) -> dict[str, pd.DataFrame]:
    """Return every table by the name of its file."""
    return {
        "accuracy": fold_table(evidence),
        "cases": case_table(evidence),
        "by_label": label_table(evidence),
        "levels": level_table(evidence, facts),
        "by_source": part_table(evidence, {"source": facts.source, "engine": facts.engine}),
        "by_decile": part_table(evidence, {"decile": facts.decile}),
        "by_regime": part_table(evidence, {"regime": facts.regime}),
        "intervals": interval_table(evidence),
    }


def _checked_splits(path: Path, splits: dict[str, SplitRow], console: Console) -> dict[str, str]:
    """Return whether each fold has its committed rows, and say so where one has not; begin the list where absent."""
    if not path.is_file():
        write_splits(path, list(splits.values()))
    states = compared(splits.values(), read_splits(path))
    other = [fold for fold, state in states.items() if state != SAME]
    if other:
        console.print(
            f"warning: {len(other)} of {len(states)} folds have other rows than {path} lists, such as {other[0]}; "
            "their figures are not comparable with published ones",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return states


def _about(
    options: EvaluationOptions, data: EnergyDataModule, sha256: str, n_fits: int, selection: dict[str, str]
) -> dict[str, str]:
    frame = data.frame
    simulated = int(frame["simulated"].sum())
    about = {
        "Data": f"{len(frame):,} runs of {frame['source'].nunique()} sources, SHA-256 {sha256}",
        "Seeds": f"{options.seeds}{_of_baselines(options)}; methods without chance run once",
        "Fits": f"{n_fits:,}",
    }
    if simulated:
        about["Simulated"] = (
            f"{simulated:,} runs were drawn by no GPU: figures of the pipeline, not of reality"
        )
    return about | selection


def _of_baselines(options: EvaluationOptions) -> str:
    return "" if options.baseline_seeds is None else f" of what ships, {options.baseline_seeds} of the others"


def _selection(
    options: EvaluationOptions, n_chosen: int, n_folds: int, methods: Sequence[str], n_methods: int
) -> dict[str, str]:
    """Return what of the whole evaluation was asked for, where that is not all."""
    selection = {}
    if n_chosen < n_folds:
        selection["Groups"] = f"{n_chosen} of {n_folds}, those whose name contains {options.folds!r}"
    if len(methods) < n_methods:
        selection["Methods"] = f"{len(methods)} of {n_methods}: {', '.join(methods)}"
    return selection
