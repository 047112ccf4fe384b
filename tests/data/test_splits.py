"""Splits hold out whole groups, do not depend on row order, and leak nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.data.simulate import simulate_runs
from llmco2.data.splits import (
    DEPLOYMENT,
    REQUEST,
    check_leakage,
    data_hash,
    group_keys,
    grouped_split,
    leave_one_out,
    model_families,
)
from llmco2.errors import InputError

RUNS = simulate_runs(200, seed=3)


@pytest.mark.parametrize("by", ["gpu", "family", "model", "engine"])
def test_leaving_one_out_covers_every_row_exactly_once(by: str) -> None:
    splits = list(leave_one_out(RUNS, by))
    assert len(splits) == group_keys(RUNS, by).nunique()
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(RUNS)))
    for split in splits:
        assert sorted([*split.train, *split.test]) == list(range(len(RUNS)))
        check_leakage(RUNS.iloc[split.train], RUNS.iloc[split.test], by)
        assert group_keys(RUNS.iloc[split.test], by).nunique() == 1


@given(
    seed=st.integers(0, 2**31),
    share=st.floats(0.01, 0.99),
    by=st.sampled_from([DEPLOYMENT, REQUEST, "model"]),
)
def test_a_grouped_split_leaks_no_group_and_fills_both_sides(
    seed: int, share: float, by: str | tuple[str, ...]
) -> None:
    split = grouped_split(RUNS, by, test_share=share, seed=seed)
    check_leakage(RUNS.iloc[split.train], RUNS.iloc[split.test], by)
    assert len(split.train) > 0
    assert len(split.test) > 0
    assert len(split.train) + len(split.test) == len(RUNS)


def test_a_split_does_not_depend_on_row_order() -> None:
    shuffled = RUNS.sample(frac=1, random_state=1).reset_index(drop=True)
    one, two = grouped_split(RUNS, seed=5), grouped_split(shuffled, seed=5)
    assert (one.train_sha256, one.test_sha256) == (two.train_sha256, two.test_sha256)
    assert grouped_split(RUNS, seed=6).test_sha256 != one.test_sha256
    assert data_hash(RUNS) == data_hash(shuffled)


def test_a_group_keeps_its_side_when_other_groups_arrive() -> None:
    some = RUNS[RUNS["gpu"] != "T4"].reset_index(drop=True)
    before, after = grouped_split(some, seed=2), grouped_split(RUNS, seed=2)
    tested_before = set(group_keys(some.iloc[before.test], DEPLOYMENT))
    tested_after = set(group_keys(RUNS.iloc[after.test], DEPLOYMENT))
    assert tested_before <= tested_after


def test_the_hash_of_a_side_is_that_of_its_sorted_ids() -> None:
    split = next(iter(leave_one_out(RUNS, "gpu")))
    ids = "\n".join(sorted(RUNS["run_id"].iloc[split.test])).encode()
    assert split.test_sha256 == hashlib.sha256(ids).hexdigest()


def test_the_data_hash_sees_every_label() -> None:
    changed = RUNS.copy()
    changed.loc[7, "energy_j"] *= 1 + 1e-12
    assert data_hash(changed) != data_hash(RUNS)


def test_a_leak_is_one_line_that_names_it() -> None:
    with pytest.raises(InputError, match="train and test share rows: got 1, such as simulated/0000"):
        check_leakage(RUNS.iloc[:5], RUNS.iloc[:1], "gpu")
    gpu = RUNS["gpu"].iloc[0]
    same = RUNS[RUNS["gpu"] == gpu]
    with pytest.raises(InputError, match=f"share groups of gpu: got 1, such as {gpu}"):
        check_leakage(same.iloc[:3], same.iloc[3:], "gpu")


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(InputError, match="no column colour"):
        group_keys(RUNS, "colour")
    with pytest.raises(InputError, match="bad test_share: got 1"):
        grouped_split(RUNS, test_share=1.0)
    one = RUNS[RUNS["gpu"] == "T4"]
    with pytest.raises(InputError, match="cannot split: got 1 group"):
        grouped_split(one, "gpu")
    with pytest.raises(InputError, match="cannot leave one group out: got 1 group"):
        next(leave_one_out(one, "gpu"))


def test_families_come_from_the_catalog_or_the_name() -> None:
    models = pd.Series(["meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-7b-hf", "acme/Thing-1B"])
    assert model_families(models).tolist() == ["llama", "llama", "acme"]
