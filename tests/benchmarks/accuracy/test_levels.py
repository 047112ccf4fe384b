"""Levels known afterwards: each takes its group's median away and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.accuracy.evidence import FoldEvidence
from benchmarks.accuracy.levels import AS_IS, OF_DEPLOYMENT, OF_ENGINE, OF_GROUP, level_table, without_level
from benchmarks.accuracy.row_facts import RowFacts
from benchmarks.accuracy.shipped import SHIPPED
from benchmarks.release.heldout import Fold
from llmco2.data.tensors import LABELS, N_LABELS
from llmco2.predictor.intervals import Newness


def test_each_level_mends_what_its_groups_share() -> None:
    # Four rows: an engine twice too high, another half too low, the last of them in a deployment of its own.
    positions = np.arange(4)
    errors = np.full((1, 4, N_LABELS), np.nan)
    errors[0, :, LABELS.index("energy_j")] = np.log([2.0, 2.0, 0.5, 0.25])
    facts = RowFacts(
        source=np.array(["s"] * 4),
        engine=np.array(["fast", "fast", "slow", "slow"]),
        deployment=np.array([7, 7, 8, 9]),
        decile=np.ones(4, dtype=np.intp),
        regime=np.array(["host"] * 4),
        measured_j=np.ones(4),
    )
    fold = Fold(name="board A", case=Newness.NEW_GPU, train=np.zeros(0, dtype=np.intp), test=positions)
    table = level_table(
        [FoldEvidence(fold=fold, case="new gpu", rows=positions, errors={SHIPPED: errors})], facts
    )
    mape = table.set_index("level")["mape_percent"]
    assert mape[AS_IS] == pytest.approx((100 + 100 + 50 + 75) / 4)
    # The median of the logs is log 1: nothing changes.
    assert mape[OF_GROUP] == pytest.approx(mape[AS_IS])
    # The slow engine's median ratio is 1/sqrt 8; its rows are then sqrt 2 and 1/sqrt 2 of what was measured.
    assert mape[OF_ENGINE] == pytest.approx(100 * (np.sqrt(2) - 1 + 1 - 1 / np.sqrt(2)) / 4)
    assert mape[OF_DEPLOYMENT] == pytest.approx(0.0, abs=1e-9)


def test_a_row_without_a_prediction_stays_without() -> None:
    left = without_level(np.array([np.nan, 0.3, np.nan]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(left, [np.nan, 0.0, np.nan])
