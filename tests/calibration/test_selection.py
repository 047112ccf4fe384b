"""Factors are kept where held-back runs get better: noise brings none, a slow stack is found with five runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmco2.calibration.calibrate import mape_percent
from llmco2.calibration.fitting import MOVES
from llmco2.calibration.runs import CalibrationRuns, energies, log_ratios, primary, times
from llmco2.calibration.selection import allowed, is_better, run_errors, select, student_97
from llmco2.predictor.checkpoint import Checkpoint
from tests.calibration.conftest import stack_columns, with_noise

N_DRAWS = 40


def errors(runs: CalibrationRuns, scales: dict[str, float]) -> tuple[float, float]:
    """Return the errors in percent of energies and of times."""
    ratios = log_ratios(runs, scales)
    return mape_percent(primary(energies(ratios))), mape_percent(primary(times(ratios)))


def test_noise_is_not_taken_for_a_stack(checkpoint: Checkpoint) -> None:
    """Over forty draws of five runs whose labels are the prediction and noise, other runs get no worse."""
    few, others = stack_columns(5, checkpoint), stack_columns(40, checkpoint, seed=1)
    before, after = [], []
    for seed in range(N_DRAWS):
        fit, _ = select(with_noise(few, seed))
        judged = with_noise(others, 1000 + seed)
        before.append(errors(judged, {}))
        after.append(errors(judged, fit.scales) if fit.moves else before[-1])
    plain, fitted = np.array(before), np.array(after)
    assert plain.mean() > 8.0  # there is noise to be taken for something
    assert np.all(fitted.mean(axis=0) <= 1.02 * plain.mean(axis=0))
    assert np.sum(fitted[:, 0] > 1.02 * plain[:, 0]) <= 3


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_stack_half_as_slow_again_is_found_with_five_runs(checkpoint: Checkpoint, noise: float) -> None:
    slow = {"kernel time": 1.5, "host time": 1.5}
    fit, held_back = select(with_noise(stack_columns(5, checkpoint, slow), 3, noise))
    others = stack_columns(40, checkpoint, slow, seed=1)
    before, after = errors(others, {}), errors(others, fit.scales)
    assert before[1] == pytest.approx(100.0 / 3.0, abs=0.1)
    assert after[0] < before[0] / 4.0
    assert after[1] < before[1] / 4.0
    assert np.nanmean(np.abs(held_back)) < 0.1


def test_a_stack_two_and_a_half_times_as_slow_with_more_power_is_found_with_five_runs(
    checkpoint: Checkpoint,
) -> None:
    other = {"kernel time": 2.2, "host time": 3.0, "dynamic power": 1.3}
    fit, _ = select(with_noise(stack_columns(5, checkpoint, other), 5, 0.03))
    others = stack_columns(40, checkpoint, other, seed=1)
    before, after = errors(others, {}), errors(others, fit.scales)
    assert before[1] > 50.0
    assert after[0] < before[0] / 4.0
    assert after[1] < before[1] / 4.0


def test_runs_that_agree_with_the_predictor_change_nothing(checkpoint: Checkpoint) -> None:
    fit, held_back = select(stack_columns(5, checkpoint))
    assert fit.moves == ()
    assert np.nanmax(np.abs(held_back)) < 1e-12


def test_one_broken_run_brings_no_factor(checkpoint: Checkpoint) -> None:
    runs = stack_columns(6, checkpoint)
    broken = runs.labels.copy()
    broken[2] *= 50.0
    assert select(replace(runs, labels=broken))[0].moves == ()


def test_times_alone_calibrate_times(checkpoint: Checkpoint) -> None:
    runs = stack_columns(5, checkpoint, {"kernel time": 1.5, "host time": 1.5, "dynamic power": 1.5})
    bare = runs.labels.copy()
    bare[:, :4] = np.nan
    fit, _ = select(replace(runs, labels=bare))
    assert fit.scales["kernel time"] == pytest.approx(1.5, rel=0.1)
    assert fit.scales["dynamic power"] == 1.0


def test_better_is_a_gain_beyond_its_scatter_that_costs_neither_energy_nor_time() -> None:
    before = np.full((6, 7), 0.3)
    assert is_better(before, np.full((6, 7), 0.1))
    assert not is_better(before, before)
    scattered = before - np.array([0.29, -0.2, 0.29, -0.2, 0.29, -0.2])[:, None]  # a mean gain of 0.045
    assert not is_better(before, scattered)
    lopsided = before.copy()
    lopsided[:, :4], lopsided[:, 4:] = 0.0, 0.35  # energies much better, times worse
    assert not is_better(before, lopsided)


def test_a_run_without_energy_is_judged_by_its_times() -> None:
    ratios = np.array([[np.nan] * 4 + [0.1, 0.1, -0.4], [0.5] * 4 + [0.1] * 3])
    assert run_errors(ratios) == pytest.approx([0.2, 0.3])


def test_moves_that_say_the_same_are_not_made_together() -> None:
    assert allowed((), "time")
    assert not allowed(("time",), "time")
    assert allowed(("time",), "host time")
    assert not allowed(("kernel time", "host time"), "time")
    assert not allowed(("time", "host time"), "kernel time")
    assert sum(allowed(("dynamic power",), name) for name in MOVES) == len(MOVES) - 1


def test_quantiles_of_student() -> None:
    # NIST table of the t distribution, one-sided 97.5 %
    assert [student_97(n) for n in (4, 11, 1000)] == pytest.approx([2.776, 2.201, 1.962], abs=0.02)
    assert student_97(2) == pytest.approx(4.303, abs=0.15)
