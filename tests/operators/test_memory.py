"""Memory of one GPU: published figures by hand, and what must hold of every deployment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.catalog.architecture import Architecture
from llmco2.operators.columns import ShapeColumns, WorkloadColumns, shape_columns
from llmco2.operators.memory import CONTEXT_BYTES, kv_cache_bytes_per_gpu, memory_need, weights_bytes_per_gpu

CaseMaker = Callable[[int, int], tuple[ShapeColumns, WorkloadColumns]]
WorkloadMaker = Callable[..., WorkloadColumns]
Changer = Callable[..., Any]
N = 250
examples = settings(max_examples=20, deadline=None)
seeds = given(seed=st.integers(0, 2**32 - 1))

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
    other_params=161 * 8192,
)
GEMMA_2_9B = Architecture(
    model_id="gemma-2-9b",
    hidden_dim=3584,
    vocab_size=256000,
    tied_embeddings=True,
    n_full_attention_layers=21,
    n_sliding_attention_layers=21,
    sliding_window_tokens=4096,
    n_heads=16,
    n_kv_heads=8,
    head_dim=256,
    n_dense_mlp_layers=42,
    ffn_dim=14336,
)


def test_llama_70b_on_one_and_on_four_gpus(workload: WorkloadMaker) -> None:
    """70.55 billion parameters are 141 GB in bf16; one token's cache is 320 KiB."""
    shape = shape_columns([LLAMA_70B])
    assert weights_bytes_per_gpu(shape, workload())[0] == 70_553_706_496 * 2
    quarter = (70_553_706_496 - 161 * 8192) / 4 + 161 * 8192  # every GPU keeps the norms
    assert weights_bytes_per_gpu(shape, workload(tensor_parallel=4))[0] == quarter * 2
    sizes = {"batch_size": 8, "prompt_tokens": 3000, "output_tokens": 1000}
    assert kv_cache_bytes_per_gpu(shape, workload(**sizes))[0] == 8 * 4000 * 327_680
    assert kv_cache_bytes_per_gpu(shape, workload(**sizes, tensor_parallel=4))[0] == 8 * 4000 * 81_920
    assert kv_cache_bytes_per_gpu(shape, workload(**sizes, tensor_parallel=64))[0] == 8 * 4000 * 40_960
    assert kv_cache_bytes_per_gpu(shape, workload(**sizes, continuous=1))[0] == 8 * 3500 * 327_680


def test_workspace_holds_one_pass_of_the_widest_layer_and_the_logits(workload: WorkloadMaker) -> None:
    need = memory_need(shape_columns([LLAMA_70B]), workload(batch_size=2, prompt_tokens=100))
    assert need.workspace_bytes[0] == CONTEXT_BYTES + 200 * 2 * 28672 * 2 + 2 * 128256 * 4
    long = memory_need(shape_columns([LLAMA_70B]), workload(prompt_tokens=100_000))
    assert long.workspace_bytes[0] == CONTEXT_BYTES + 8192 * 2 * 28672 * 2 + 128256 * 4  # in chunks


def test_pipeline_stages_hold_whole_layers_and_one_embedding_table(workload: WorkloadMaker) -> None:
    """Eighty layers over three stages: the fullest has 27, and an end stage has one of the two tables."""
    table = 128256 * 8192
    layers = 70_553_706_496 - 2 * table
    held = weights_bytes_per_gpu(shape_columns([LLAMA_70B]), workload(pipeline_parallel=3))[0]
    assert held == pytest.approx(2 * (layers * 27 / 80 + table), rel=1e-12)
    sizes = {"batch_size": 8, "prompt_tokens": 3000, "output_tokens": 1000, "pipeline_parallel": 3}
    cache = kv_cache_bytes_per_gpu(shape_columns([LLAMA_70B]), workload(**sizes))[0]
    assert cache == pytest.approx(8 * 4000 * 27 * 4096, rel=1e-12)


def test_a_window_bounds_the_cache_of_its_layers(workload: WorkloadMaker) -> None:
    shape = shape_columns([GEMMA_2_9B])
    per_token_and_layer = 2 * 8 * 256 * 2
    held = kv_cache_bytes_per_gpu(shape, workload(prompt_tokens=8000, output_tokens=1000))[0]
    assert held == 21 * (9000 + 4096) * per_token_and_layer
    steady = kv_cache_bytes_per_gpu(shape, workload(prompt_tokens=8000, output_tokens=1000, continuous=1))[0]
    assert steady == 21 * (8500 + 4096) * per_token_and_layer  # windows stay full, however far requests are


def test_four_bit_weights_leave_tables_at_16_bit(workload: WorkloadMaker) -> None:
    work = workload(linear_weight_bytes_per_element=0.5)
    tables_and_norms = 2 * 128256 * 8192 + 161 * 8192
    expected = 0.5 * (70_553_706_496 - tables_and_norms) + 2 * tables_and_norms
    assert weights_bytes_per_gpu(shape_columns([LLAMA_70B]), work)[0] == expected


@examples
@seeds
def test_more_gpus_never_need_more_each(random_cases: CaseMaker, replaced: Changer, seed: int) -> None:
    shape, work = random_cases(seed, N)
    for name in ("tensor_parallel", "pipeline_parallel"):
        fewer = memory_need(shape, work)
        more = memory_need(shape, replaced(work, **{name: getattr(work, name) * 2.0}))
        for part in ("weights_bytes", "kv_cache_bytes", "workspace_bytes"):
            assert (getattr(more, part) <= getattr(fewer, part) * (1 + 1e-12)).all(), (name, part)


@examples
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1.0, 8.0))
def test_more_work_never_needs_less(
    random_cases: CaseMaker, replaced: Changer, seed: int, factor: float
) -> None:
    shape, work = random_cases(seed, N)
    need = memory_need(shape, work).total_bytes
    for name in ("batch_size", "prompt_tokens", "output_tokens"):
        more = memory_need(shape, replaced(work, **{name: getattr(work, name) * factor})).total_bytes
        assert (more >= need * (1 - 1e-12)).all(), name


@examples
@seeds
def test_more_layers_never_need_less(random_cases: CaseMaker, replaced: Changer, seed: int) -> None:
    shape, work = random_cases(seed, N)
    work = replaced(work, pipeline_parallel=np.ones(N))
    need = memory_need(shape, work).total_bytes
    for name in ("n_full_attention_layers", "n_sliding_attention_layers", "n_recurrent_layers",
                 "n_dense_mlp_layers", "n_moe_layers"):  # fmt: skip
        deeper = memory_need(replaced(shape, **{name: getattr(shape, name) + 2.0}), work).total_bytes
        assert (deeper >= need * (1 - 1e-12)).all(), name


@examples
@seeds
def test_a_window_never_needs_more_cache(
    random_cases: CaseMaker, replaced: Changer, layers_alike: Changer, seed: int
) -> None:
    shape, work = random_cases(seed, N)
    shape = layers_alike(shape)
    full = replaced(
        shape,
        n_full_attention_layers=shape.n_attention_layers,
        n_sliding_attention_layers=np.zeros(N),
    )
    windowed, everywhere = kv_cache_bytes_per_gpu(shape, work), kv_cache_bytes_per_gpu(full, work)
    assert (windowed <= everywhere * (1 + 1e-12)).all()
