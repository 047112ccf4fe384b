"""Closed forms give the values one gets by hand, and those their authors published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ecologits.impacts.llm import generation_latency, gpu_energy, gpu_required_count, model_required_memory
from numpy.typing import NDArray

from benchmarks.accuracy.baselines import ecologits, llmcarbon, nine_constants, tdp_time
from benchmarks.accuracy.baselines.label_table import merged_work, phase_work, row_weight
from benchmarks.accuracy.baselines.nine_constants import Constants
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule
from llmco2.data.tensors import LABELS
from llmco2.physics.readout import PhaseBasis

WithLabels = Callable[[EnergyDataModule, NDArray[np.float64]], EnergyDataModule]
ROUND_CONSTANTS = Constants(
    compute_efficiency=0.5,
    weight_efficiency=0.5,
    activation_efficiency=0.25,
    network_efficiency=0.5,
    launch_s=0.1,
    step_s=0.2,
    compute_share=0.5,
    memory_share=0.4,
    static_share=0.1,
)


def test_every_gpu_draws_its_rated_power_for_the_slowest_resource(two_kernels: PhaseBasis) -> None:
    # 3 s of compute against 2 of memory, then 4 s of messages: 7 s at 2 × 400 W
    cost = tdp_time.tdp_cost(two_kernels)
    assert cost.time_s == pytest.approx([7.0])
    assert cost.energy_j == pytest.approx([5600.0])


def test_weighted_median_by_hand() -> None:
    assert tdp_time.weighted_median(np.array([5.0, 1.0, 3.0]), np.array([1.0, 1.0, 1.0])) == 3.0
    assert tdp_time.weighted_median(np.array([5.0, 1.0, 3.0]), np.array([9.0, 1.0, 1.0])) == 5.0


def test_the_efficiency_brings_the_median_training_energy_right(data: EnergyDataModule, fold: Fold) -> None:
    table = tdp_time.predicted(data, fold.train) / tdp_time.fitted_efficiency(data, fold.train)
    measured = data.tensors.labels[fold.train].double().numpy()
    energies = [LABELS.index(name) for name in ("prefill_energy_j", "decode_energy_j", "energy_j")]
    errors = (np.log(table) - np.log(measured))[:, energies].mean(axis=1)
    assert tdp_time.weighted_median(errors, row_weight(data, fold.train)) == pytest.approx(0.0, abs=1e-9)


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


def test_llmcarbon_by_hand() -> None:
    # 2 · 8e9 · 1e6 FLOPs on 4 GPUs that each reach 141.797 TFLOP/s (133.955 + 13.487 − 5.645) take 28.209 s
    cost = llmcarbon.inference_cost(*(np.array([v]) for v in (8e9, 1e6, 4.0, 312e12, 400.0)))
    assert cost.time_s == pytest.approx([28.209], rel=1e-4)
    assert cost.energy_j == pytest.approx([4 * 400 * 28.209], rel=1e-4)


def test_llmcarbon_costs_the_same_energy_on_more_gpus() -> None:
    one, eight = (
        llmcarbon.inference_cost(*(np.array([v]) for v in (7e9, 1e3, n, 312e12, 400.0))) for n in (1.0, 8.0)
    )
    assert one.energy_j == pytest.approx(eight.energy_j)
    assert one.time_s == pytest.approx(8.0 * eight.time_s)


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
    memory = model_required_memory(billion, int(8 * width))
    assert gpu_required_count(memory, memory_gb) == expected


@pytest.mark.parametrize("billion", [0.5, 8.0, 405.0])
@pytest.mark.parametrize("batch", [1, 64, 512])
def test_ecologits_is_the_package_with_its_constants(billion: float, batch: int) -> None:
    constants = (ecologits.ENERGY_ALPHA_WH, ecologits.ENERGY_BETA, ecologits.ENERGY_GAMMA_WH)
    package_kwh = gpu_energy(billion, 100.0, batch, *constants)
    own = ecologits.energy_per_token_j(np.array([billion * 1e9]), np.array([float(batch)]))
    assert 100.0 * own == pytest.approx([package_kwh * 3.6e6])
    constants = (ecologits.LATENCY_ALPHA_S, ecologits.LATENCY_BETA_S, ecologits.LATENCY_GAMMA_S)
    package_s = generation_latency(billion, 100.0, batch, *constants, float("inf"))
    own = ecologits.latency_per_token_s(np.array([billion * 1e9]), np.array([float(batch)]))
    assert 100.0 * own == pytest.approx([package_s])


def test_nine_constants_by_hand(two_kernels: PhaseBasis) -> None:
    # max(3/0.5, 1/0.5 + 1/0.25) + 10·0.1 = 7, then max(4, 2 + 1.5/0.25) + 4/0.5 + 30·0.1 = 19, and 5 steps of 0.2
    cost = nine_constants.formula_cost(ROUND_CONSTANTS, two_kernels, np.array([60.0]))
    assert cost.time_s == pytest.approx([27.0])
    # 2 · 400 · (0.5 · 5 + 0.4 · 4.5) dynamic, and 2 · (60 + 40) · 27 static
    assert cost.energy_j == pytest.approx([3440.0 + 5400.0])


def test_one_phase_takes_one_roofline_of_both(two_kernels: PhaseBasis) -> None:
    merged = merged_work(two_kernels, two_kernels)
    assert merged.compute_s == pytest.approx(2.0 * two_kernels.compute_s)
    assert merged.steps == pytest.approx([10.0])
    assert merged.n_gpus == pytest.approx([2.0])


def test_merged_phases_never_take_longer(data: EnergyDataModule, fold: Fold) -> None:
    prefill, decode = phase_work(data, fold.test)
    apart = sum(tdp_time.roofline_time_s(basis) for basis in (prefill, decode))
    together = tdp_time.roofline_time_s(merged_work(prefill, decode))
    assert (together <= apart * (1.0 + 1e-12)).all()
    assert (together < 0.999 * apart).any()


@pytest.mark.parametrize("merged", [False, True])
def test_the_fit_finds_constants_that_made_the_labels(
    data: EnergyDataModule, fold: Fold, with_labels: WithLabels, merged: bool
) -> None:
    true = Constants(
        compute_efficiency=0.7, weight_efficiency=0.85, activation_efficiency=0.4, network_efficiency=0.3,
        launch_s=8e-6, step_s=4e-3, compute_share=0.6, memory_share=0.3, static_share=0.05,
    )  # fmt: skip
    every = np.arange(len(data.tensors))
    made = with_labels(data, nine_constants.predicted(true, data, every, merged=merged))
    found = nine_constants.fit_constants(made, fold.train, merged=merged)
    assert found.step_s == pytest.approx(true.step_s, rel=0.02)
    assert found.compute_share == pytest.approx(true.compute_share, rel=0.05)
    table = nine_constants.predicted(found, data, fold.test, merged=merged)
    assert table == pytest.approx(made.tensors.labels[fold.test].double().numpy(), rel=0.02)
