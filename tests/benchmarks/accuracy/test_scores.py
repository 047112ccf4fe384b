"""Figures agree with hand-computed ones, and intervals with groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy.scores import figures, group_interval, score_table, scored


def table(errors: list[float], group: list[str], covered: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"error_percent": errors, "gpu": group, "model": "m", "covered": covered, "part": "x"}
    )


def test_figures_by_hand() -> None:
    found = figures(table([10.0, -20.0, 5.0, -5.0], ["a", "a", "b", "b"], [1.0, 0.0, np.nan, 1.0]))
    assert found["labels"] == 4
    assert found["groups"] == 2
    assert found["mape_percent"] == 10.0
    assert found["median_percent"] == 7.5
    assert found["eba10_percent"] == 75.0
    assert found["bias_percent"] == 0.0
    assert found["coverage_percent"] == pytest.approx(200 / 3)


def test_the_interval_draws_whole_groups() -> None:
    values, group = np.array([10.0] * 90 + [20.0] * 10), np.array([0] * 90 + [1] * 10)
    assert group_interval(values, group) == (10.0, 20.0)  # two groups: either alone is often drawn
    assert np.isnan(group_interval(values, np.zeros(100, dtype=np.intp))).all()
    many = np.random.default_rng(0).normal(10.0, 1.0, 400)
    low, high = group_interval(many, np.arange(400))
    assert 0.15 < high - low < 0.25  # 4 / sqrt(400) of one standard deviation
    assert low < many.mean() < high


def test_a_part_is_scored_for_itself() -> None:
    both = pd.concat([table([10.0], ["a"], [1.0]), table([30.0], ["a"], [0.0]).assign(part="y")])
    found = score_table(both, ["part"]).set_index("part")
    assert found["mape_percent"].to_dict() == {"x": 10.0, "y": 30.0}


def test_what_was_not_answered_is_not_scored() -> None:
    labels = pd.DataFrame(
        {"run": [0, 1, 1], "label": "energy_j", "quantity": "energy", "measured": [100.0, 50.0, 10.0]}
    )
    runs = pd.DataFrame({"gpu": ["a", "b"], "model": ["m", "m"]})
    predictions = pd.DataFrame({"predicted": [110.0, np.nan, 9.0], "low": [105.0, np.nan, np.nan],
                                "high": [120.0, np.nan, np.nan]})  # fmt: skip
    found = scored(labels, runs, predictions, "x")
    assert found["error_percent"].tolist() == pytest.approx([10.0, -10.0])
    assert found["covered"].iloc[0] == 0.0
    assert np.isnan(found["covered"].iloc[1])
    assert found["gpu"].tolist() == ["a", "b"]
