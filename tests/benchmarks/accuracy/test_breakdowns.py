"""Tables: folds average to cases, parts add up to wholes, intervals vouch for other groups only."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.accuracy.breakdowns import case_table, fold_table, label_table, part_table
from benchmarks.accuracy.coverage import fold_coverage, interval_table
from benchmarks.accuracy.evidence import FoldEvidence
from benchmarks.accuracy.row_facts import REGIMES, row_facts, workload_deciles
from benchmarks.accuracy.shipped import FORMULA, SHIPPED
from benchmarks.accuracy.splits_file import case_of
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule
from llmco2.data.tensors import LABELS, N_LABELS
from llmco2.predictor.intervals import Newness

NOTHING = np.zeros(0, dtype=np.intp)


def evidence(
    name: str, rows: list[int], case: Newness = Newness.NEW_GPU, **ratios: list[list[float]]
) -> FoldEvidence:
    """Return a fold whose total energies are predicted by these ratios to the measured, seed by seed."""
    positions = np.array(rows)
    fold = Fold(name=name, case=case, train=NOTHING, test=positions)
    errors = {}
    for method, table in ratios.items():
        full = np.full((len(table), len(rows), N_LABELS), np.nan)
        full[:, :, LABELS.index("energy_j")] = np.log(table)
        errors[{"ships": SHIPPED, "formula": FORMULA}.get(method, method)] = full
    return FoldEvidence(fold=fold, case=case_of(fold), rows=positions, errors=errors)


@pytest.fixture
def two_boards() -> list[FoldEvidence]:
    return [
        evidence(
            "board A", [0, 1, 2], ships=[[1.08, 1.08, 1.08], [1.32, 1.32, 1.32]], formula=[[1.3, 1.3, 1.3]]
        ),
        evidence("board B", [3], ships=[[1.4], [1.4]], formula=[[0.6]]),
    ]


def test_a_case_is_the_mean_of_its_folds_not_of_its_rows(two_boards: list[FoldEvidence]) -> None:
    table = case_table(two_boards).set_index("method")
    ships = table.loc[SHIPPED]
    assert (ships["case"], ships["folds"], ships["rows"], ships["seeds"]) == ("new gpu", 2, 4, 2)
    assert ships["mape_percent"] == pytest.approx((20 + 40) / 2)
    assert ships["pooled_mape_percent"] == pytest.approx((3 * 20 + 40) / 4)
    assert ships["to_formula_points"] == pytest.approx(((20 - 30) + (40 - 40)) / 2)
    assert ships["to_formula_low_points"] <= -5.0 <= ships["to_formula_high_points"]
    assert math.isnan(table.loc[FORMULA, "to_formula_points"])


def test_a_folds_figures_are_means_over_seeds(two_boards: list[FoldEvidence]) -> None:
    table = fold_table(two_boards).set_index(["fold", "method"])
    assert table.loc[("board A", SHIPPED), "mape_percent"] == pytest.approx(20.0)
    assert table.loc[("board A", SHIPPED), "eba10_percent"] == pytest.approx(50.0)
    assert table.loc[("board A", SHIPPED), "to_formula_points"] == pytest.approx(-10.0)
    assert table.loc[("board B", FORMULA), "bias_percent"] == pytest.approx(-40.0)


def test_a_method_is_compared_on_the_rows_it_answers() -> None:
    one = evidence("board A", [0, 1], partial=[[1.1, math.nan]], formula=[[1.2, 9.0]])
    table = case_table([one]).set_index("method")
    assert table.loc["partial", "answered"] == 1
    assert table.loc["partial", "to_formula_points"] == pytest.approx(-10.0)


def test_a_method_that_answers_nothing_has_no_figures() -> None:
    silent = evidence("board A", [0, 1], silent=[[math.nan, math.nan]], formula=[[1.2, 1.2]])
    loud = evidence("board B", [2], silent=[[1.1]], formula=[[1.2]])
    table = case_table([silent, loud]).set_index("method")
    assert table.loc["silent", "folds"] == 1
    assert table.loc["silent", "mape_percent"] == pytest.approx(10.0)
    assert "silent" not in case_table([silent])["method"].tolist()


def test_labels_nobody_measured_are_absent(two_boards: list[FoldEvidence]) -> None:
    assert label_table(two_boards)["label"].unique().tolist() == ["energy"]


def test_parts_add_up_to_the_whole(data: EnergyDataModule, all_folds: list[Fold]) -> None:
    rng = np.random.default_rng(5)
    found = [
        evidence(
            fold.name,
            fold.test.tolist(),
            fold.case,
            ships=rng.lognormal(0, 0.3, (2, len(fold.test))).tolist(),
        )
        for fold in all_folds
    ]
    evaluated = np.unique(np.concatenate([fold.test for fold in all_folds]))
    facts = row_facts(data, evaluated)
    whole = case_table(found).set_index("case")
    for parts in (
        {"source": facts.source, "engine": facts.engine},
        {"decile": facts.decile},
        {"regime": facts.regime},
    ):
        table = part_table(found, parts)
        sums = table.groupby("case").apply(
            lambda own: (own["rows"] * own["mape_percent"]).sum() / own["rows"].sum(), include_groups=False
        )
        assert table.groupby("case")["rows"].sum().to_dict() == whole["rows"].to_dict()
        assert sums.to_dict() == pytest.approx(whole["pooled_mape_percent"].to_dict())
    assert set(facts.regime) <= set(REGIMES)


def test_deciles_are_tenths_of_the_evaluated_rows_from_rare_to_common() -> None:
    density = np.arange(100.0)[::-1]
    deciles = workload_deciles(density, np.arange(100))
    assert np.bincount(deciles)[1:].tolist() == [10] * 10
    assert deciles[99] == 1
    assert deciles[0] == 10


def test_a_folds_interval_comes_from_the_others() -> None:
    # The other boards are off by up to ±10 %, this one by +50 %: an interval that had seen it would hold it.
    spread = np.log(np.linspace(0.9, 1.1, 50))[None, :]
    folds = [Fold(name=name, case=Newness.NEW_GPU, train=NOTHING, test=NOTHING) for name in "abc"]
    off = np.log(np.full((1, 5), 1.5))
    inside, width = fold_coverage(2, folds, [spread, spread, off])
    assert inside == 0.0
    # Ends are the 5 and 95 % quantiles, a tenth further out: log(measured / predicted) of ∓0.09 · 1.1.
    assert width == pytest.approx(0.5 * (1 / 0.91**1.1 - 1 / 1.09**1.1), abs=0.01)
    normal = np.random.default_rng(2).normal(0.0, 0.2, (1, 2000))
    inside, _ = fold_coverage(0, folds[:2], [normal, normal])
    assert 0.90 <= inside <= 0.96


def test_a_lone_fold_has_no_interval(two_boards: list[FoldEvidence]) -> None:
    assert interval_table(two_boards[:1]).empty
    table = interval_table(two_boards)
    assert table.loc[table["method"] == SHIPPED, "folds"].tolist() == [2]
