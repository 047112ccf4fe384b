"""Runs become requests and labels without saying more than a user knows."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.accuracy.workload import SLOW_REGIME, Workload, measured_workload
from llmco2.records.request import REQUEST_COLUMNS
from tests.benchmarks.accuracy.conftest import STATIC, STEADY, run_table


def test_requests_hold_no_label(workload: Workload) -> None:
    assert set(workload.requests) <= set(REQUEST_COLUMNS)
    assert workload.requests.notna().all(axis=None)


def test_a_mix_of_shapes_is_a_request_each_that_counts_its_share(workload: Workload) -> None:
    mine = workload.run_of_request == 2
    sizes = workload.requests.loc[mine, ["batch_size", "prompt_tokens", "output_tokens"]]
    assert sizes.to_numpy().tolist() == [[8, 100, 50], [4, 300, 20]]
    assert workload.share[mine].tolist() == [0.5, 0.5]


def test_a_median_step_is_asked_for_as_a_static_batch(workload: Workload) -> None:
    step = workload.requests[workload.is_step]
    assert workload.run_of_request[workload.is_step].tolist() == [1]
    assert step["serving"].tolist() == ["static"]
    assert workload.requests["serving"].iloc[1] == "continuous"


def test_unpublished_prompt_lengths_are_those_of_the_task(workload: Workload) -> None:
    assert workload.runs["prompt_tokens"].tolist()[:2] == [512.0, 2000.0]
    tasks = ["lm-arena-chat", "gpqa"]
    runs = measured_workload(run_table(*({**STEADY, "notes": f"task={task}"} for task in tasks))).runs
    assert runs["prompt_tokens"].tolist() == [300.0, 300.0]
    other = measured_workload(run_table({**STATIC, "prompt_tokens": None})).runs
    assert other["prompt_tokens"].tolist() == [100.0]


def test_labels_name_what_they_measure(workload: Workload) -> None:
    found = {run: set(part["label"]) for run, part in workload.labels.groupby("run")}
    assert found == {
        0: {"energy_j", "latency_s", "average_power_w"},
        1: {"energy_per_output_token_j", "tpot_s", "average_power_w"},
        2: {"energy_j", "latency_s", "average_power_w"},
        3: {"prefill_energy_j", "ttft_s", "average_power_w"},
        4: {"tpot_s"},
    }
    assert workload.runs["trusted"].tolist() == [True, True, False, True, True]


def test_a_label_that_another_holds_is_not_counted_twice() -> None:
    both = {**STATIC, "energy_per_output_token_j": 0.5, "tpot_s": 0.01}
    assert set(measured_workload(run_table(both)).labels["label"]) == {
        "energy_j",
        "latency_s",
        "average_power_w",
    }
    loop = measured_workload(run_table({**both, "serving": "continuous"})).labels
    assert set(loop["label"]) == {"energy_j", "latency_s", "tpot_s", "average_power_w"}


@pytest.mark.parametrize(("cap", "kept"), [(350.0, 0), (690.0, 1), (None, 1)])
def test_a_capped_board_is_not_what_a_request_asks_for(cap: float | None, kept: int) -> None:
    assert len(measured_workload(run_table({**STATIC, "power_limit_w": cap})).runs) == kept


def test_the_second_regime_of_b200_is_set_apart() -> None:
    board = {**STEADY, "gpu": "B200-SXM-180GB", "notes": "task=lm-arena-chat"}
    rows = [board, {**board, "batch_size": 600.0}, {**board, "notes": "task=gpqa"},
            {**board, "notes": "task=gpqa", "model": "openai/gpt-oss-20b", "precision": "mxfp4"},
            {**STEADY, "batch_size": 600.0}]  # fmt: skip
    parts = measured_workload(run_table(*rows)).runs["part"]
    assert np.flatnonzero(parts == SLOW_REGIME).tolist() == [1, 2]
