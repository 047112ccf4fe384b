"""What holds for every answer, whatever was trained: bounds contain, parts add up, more never costs less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from llmco2.catalog.architecture import Architecture
from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.operators.counting import count_phase
from llmco2.operators.names import PHASES, SLOT_INDEX, Phase
from llmco2.operators.roofline import roofline_times
from llmco2.predictor.answer import PhaseAnswer, answer_requests
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.predictor.columns import SizeColumns, predict_columns

Column = np.ndarray[Any, np.dtype[np.float64]]
ROUNDING = 1e-9  # sums of some hundred terms, in another order


def never_less(more: Column, less: Column, rounding: float = ROUNDING) -> bool:
    return bool(np.all(more >= less * (1.0 - rounding)))


def test_energy_lies_in_its_interval_and_the_interval_in_the_bounds(
    checkpoint: Checkpoint, requests: Any
) -> None:
    answer = answer_requests(checkpoint, requests.deployments, requests.sizes)
    for part in (answer.prefill, answer.decode, answer.total):
        chain = (part.lower_bound_j, part.low_j, part.energy_j, part.high_j, part.upper_bound_j)
        assert all(np.all(np.isfinite(column)) for column in chain)
        assert all(never_less(above, below) for below, above in pairwise(chain))
    assert np.all(answer.total.lower_bound_j > 0.0)


def test_a_calibration_at_its_limits_keeps_the_bounds(checkpoint: Checkpoint, requests: Any) -> None:
    extreme = {"kernel time": 0.05, "host time": 20.0, "prefill time": 0.05, "dynamic power": 20.0}
    for width in (0.05, 20.0):
        answer = answer_requests(
            checkpoint, requests.deployments, requests.sizes, scales=extreme, width_scale=width
        )
        part = answer.total
        chain = (part.lower_bound_j, part.low_j, part.energy_j, part.high_j, part.upper_bound_j)
        assert all(never_less(above, below) for below, above in pairwise(chain))


def test_prefill_and_decode_add_up(checkpoint: Checkpoint, requests: Any) -> None:
    answer = answer_requests(checkpoint, requests.deployments, requests.sizes)
    for field in ("energy_j", "time_s", "lower_bound_j", "upper_bound_j"):
        parts = getattr(answer.prefill, field) + getattr(answer.decode, field)
        np.testing.assert_allclose(getattr(answer.total, field), parts, rtol=1e-12)


def test_average_power_is_between_nothing_and_the_power_limit(checkpoint: Checkpoint, requests: Any) -> None:
    answer = answer_requests(checkpoint, requests.deployments, requests.sizes)
    tdp_w = np.array([d.gpu.tdp_w for d in requests.deployments])[requests.sizes.deployment]
    n_gpus = np.array([d.shard_degree * d.pipeline_parallel for d in requests.deployments])
    limit_w = tdp_w * n_gpus[requests.sizes.deployment]

    def within(phase: PhaseAnswer) -> bool:
        busy = phase.time_s > 0.0
        power_w = phase.energy_j[busy] / phase.time_s[busy]
        return bool(np.all(power_w > 0.0)) and never_less(limit_w[busy], power_w)

    assert all(within(phase) for phase in (answer.prefill, answer.decode, answer.total))


@pytest.mark.parametrize("phase", PHASES)
def test_time_is_never_under_the_roofline(phase: Phase, checkpoint: Checkpoint, requests: Any) -> None:
    answer = predict_columns(checkpoint, requests.deployments, requests.sizes)
    rows = deployment_columns(requests.deployments).take(requests.sizes.deployment)
    sizes = requests.sizes
    work = rows.workload(sizes.batch_size, sizes.prompt_tokens, sizes.output_tokens, sizes.continuous)
    roofline = roofline_times(count_phase(phase, rows.shape, work), rows.device)
    columns = getattr(answer, phase)
    # A steady batch's prefill reads no weights of its own.
    alone = (work.continuous == 0) | (phase == "decode")
    assert never_less(columns.time_s[alone], roofline.bound_s.sum(axis=1)[alone])
    assert never_less(columns.time_s, columns.least_time_s)


def test_one_output_token_leaves_nothing_to_decode(checkpoint: Checkpoint, requests: Any) -> None:
    sizes = replace(requests.sizes, output_tokens=np.ones_like(requests.sizes.output_tokens))
    answer = answer_requests(checkpoint, requests.deployments, sizes)
    for field in ("energy_j", "low_j", "high_j", "lower_bound_j", "upper_bound_j", "time_s"):
        assert np.all(getattr(answer.decode, field) == 0.0), field
    assert np.all(answer.tpot_s == 0.0)
    np.testing.assert_array_equal(answer.total.energy_j, answer.prefill.energy_j)


@pytest.mark.parametrize("phase", PHASES)
def test_one_gpu_sends_nothing_and_pipeline_stages_only_to_each_other(phase: Phase, requests: Any) -> None:
    rows = deployment_columns(requests.deployments).take(requests.sizes.deployment)
    sizes = requests.sizes
    work = rows.workload(sizes.batch_size, sizes.prompt_tokens, sizes.output_tokens, sizes.continuous)
    sent = count_phase(phase, rows.shape, work).network_bytes
    unsharded = work.tensor_parallel == 1.0
    alone = unsharded & (work.pipeline_parallel == 1.0)
    assert alone.sum() > 500
    assert np.all(sent[alone] == 0.0)
    assert np.all(np.delete(sent[unsharded], SLOT_INDEX["pipeline_send"], axis=1) == 0.0)
    staged = (work.pipeline_parallel > 1.0) & (sizes.output_tokens > 1.0)
    assert np.all(sent[staged, SLOT_INDEX["pipeline_send"]] > 0.0)


@pytest.mark.parametrize("serving", ["static", "continuous"])
@pytest.mark.parametrize("size", ["batch_size", "prompt_tokens", "output_tokens"])
@pytest.mark.parametrize(
    "growth",
    [lambda x: x + 1.0, lambda x: x * 1.37, lambda x: x * 50.0],
    ids=["one more", "a third more", "fifty times"],
)
def test_a_larger_request_never_costs_less(
    size: str, growth: Callable[[Column], Column], serving: str, checkpoint: Checkpoint, requests: Any
) -> None:
    mode = np.full_like(requests.sizes.continuous, float(serving == "continuous"))
    base = replace(requests.sizes, continuous=mode)
    grown = replace(base, **{size: growth(getattr(base, size))})
    before = predict_columns(checkpoint, requests.deployments, base)
    after = predict_columns(checkpoint, requests.deployments, grown)
    assert never_less(after.energy_j, before.energy_j)
    assert never_less(after.latency_s, before.latency_s)
    assert never_less(after.ttft_s, before.ttft_s) or size == "output_tokens"
    # The phases of a steady batch share their steps, so only their sum is told apart from others.
    for phase in PHASES if serving == "static" else ():
        assert never_less(getattr(after, phase).energy_j, getattr(before, phase).energy_j), phase
        assert never_less(getattr(after, phase).least_energy_j, getattr(before, phase).least_energy_j), phase


LAYERS = (
    "n_full_attention_layers",
    "n_sliding_attention_layers",
    "n_recurrent_layers",
    "n_dense_mlp_layers",
    "n_moe_layers",
)


def deeper(arch: Architecture, times: int) -> Architecture:
    """Return the model with its stack of layers repeated: more layers in the same mix."""
    return replace(arch, **{name: getattr(arch, name) * times for name in LAYERS})


def test_more_layers_never_cost_less(checkpoint: Checkpoint, requests: Any) -> None:
    taller = [
        replace(d, architecture=deeper(d.architecture, 2 + i % 3)) for i, d in enumerate(requests.deployments)
    ]
    before = predict_columns(checkpoint, requests.deployments, requests.sizes)
    after = predict_columns(checkpoint, taller, requests.sizes)
    # Descriptors are 32-bit, so coefficients of the two may differ in their seventh digit.
    assert never_less(after.energy_j, before.energy_j, 1e-6)
    assert never_less(after.latency_s, before.latency_s, 1e-6)
    assert np.mean(after.energy_j > before.energy_j) > 0.99


def test_answers_do_not_depend_on_their_neighbours(checkpoint: Checkpoint, requests: Any) -> None:
    whole = answer_requests(checkpoint, requests.deployments, requests.sizes)
    for row in range(0, len(requests.sizes.deployment), 997):
        sizes = SizeColumns(
            deployment=np.zeros(1, dtype=np.intp),
            **{name: getattr(requests.sizes, name)[row : row + 1]
               for name in ("batch_size", "prompt_tokens", "output_tokens", "continuous")},
        )  # fmt: skip
        deployment: Deployment = requests.deployments[requests.sizes.deployment[row]]
        alone = answer_requests(checkpoint, [deployment], sizes)
        assert alone.total.energy_j[0] == pytest.approx(whole.total.energy_j[row], rel=1e-5)
        assert alone.notes[0] == whole.notes[row]
        assert alone.errors[0] == whole.errors[row]


def test_the_parts_of_an_answer_add_up_to_it(checkpoint: Checkpoint, requests: Any) -> None:
    answer = predict_columns(checkpoint, requests.deployments, requests.sizes)
    for phase in PHASES:
        columns = getattr(answer, phase)
        np.testing.assert_allclose(columns.breakdown.energy_j.sum(axis=1), columns.energy_j, rtol=1e-9)
        np.testing.assert_allclose(columns.breakdown.time_s.sum(axis=1), columns.time_s, rtol=1e-9)
        assert np.all(columns.breakdown.energy_j >= 0.0)
        assert np.all(columns.breakdown.time_s >= -1e-12)
