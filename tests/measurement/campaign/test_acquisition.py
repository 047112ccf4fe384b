"""A focused campaign spends its budget where a model is unsure, explores beside it, and resumes to the same choices."""

from dataclasses import replace

import pytest

from llmco2.errors import InputError
from llmco2.measurement.acquisition import choose_next, novelty
from llmco2.measurement.campaign import run_campaign
from llmco2.measurement.campaign_file import Focus
from llmco2.measurement.run_log import RunLog, read_runs
from tests.measurement.campaign.conftest import (
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
