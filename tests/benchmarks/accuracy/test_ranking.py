"""Rankings agree with hand-made decisions; pairs that measurement cannot tell apart are no pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy.ranking import decisions, ranked, ranking_table

CHOICE: dict[str, Any] = {
    "method": "x", "source": "s", "model": "m", "precision": "bf16", "serving": "continuous", "task": "chat",
    "gpu": "a", "tensor_parallel": 1, "pipeline_parallel": 1, "expert_parallel": 1, "engine": "vllm", "batch_size": 8.0,
    "prompt_tokens": 300.0, "output_tokens": 100.0, "label": "energy_per_output_token_j",
}  # fmt: skip


def choices(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{**CHOICE, **row} for row in rows])


def test_pairs_and_the_best_by_hand() -> None:
    # Measured 1.0, 1.05 (a tie with the first), 2.0, 4.0; predicted best is the second, and the last two are swapped.
    group = choices(
        {"gpu": "a", "measured": 1.0, "predicted": 2.0},
        {"gpu": "b", "measured": 1.05, "predicted": 1.0},
        {"gpu": "c", "measured": 2.0, "predicted": 9.0},
        {"gpu": "c", "batch_size": 1.0, "measured": 4.0, "predicted": 8.0},
    )
    found = ranked(group)
    assert (found["pairs"], found["tied_pairs"], found["right_pairs"]) == (5, 1, 4)
    assert (found["board_pairs"], found["right_board_pairs"]) == (4, 4)
    assert found["tau"] == pytest.approx(0.6)
    assert found["top1"] == 1.0  # within the band of the best
    assert found["regret_percent"] == pytest.approx(5.0)


def test_a_choice_beyond_the_band_is_not_the_best() -> None:
    found = ranked(
        choices(
            {"gpu": "a", "measured": 1.0, "predicted": 2.0}, {"gpu": "b", "measured": 1.2, "predicted": 1.0}
        )
    )
    assert found["top1"] == 0.0
    assert found["tau"] == -1.0
    assert found["regret_percent"] == pytest.approx(20.0)


def test_equal_predictions_are_not_right() -> None:
    found = ranked(
        choices(
            {"gpu": "a", "measured": 1.0, "predicted": 2.0}, {"gpu": "b", "measured": 1.2, "predicted": 2.0}
        )
    )
    assert found["right_pairs"] == 0


def test_choices_are_compared_within_one_model_source_and_workload() -> None:
    table = choices(
        {"measured": 1.0, "predicted": 1.0},
        {"gpu": "b", "measured": 2.0, "predicted": 2.0},
        {"gpu": "c", "model": "other", "measured": 0.1, "predicted": 9.0},
        {"gpu": "d", "task": "", "measured": 0.1, "predicted": 9.0},
        {"gpu": "e", "label": "latency_s", "measured": 0.1, "predicted": 9.0},
    )
    found = decisions(table)
    assert found["choices"].tolist() == [2]
    assert found["tau"].tolist() == [1.0]


def test_a_batch_is_ranked_by_its_energy_per_token() -> None:
    table = choices(
        {"label": "energy_j", "batch_size": 1.0, "measured": 100.0, "predicted": 100.0},
        {"label": "energy_j", "batch_size": 8.0, "measured": 200.0, "predicted": 300.0},
    )
    found = decisions(table)
    assert found["right_pairs"].tolist() == [1]
    assert found["board_pairs"].tolist() == [0]


def test_a_table_adds_up_its_decisions() -> None:
    one = {"method": "x", "source": "s", "top1": 1.0, "regret_percent": 0.0, "tau": 1.0, "pairs": 9, "right_pairs": 9,
           "tied_pairs": 1, "board_pairs": 0, "right_board_pairs": 0}  # fmt: skip
    other = {
        **one,
        "source": "t",
        "top1": 0.0,
        "regret_percent": 10.0,
        "tau": np.nan,
        "pairs": 1,
        "right_pairs": 0,
    }
    found = ranking_table(pd.DataFrame([one, other])).set_index("source")
    assert found.loc["all", "right_pairs_percent"] == 90.0
    assert found.loc["all", "top1_percent"] == 50.0
    assert found.loc["all", "kendall_tau"] == 1.0
    assert np.isnan(found.loc["all", "right_board_pairs_percent"])
