"""Rows of measured kernels: targets by hand, shapes held out whatever the order, draws by number and error."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.catalog.gpus import resolve_gpu
from llmco2.data.kernel_rows import SHAPE_OF, FocusedSampler, KernelRows, held_out, read_kernel_rows
from llmco2.data.simulated_kernels import simulate_kernels
from llmco2.errors import FileFormatError, InputError
from llmco2.kernel_model.features import KINDS, feature_counts

KINDS_LIST = list(KINDS)
FAST = settings(max_examples=40, derandomize=True)
counts = st.lists(st.integers(1, 200), min_size=1, max_size=8)


def sampler_of(
    rows_of_stratum: list[int],
    *,
    n_draws: int = 1000,
    density: float = 0.5,
    focus: float = 0.5,
    floor: float = 0.2,
) -> FocusedSampler:
    stratum = np.repeat(np.arange(len(rows_of_stratum)), rows_of_stratum)
    shuffled = np.random.default_rng(1).permutation(stratum)
    return FocusedSampler(shuffled, n_draws, density=density, focus=focus, floor=floor)


def with_errors(sampler: FocusedSampler, errors: list[float]) -> FocusedSampler:
    sampler.update(np.stack([np.array(errors), np.ones(len(errors))]))
    return sampler


def test_the_target_is_the_log_of_time_over_roofline_and_launch() -> None:
    size, gpu = 4096, "H100-SXM5-80GB"
    frame = pd.DataFrame([{"m": size, "n": size, "k": size, "format": 0, "stack": 0, "library": 0, "gpu": gpu,
                           "latency_s": 3e-4}])  # fmt: skip
    rows = KernelRows("gemm", frame)
    bound = 2 * size**3 / resolve_gpu(gpu).peak_flops_per_s["bf16"] + 2e-6
    assert rows.bound_s[0] == pytest.approx(bound)
    assert float(rows[0].target) == pytest.approx(math.log(3e-4 / bound), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS_LIST)
def test_rows_at_once_are_the_rows_one_by_one(kind: str) -> None:
    rows = KernelRows(kind, simulate_kernels(kind, 20))
    assert rows.features.shape == (20, feature_counts()[kind])
    together, alone = rows.__getitems__([3, 17]), rows[17]
    assert len(together) == 2
    assert torch.equal(together.features[1:], alone.features)
    assert torch.equal(together.row, torch.tensor([3, 17]))
    moved = together.to("cpu")
    assert torch.equal(moved.target, together.target)


@pytest.mark.parametrize("kind", KINDS_LIST)
def test_shapes_are_held_out_whole_and_in_any_order(kind: str) -> None:
    frame = simulate_kernels(kind, 600)
    mask = held_out(kind, frame, 0.3)
    order = np.random.default_rng(2).permutation(len(frame))
    assert np.array_equal(held_out(kind, frame.iloc[order], 0.3), mask[order])
    assert np.array_equal(held_out(kind, frame.astype({"latency_s": str}), 0.3), mask)  # sizes alone decide
    assert frame.assign(out=mask).groupby(list(SHAPE_OF[kind]))["out"].nunique().max() == 1
    wider = held_out(kind, frame, 0.6)
    assert wider[mask].all()
    assert not held_out(kind, frame, 0.0).any()


def test_the_held_out_share_is_of_shapes() -> None:
    n, k = np.meshgrid(np.arange(1, 61) * 64, np.arange(1, 61) * 64)
    shapes = pd.DataFrame({"n": n.ravel(), "k": k.ravel()})
    assert held_out("gemm", shapes, 0.2).mean() == pytest.approx(0.2, abs=0.02)  # 3,600 shapes: sd 0.007


def test_a_limit_caps_strata_alike_and_loses_none(tmp_path: Path) -> None:
    big, small = simulate_kernels("gemm", 500), simulate_kernels("gemm", 5, seed=1)
    frame = pd.concat([big.assign(stack=0, library=0, gpu="L40S", format=0.0),
                       small.assign(stack=1, library=0, gpu="L40S", format=0.0)])  # fmt: skip
    frame.to_parquet(tmp_path / "gemm.parquet")
    kept = read_kernel_rows(tmp_path / "gemm.parquet", 100)
    assert kept["stack"].value_counts().to_dict() == {0: 95, 1: 5}
    assert len(read_kernel_rows(tmp_path / "gemm.parquet", 1000)) == 505


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"latency_s": 0.0}, "row 0; expected finite numbers, latency_s above 0"),
        ({"latency_s": math.nan}, "row 0"),
        ({"k": math.inf}, "row 0"),
        ({"gpu": None}, "no gpu"),
        ({}, "no rows"),
    ],
)
def test_a_table_that_cannot_be_is_named(tmp_path: Path, change: dict[str, float | None], words: str) -> None:
    frame = simulate_kernels("gemm", 3)
    if not change:
        frame = frame.iloc[:0]
    for name, value in change.items():
        frame = frame.drop(columns=name) if value is None else frame.assign(**{name: value})
    frame.to_parquet(tmp_path / "gemm.parquet")
    with pytest.raises(FileFormatError) as caught:
        read_kernel_rows(tmp_path / "gemm.parquet", 10)
    assert words.replace("; expected", ", expected") in str(caught.value).replace("; expected", ", expected")


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "gemm.parquet").write_bytes(b"PAR1 torn")
    for name in ("gemm", "experts"):
        with pytest.raises(FileFormatError, match=f"cannot read the {name} kernels"):
            read_kernel_rows(tmp_path / f"{name}.parquet", 10)


@FAST
@given(counts, st.data())
def test_no_stratum_falls_below_the_floor(rows: list[int], data: st.DataObject) -> None:
    errors = data.draw(st.lists(st.floats(0.0, 1e3), min_size=len(rows), max_size=len(rows)))
    floor = data.draw(st.floats(0.01, 1.0))
    shares = with_errors(sampler_of(rows, floor=floor), errors).shares()
    assert shares.sum() == pytest.approx(1.0)
    assert shares.min() >= floor / len(rows) - 1e-12


@FAST
@given(st.lists(st.integers(1, 200), min_size=2, max_size=8), st.floats(0.1, 5.0), st.floats(1.1, 10.0))
def test_a_share_rises_with_the_error_of_its_rows(rows: list[int], error: float, factor: float) -> None:
    before = with_errors(sampler_of(rows), [error] * len(rows)).shares()
    after = with_errors(sampler_of(rows), [error * factor] + [error] * (len(rows) - 1)).shares()
    assert after[0] > before[0]
    assert (after[1:] < before[1:]).all()
    unfocused = with_errors(sampler_of(rows, focus=0.0), [error * factor] + [error] * (len(rows) - 1))
    assert unfocused.shares() == pytest.approx(sampler_of(rows, focus=0.0).shares())


def test_shares_by_hand() -> None:
    # 100 and 400 rows at density 1/2: 10 to 20; errors 0.4 and 0.1 at focus 1/2: 2 to 1. So 20 to 20, floor or not.
    assert with_errors(sampler_of([100, 400]), [0.4, 0.1]).shares() == pytest.approx([0.5, 0.5])
    assert sampler_of([100, 300], density=1.0, floor=0.2).shares() == pytest.approx([0.3, 0.7])


def test_draws_follow_the_shares_and_reach_every_row() -> None:
    sampler = with_errors(sampler_of([10, 40, 200], n_draws=20_000), [1.0, 0.1, 0.5])
    drawn = np.array(list(sampler))
    assert len(drawn) == len(sampler) == 20_000
    observed = np.bincount(sampler.stratum[drawn]) / len(drawn)
    assert observed == pytest.approx(sampler.shares(), abs=0.015)  # sd 0.0035
    assert set(drawn) == set(range(250))


def test_means_of_errors_are_taken_by_stratum_and_the_unseen_keep_theirs() -> None:
    sampler = FocusedSampler(np.array([0, 1, 1, 2]), 10, density=0.0, focus=1.0, floor=0.01)
    totals = sampler.totals(np.array([0, 1, 2, 2]), np.array([1.0, 2.0, 4.0, 6.0]))
    assert totals.tolist() == [[1.0, 12.0, 0.0], [1.0, 3.0, 0.0]]
    sampler.update(totals)
    assert sampler.state_dict()["error"] == [1.0, 4.0, 1.0]  # errors begin at 1


def test_a_sampler_goes_on_where_it_was_saved() -> None:
    first = with_errors(sampler_of([30, 60]), [0.2, 0.9])
    list(first)
    second = sampler_of([30, 60])
    second.load_state_dict(first.state_dict())
    assert list(second) == list(first)
    with pytest.raises(InputError, match="cannot resume on other rows"):
        sampler_of([30, 60, 1]).load_state_dict(first.state_dict())
