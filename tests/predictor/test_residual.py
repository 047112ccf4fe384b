"""The residual of a calibration: what a run says holds near it, fades away from it, and never breaks physics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.errors import FileFormatError
from llmco2.predictor.answer import answer_requests
from llmco2.predictor.api import predict
from llmco2.predictor.calibration import load_calibration
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.predictor.columns import predict_columns
from llmco2.predictor.residual import LENGTH, N_FEATURES, NOISE_SIGMA, SIGMA, Residual, fit_residual

REQUEST: dict[str, Any] = {
    "model": "Qwen/Qwen3-8B",
    "gpu": "H100-SXM5-80GB",
    "engine": "vllm",
    "batch_size": 4,
}


def at(*places: float) -> np.ndarray:
    """Return requests that lie ``places`` e-folds away from the first in every feature."""
    return np.repeat(np.array(places)[:, None], N_FEATURES, axis=1)


def test_one_run_by_hand() -> None:
    """Posterior mean of a Gaussian process with one observation of 0.2."""
    residual = fit_residual(at(0.0), np.array([0.2]))
    share = SIGMA**2 / (SIGMA**2 + NOISE_SIGMA**2)
    near, one_length, far = residual.log_correction(at(0.0, LENGTH, 50.0))
    assert near == pytest.approx(share * 0.2)
    assert one_length == pytest.approx(share * 0.2 * np.exp(-0.5))
    assert far == 0.0


def test_runs_without_energy_say_nothing() -> None:
    known = fit_residual(at(0.0), np.array([0.2]))
    both = fit_residual(at(0.0, 1.0), np.array([0.2, np.nan]))
    np.testing.assert_array_equal(both.points, known.points)
    np.testing.assert_array_equal(
        fit_residual(at(0.0), np.array([np.nan])).log_correction(at(0.0, 1.0)), [0.0, 0.0]
    )


def test_an_absurd_run_hardly_drags_those_beside_it() -> None:
    residual = fit_residual(at(0.0, 0.01), np.array([0.0, 5.0]))
    assert abs(residual.log_correction(at(0.0))[0]) < 0.02


@given(
    st.lists(st.tuples(st.floats(-5.0, 5.0), st.floats(-8.0, 8.0)), min_size=1, max_size=12),
    st.floats(-9.0, 9.0),
)
def test_a_correction_is_bounded(runs: list[tuple[float, float]], place: float) -> None:
    residual = fit_residual(at(*(x for x, _ in runs)), np.array([error for _, error in runs]))
    assert abs(residual.log_correction(at(place))[0]) <= 1.0


def test_a_corrected_prediction_stays_within_physics(requests: Any, random_checkpoint_path: Path) -> None:
    checkpoint = load_checkpoint(str(random_checkpoint_path))
    plain = predict_columns(checkpoint, requests.deployments, requests.sizes)
    rng = np.random.default_rng(0)
    wild = Residual(points=rng.normal(-3.0, 4.0, (50, N_FEATURES)), weights=rng.choice([-900.0, 900.0], 50))
    moved = answer_requests(checkpoint, requests.deployments, requests.sizes, residual=wild)
    change = np.log(moved.prediction.energy_j / plain.energy_j)
    assert change.max() > 0.1
    assert change.min() < -0.1
    assert np.abs(change).max() <= 1.0 + 1e-9
    for phase in (moved.prefill, moved.decode, moved.total):
        assert (phase.lower_bound_j <= phase.low_j * (1 + 1e-12)).all()
        assert (phase.low_j <= phase.energy_j).all()
        assert (phase.energy_j <= phase.high_j).all()
        assert (phase.high_j <= phase.upper_bound_j * (1 + 1e-12)).all()


def entry(residual: object) -> dict[str, Any]:
    return {
        "gpu": REQUEST["gpu"],
        "engine": REQUEST["engine"],
        "scales": {},
        "n_runs": 3,
        "residual": residual,
    }


def write(path: Path, residual: object) -> str:
    path.write_text(
        json.dumps({"format": "llmco2-calibration", "format_version": 1, "entries": [entry(residual)]})
    )
    return str(path)


def test_a_file_without_points_nearby_changes_nothing(tmp_path: Path) -> None:
    plain = predict(**REQUEST)
    far = write(tmp_path / "far.json", {"points": [[500.0] * N_FEATURES], "weights": [9.0]})
    assert predict(**REQUEST, calibration=far).total == plain.total
    assert (
        load_calibration(write(tmp_path / "none.json", None), REQUEST["gpu"], REQUEST["engine"]).residual
        is None
    )


@pytest.mark.parametrize(
    "damaged",
    [7, {}, {"points": [[0.0] * N_FEATURES]}, {"points": [[0.0]], "weights": [1.0]},
     {"points": [[0.0] * N_FEATURES], "weights": [1.0, 2.0]}, {"points": [["x"] * N_FEATURES], "weights": [1.0]},
     {"points": [[float("nan")] * N_FEATURES], "weights": [1.0]},
     {"points": [[10**300] * N_FEATURES], "weights": [10**300, 1]}],
    ids=str,
)  # fmt: skip
def test_a_damaged_residual_is_refused_in_one_line(damaged: object, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="expected a residual of points with 7 numbers") as refused:
        load_calibration(write(tmp_path / "c.json", damaged), REQUEST["gpu"], REQUEST["engine"])
    assert "\n" not in str(refused.value)
