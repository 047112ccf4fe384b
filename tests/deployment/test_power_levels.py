"""Reference powers come from a chip's technology: alike across boards of one chip, ordered by process and memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.deployment.power_levels import energy_per_byte_j, power_levels, process_of


def test_an_a100_moves_a_byte_for_87_picojoules() -> None:
    """6.0 pJ/bit in HBM2E, 1.0 at its interface and 31 pJ/B on a 7 nm die: 177 W at 2,039 GB/s."""
    gpu = resolve_gpu("A100-SXM4-80GB")
    assert energy_per_byte_j(gpu) == pytest.approx(87e-12)
    assert power_levels(gpu).memory_w == pytest.approx(87e-12 * 2.039e12)


def test_compute_is_the_mean_of_what_the_chip_asks_for_and_the_board_grants() -> None:
    gpu = resolve_gpu("A100-PCIe-40GB")
    assert power_levels(gpu).compute_w == pytest.approx((1.15e-12 * 312e12 * 250.0) ** 0.5)


def test_boards_of_one_chip_share_what_a_byte_costs_whatever_their_limit() -> None:
    two = resolve_gpu("A100-PCIe-40GB"), resolve_gpu("A100-SXM4-40GB")
    assert two[0].tdp_w < two[1].tdp_w
    assert power_levels(two[0]).memory_w == power_levels(two[1]).memory_w


def test_newer_technology_moves_a_byte_for_less() -> None:
    names = ("V100-SXM2-32GB", "A100-SXM4-40GB", "A100-SXM4-80GB", "H100-SXM5-80GB", "B200-SXM-180GB")
    costs = [energy_per_byte_j(resolve_gpu(name)) for name in names]
    assert costs == sorted(costs, reverse=True)
    assert energy_per_byte_j(resolve_gpu("A40")) > energy_per_byte_j(resolve_gpu("A100-SXM4-80GB"))


def test_a_board_of_unknown_make_is_taken_by_its_power_limit() -> None:
    unknown = replace(resolve_gpu("H100-SXM5-80GB"), architecture="", memory_type="")
    assert process_of(unknown) is None
    assert power_levels(unknown).compute_w == pytest.approx(unknown.tdp_w)
    assert power_levels(unknown).memory_w == pytest.approx((56.0 + 31.0) * 1e-12 * 3.35e12)


@pytest.mark.parametrize("name", sorted(load_gpus()))
def test_no_board_of_the_catalog_is_beyond_what_cooling_allows(name: str) -> None:
    """Peak products and full bandwidth together ask for more than the limit grants, but within a factor of four."""
    gpu = load_gpus()[name]
    levels = power_levels(gpu)
    assert 0.1 < (levels.compute_w + levels.memory_w) / gpu.tdp_w < 4.0
