"""A focused campaign spends its budget where a model is unsure, explores beside it, and resumes to the same choices."""

from dataclasses import replace

import pytest

from llmco2.errors import InputError
from llmco2.measurement.campaigns.acquisition import Visits, choose_next, novelty
from llmco2.measurement.campaigns.campaign import run_campaign
from llmco2.measurement.campaigns.campaign_file import Focus
from llmco2.measurement.campaigns.run_log import RunLog, read_runs
from llmco2.measurement.workloads.workload import WorkloadError
from tests.measurement.campaigns.conftest import (
    batches,
    campaign_of,
    run,
)


def test_a_focused_campaign_measures_its_budget_and_resumes_to_the_same_choices(tmp_path, machine):
    pool = [replace(c, prompt_tokens=p) for c in batches(1, 2, 4, 8, 16, 32) for p in (64, 256, 1024)]
    campaign = campaign_of(*pool, focus=Focus(runs=8, exploration_share=0.3))
    machine.scores = lambda gpu: lambda candidates: [float(c.batch_size) for c in candidates]
    run(tmp_path / "whole.jsonl", campaign, machine)
    chosen = [row.run_id for row in read_runs(tmp_path / "whole.jsonl")]
    assert len(set(chosen)) == 8

    stop_at = len(machine.loads) + 3
    parts = tmp_path / "parts.jsonl"
    usual = machine.tools()

    def make_workload(configuration, meter):
        if len(machine.loads) == stop_at:
            raise KeyboardInterrupt
        return usual.make_workload(configuration, meter)

    with RunLog(parts) as log:
        assert run_campaign(campaign, log, replace(usual, make_workload=make_workload)).left == 5
    run(parts, campaign, machine)
    assert {row.run_id for row in read_runs(parts)} == set(chosen)


def test_exploration_reaches_what_scores_call_worthless():
    pool = batches(*range(1, 21))
    focus = Focus(runs=20, exploration_share=0.5)
    scores = lambda candidates: [1.0 if c.batch_size <= 2 else 0.0 for c in candidates]  # noqa: E731
    drawn = {choose_next(pool, [], replace(focus, seed=seed), scores).batch_size for seed in range(400)}
    assert drawn == set(range(1, 21))
    focused = [choose_next(pool, [], replace(focus, seed=seed), scores).batch_size for seed in range(400)]
    # half explore over 20 sizes, half pick one of two: 0.5 + 0.5 · 2/20 = 55 % are small
    assert 0.47 < sum(size <= 2 for size in focused) / 400 < 0.63


def test_novelty_grows_with_the_distance_to_what_is_measured():
    one, two, eight = batches(1, 2, 8)
    assert novelty(one, []) == 1.0
    assert novelty(one, [one]) == 0.0
    assert novelty(two, [one]) == pytest.approx(0.632, abs=1e-3)
    assert novelty(eight, [one, two]) == pytest.approx(0.865, abs=1e-3)  # two doublings from the nearer
    assert novelty(one, [replace(one, model="other")]) == 1.0


def test_scores_that_are_not_usable_are_refused():
    for bad in ([1.0], [float("nan")] * 3, [-1.0] * 3):
        with pytest.raises(InputError, match="scores are not usable"):
            choose_next(batches(1, 2, 4), [], Focus(runs=1, exploration_share=1e-9), lambda c, bad=bad: bad)


def test_a_focused_campaign_without_a_model_says_so(path, machine):
    with pytest.raises(InputError, match="a focused campaign needs a model's uncertainty"):
        run(path, campaign_of(*batches(1), focus=Focus(runs=1)), machine)


def models(*names, sizes=(1, 2, 4, 8)):
    return [replace(c, model=name) for name in names for c in batches(*sizes)]


def visited(rows):
    """Return the models in the order of their visits, with the rows of each visit."""
    visits = []
    for row in rows:
        if not visits or visits[-1][0] != row.model:
            visits.append([row.model, 0])
        visits[-1][1] += 1
    return visits


def test_every_model_is_visited_once_before_any_is_visited_again(path, machine):
    machine.scores = lambda gpu: lambda candidates: [1.0] * len(candidates)
    focus = Focus(runs=9, exploration_share=0.5, runs_per_visit=2)
    run(path, campaign_of(*models("a", "b", "c", "d"), focus=focus), machine)
    visits = visited(read_runs(path))
    assert sorted(name for name, _ in visits[:4]) == ["a", "b", "c", "d"]
    assert [count for _, count in visits] == [2, 2, 2, 2, 1]
    order = [name for name, _ in visits[:4]]
    run(
        path.with_name("other"),
        campaign_of(*models("a", "b", "c", "d"), focus=replace(focus, seed=3)),
        machine,
    )
    assert [name for name, _ in visited(read_runs(path.with_name("other")))[:4]] != order


