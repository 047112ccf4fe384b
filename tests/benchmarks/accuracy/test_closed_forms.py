"""Closed forms give the values one gets by hand, and those their authors published."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from ecologits.impacts.llm import generation_latency, gpu_energy, gpu_required_count, model_required_memory

from benchmarks.accuracy.baselines import ecologits, llmcarbon, nine_constants, roofline
from benchmarks.accuracy.baselines.nine_constants import Constants
from benchmarks.accuracy.baselines.work import PhaseWork, RequestWork, request_work
from benchmarks.accuracy.workload import Workload

ROUND_CONSTANTS = Constants(
    compute_efficiency=0.5, weight_efficiency=0.5, activation_efficiency=0.25, network_efficiency=0.5, launch_s=0.1,
    step_s=0.2, compute_share=0.5, memory_share=0.4, static_share=0.1,
)  # fmt: skip
# A kernel of 3 s of compute against 2 s of memory and one of 4 s of messages, in five steps.
TWO_KERNELS = PhaseWork(
    compute_s=np.array([[3.0, 2.0]]), weight_s=np.array([[1.0, 1.0]]), activation_s=np.array([[1.0, 1.5]]),
    network_s=np.array([[0.0, 4.0]]), launches=np.array([[10.0, 30.0]]), steps=np.array([5.0]),
)  # fmt: skip
NOTHING = PhaseWork(**{name: 0.0 * getattr(TWO_KERNELS, name) for name in PhaseWork.__slots__})
REQUEST = pd.DataFrame(
    {"batch_size": [4.0], "prompt_tokens": [100.0], "output_tokens": [6.0], "serving": ["static"]}
)


@pytest.fixture
def work() -> RequestWork:
    """The two kernels as decode on two GPUs of 400 W that idle at 60 W."""
    facts = {"n_gpus": 2.0, "n_shards": 2.0, "tdp_w": 400.0, "idle_w": 60.0, "peak_flops_per_s": 312e12,
             "bandwidth_bytes_per_s": 2e12, "memory_bytes": 80e9, "weight_bytes_per_element": 2.0, "parameters": 8e9,
             "active_parameters": 8e9}  # fmt: skip
    columns = {name: np.array([value]) for name, value in facts.items()}
    return RequestWork(prefill=NOTHING, decode=TWO_KERNELS, answered=np.array([True]), **columns)


def test_every_gpu_draws_its_rated_power_for_the_slowest_resource(work: RequestWork) -> None:
    table = roofline.rated_power(REQUEST, work)  # 3 s, then 4 s of messages: 7 s at 2 × 400 W
    assert table["latency_s"].tolist() == [7.0]
    assert table["energy_j"].tolist() == [5600.0]
    assert table["tpot_s"].tolist() == [7.0 / 5]


def test_power_lies_between_idle_and_rated(work: RequestWork) -> None:
    # 7 s at 2 × 60 W and 5 s of compute at 2 × 340 W more
    assert roofline.linear_power(REQUEST, work)["energy_j"].tolist() == [840.0 + 3400.0]


def test_a_deployment_that_cannot_be_is_not_answered(work: RequestWork) -> None:
    refused = replace(work, answered=np.array([False]))
    for answer in (roofline.rated_power, roofline.linear_power, llmcarbon.answers, ecologits.answers):
        assert answer(REQUEST, refused).isna().all(axis=None)


@pytest.mark.parametrize(
    ("billion_parameters", "tflops"),
    [
        (1.7, 137),
        (7.5, 142),
        (18.4, 135),
        (39.1, 138),
        (145.6, 148),
        (310.1, 155),
        (529.6, 163),
        (1008.0, 163),
    ],
)
def test_llmcarbon_efficiency_is_that_of_megatron_on_a100(billion_parameters: float, tflops: float) -> None:
    # achieved teraFLOP/s per GPU of table 1 of arXiv 2104.04473
    share = llmcarbon.hardware_efficiency(np.array([billion_parameters * 1e9]))
    assert share == pytest.approx([tflops / 312.0], rel=0.02)


def test_llmcarbon_by_hand(work: RequestWork) -> None:
    # 2 · 8e9 · 1e6 FLOPs on 4 GPUs that each reach 141.797 TFLOP/s (133.955 + 13.487 − 5.645) take 28.209 s
    time_s = llmcarbon.inference_time_s(*(np.array([v]) for v in (8e9, 1e6, 4.0, 312e12)))
    assert time_s == pytest.approx([28.209], rel=1e-4)
    table = llmcarbon.answers(REQUEST, work)  # 400 prompt tokens and 4 × 5 steps on two GPUs
    assert table["latency_s"].tolist() == pytest.approx([420 / 1e6 * 28.209 * 2], rel=1e-4)
    assert table["energy_j"].tolist() == pytest.approx([420 / 1e6 * 28.209 * 2 * 800], rel=1e-4)


def test_ecologits_by_hand() -> None:
    # 70 billion at batch 64: 1.16653e-6 · exp(−0.71718) · 70 + 4.05293e-5 = 8.0390e-5 Wh, and 0.0869 s
    active, batch = np.array([70e9]), np.array([64.0])
    assert ecologits.energy_per_token_j(active, batch) == pytest.approx([8.0390e-5 * 3600.0], rel=1e-4)
    assert ecologits.latency_per_token_s(active, batch) == pytest.approx(
        [0.047496 + 0.019964 + 0.019474], rel=1e-4
    )


@pytest.mark.parametrize(("billion", "width", "memory_gb", "expected"), [
    (8.0, 2.0, 80.0, 1), (70.0, 2.0, 80.0, 4), (70.0, 1.0, 80.0, 2), (405.0, 2.0, 141.0, 8),
])  # fmt: skip
def test_ecologits_counts_gpus_in_powers_of_two(
    billion: float, width: float, memory_gb: float, expected: int
) -> None:
    needed = ecologits.gpus_needed(np.array([billion * 1e9]), np.array([width]), np.array([memory_gb * 1e9]))
    assert needed == [expected]
    assert gpu_required_count(model_required_memory(billion, int(8 * width)), memory_gb) == expected


@pytest.mark.parametrize("billion", [0.5, 8.0, 405.0])
@pytest.mark.parametrize("batch", [1, 64, 512])
def test_ecologits_is_the_package_with_its_constants(billion: float, batch: int) -> None:
    constants = (ecologits.ENERGY_ALPHA_WH, ecologits.ENERGY_BETA, ecologits.ENERGY_GAMMA_WH)
    package_kwh = gpu_energy(billion, 100.0, batch, *constants)
    ours = ecologits.energy_per_token_j(np.array([billion * 1e9]), np.array([float(batch)]))
    assert 100.0 * ours == pytest.approx([package_kwh * 3.6e6])
    constants = (ecologits.LATENCY_ALPHA_S, ecologits.LATENCY_BETA_S, ecologits.LATENCY_GAMMA_S)
    package_s = generation_latency(billion, 100.0, batch, *constants, float("inf"))
    ours = ecologits.latency_per_token_s(np.array([billion * 1e9]), np.array([float(batch)]))
    assert 100.0 * ours == pytest.approx([package_s])


def test_nine_constants_by_hand(work: RequestWork) -> None:
    # max(3/0.5, 1/0.5 + 1/0.25) + 10·0.1 = 7, then max(4, 2 + 1.5/0.25) + 4/0.5 + 30·0.1 = 19, and 5 steps of 0.2
    energy_j, time_s = nine_constants.phase_cost(ROUND_CONSTANTS, TWO_KERNELS, work)
    assert time_s == pytest.approx([27.0])
    # 2 · 400 · (0.5 · 5 + 0.4 · 4.5) dynamic, and 2 · (60 + 40) · 27 static
    assert energy_j == pytest.approx([3440.0 + 5400.0])


def test_work_is_that_of_the_request(workload: Workload) -> None:
    # 8 billion 16-bit weights over 3.35 TB/s are 4.8 ms in each of 127 steps; what is embedded is not read
    work = request_work(workload.requests)
    assert work.answered.all()
    assert work.decode.steps[0] == 127
    assert work.decode.weight_s.sum(axis=1)[0] == pytest.approx(
        127 * (8.03e9 - 0.525e9) * 2 / 3.35e12, rel=0.01
    )
    assert (work.decode.roofline_s >= work.decode.weight_s.sum(axis=1)).all()
    assert work.decode.roofline_s[4] == 0.0  # a single token
    refused = workload.requests.assign(model="no such model")
    assert not request_work(pd.concat([refused, workload.requests])).answered[: len(refused)].any()
