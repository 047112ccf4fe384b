"""Weights read in a decode step, and weights held in memory, against the parameter count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.params import WeightElements, parameter_count, weight_elements
from llmco2.operators.columns import SHAPE_FIELDS, Column, ShapeColumns, WorkloadColumns
from llmco2.operators.counting import count_phase
from llmco2.operators.memory import weights_bytes_per_gpu
from llmco2.operators.names import SLOT_INDEX, SLOTS

N = 400
EVERY_EXPERT_IS_HIT = 1e9  # tokens in the step
_FLAGS = ("tied_embeddings", "gated_attention_output", "gated_mlp", "gated_experts", "keys_are_values")


@pytest.fixture(scope="module")
def shape(random_cases: Callable[[int, int], tuple[ShapeColumns, WorkloadColumns]]) -> ShapeColumns:
    return random_cases(7, N)[0]


@pytest.fixture(scope="module")
def parts(shape: ShapeColumns) -> list[WeightElements]:
    return [weight_elements(architecture) for architecture in _architectures(shape)]


def _architectures(shape: ShapeColumns) -> list[Architecture]:
    def record(row: int) -> Architecture:
        values = {name: int(getattr(shape, name)[row]) for name in SHAPE_FIELDS}
        flags = {name: bool(values.pop(name)) for name in _FLAGS}
        return Architecture(model_id=f"random-{row}", **values, **flags)  # type: ignore[arg-type]

    return [record(row) for row in range(len(shape.hidden_dim))]


def _part(parts: list[WeightElements], name: str) -> Column:
    return np.array([getattr(p, name) for p in parts], dtype=np.float64)


def test_a_decode_step_reads_every_matrix_once(
    shape: ShapeColumns, parts: list[WeightElements], workload: Callable[..., WorkloadColumns]
) -> None:
    """In each part's own precision; embeddings are looked up, and vectors ride along with their layers."""
    work = workload(
        N,
        batch_size=EVERY_EXPERT_IS_HIT,
        output_tokens=2,
        linear_weight_bytes_per_element=1.0,
        expert_weight_bytes_per_element=0.53125,
        head_weight_bytes_per_element=2.0,
    )
    read = count_phase("decode", shape, work).weight_bytes

    def of(*slots: str) -> Column:
        total: Column = read[:, [SLOT_INDEX[s] for s in slots]].sum(axis=1)
        return total

    table = _part(parts, "embedding")
    convolutions = shape.n_recurrent_layers * shape.recurrent_conv_dim * shape.recurrent_conv_width
    np.testing.assert_allclose(
        of("qkv_projection", "output_projection"), _part(parts, "attention"), rtol=1e-12
    )
    np.testing.assert_allclose(
        of("recurrent_in_projection", "recurrent_scan", "recurrent_out_projection"),
        _part(parts, "recurrent") + convolutions,  # kept at two bytes
        rtol=1e-12,
    )
    np.testing.assert_allclose(of("mlp_up", "mlp_down"), _part(parts, "dense_mlp"), rtol=1e-12)
    np.testing.assert_allclose(of("expert_up", "expert_down"), 0.53125 * _part(parts, "experts"), rtol=1e-9)
    np.testing.assert_allclose(of("shared_expert"), _part(parts, "shared_experts"), rtol=1e-12)
    np.testing.assert_allclose(of("router"), 2.0 * _part(parts, "router"), rtol=1e-12)
    np.testing.assert_allclose(of("lm_head"), 2.0 * table, rtol=1e-12)


def test_a_decode_step_reads_the_whole_model(
    shape: ShapeColumns, parts: list[WeightElements], workload: Callable[..., WorkloadColumns]
) -> None:
    """At two bytes everywhere: all parameters less vectors and an embedding table that is not the head."""
    work = workload(N, batch_size=EVERY_EXPERT_IS_HIT, output_tokens=2)
    read = count_phase("decode", shape, work).weight_bytes
    matrices = [i for i, slot in enumerate(SLOTS) if slot != "embedding"]
    table = _part(parts, "embedding") * (shape.tied_embeddings == 0)
    expected = 2.0 * (_part(parts, "total") - table - shape.other_params - shape.lookup_params)
    np.testing.assert_allclose(read[:, matrices].sum(axis=1), expected, rtol=1e-9)


def test_one_gpu_holds_every_parameter(shape: ShapeColumns, workload: Callable[..., WorkloadColumns]) -> None:
    counts = np.array([parameter_count(a) for a in _architectures(shape)], dtype=np.float64)
    np.testing.assert_allclose(weights_bytes_per_gpu(shape, workload(N)), 2.0 * counts, rtol=1e-12)


@pytest.mark.parametrize("gpus", [2, 4, 16])
def test_gpus_hold_one_model_and_the_copies_of_what_no_engine_splits(
    shape: ShapeColumns, workload: Callable[..., WorkloadColumns], gpus: int
) -> None:
    """Copied: latent down-projections, indexers, routers, vectors, and key-value heads fewer than GPUs."""
    counts = np.array([parameter_count(a) for a in _architectures(shape)], dtype=np.float64)
    held = gpus * weights_bytes_per_gpu(shape, workload(N, tensor_parallel=gpus)) / 2.0
    latent = shape.hidden_dim * (shape.q_lora_rank + shape.kv_lora_rank + shape.qk_rope_head_dim)
    heads = np.zeros(N)
    for reach, prefix in (("full", ""), ("sliding", "sliding_")):
        kv_heads, head_dim = (
            np.where(getattr(shape, prefix + name) > 0, getattr(shape, prefix + name), getattr(shape, name))
            for name in ("n_kv_heads", "head_dim")
        )
        value_dim = np.where(shape.v_head_dim > 0, shape.v_head_dim, head_dim) * (1 - shape.keys_are_values)
        own = getattr(shape, f"n_{reach}_attention_layers") - getattr(shape, f"n_shared_kv_{reach}_layers")
        repeats = np.maximum(gpus / kv_heads, 1.0) - 1.0
        heads += own * shape.hidden_dim * kv_heads * (head_dim + value_dim) * repeats
        heads += (
            getattr(shape, f"n_{reach}_attention_layers")
            * (gpus - 1.0)
            * shape.hidden_dim
            * shape.q_lora_rank
        )
    attention = np.where(shape.is_mla, shape.n_attention_layers * (gpus - 1.0) * latent, heads)
    query_in = np.where(shape.q_lora_rank > 0, shape.q_lora_rank, shape.hidden_dim)
    indexer = query_in * shape.index_n_heads * shape.index_head_dim
    indexer += shape.hidden_dim * (shape.index_head_dim + shape.index_n_heads)
    routers = shape.n_moe_layers * shape.hidden_dim * shape.n_experts
    alike = routers + shape.other_params + shape.n_index_layers * indexer
    copies = attention + (gpus - 1.0) * alike
    np.testing.assert_allclose(held, counts + copies, rtol=1e-12)
