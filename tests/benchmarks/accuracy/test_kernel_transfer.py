"""Kernel transfer: nothing of the evaluated GPU is seen, and intervals weigh GPUs alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy.kernel_figure import draw_kernels
from benchmarks.accuracy.kernel_transfer import (
    READOUT,
    TREES,
    Kernels,
    conformal_width,
    countable,
    counted,
    markdown,
    readout_log_errors,
    sample_kernels,
    summary,
    transfer,
    tree_log_errors,
)
from llmco2.data.schema import canonical_frame
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.records.run import KernelMeasurement

GPUS = ("A100-SXM4-80GB", "H100-SXM5-80GB", "L40S")


def measured_kernels(n_per_gpu: int = 60) -> pd.DataFrame:
    """Return products and attentions whose latencies are three times a rough roofline."""
    rng, rows = np.random.default_rng(0), []
    for gpu in GPUS:
        for i in range(n_per_gpu):
            m, n, k = 2.0 ** rng.integers(0, 13), 1024.0 * rng.integers(1, 9), 1024.0 * rng.integers(1, 9)
            row: dict[str, Any] = {"kind": "gemm", "m": m, "n": n, "k": k}
            if i % 3 == 0:
                row = {"kind": "decode_attention", "m": 1.0, "context_tokens": 16.0 * rng.integers(1, 200),
                       "batch_size": 2.0 ** rng.integers(0, 7), "n_heads": 32, "n_kv_heads": 8,
                       "head_dim": 128}  # fmt: skip
            rows.append({"source": "test", "gpu": gpu, "precision": "bf16", "latency_s": 1.0, **row})
    table = canonical_frame(pd.DataFrame(rows), KernelMeasurement)
    return table.assign(latency_s=3.0 * counted(table).roofline_s)


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return counted(measured_kernels())


def test_the_roofline_of_a_product_by_hand() -> None:
    """One large product is bound by compute, one of a single row by its weights."""
    rows = [{"kind": "gemm", "m": m, "n": 8192.0, "k": 8192.0, "gpu": GPUS[0], "precision": "bf16", "latency_s": 1.0,
             "source": "test"} for m in (8192.0, 1.0)]  # fmt: skip
    found = counted(canonical_frame(pd.DataFrame(rows), KernelMeasurement)).roofline_s
    assert found[0] == pytest.approx(2 * 8192.0**3 / 312e12, rel=1e-3)
    assert found[1] == pytest.approx(2 * 8192.0**2 / 2.039e12, rel=0.01)  # and the activations' few bytes


def test_trees_learn_a_constant_factor_and_carry_it_over(kernels: Kernels) -> None:
    test = np.flatnonzero(kernels.gpu == "L40S")
    errors = tree_log_errors(kernels, np.flatnonzero(kernels.gpu != "L40S"), test)
    assert np.abs(errors).max() < 1e-6


def test_labels_of_the_gpu_left_out_change_nothing_that_is_predicted_for_it(kernels: Kernels) -> None:
    checkpoint, left_out = load_checkpoint(None), kernels.gpu == "L40S"
    slower = replace(kernels, table=kernels.table.assign(
        latency_s=np.where(left_out, 7.0, 1.0) * kernels.table["latency_s"]))  # fmt: skip
    found, moved = transfer(kernels, checkpoint), transfer(slower, checkpoint)
    for method in (READOUT, TREES):
        np.testing.assert_allclose(
            moved.errors[method, "L40S"], found.errors[method, "L40S"] - np.log(7.0), atol=1e-5
        )
        np.testing.assert_array_equal(moved.widths[method, "L40S"], found.widths[method, "L40S"])


def test_the_readout_does_not_know_the_boards_name(kernels: Kernels) -> None:
    checkpoint = load_checkpoint(None)
    louder = {**checkpoint.arrays, "gpu_level": checkpoint.arrays["gpu_level"].copy()}
    louder["gpu_level"][1:] += 1.0  # the first row is the unknown board's
    np.testing.assert_array_equal(readout_log_errors(checkpoint, kernels),
                                  readout_log_errors(replace(checkpoint, arrays=louder), kernels))  # fmt: skip


def test_conformal_width_weighs_groups_alike() -> None:
    # Ten small errors in one group, two large ones in another: half of the weight is each group's.
    many, few = np.full(10, -0.1), np.array([0.5, 0.6])
    assert conformal_width([many, few], 0.5) == pytest.approx(0.1)
    assert conformal_width([many, few], 0.75) == pytest.approx(0.5)
    assert conformal_width([many, few], 0.9) == pytest.approx(0.6)
    assert np.isnan(conformal_width([np.array([np.nan])]))


def test_a_sample_takes_as_many_of_every_kind_as_there_are() -> None:
    table = measured_kernels(60)  # 20 attentions and 40 products a GPU
    drawn = sample_kernels(table, 30, seed=1)
    assert drawn.groupby("gpu").size().tolist() == [30, 30, 30]
    assert drawn.groupby(["gpu", "kind"]).size().tolist() == [15] * 6
    assert sample_kernels(table, 50).groupby(["gpu", "kind"]).size().tolist() == [20, 30] * 3
    assert sample_kernels(table, 30, seed=1).equals(drawn)


def test_what_cannot_be_counted_is_left_out() -> None:
    table = measured_kernels(3)
    uneven = {**table.iloc[0].to_dict(), "kind": "moe", "load_balance": "power_law"}
    both = canonical_frame(pd.concat([table, pd.DataFrame([uneven])]), KernelMeasurement)
    assert len(countable(both)) == len(table)


def test_table_and_picture(kernels: Kernels, tmp_path: Path) -> None:
    figures = summary(kernels, transfer(kernels, load_checkpoint(None)))
    exact = figures[figures["method"] == TREES]
    assert (exact["median_percent"] < 0.01).all()
    assert f"| gemm | {TREES} | 0.0 | 0.0 | 0.0 | 0.0 |" in markdown(figures)
    draw_kernels(figures, tmp_path / "k.png")
    assert (tmp_path / "k.png").read_bytes()[:4] == b"\x89PNG"
