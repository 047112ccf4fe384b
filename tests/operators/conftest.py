"""Requests for the counting tests: written out one by one, or drawn at random by the thousand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from llmco2.catalog.architecture import Architecture
from llmco2.operators.columns import SHAPE_FIELDS, Column, ShapeColumns, WorkloadColumns, shape_columns
from llmco2.operators.counting import count_phase
from llmco2.operators.names import SLOTS, Phase
from llmco2.operators.table import KernelTable

WorkloadMaker = Callable[..., WorkloadColumns]
Counter = Callable[..., dict[str, dict[str, float]]]
CaseMaker = Callable[[int, int], tuple[ShapeColumns, WorkloadColumns]]
Changer = Callable[..., Any]

WORKLOAD_DEFAULTS = {
    "batch_size": 1.0,
    "prompt_tokens": 1000.0,
    "output_tokens": 101.0,
    "continuous": 0.0,
    "tensor_parallel": 1.0,
    "expert_parallel": 1.0,
    "pipeline_parallel": 1.0,
    "attention_weight_bytes_per_element": 2.0,
    "recurrent_weight_bytes_per_element": 2.0,
    "dense_mlp_weight_bytes_per_element": 2.0,
    "expert_weight_bytes_per_element": 2.0,
    "shared_expert_weight_bytes_per_element": 2.0,
    "router_weight_bytes_per_element": 2.0,
    "head_weight_bytes_per_element": 2.0,
    "embedding_weight_bytes_per_element": 2.0,
    "activation_bytes_per_element": 2.0,
    "kv_bytes_per_element": 2.0,
}
LINEAR = ("attention", "recurrent", "dense_mlp", "expert", "shared_expert")
OTHER_MATRICES = ("router", "head", "embedding")
TABLE_QUANTITIES = (
    "flops",
    "weight_bytes",
    "activation_bytes",
    "kv_bytes",
    "network_bytes",
    "launches",
    "width_in",
    "width_out",
)


def _workload(n: int = 1, **values: float | Column) -> WorkloadColumns:
    linear = values.pop("linear_weight_bytes_per_element", 2.0)  # of all linear layers but routed experts
    parts = {f"{part}_weight_bytes_per_element": linear for part in LINEAR if part != "expert"}
    chosen = {**WORKLOAD_DEFAULTS, **parts, **values}
    return WorkloadColumns(
        **{k: np.broadcast_to(np.asarray(v, dtype=np.float64), (n,)).copy() for k, v in chosen.items()}
    )


def _rows(table: KernelTable) -> dict[str, dict[str, float]]:
    return {
        slot: {name: float(getattr(table, name)[0, i]) for name in TABLE_QUANTITIES}
        for i, slot in enumerate(SLOTS)
    }


@pytest.fixture(scope="session")
def workload() -> WorkloadMaker:
    """``workload(n, **columns)``: bf16 on one GPU unless told otherwise."""
    return _workload


@pytest.fixture(scope="session")
def count() -> Counter:
    """``count(phase, architecture, **workload)``: the quantities of every slot by name."""

    def run(phase: Phase, architecture: Architecture, **values: float) -> dict[str, dict[str, float]]:
        return _rows(count_phase(phase, shape_columns([architecture]), _workload(1, **values)))

    return run


@pytest.fixture(scope="session")
def replaced() -> Changer:
    """``replaced(columns, **changes)``: the same columns with some exchanged."""

    def change(columns: Any, **changes: Column) -> Any:
        own = {f.name: getattr(columns, f.name) for f in fields(columns)}
        return type(columns)(**{**own, **changes})

    return change


@pytest.fixture(scope="session")
def layers_alike(replaced: Changer) -> Changer:
    """``layers_alike(shape)``: layers with a window are shaped as the others; none is sparse, shared or compressed."""
    zeroed = (
        *("sliding_n_heads", "sliding_n_kv_heads", "sliding_head_dim"),
        *("n_shared_kv_full_layers", "n_shared_kv_sliding_layers"),
        *("index_topk_tokens", "n_index_layers", "kv_compression"),
    )

    def change(shape: ShapeColumns) -> Any:
        return replaced(shape, **dict.fromkeys(zeroed, np.zeros(len(shape.hidden_dim))))

    return change


@pytest.fixture(scope="session")
def random_cases() -> CaseMaker:
    """``random_cases(seed, n)``: decoders of every kind, deployed so that heads divide over GPUs."""

    def draw(seed: int, n: int) -> tuple[ShapeColumns, WorkloadColumns]:
        rng = np.random.default_rng(seed)
        return _random_shapes(rng, n), _random_workloads(rng, n)

    return draw


def _random_shapes(rng: np.random.Generator, n: int) -> ShapeColumns:
    def whole(low: int, high: int) -> Column:
        return rng.integers(low, high, n, endpoint=True).astype(np.float64)

    def flag(share: float = 0.5) -> Column:
        return (rng.random(n) < share).astype(np.float64)

    mla, recurrent, moe, attention = flag(0.3), flag(0.3), flag(0.4), flag(0.9)
    n_full, n_sliding = whole(1, 60) * attention, whole(0, 40) * attention * flag()
    n_recurrent = np.maximum(whole(1, 60) * recurrent, (n_full + n_sliding == 0) * 1.0)
    n_layers = n_full + n_sliding + n_recurrent
    n_moe = np.ceil(n_layers * rng.random(n)) * moe
    kv_heads = 2.0 ** whole(0, 4)
    n_heads, other_windows, sharing = 16.0 * kv_heads, flag(0.3) * (1.0 - mla), flag(0.2)
    sparse, low_rank_output = flag(0.2) * (n_full > 0), flag(0.1) * (1.0 - mla)
    n_experts = whole(2, 256)
    own = {
        "hidden_dim": 64.0 * whole(1, 128),
        "vocab_size": whole(1000, 260_000),
        "tied_embeddings": flag(),
        "n_full_attention_layers": n_full,
        "n_sliding_attention_layers": n_sliding,
        "sliding_window_tokens": whole(1, 8192) * (n_sliding > 0),
        "n_heads": n_heads,
        "n_kv_heads": kv_heads,
        "head_dim": 32.0 * whole(1, 8),
        "gated_attention_output": flag(0.2) * (1.0 - mla),
        "sliding_n_heads": n_heads * whole(1, 2) * (n_sliding > 0) * other_windows,
        "sliding_n_kv_heads": kv_heads * whole(1, 2) * (n_sliding > 0) * other_windows,
        "sliding_head_dim": 32.0 * whole(1, 8) * (n_sliding > 0) * other_windows,
        "n_shared_kv_full_layers": np.floor(n_full * rng.random(n) * 0.5) * sharing * (1.0 - mla),
        "n_shared_kv_sliding_layers": np.floor(n_sliding * rng.random(n) * 0.5) * sharing * (1.0 - mla),
        "keys_are_values": flag(0.1) * (1.0 - mla),
        "o_lora_rank": 64.0 * whole(1, 16) * low_rank_output,
        "o_groups": 16.0 * low_rank_output,
        "index_topk_tokens": whole(1, 4096) * sparse,
        "n_index_layers": np.ceil(n_full * rng.random(n)) * sparse,
        "index_n_heads": whole(1, 64) * sparse,
        "index_head_dim": 32.0 * whole(1, 4) * sparse,
        "kv_compression": whole(0, 4) * sparse,
        "q_lora_rank": 64.0 * whole(0, 24) * np.maximum(mla, flag(0.1)),
        "kv_lora_rank": 64.0 * whole(1, 8) * mla,
        "qk_nope_head_dim": 32.0 * whole(1, 4) * mla,
        "qk_rope_head_dim": 32.0 * whole(1, 2) * mla,
        "v_head_dim": 32.0 * whole(1, 4) * np.maximum(mla, flag(0.2)),
        "n_recurrent_layers": n_recurrent,
        "recurrent_in_dim": 64.0 * whole(1, 300) * (n_recurrent > 0),
        "recurrent_inner_dim": 64.0 * whole(1, 128) * (n_recurrent > 0),
        "recurrent_conv_dim": 64.0 * whole(0, 160) * (n_recurrent > 0),
        "recurrent_conv_width": np.full(n, 4.0),
        "recurrent_state_elements": 1024.0 * whole(1, 1024) * (n_recurrent > 0),
        "n_dense_mlp_layers": n_layers - n_moe,
        "ffn_dim": 64.0 * whole(1, 400),
        "gated_mlp": flag(),
        "n_moe_layers": n_moe,
        "n_experts": n_experts * (n_moe > 0),
        "experts_per_token": np.ceil(n_experts * rng.random(n) ** 3) * (n_moe > 0),
        "expert_ffn_dim": 64.0 * whole(1, 200) * (n_moe > 0),
        "gated_experts": flag(),
        "shared_expert_ffn_dim": 64.0 * whole(0, 40) * (n_moe > 0),
        "other_params": whole(0, 10_000_000),
        "lookup_params": whole(0, 10_000_000) * flag(0.2),
    }
    assert set(own) == set(SHAPE_FIELDS)
    return ShapeColumns(**own)


def _random_workloads(rng: np.random.Generator, n: int) -> WorkloadColumns:
    def log_uniform(high: float) -> Column:
        values = np.exp(rng.uniform(0.0, np.log(high), n))
        return np.where(
            rng.random(n) < 0.5, np.round(values), values
        )  # means of batches are no whole numbers

    tensor = np.exp2(rng.integers(0, 4, n, endpoint=True).astype(np.float64))
    return WorkloadColumns(
        batch_size=log_uniform(512),
        prompt_tokens=log_uniform(131_072),
        output_tokens=np.where(rng.random(n) < 0.1, 1.0, log_uniform(16_384)),
        continuous=rng.integers(0, 1, n, endpoint=True).astype(np.float64),
        tensor_parallel=tensor,
        expert_parallel=np.where(rng.random(n) < 0.5, 1.0, tensor),
        pipeline_parallel=rng.choice([1.0, 1.0, 2.0, 4.0], n),
        **{f"{part}_weight_bytes_per_element": rng.choice([0.5625, 1.0, 2.0, 4.0], n) for part in LINEAR},
        **{f"{part}_weight_bytes_per_element": rng.choice([2.0, 4.0], n) for part in OTHER_MATRICES},
        activation_bytes_per_element=rng.choice([1.0, 2.0, 4.0], n),
        kv_bytes_per_element=rng.choice([1.0, 2.0, 4.0], n),
    )
