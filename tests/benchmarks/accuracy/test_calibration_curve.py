"""The calibration curve evaluates rows that never calibrated, the same for every number of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.accuracy.calibration_curve import (
    FEWEST_EVALUATED,
    FLOOR,
    OTHER_MODELS,
    RANDOM_ROWS,
    BoardRuns,
    board_curve,
    draw_errors,
    draw_runs,
    energy_log_ratios,
    mape_percent,
    markdown,
    over_groups,
    summary,
)
from benchmarks.accuracy.calibration_figure import draw_calibration
from benchmarks.accuracy.mean_interval import mean_interval, student_975
from llmco2.calibration.runs import calibration_runs
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.data.tables import run_rows
from llmco2.predictor.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def data() -> EnergyDataModule:
    module = EnergyDataModule(split=SplitOptions(kind="none"))
    module.setup()
    return module


@pytest.fixture(scope="module")
def board(data: EnergyDataModule) -> BoardRuns:
    """Return forty simulated runs of the board and engine that have most."""
    frame = data.frame[data.frame["energy_j"].notna()]
    gpu, engine = frame.groupby(["gpu", "engine"]).size().idxmax()
    own = run_rows(frame[(frame["gpu"] == gpu) & (frame["engine"] == engine)].head(40))
    (runs,) = calibration_runs(own, load_checkpoint(None))[0].values()
    return BoardRuns(
        gpu_id=gpu, engine=engine, runs=runs, models=np.array([r.model for r in own], dtype=object)
    )


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=80), st.integers(0, 5))
def test_no_evaluated_row_calibrates(names: list[str], seed: int) -> None:
    models = np.array(names, dtype=object)
    for drawing in (RANDOM_ROWS, OTHER_MODELS):
        draw = draw_runs(models, drawing, seed)
        if draw is None:
            continue
        assert not set(draw.calibrating) & set(draw.evaluated)
        assert len(set(draw.calibrating)) == len(draw.calibrating) >= 1
        assert len(draw.evaluated) >= FEWEST_EVALUATED
        if drawing == OTHER_MODELS:
            assert not set(models[draw.calibrating]) & set(models[draw.evaluated])
            assert len(draw.calibrating) + len(draw.evaluated) == len(models)


def test_evaluated_rows_are_the_same_for_every_number_of_runs(board: BoardRuns) -> None:
    table = board_curve(board, counts=(0, 3, 5), n_draws=2)
    per_draw = table.groupby(["drawing", "draw"])
    assert (per_draw["evaluated_rows"].nunique() == 1).all()
    # What needs no runs cannot depend on their number.
    without = table[table["method"] == "none"]
    assert (without.groupby(["drawing", "draw"])["mape_percent"].nunique() == 1).all()
    at_zero = table[(table["n_runs"] == 0) & (table["method"] != FLOOR)]
    assert (at_zero.groupby(["drawing", "draw"])["mape_percent"].nunique() == 1).all()


def test_one_scale_takes_away_an_offset_whole(board: BoardRuns) -> None:
    """Labels that are the predictions times 1.5: too low by a third, and exact after any run."""
    ratios = energy_log_ratios(board.runs, {})
    flat = board.runs.labels * 1.5 / np.exp(ratios)[:, None]
    runs = BoardRuns(gpu_id=board.gpu_id, engine=board.engine, models=board.models,
                     runs=replace(board.runs, labels=flat))  # fmt: skip
    draw = draw_runs(board.models, RANDOM_ROWS, 0)
    assert draw is not None
    before = draw_errors(runs, draw, 0)
    assert before["none"] == pytest.approx(100.0 / 3.0)
    assert before[FLOOR] == pytest.approx(0.0, abs=1e-6)
    assert draw_errors(runs, draw, 1)["median scale"] == pytest.approx(0.0, abs=1e-6)
    assert draw_errors(runs, draw, 10)["calibrate"] < 0.5 * before["calibrate"]  # shrunk towards no change


def test_error_by_hand() -> None:
    # predicted/measured: 1/2, 1, 2 → 50 %, 0 %, 100 %; a run without energy is left out
    assert mape_percent(np.log([2.0, 1.0, 0.5, np.nan])) == pytest.approx(50.0)
    assert np.isnan(mape_percent(np.array([np.nan])))


def test_means_compare_the_same_draws_throughout() -> None:
    rows = [
        ("b", "e", "random rows", d, n, "none", 10.0 * d, 9)
        for d in (1, 2)
        for n in (0, 3)
        if (d, n) != (2, 3)
    ]
    columns = ["gpu", "engine", "drawing", "draw", "n_runs", "method", "mape_percent", "evaluated_rows"]
    errors = pd.DataFrame(rows, columns=columns)
    found = over_groups(errors)
    assert found["random rows", "none", 0].mean == found["random rows", "none", 3].mean == 10.0
    whole = summary(errors)
    assert whole.loc[whole["n_runs"] == 0, "mape_percent"].item() == 15.0


def test_mean_interval_by_hand() -> None:
    # mean 3, standard deviation sqrt(2.5), t(4) = 2.776: 2.776 · 1.5811 / sqrt(5) = 1.963
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0, np.nan])
    assert (found.mean, found.n) == (3.0, 5)
    assert found.half_width == pytest.approx(1.963, abs=2e-3)
    assert str(found) == "3.0 ± 2.0"
    assert str(mean_interval([4.0])) == "4.0"
    assert str(mean_interval([])) == "–"
    for df, t in ((1, 12.706), (2, 4.303), (3, 3.182), (9, 2.262), (30, 2.042)):
        assert student_975(df) == pytest.approx(t, rel=2e-3)


def test_table_and_picture(board: BoardRuns, tmp_path: Path) -> None:
    errors = board_curve(board, counts=(0, 3, 5), n_draws=2)
    text = markdown(errors)
    assert f"| {board.gpu_id} | {board.engine} |" in text
    assert "| mean, calibrate |" in text
    tables = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(set(tables)) == 1  # every row has a cell for every column
    draw_calibration(summary(errors), over_groups(errors), tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
