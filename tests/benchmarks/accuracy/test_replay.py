"""The replay: one fixed test set, strategies that see acquired labels alone, and labels-to-error by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy import replay as module
from benchmarks.accuracy.replay import (
    STRATEGIES,
    Fitted,
    Plan,
    Pool,
    final_errors,
    group_errors,
    labels_needed,
    labels_to_error,
    make_strategy,
    markdown,
    replay,
    seed_rows,
    verdict,
)
from benchmarks.accuracy.replay_figure import draw_replays
from benchmarks.accuracy.replay_pools import pool_of_kernels, run_pool
from llmco2.data.schema import canonical_frame
from llmco2.errors import InputError
from llmco2.records.run import KernelMeasurement

PLAN = Plan(n_initial=40, per_round=24, n_rounds=2)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return run_pool(None)


def acquired_rows(pool: Pool, strategy: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return what had been acquired at each fit of a replay, with a model that costs nothing."""
    seen: list[np.ndarray] = []

    def fit(pool: Pool, acquired: np.ndarray, seed: int) -> Fitted:
        seen.append(acquired)
        guess = pool.target[pool.pool[acquired]].mean()
        return Fitted(out_of_bag=np.full(len(acquired), guess), test=np.full(len(pool.test), guess))

    with monkeypatch.context() as patched:
        patched.setattr(module, "fit_forest", fit)
        replay(pool, strategy, seed, PLAN)
    return seen


def test_labels_to_an_error_by_hand() -> None:
    labels, errors = np.array([10.0, 20.0, 40.0]), np.array([30.0, 20.0, 10.0])
    assert labels_to_error(labels, errors, 30.0) == 10.0
    assert labels_to_error(labels, errors, 25.0) == 15.0
    assert labels_to_error(labels, errors, 12.5) == 35.0
    assert labels_to_error(labels, errors, 10.0) == 40.0
    assert np.isnan(labels_to_error(labels, errors, 9.0))
    # The first time it is reached counts, whatever happens after.
    assert labels_to_error(labels, np.array([30.0, 10.0, 50.0]), 20.0) == 15.0


