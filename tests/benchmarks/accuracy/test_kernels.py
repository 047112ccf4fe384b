"""Held-out kernels are scored by fits that did not see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.accuracy import kernels
from benchmarks.accuracy.tables import KERNELS
from benchmarks.command_line import EXIT_INPUT, exit_code
from llmco2.data.kernel_rows import KernelRows, kernel_inputs
from llmco2.kernel_model.features import LAUNCH_S, SIZES


def collectives(n: int = 600) -> pd.DataFrame:
    """Return all-reduces on two boards whose time is twice the roofline with launch at 2 GPUs, thrice at 8."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: np.zeros(n) for name in SIZES["collective"]})
    frame["n_gpus"] = random.choice([2.0, 8.0], n)
    frame["message_bytes"] = np.round(np.exp(random.uniform(8.0, 18.0, n)))
    frame["stack"], frame["library"], frame["version"] = 0, -1, "1.0"
    frame["gpu"] = random.choice(["H100-SXM5-80GB", "H200-SXM-141GB"], n)
    bound = kernel_inputs("collective", frame).roofline_s + LAUNCH_S
    return frame.assign(latency_s=bound * np.where(frame["n_gpus"] == 2.0, 2.0, 3.0))


def test_spread_by_hand() -> None:
    found = kernels.spread(np.log(np.array([1.1, 0.9, 1.5, 1.0, 1.0])))
    assert found["median_percent"] == pytest.approx(10.0)
    assert found["mean_percent"] == pytest.approx(14.0)
    assert found["p90_percent"] == pytest.approx(34.0)  # 0.6 of the way from 10 to 50
    assert found["bias_percent"] == pytest.approx(0.0)


def test_one_ratio_a_class_is_the_median_of_training_rows() -> None:
    train = pd.DataFrame({"stack": [0, 0, 0, 1]})
    test = pd.DataFrame({"stack": [0, 1, 2]})
    errors = kernels.constant_log_errors(
        train, np.array([1.0, 2.0, 9.0, 5.0]), test, np.array([2.5, 5.0, 3.0])
    )
    assert errors.tolist() == [-0.5, 0.0, 0.5]  # an unknown class takes the median of all, 3.5


def test_a_node_learns_what_one_ratio_cannot() -> None:
    frame = collectives()
    rows = KernelRows("collective", frame)
    before = torch.get_rng_state()
    node, again = (kernels.fit_node("collective", frame, steps=60, batch_size=256) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    errors = kernels.node_log_errors(node, rows)
    assert np.median(np.abs(errors)) < 0.1
    assert errors.tolist() == kernels.node_log_errors(again, rows).tolist()


def test_folds_hold_out_whole_shapes_and_boards() -> None:
    frame = collectives()
    folds = dict(kernels.kernel_folds("collective", frame, ["H200-SXM-141GB", "L40S"]))
    assert list(folds) == [kernels.SHAPES, "H200-SXM-141GB"]  # no collective was measured on an L40S
    assert (folds["H200-SXM-141GB"] == (frame["gpu"] == "H200-SXM-141GB")).all()
    shapes = frame.groupby(["n_gpus", "message_bytes"]).ngroup()
    assert set(shapes[folds[kernels.SHAPES]]).isdisjoint(shapes[~folds[kernels.SHAPES]])
    assert 0.1 < folds[kernels.SHAPES].mean() < 0.3


def test_the_command_writes_a_row_a_fold_and_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collectives().to_parquet(tmp_path / "collective.parquet")
    where = ["--kernels", str(tmp_path), "--output", str(tmp_path / "out"), "--kinds", "collective"]
    assert kernels.main([*where, "--boards", "H200-SXM-141GB", "--steps", "60"]) == 0
    found = pd.read_csv(tmp_path / "out" / KERNELS)
    assert found[["held_out", "method"]].to_numpy().tolist() == [
        [kernels.SHAPES, "learnt kernel"],
        [kernels.SHAPES, "constant efficiency"],
        ["H200-SXM-141GB", "learnt kernel"],
        ["H200-SXM-141GB", "constant efficiency"],
    ]
    assert found["rows"].is_monotonic_increasing
    capsys.readouterr()
    assert exit_code(lambda: kernels.main(["--kernels", str(tmp_path), "--kinds", "gemm"])) == EXIT_INPUT
    assert "no table of a kernel kind" in capsys.readouterr().err
