"""The kernel graph of every kind of decoder: acyclic, connected, of present kernels only, one per phase."""

from __future__ import annotations

from collections.abc import Callable
from graphlib import TopologicalSorter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.catalog.architecture import Architecture
from llmco2.operators.columns import ShapeColumns, WorkloadColumns, shape_columns
from llmco2.operators.counting import count_phase
from llmco2.operators.graph import KernelGraph, kernel_graph, mean_adjacency
from llmco2.operators.names import N_SLOTS, PHASES, SLOT_INDEX, SLOTS, Phase
from llmco2.operators.table import KernelTable

CaseMaker = Callable[[int, int], tuple[ShapeColumns, WorkloadColumns]]
WorkloadMaker = Callable[..., WorkloadColumns]
N = 60
seeds = given(seed=st.integers(0, 2**32 - 1))

PURE_MAMBA = Architecture(
    model_id="mamba",
    hidden_dim=768,
    vocab_size=50280,
    n_recurrent_layers=24,
    recurrent_in_dim=3072,
    recurrent_inner_dim=1536,
    recurrent_conv_dim=1536,
    recurrent_state_elements=24576,
)


def _tables(random_cases: CaseMaker, seed: int, phase: Phase) -> KernelTable:
    shape, work = random_cases(seed, N)
    return count_phase(phase, shape, work)


def _graphs(table: KernelTable) -> list[KernelGraph]:
    return [kernel_graph(table, row) for row in range(N)]


def _reached(graph: KernelGraph, start: str, *, backwards: bool = False) -> set[str]:
    edges = [(b, a) for a, b in graph.edges] if backwards else list(graph.edges)
    seen, frontier = {start}, [start]
    while frontier:
        here = frontier.pop()
        new = [b for a, b in edges if a == here and b not in seen]
        seen.update(new)
        frontier.extend(new)
    return seen


@pytest.mark.parametrize("phase", PHASES)
@settings(max_examples=10, deadline=None)
@seeds
def test_data_flows_from_the_embedding_through_every_kernel_to_the_sample(
    random_cases: CaseMaker, phase: Phase, seed: int
) -> None:
    """No cycle, nothing unreachable, nothing computed in vain but prefill's cache, which is for decode."""
    table = _tables(random_cases, seed, phase)
    for row, graph in enumerate(_graphs(table)):
        launched = {slot for slot in SLOTS if table.launches[row, SLOT_INDEX[slot]] > 0.0}
        assert set(graph.slots) == launched
        if not launched:
            assert graph.edges == ()
            assert graph.edge_index.shape == (2, 0)
            continue
        assert {slot for edge in graph.edges for slot in edge} <= launched
        assert len(set(graph.edges)) == len(graph.edges)
        TopologicalSorter({b: [a for a, other in graph.edges if other == b] for b in launched}).prepare()
        assert _reached(graph, "embedding") == launched
        for_decode = {"kv_cache"} if phase == "prefill" else set()
        assert _reached(graph, "sampling", backwards=True) == launched - for_decode


@settings(max_examples=10, deadline=None)
@seeds
def test_edge_index_numbers_the_present_slots(random_cases: CaseMaker, seed: int) -> None:
    for graph in _graphs(_tables(random_cases, seed, "prefill")):
        pairs = [(graph.slots[a], graph.slots[b]) for a, b in graph.edge_index.T]
        assert pairs == list(graph.edges)
        assert graph.edge_index.dtype == np.int64


def test_the_phases_differ_in_how_attention_meets_the_cache(workload: WorkloadMaker) -> None:
    dense = Architecture(
        model_id="dense",
        hidden_dim=64,
        vocab_size=100,
        n_full_attention_layers=2,
        n_heads=4,
        n_kv_heads=4,
        head_dim=16,
        n_dense_mlp_layers=2,
        ffn_dim=128,
    )
    prefill, decode = (kernel_graph(count_phase(p, shape_columns([dense]), workload())) for p in PHASES)
    assert set(decode.edges) - set(prefill.edges) == {("kv_cache", "full_attention")}
    assert set(prefill.edges) < set(decode.edges)
    assert prefill.edges == (
        ("embedding", "mixer_norm"),
        ("embedding", "mixer_residual"),
        ("mixer_norm", "qkv_projection"),
        ("qkv_projection", "kv_cache"),
        ("qkv_projection", "full_attention"),
        ("full_attention", "output_projection"),
        ("output_projection", "mixer_residual"),
        ("mixer_residual", "mlp_norm"),
        ("mixer_residual", "mlp_residual"),
        ("mlp_norm", "mlp_up"),
        ("mlp_up", "mlp_activation"),
        ("mlp_activation", "mlp_down"),
        ("mlp_down", "mlp_residual"),
        ("mlp_residual", "final_norm"),
        ("final_norm", "lm_head"),
        ("lm_head", "sampling"),
    )


def test_a_decoder_without_feed_forward_goes_straight_to_the_last_norm(workload: WorkloadMaker) -> None:
    graph = kernel_graph(count_phase("decode", shape_columns([PURE_MAMBA]), workload()))
    assert graph.edges == (
        ("embedding", "mixer_norm"),
        ("embedding", "mixer_residual"),
        ("mixer_norm", "recurrent_in_projection"),
        ("recurrent_in_projection", "recurrent_scan"),
        ("recurrent_scan", "recurrent_out_projection"),
        ("recurrent_out_projection", "mixer_residual"),
        ("mixer_residual", "final_norm"),
        ("final_norm", "lm_head"),
        ("lm_head", "sampling"),
    )


@pytest.mark.parametrize("phase", PHASES)
@settings(max_examples=10, deadline=None)
@seeds
def test_adjacency_averages_the_neighbours_of_present_slots(
    random_cases: CaseMaker, phase: Phase, seed: int
) -> None:
    table = _tables(random_cases, seed, phase)
    for row, graph in enumerate(_graphs(table)):
        matrix = mean_adjacency(phase, tuple(bool(n > 0.0) for n in table.launches[row]))
        assert matrix.shape == (N_SLOTS, N_SLOTS)
        linked = {SLOT_INDEX[slot] for edge in graph.edges for slot in edge}
        expected = [1.0 if i in linked else 0.0 for i in range(N_SLOTS)]
        np.testing.assert_allclose(matrix.sum(axis=1), expected, rtol=1e-12)
        np.testing.assert_array_equal(matrix > 0.0, matrix.T > 0.0)
        pairs = {(SLOT_INDEX[a], SLOT_INDEX[b]) for a, b in graph.edges}
        both_ways = pairs | {(b, a) for a, b in pairs}
        assert both_ways == {(int(i), int(j)) for i, j in np.argwhere(matrix > 0.0)}


def test_the_shared_adjacency_cannot_be_written_to() -> None:
    matrix = mean_adjacency("decode", tuple(True for _ in SLOTS))
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1.0
