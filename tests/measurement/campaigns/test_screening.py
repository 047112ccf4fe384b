"""What is known not to run is not started, failures take no run's place, and a campaign ends all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llmco2.errors import InputError
from llmco2.measurement.campaigns.budget import Budget
from llmco2.measurement.campaigns.campaign import run_campaign
from llmco2.measurement.campaigns.campaign_file import Focus, campaign_from
from llmco2.measurement.campaigns.progress import ProgressDisplay
from llmco2.measurement.campaigns.run_log import RunLog, read_runs
from llmco2.measurement.campaigns.screening import AttentionScreen
from llmco2.measurement.workloads.workload import WorkloadError
from tests.measurement.campaigns.conftest import batches, campaign_of

STATED = {"m": ("eager", "sdpa"), "soft": ("eager", "flex_attention"), "recurrent": (), "unknown": None}
SIZES = (1, 2, 4, 8)


def supported(configuration):
    return STATED[configuration.model]


def grid_of(*models):
    return [
        replace(c, model=model, attention=attention)
        for model in models
        for c in batches(*SIZES)
        for attention in ("sdpa", "eager")
    ]


def screened(path, campaign, machine, **options):
    with RunLog(path) as log:
        return run_campaign(campaign, log, replace(machine.tools(), supported_attention=supported), **options)


@pytest.fixture
def focused(machine):
    """A machine that finds every configuration as interesting as any."""
    machine.scores = lambda gpu: lambda candidates: [1.0] * len(candidates)
    return machine


def test_only_what_the_class_does_not_state_is_refused():
    screen = AttentionScreen(grid_of(*STATED), supported)
    refused = {(c.model, c.attention) for c in grid_of(*STATED) if screen.reason(c) is not None}
    assert refused == {("soft", "sdpa"), ("recurrent", "eager")}
    soft = replace(batches(1)[0], model="soft")
    assert screen.reason(soft) == (
        "the class of soft in transformers states no such attention: got sdpa, expected eager, flex_attention"
    )


def test_a_model_without_attention_runs_once_whatever_it_is_asked_for():
    """The first of the campaign stands for its twins, and one that has no twin stands for itself."""
    screen = AttentionScreen(grid_of("recurrent"), supported)
    kept = [c for c in grid_of("recurrent") if screen.reason(c) is None]
    assert [(c.batch_size, c.attention) for c in kept] == [(size, "sdpa") for size in SIZES]
    twin = replace(batches(1)[0], model="recurrent", attention="eager")
    assert screen.reason(twin).endswith("got eager, expected sdpa, which stands for all")
    assert AttentionScreen([twin], supported).reason(twin) is None


def test_a_model_is_asked_about_once():
    asked = []

    def listening(configuration):
        asked.append(configuration.model)
        return supported(configuration)

    screen = AttentionScreen(grid_of(*STATED), listening)
    for configuration in grid_of(*STATED) * 2:
        screen.reason(configuration)
    assert sorted(asked) == sorted(STATED)


def test_a_grid_has_a_row_for_each_point_and_loads_what_can_run(path, machine):
    summary = screened(path, campaign_of(*grid_of("soft", "recurrent")), machine)
    assert (summary.measured, summary.failed, summary.left) == (8, 8, 0)
    assert {(c.model, c.attention) for c in machine.loads} == {("soft", "eager"), ("recurrent", "sdpa")}
    reasons = [row.failure_reason for row in read_runs(path) if row.status == "failed"]
    assert all(reason.startswith("unsupported: ") for reason in reasons)


def test_a_focused_campaign_puts_each_refusal_on_record_once_and_spends_no_run_on_it(path, focused):
    campaign = campaign_of(*grid_of("m", "soft", "recurrent"), focus=Focus(runs=16, exploration_share=1.0))
    summary = screened(path, campaign, focused)
    assert (summary.measured, summary.failed, summary.left) == (16, 2, 0)  # all that can run: 8 + 4 + 4
    failed = [row for row in read_runs(path) if row.status == "failed"]
    assert [row.model for row in failed] == ["soft", "recurrent"]
    assert len(focused.loads) == 16
    again = screened(path, campaign, focused)
    assert (again.measured, again.failed, again.left) == (0, 0, 0)
    assert len(read_runs(path)) == 18


def test_stopped_with_refusals_on_record_it_goes_on_as_if_it_had_not_been(tmp_path, focused):
    campaign = campaign_of(*grid_of("m", "soft", "recurrent"), focus=Focus(runs=9, exploration_share=0.5))
    screened(tmp_path / "whole.jsonl", campaign, focused)
    for path, faults in (
        (tmp_path / "parts.jsonl", {4: KeyboardInterrupt()}),
        (tmp_path / "parts.jsonl", {}),
    ):
        focused.faults = faults
        summary = screened(path, campaign, focused)
    assert (summary.left, summary.stopped_because) == (0, None)
    whole, parts = ([r.run_id for r in read_runs(tmp_path / f"{n}.jsonl")] for n in ("whole", "parts"))
    assert parts == whole


def test_failures_take_no_runs_place_until_there_are_too_many(path, focused):
    sizes = tuple(range(1, 21))
    focused.faults = {size: WorkloadError("out_of_memory", "too big") for size in sizes if size % 4 == 0}
    campaign = campaign_of(*batches(*sizes), focus=Focus(runs=8, exploration_share=1.0))
    summary = screened(path, campaign, focused)
    assert summary.measured == 8
    path.unlink()
    focused.faults = dict.fromkeys(sizes, WorkloadError("out_of_memory", "too big"))
    campaign = campaign_of(*batches(*sizes), focus=Focus(runs=8, exploration_share=1.0, spare_failures=5))
    summary = screened(path, campaign, focused)
    assert (summary.measured, summary.failed, summary.left) == (0, 13, 0)


def test_failures_before_a_stop_are_spared_behind_it(path, focused):
    focused.faults = {size: WorkloadError("out_of_memory", "too big") for size in (1, 2, 3)}
    pool = batches(*range(1, 7))
    focus = Focus(runs=2, exploration_share=1.0, spare_failures=3)
    with RunLog(path) as log:  # three failures on record, as of a first part
        tools = replace(focused.tools(), supported_attention=supported)
        run_campaign(campaign_of(*pool[:3]), log, tools)
    summary = screened(path, campaign_of(*pool, focus=focus), focused)
    assert (summary.measured, summary.failed, summary.left) == (2, 0, 0)


def test_the_bar_advances_by_runs_and_not_by_spared_failures(path, focused):
    focused.faults = {size: WorkloadError("out_of_memory", "too big") for size in (1, 2, 3)}
    campaign = campaign_of(*batches(*range(1, 7)), focus=Focus(runs=3, exploration_share=1.0))
    with Console(quiet=True) as console, ProgressDisplay(console) as display:
        summary = screened(path, campaign, focused, listener=display)
        (task,) = display._progress.tasks
        assert (task.completed, task.total) == (3, 3)
    assert summary.measured == 3


@given(
    runs=st.integers(1, 20), spare=st.integers(0, 20), ends=st.lists(st.booleans(), min_size=40, max_size=60)
)
def test_a_budget_ends_after_at_most_runs_and_spared_failures(runs, spare, ends):
    budget = Budget(runs=runs, spare_failures=spare)
    used = 0
    for tried, succeeded in enumerate(ends):
        if not budget.left:
            assert budget.measured == runs or budget.failed > spare
            assert tried <= runs + spare
            break
        left = budget.left
        assert budget.add(succeeded=succeeded) == (budget.left == left - 1)
        used += budget.left < left
    assert used == budget.spent


def test_spare_failures_is_a_key_of_a_focused_campaign():
    content = {"focused": {"grid": {"model": ["m"]}, "runs": 7}}
    assert campaign_from(content).focus.spared == 7
    content["focused"]["spare_failures"] = 0
    assert campaign_from(content).focus.spared == 0
    content["focused"]["spare_failures"] = -1
    with pytest.raises(InputError, match=r"focused\.spare_failures"):
        campaign_from(content)
