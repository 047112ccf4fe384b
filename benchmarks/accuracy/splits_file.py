"""The committed list of folds: which rows each one fits and evaluates, by hash.

Invariant: a hash is over sorted run ids, so it changes when a row comes or goes and never with the order of rows.
A figure is comparable with a published one where both hashes of its fold agree.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule
from llmco2.data.splits import run_ids_sha256
from llmco2.errors import FileFormatError, explain
from llmco2.predictor.intervals import Newness

SPLITS_FILE: Final = "splits.csv"
SAME: Final = "as committed"
DIFFERENT: Final = "other rows"
UNLISTED: Final = "not listed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """One fold of the list."""

    fold: str
    case: str
    n_train: int
    n_test: int
    train_sha256: str
    test_sha256: str


def case_of(fold: Fold) -> str:
    """Return what a fold leaves out, as tables name it.

    New requests and new deployments are both of known parts; their names tell them apart.
    """
    known = fold.case in {Newness.MEASURED, Newness.KNOWN}
    return fold.name.rsplit(" ", 1)[0] if known else fold.case.value.replace("_", " ")


def split_rows(data: EnergyDataModule, folds: Iterable[Fold]) -> list[SplitRow]:
    """Return one row per fold, in their order."""
    run_ids = data.frame["run_id"]
    return [
        SplitRow(
            fold=fold.name,
            case=case_of(fold),
            n_train=len(fold.train),
            n_test=len(fold.test),
            train_sha256=run_ids_sha256(run_ids.iloc[fold.train]),
            test_sha256=run_ids_sha256(run_ids.iloc[fold.test]),
        )
        for fold in folds
    ]


def write_splits(path: Path, rows: Sequence[SplitRow]) -> None:
    """Write the list as CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(SplitRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read_splits(path: Path) -> dict[str, SplitRow]:
    """Return the list by fold.

    Raises:
        FileFormatError: a column is missing or a count is not a number.
    """
    expected = [f.name for f in fields(SplitRow)]
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != expected:
            raise FileFormatError(
                explain(
                    f"{path.name} is no list of folds", got=reader.fieldnames, expected=",".join(expected)
                )
            )
        try:
            rows = [_row(cells) for cells in reader]
        except (TypeError, ValueError) as error:
            raise FileFormatError(
                explain(f"{path.name}, line {reader.line_num}: bad row", got=error, remedy="restore the file")
            ) from error
    return {row.fold: row for row in rows}


def _row(cells: dict[str, str]) -> SplitRow:
    return SplitRow(
        fold=cells["fold"],
        case=cells["case"],
        n_train=int(cells["n_train"]),
        n_test=int(cells["n_test"]),
        train_sha256=cells["train_sha256"],
        test_sha256=cells["test_sha256"],
    )


def compared(rows: Iterable[SplitRow], committed: dict[str, SplitRow]) -> dict[str, str]:
    """Return for each fold whether its rows are the committed ones: SAME, DIFFERENT or UNLISTED."""
    answer = {}
    for row in rows:
        other = committed.get(row.fold)
        answer[row.fold] = UNLISTED if other is None else SAME if other == row else DIFFERENT
    return answer