def test_pool_and_test_set_share_no_request_and_never_change(pool: Pool) -> None:
    assert not set(pool.pool) & set(pool.test)
    assert len(pool.pool) + len(pool.test) == len(pool.target)
    np.testing.assert_array_equal(run_pool(None).test, pool.test)
    with pytest.raises(InputError, match="share rows"):
        replace(pool, test=pool.pool[:3])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_replay_only_adds_and_begins_alike(
    pool: Pool, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = acquired_rows(pool, strategy, 3, monkeypatch)
    assert len(rounds[0]) == PLAN.n_initial
    for before, after in pairwise(rounds):
        assert set(before) < set(after)
        assert PLAN.per_round * 0.9 <= len(after) - len(before) <= PLAN.per_round * 1.1
    np.testing.assert_array_equal(rounds[0], acquired_rows(pool, "uniform", 3, monkeypatch)[0])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_labels_that_were_not_acquired_are_not_seen(
    pool: Pool, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every other label of the pool destroyed, the same rows are acquired and the same curve comes out."""
    rounds = acquired_rows(pool, strategy, 1, monkeypatch)
    blind = pool.target.copy()
    blind[np.setdiff1d(pool.pool, pool.pool[rounds[-1]])] = np.nan
    again = acquired_rows(replace(pool, target=blind), strategy, 1, monkeypatch)
    for one, other in zip(rounds, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_kernels_make_a_pool_of_whole_shapes() -> None:
    shapes = [
        {"kind": "gemm", "m": m, "n": 1024.0 * n, "k": 4096.0}
        for m in (1.0, 64.0, 4096.0)
        for n in range(1, 9)
    ]
    rows = [{"source": "test", "precision": "bf16", "latency_s": 1e-3, "gpu": gpu, **shape} for shape in shapes
            for gpu in ("A100-SXM4-80GB", "L40S")]  # fmt: skip
    kernels = pool_of_kernels(canonical_frame(pd.DataFrame(rows), KernelMeasurement))
    assert len(kernels.pool) + len(kernels.test) == 48
    # A shape is on one side with all the boards it was measured on: rows 2i and 2i + 1 are one shape.
    evaluated = np.isin(np.arange(48), kernels.test).reshape(-1, 2)
    assert (evaluated[:, 0] == evaluated[:, 1]).all()
    # 64 rows are a decode step of 64 requests, 4096 are one prompt of that length.
    assert np.isfinite(kernels.target).all()
    assert len(set(kernels.regions)) == 6


def test_focused_goes_where_density_times_error_is(pool: Pool) -> None:
    """Two regions of the same size and density, one of which is wrong: it gets nine in ten and half of the tenth."""
    n = 2000
    rows = np.arange(n)
    two = Pool(name="two", features=np.zeros((n, 1)), target=np.zeros(n), density=np.ones(n),
               regions=np.where(rows % 2, "wrong", "right").astype(object), coordinates=np.zeros((n, 1)),
               pool=rows, test=np.empty(0, dtype=np.intp))  # fmt: skip
    search, first = seed_rows(two, PLAN, 0)
    chosen = make_strategy("focused", two, search, 0).next_rows(first, (first % 2).astype(float), 400)
    assert np.mean(chosen % 2) == pytest.approx(0.95, abs=0.04)
    assert not set(chosen) & set(first)


def test_errors_at_head_and_tail_by_hand() -> None:
    n = 10
    pool = Pool(name="p", features=np.zeros((n, 1)), target=np.zeros(n), density=np.arange(1.0, n + 1.0),
                regions=np.full(n, "r", dtype=object), coordinates=np.zeros((n, 1)),
                pool=np.empty(0, dtype=np.intp), test=np.arange(n))  # fmt: skip
    predicted = np.log1p(np.where(np.arange(n) < 5, 0.3, 0.1))  # 30 % on the rare half, 10 % on the dense one
    predicted[0] = np.log(2.0)
    errors = group_errors(pool, predicted)
    assert errors["head"] == pytest.approx(10.0)
    assert errors["tail"] == pytest.approx((100.0 + 4 * 30.0) / 5)
    assert errors["lowest decile"] == pytest.approx(100.0)
    assert errors["all"] == pytest.approx((100.0 + 4 * 30.0 + 5 * 10.0) / 10)
    assert errors["by workload"] == pytest.approx((100.0 + 30.0 * 14 + 10.0 * 40) / 55)


def test_tables_say_it_when_focused_loses(tmp_path: Path) -> None:
    rows = []
    for seed in range(3):
        for strategy, end in (("uniform", 10.0), ("focused", 14.0), ("half focused", 10.0), ("paper", 8.0)):
            for n, error in ((10, 30.0), (20, 20.0), (30, end)):
                rows += [("p", strategy, seed, n, group, error + 0.1 * seed) for group in module.GROUPS]
    curves = pd.DataFrame(rows, columns=["pool", "strategy", "seed", "n_labels", "group", "mape_percent"])
    needed, final = labels_needed(curves), final_errors(curves)
    assert "- p, head: focused is WORSE than uniform (+4.0 ± 0.0 points)" in verdict(final)
    head = needed[(needed["group"] == "head") & (needed["target_at"] == "end")].set_index("strategy")
    assert head.loc["focused", "reached"] == 0
    assert head.loc["uniform", "reached"] == 2  # of the mean, 10.1: the third seed ends above it
    assert "| p | head | 10.1 | " in markdown(needed, final)
    assert "| reached by 0 of 3 seeds |" in markdown(needed, final)
    draw_replays(curves, tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"


def test_a_replay_with_the_real_model(pool: Pool) -> None:
    curve = replay(pool, "focused", 0, PLAN)
    whole = curve[curve["group"] == "all"]["mape_percent"].to_list()
    assert len(whole) == PLAN.n_rounds + 1
    assert whole[-1] < whole[0]
    pd.testing.assert_frame_equal(curve, replay(pool, "focused", 0, PLAN))
