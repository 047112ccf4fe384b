"""The list of folds names rows by hash: stable under their order, changed by their coming and going."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.evidence import CASES
from benchmarks.accuracy.splits_file import (
    DIFFERENT,
    SAME,
    UNLISTED,
    compared,
    read_splits,
    split_rows,
    write_splits,
)
from benchmarks.release.heldout import Fold, folds
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.data.tables import write_runs
from llmco2.errors import FileFormatError


def test_hashes_do_not_depend_on_row_order(
    data: EnergyDataModule, all_folds: list[Fold], tmp_path: Path
) -> None:
    shuffled = data.frame.sample(frac=1.0, random_state=1)
    path = write_runs(shuffled, tmp_path / "shuffled.csv")
    other = EnergyDataModule(runs=str(path), allow_simulated=True, split=SplitOptions(kind="none"))
    other.setup()
    assert list(other.frame["run_id"]) != list(data.frame["run_id"])
    # Which rows without energy train depends on their order, so training sides are compared where all have one.
    own, theirs = split_rows(data, all_folds), split_rows(other, folds(other))
    assert {row.fold: row.test_sha256 for row in own} == {row.fold: row.test_sha256 for row in theirs}


def test_a_list_survives_its_file(data: EnergyDataModule, all_folds: list[Fold], tmp_path: Path) -> None:
    rows = split_rows(data, all_folds)
    write_splits(tmp_path / "splits.csv", rows)
    assert list(read_splits(tmp_path / "splits.csv").values()) == rows
    assert {row.case for row in rows} <= set(CASES)
    assert {row.case for row in rows if row.fold.startswith("new request")} == {"new request"}


def test_other_rows_are_noticed(data: EnergyDataModule, all_folds: list[Fold]) -> None:
    first, second, third = all_folds[:3]
    committed = {row.fold: row for row in split_rows(data, [first, second])}
    fewer = replace(second, train=np.delete(second.train, 0))
    now = split_rows(data, [first, fewer, third])
    assert list(compared(now, committed).values()) == [SAME, DIFFERENT, UNLISTED]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\n1,2\n", "no list of folds"),
        ("fold,case,n_train,n_test,train_sha256,test_sha256\nx,y,many,2,a,b\n", "line 2: bad row"),
        ("fold,case,n_train,n_test,train_sha256,test_sha256\nx,y\n", "line 2: bad row"),
    ],
)
def test_a_foreign_list_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FileFormatError, match=reason):
        read_splits(path)