def test_a_resumed_round_goes_on_with_the_models_that_it_has_not_seen(path, machine):
    machine.scores = lambda gpu: lambda candidates: [1.0] * len(candidates)
    pool = models("a", "b", "c", "d")
    for runs in (2, 4, 6, 8):  # stopped after every visit
        run(path, campaign_of(*pool, focus=Focus(runs=runs, runs_per_visit=2)), machine)
    assert sorted(name for name, _ in visited(read_runs(path))) == ["a", "b", "c", "d"]


def test_a_model_that_never_works_is_left_after_a_visit_and_not_preferred(path, machine):
    machine.scores = lambda gpu: lambda candidates: [1.0] * len(candidates)
    pool = models("a", "b", sizes=range(1, 13))
    visits = Visits(pool, runs=3, seed=0)
    tried = []
    remaining = list(pool)
    for _ in range(18):
        chosen = visits.choices(remaining)[0]
        remaining.remove(chosen)
        visits.ended(chosen, succeeded=chosen.model == "b")
        tried.append(chosen.model)
    assert tried.count("a") == 12  # two visits of six failures each
    assert tried.count("b") == 6  # two visits of three runs each
    assert "aaaaaa" in "".join(tried)


def test_a_draw_by_time_takes_what_is_quick_and_can_take_anything():
    pool = batches(1, 2)
    focus = Focus(runs=1, exploration_share=1.0)
    seconds = {1: 10.0, 2: 30.0}
    costs = lambda candidates: [seconds[c.batch_size] for c in candidates]  # noqa: E731
    drawn = [
        choose_next(pool, [], replace(focus, seed=s), lambda c: [], costs).batch_size for s in range(2000)
    ]
    # worth 1/10 and 1/30 a second: three in four
    assert 0.71 < drawn.count(1) / 2000 < 0.79
    focused = replace(focus, exploration_share=1e-9)
    scores = lambda candidates: [1.0, 9.0]  # noqa: E731
    drawn = [choose_next(pool, [], replace(focused, seed=s), scores, costs).batch_size for s in range(2000)]
    # 1/10 against 9/30: one in four
    assert 0.21 < drawn.count(1) / 2000 < 0.29


def test_a_campaign_draws_by_the_time_that_its_plan_takes(path, machine):
    """A run of a second takes nine windows of a second and a warm-up, one of ten seconds many times that."""
    pool = [replace(c, prompt_tokens=p) for c in batches(*range(1, 41)) for p in (10, 1000)]
    machine.scores = lambda gpu: lambda candidates: [1.0] * len(candidates)
    tools = replace(
        machine.tools(), run_s=lambda gpu: lambda candidates: [c.prompt_tokens / 10.0 for c in candidates]
    )
    focus = Focus(runs=20, exploration_share=1.0, by_time=True)
    with RunLog(path) as log:
        run_campaign(campaign_of(*pool, focus=focus), log, tools)
    long_ones = sum(row.prompt_tokens == 1000 for row in read_runs(path))
    assert long_ones <= 3  # about one in thirty, where blind draws would take one in two


def test_a_way_of_running_that_fails_twice_is_not_drawn_again_also_after_resuming(path, machine):
    """Sizes that do not fit say nothing of a way of running; an engine that cannot run it does."""
    machine.scores = lambda gpu: lambda candidates: [1.0] * len(candidates)
    pool = [replace(c, static_cache=static) for c in batches(*range(1, 11)) for static in (False, True)]
    tools = machine.tools()

    def make_workload(configuration, meter):
        if configuration.static_cache:
            raise WorkloadError("engine_error", "sizes of tensors must match")
        if configuration.batch_size > 7:
            raise WorkloadError("out_of_memory", "no room")
        return tools.make_workload(configuration, meter)

    def go(runs):
        with RunLog(path) as log:
            run_campaign(
                campaign_of(*pool, focus=Focus(runs=runs, exploration_share=1.0)),
                log,
                replace(tools, make_workload=make_workload),
            )
        return [(row.failure_reason or "ok").partition(":")[0] for row in read_runs(path)]

    assert go(5).count("engine_error") <= 2
    ends = go(20)
    assert ends.count("engine_error") == 2
    assert ends.count("out_of_memory") == 3
    assert ends.count("ok") == 7
