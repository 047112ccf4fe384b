"""Fitting finds known factors again, moves little on little evidence, and knows what it would say without a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmco2.calibration.fitting import MOVES, Fit, fit_moves, no_fit, scales_of
from llmco2.calibration.runs import CalibrationRuns, log_ratios
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.predictor.columns import FACTORS
from tests.calibration.conftest import stack_columns, with_noise

TRUE = {"kernel time": 1.4, "host time": 2.0, "prefill time": 0.8, "dynamic power": 1.2}


def rows(runs: CalibrationRuns, index: list[int]) -> CalibrationRuns:
    """Return the runs with the labels of all but ``index`` forgotten."""
    labels = np.full_like(runs.labels, np.nan)
    labels[index] = runs.labels[index]
    return replace(runs, labels=labels)


def test_known_factors_are_found_again(checkpoint: Checkpoint) -> None:
    fit = fit_moves(stack_columns(60, checkpoint, TRUE), tuple(name for name in MOVES if name != "time"))
    assert {name: fit.scales[name] for name in TRUE} == pytest.approx(TRUE, rel=0.02)
    assert np.nanmax(np.abs(fit.ratios)) < 0.02


def test_moves_together_multiply_their_factors() -> None:
    scales = scales_of(("time", "host time"), np.log([2.0, 1.5]))
    assert scales == pytest.approx(
        {"kernel time": 2.0, "host time": 3.0, "prefill time": 1.0, "dynamic power": 1.0}
    )
    # No factor leaves what a calibration file may hold.
    assert scales_of(("time", "host time"), np.array([2.5, 2.5]))["host time"] < 20.0
    assert {factor for move in MOVES.values() for factor in move.factors} == set(FACTORS)


def test_one_run_moves_little_and_many_move_far(checkpoint: Checkpoint) -> None:
    slow = stack_columns(30, checkpoint, {"prefill time": 3.0})
    one, many = (
        fit_moves(rows(slow, index), ("prefill time",)).scales["prefill time"]
        for index in ([3], list(range(30)))
    )
    assert 1.0 < one < many
    assert many == pytest.approx(3.0, rel=0.03)


def test_one_absurd_run_does_not_drag_the_others(checkpoint: Checkpoint) -> None:
    runs = stack_columns(10, checkpoint, {"kernel time": 1.3, "host time": 1.3})
    sound = fit_moves(runs, ("time",)).logs[0]
    absurd = runs.labels.copy()
    absurd[4] *= 1e4
    dragged = fit_moves(replace(runs, labels=absurd), ("time",)).logs[0]
    assert sound == pytest.approx(np.log(1.3), abs=0.01)
    assert dragged == pytest.approx(sound, abs=0.06)  # nine runs hold it: a mean would have moved by 0.9


@pytest.mark.parametrize("moves", [("time",), ("host time", "dynamic power")])
def test_leaving_a_run_out_on_the_tangent_is_refitting_without_it(
    checkpoint: Checkpoint, moves: tuple[str, ...]
) -> None:
    runs = with_noise(stack_columns(6, checkpoint, TRUE), seed=1)
    fit = fit_moves(runs, moves)
    for i in range(6):
        others = rows(runs, [k for k in range(6) if k != i])
        refitted = log_ratios(runs, fit_moves(others, moves).scales)[i]
        assert fit.without(np.array([i]))[0] == pytest.approx(refitted, abs=0.02, nan_ok=True)


def test_no_move_is_the_prediction_itself(checkpoint: Checkpoint) -> None:
    runs = stack_columns(4, checkpoint, TRUE)
    fit = no_fit(runs)
    assert isinstance(fit, Fit)
    assert fit.ratios == pytest.approx(log_ratios(runs), nan_ok=True)
    assert fit.scales == dict.fromkeys(FACTORS, 1.0)
