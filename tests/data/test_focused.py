"""The focused sampler: chances in proportion to workload × error, over a floor that never goes away."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from llmco2.data.focused import (
    EpochSampler,
    FocusedSampler,
    NeighbourPlan,
    NeighbourSearch,
    focused_sampler,
    log_coordinates,
)
from llmco2.data.regions import RegionGrid, region_errors
from llmco2.data.simulate import simulate_runs
from llmco2.data.splits import grouped_split
from llmco2.data.workload import azure_workload
from llmco2.errors import InputError

REGIONS = np.array(["a"] * 10 + ["b"] * 30 + ["c"] * 60, dtype=object)
shares = st.floats(1e-3, 1.0)
errors = st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e6, allow_nan=False), max_size=3)


@given(
    density=st.lists(st.floats(0, 1e9), min_size=100, max_size=100).filter(lambda d: sum(d) > 1e-200),
    exploration=shares,
    updates=st.lists(errors, max_size=4),
)
def test_chances_sum_to_one_and_never_fall_below_the_floor(
    density: list[float], exploration: float, updates: list[dict[str, float]]
) -> None:
    sampler = FocusedSampler(REGIONS, np.array(density), exploration=exploration)
    for update in updates:
        sampler.update(update)
        weights = sampler.weights
        assert weights.sum() == pytest.approx(1.0)
        assert weights.min() >= exploration / 100 * (1 - 1e-9)
        assert sum(sampler.region_weights().values()) == pytest.approx(1.0)


def test_regions_are_drawn_in_proportion_to_their_error() -> None:
    sampler = FocusedSampler(REGIONS, exploration=0.1, seed=1)
    sampler.update({"a": 6.0, "b": 2.0, "c": 1.0})
    # density is uniform: 10·6 : 30·2 : 60·1 are equal thirds, mixed with 10 % of 10 : 30 : 60
    expected = {"a": 0.3 + 0.01, "b": 0.3 + 0.03, "c": 0.3 + 0.06}
    assert sampler.region_weights() == pytest.approx(expected)
    drawn = REGIONS[sampler.draw(60_000)]
    for name, share in expected.items():
        assert np.mean(drawn == name) == pytest.approx(share, abs=0.01)


def test_before_any_error_the_workload_alone_decides() -> None:
    density = np.arange(1.0, 101.0)
    sampler = FocusedSampler(REGIONS, density, exploration=0.5)
    assert sampler.weights == pytest.approx(0.5 * density / density.sum() + 0.5 / 100)


def test_momentum_keeps_part_of_the_last_error_and_unseen_regions_count_as_the_mean() -> None:
    sampler = FocusedSampler(REGIONS, exploration=1e-3, momentum=0.5)
    sampler.update({"a": 4.0, "b": 2.0})
    before = sampler.region_weights()
    assert before["c"] / before["a"] == pytest.approx(60 * 3.0 / (10 * 4.0), rel=0.02)  # (4 + 2) / 2
    sampler.update({"a": 0.0})
    after = sampler.region_weights()
    assert after["a"] / after["b"] == pytest.approx(10 * 2.0 / (30 * 2.0), rel=0.02)  # half of 4 against 2


def test_when_everything_is_learned_the_draw_is_uniform() -> None:
    sampler = FocusedSampler(REGIONS)
    sampler.update(dict.fromkeys("abc", 0.0))
    assert sampler.weights == pytest.approx(np.full(100, 0.01))


def test_a_seed_fixes_the_draws_and_a_state_resumes_them() -> None:
    one, two = FocusedSampler(REGIONS, seed=7), FocusedSampler(REGIONS, seed=7)
    assert np.array_equal(one.draw(50), two.draw(50))
    one.update({"a": 3.0, "b": 1.0})
    state = one.state_dict()
    resumed = FocusedSampler(REGIONS, seed=0)
    resumed.load_state_dict(state)
    assert resumed.weights == pytest.approx(one.weights)
    assert np.array_equal(resumed.draw(50), one.draw(50))


def test_choosing_takes_each_row_once_and_none_that_is_taken() -> None:
    sampler = FocusedSampler(REGIONS, seed=2)
    taken = np.zeros(100, dtype=bool)
    taken[:40] = True
    chosen = sampler.choose(50, taken)
    assert len(set(chosen)) == 50
    assert chosen.min() >= 40
    assert len(sampler.choose(100, taken)) == 60
    assert len(sampler.choose(5, np.ones(100, dtype=bool))) == 0


def test_the_test_set_never_changes_and_is_never_drawn() -> None:
    runs = simulate_runs(150, seed=4)
    split = grouped_split(runs, "gpu", seed=1)
    train = runs.iloc[split.train].reset_index(drop=True)
    sampler = focused_sampler(train, azure_workload(), seed=3)
    tested = set(runs["run_id"].iloc[split.test])
    for round_ in range(5):
        sampler.update({name: float(round_ + len(name)) for name in sampler.region_names})
        assert tested.isdisjoint(train["run_id"].iloc[sampler.draw(200)])
    assert grouped_split(runs, "gpu", seed=1).test_sha256 == split.test_sha256


def test_a_data_loader_takes_an_epoch_and_the_next_epoch_differs() -> None:
    sampler = EpochSampler(FocusedSampler(REGIONS, seed=5), rows_per_epoch=20)
    loader = DataLoader(list(range(100)), sampler=sampler, batch_size=5)
    first, second = (np.concatenate([batch.numpy() for batch in loader]) for _ in range(2))
    assert len(loader) == 4
    assert len(first) == 20
    assert not np.array_equal(first, second)
    assert len(EpochSampler(FocusedSampler(REGIONS))) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exploration": 0.0}, "bad exploration: got 0.0, expected 0.001 to 1"),
        ({"exploration": 1.5}, "bad exploration"),
        ({"momentum": 1.0}, "bad momentum"),
        ({"density": np.zeros(100)}, "zero everywhere"),
        ({"density": np.full(100, np.nan)}, "bad density"),
        ({"density": np.ones(3)}, "bad density"),
    ],
)
def test_a_sampler_without_exploration_or_density_is_refused(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        FocusedSampler(REGIONS, **arguments)  # type: ignore[arg-type]


def test_bad_errors_are_refused_and_leave_the_sampler_as_it_was() -> None:
    sampler = FocusedSampler(REGIONS)
    before = sampler.weights
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="bad error of region 'b'"):
            sampler.update({"a": 5.0, "b": bad})
    assert np.array_equal(sampler.weights, before)
    sampler.update({"elsewhere": 3.0})
    assert np.array_equal(sampler.weights, before)
    with pytest.raises(InputError, match="nothing to sample from"):
        FocusedSampler(np.array([], dtype=object))


def test_regions_bin_each_size_and_keep_the_unknown_apart() -> None:
    runs = pd.DataFrame(
        {
            "model": ["meta-llama/Llama-3.1-8B", "acme/Nobody-1B"],
            "gpu": ["A2", "A2"],
            "batch_size": [8.0, 1.0],
            "prompt_tokens": [511.0, np.nan],
            "output_tokens": [64.0, 2000.0],
        }
    )
    grid = RegionGrid()
    assert grid.regions(runs).tolist() == ["A2 p2 b2 i1 o2", "A2 p? b0 i? o4"]
    assert RegionGrid(by_gpu=False).regions(runs).tolist() == ["p2 b2 i1 o2", "p? b0 i? o4"]


def test_region_errors_are_means_of_the_known() -> None:
    found = region_errors(np.array(["a", "a", "b", "b"], dtype=object), np.array([1.0, 3.0, np.nan, 5.0]))
    assert found == {"a": 2.0, "b": 5.0}
    with pytest.raises(InputError, match="one error per row"):
        region_errors(np.array(["a"], dtype=object), np.zeros(2))


# Algorithm 1 of the paper


def _line(n: int = 200) -> np.ndarray:
    return np.linspace(0, 20, n)[:, None]


def test_algorithm_1_searches_around_the_worst_rows() -> None:
    plan = NeighbourPlan(n_initial=40, n_worst=1, n_neighbours=5, radius=1.0, exploration=1e-3)
    search = NeighbourSearch(_line(), plan, seed=0)
    first = search.start()
    assert len(first) == 40
    error = np.where(np.abs(_line()[search.acquired, 0] - 15.0) < 1.0, 1.0, 0.1)
    worst = _line()[search.acquired[np.argmax(error)], 0]
    new = search.step(error)
    assert len(new) == 6  # five neighbours and one that explores
    assert np.all(np.abs(_line()[new[:5], 0] - worst) <= 1.0)
    assert set(new).isdisjoint(first)


def test_algorithm_1_stops_at_its_target_or_when_nothing_is_left() -> None:
    search = NeighbourSearch(_line(50), NeighbourPlan(n_initial=10, target_error=0.05), seed=1)
    search.start()
    assert len(search.step(np.full(10, 0.04))) == 0
    while len(search.acquired) < 50:
        assert len(search.step(np.ones(len(search.acquired)))) > 0
    assert len(search.step(np.ones(50))) == 0


@given(seed=st.integers(0, 1000), exploration=shares)
def test_algorithm_1_draws_no_row_twice_and_explores_every_round(seed: int, exploration: float) -> None:
    plan = NeighbourPlan(
        n_initial=5, n_worst=2, n_neighbours=3, radius=0.3, target_error=0.0, exploration=exploration
    )
    search = NeighbourSearch(_line(60), plan, seed=seed)
    seen = list(search.start())
    for _ in range(6):
        new = search.step(np.ones(len(search.acquired)))
        assert len(new) >= 1
        seen += list(new)
        assert len(seen) == len(set(seen)) == len(search.acquired)
        if len(seen) == 60:
            break


def test_algorithm_1_refuses_what_it_cannot_use() -> None:
    with pytest.raises(InputError, match="bad n_worst: got 0"):
        NeighbourPlan(n_worst=0)
    with pytest.raises(InputError, match="bad exploration"):
        NeighbourPlan(exploration=0.0)
    with pytest.raises(InputError, match="bad plan"):
        NeighbourPlan(radius=0.0)
    with pytest.raises(InputError, match="bad coordinates"):
        NeighbourSearch(np.array([[np.nan]]))
    search = NeighbourSearch(_line(10), NeighbourPlan(n_initial=3))
    search.start()
    with pytest.raises(InputError, match=r"bad errors: got .*, expected 3 finite numbers"):
        search.step(np.ones(2))


def test_coordinates_are_logs_and_put_the_unknown_at_the_median() -> None:
    runs = pd.DataFrame(
        {"batch_size": [1.0, np.e], "prompt_tokens": [np.nan, np.e**3], "output_tokens": [np.nan, np.nan]}
    )
    assert log_coordinates(runs) == pytest.approx(np.array([[0.0, 3.0, 0.0], [1.0, 3.0, 0.0]]))
