"""The roofline: hand-computed times, and what binds a kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.catalog.architecture import Architecture
from llmco2.operators.columns import Column, ShapeColumns, WorkloadColumns, shape_columns
from llmco2.operators.counting import count_phase
from llmco2.operators.names import PHASES, SLOT_INDEX, SLOT_KINDS, KernelKind
from llmco2.operators.roofline import (
    DeviceColumns,
    Regime,
    arithmetic_intensity_flop_per_byte,
    ridge_point_flop_per_byte,
    roofline_times,
)

CaseMaker = Callable[[int, int], tuple[ShapeColumns, WorkloadColumns]]
WorkloadMaker = Callable[..., WorkloadColumns]
N = 200
H100 = {
    "matmul_flops_per_s": 989.4e12,
    "vector_flops_per_s": 989.4e12,
    "memory_bandwidth_bytes_per_s": 3.35e12,
    "network_bytes_per_s": 450e9,
    "memory_bytes": 80e9,
    "l2_bytes": 50e6,
    "n_sms": 132.0,
    "tdp_w": 700.0,
    "compute_w": 763.0,
    "memory_w": 224.0,
    "idle_power_w": 70.0,
}
LLAMA_70B = Architecture(
    model_id="Llama-3.1-70B",
    hidden_dim=8192,
    vocab_size=128256,
    n_full_attention_layers=80,
    n_heads=64,
    n_kv_heads=8,
    head_dim=128,
    n_dense_mlp_layers=80,
    ffn_dim=28672,
)


def _device(n: int, **changes: float | Column) -> DeviceColumns:
    values = {**H100, **changes}
    return DeviceColumns(
        **{k: np.broadcast_to(np.asarray(v, dtype=np.float64), (n,)) for k, v in values.items()}
    )


def test_decode_of_one_sequence_waits_for_weights(workload: WorkloadMaker) -> None:
    """A quarter of Llama-70B's up-projections is 18.79 GB: 5.6 ms at 3.35 TB/s, and 19 µs of products."""
    table = count_phase("decode", shape_columns([LLAMA_70B]), workload(output_tokens=2, tensor_parallel=4))
    times = roofline_times(table, _device(1))
    up = SLOT_INDEX["mlp_up"]
    matrix = 80 * 8192 * 2 * 28672 / 4
    assert times.weight_s[0, up] == pytest.approx(matrix * 2 / 3.35e12)
    assert times.compute_s[0, up] == pytest.approx(2 * matrix / 989.4e12)
    assert times.bound_s[0, up] == pytest.approx(times.weight_s[0, up] + times.activation_s[0, up])
    assert times.regime[0, up] == Regime.MEMORY
    reduce = SLOT_INDEX["mlp_all_reduce"]
    assert times.network_s[0, reduce] == pytest.approx(80 * 8192 * 2 * 1.5 / 450e9)
    assert times.regime[0, reduce] == Regime.NETWORK
    assert times.regime[0, SLOT_INDEX["router"]] == Regime.ABSENT


def test_prefill_of_a_long_prompt_waits_for_products(workload: WorkloadMaker) -> None:
    table = count_phase(
        "prefill", shape_columns([LLAMA_70B]), workload(prompt_tokens=4096, tensor_parallel=4)
    )
    times = roofline_times(table, _device(1))
    for slot in ("qkv_projection", "full_attention", "mlp_up", "mlp_down"):
        assert times.regime[0, SLOT_INDEX[slot]] == Regime.COMPUTE, slot
    assert times.regime[0, SLOT_INDEX["lm_head"]] == Regime.MEMORY  # one row of logits


def test_eight_bit_peaks_speed_up_products_but_not_attention_nor_what_stays_at_16_bit(
    workload: WorkloadMaker,
) -> None:
    table = count_phase("prefill", shape_columns([LLAMA_70B]), workload())
    bf16, fp8 = (
        roofline_times(table, _device(1, matmul_flops_per_s=peak)).compute_s[0]
        for peak in (989.4e12, 1978.8e12)
    )
    for slot, kind in SLOT_KINDS.items():
        quantised = kind in (KernelKind.GEMM, KernelKind.EXPERT_GEMM) and slot not in ("lm_head", "router")
        assert fp8[SLOT_INDEX[slot]] == bf16[SLOT_INDEX[slot]] / (2.0 if quantised else 1.0), slot


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_kernel_is_compute_bound_where_its_intensity_is_beyond_the_ridge(
    random_cases: CaseMaker, seed: int
) -> None:
    shape, work = random_cases(seed, N)
    rng = np.random.default_rng(seed)
    device = _device(
        N,
        matmul_flops_per_s=1e12 * rng.uniform(10.0, 5000.0, N),
        vector_flops_per_s=1e12 * rng.uniform(5.0, 2500.0, N),
        memory_bandwidth_bytes_per_s=1e12 * rng.uniform(0.1, 10.0, N),
        network_bytes_per_s=1e9 * rng.uniform(10.0, 900.0, N),
    )
    for phase in PHASES:
        table = count_phase(phase, shape, work)
        times = roofline_times(table, device)
        over_ridge = arithmetic_intensity_flop_per_byte(table) / ridge_point_flop_per_byte(device)
        local = (table.network_bytes == 0.0) & (np.abs(over_ridge - 1.0) > 1e-9)
        np.testing.assert_array_equal((times.regime == Regime.COMPUTE)[local], (over_ridge > 1.0)[local])
        np.testing.assert_array_equal(times.regime == Regime.ABSENT, table.launches == 0.0)
        slowest = np.max([times.compute_s, times.memory_s, times.network_s], axis=0)
        np.testing.assert_array_equal(times.bound_s, slowest)
        named = np.select(
            [times.regime == Regime.MEMORY, times.regime == Regime.COMPUTE, times.regime == Regime.NETWORK],
            [times.memory_s, times.compute_s, times.network_s],
        )
        np.testing.assert_array_equal(named, slowest)
