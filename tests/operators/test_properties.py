"""What must hold of every count: thousands of random decoders, deployments and requests at a time.

Each example is a seed for a few hundred cases, so that properties are checked on arrays, as counts are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.operators.columns import ShapeColumns, WorkloadColumns
from llmco2.operators.counting import PREFILL_TOKEN_BUDGET, count_phase, expected_experts_hit
from llmco2.operators.names import PHASES, SLOT_INDEX, SLOT_KINDS, SLOTS, KernelKind, Phase
from llmco2.operators.table import KernelTable, SlotArray

CaseMaker = Callable[[int, int], tuple[ShapeColumns, WorkloadColumns]]
Changer = Callable[..., Any]
N = 250
TOTALS = ("flops", "weight_bytes", "activation_bytes", "kv_bytes", "network_bytes", "launches")
seeds = given(seed=st.integers(0, 2**32 - 1))
examples = settings(max_examples=20, deadline=None)
NETWORK_SLOTS = [SLOT_INDEX[s] for s, kind in SLOT_KINDS.items() if kind is KernelKind.COMMUNICATION]


def _at_most(lower: SlotArray, higher: SlotArray, what: str) -> None:
    slack = 1e-6 * np.abs(higher) + 1e-9  # a decode of a hundredth of a token is a difference of large sums
    worst = np.argmax((lower - higher - slack).max(axis=0))
    assert np.all(lower <= higher + slack), f"{what} falls in {SLOTS[worst]}"


@examples
@seeds
def test_every_count_is_finite_and_none_is_negative(random_cases: CaseMaker, seed: int) -> None:
    shape, work = random_cases(seed, N)
    for phase in PHASES:
        table = count_phase(phase, shape, work)
        for name in (*TOTALS, "width_in", "width_out"):
            values = getattr(table, name)
            assert np.isfinite(values).all(), name
            assert (values >= 0.0).all(), name


@examples
@seeds
def test_a_slot_costs_something_exactly_where_it_is_launched(random_cases: CaseMaker, seed: int) -> None:
    shape, work = random_cases(seed, N)
    for phase in PHASES:
        table = count_phase(phase, shape, work)
        busy = (table.total_bytes + table.network_bytes) > 0.0
        np.testing.assert_array_equal(busy, table.launches > 0.0)


@examples
@seeds
def test_an_answer_of_one_token_has_no_decode(random_cases: CaseMaker, replaced: Changer, seed: int) -> None:
    shape, work = random_cases(seed, N)
    table = count_phase("decode", shape, replaced(work, output_tokens=np.ones(N)))
    assert not table.steps.any()
    for name in (*TOTALS, "width_in", "width_out"):
        assert not getattr(table, name).any(), name


@pytest.mark.parametrize("quantity", ["batch_size", "prompt_tokens", "output_tokens"])
@examples
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1.0, 8.0))
def test_more_work_never_costs_less(
    random_cases: CaseMaker, replaced: Changer, quantity: str, seed: int, factor: float
) -> None:
    shape, work = random_cases(seed, N)
    more = replaced(work, **{quantity: getattr(work, quantity) * factor})
    for phase in PHASES:
        small, large = count_phase(phase, shape, work), count_phase(phase, shape, more)
        for name in TOTALS:
            _at_most(getattr(small, name), getattr(large, name), f"{name} of {phase} in {quantity}")


@pytest.mark.parametrize(
    "layers",
    [
        "n_full_attention_layers",
        "n_sliding_attention_layers",
        "n_recurrent_layers",
        "n_dense_mlp_layers",
        "n_moe_layers",
    ],
)
@examples
@seeds
def test_more_layers_never_cost_less(
    random_cases: CaseMaker, replaced: Changer, layers: str, seed: int
) -> None:
    shape, work = random_cases(seed, N)
    deeper = replaced(shape, **{layers: getattr(shape, layers) + 3.0})
    for phase in PHASES:
        shallow, deep = count_phase(phase, shape, work), count_phase(phase, deeper, work)
        for name in TOTALS:
            _at_most(getattr(shallow, name), getattr(deep, name), f"{name} of {phase} in {layers}")


@examples
@seeds
def test_one_gpu_sends_nothing_and_several_do(random_cases: CaseMaker, replaced: Changer, seed: int) -> None:
    shape, work = random_cases(seed, N)
    ones = np.ones(N)
    alone = replaced(work, tensor_parallel=ones, expert_parallel=ones, pipeline_parallel=ones)
    together = replaced(work, output_tokens=work.output_tokens + 1.0)
    for phase in PHASES:
        table = count_phase(phase, shape, alone)
        assert not table.network_bytes.any()
        assert not table.launches[:, NETWORK_SLOTS].any()
        sent = count_phase(phase, shape, together).network_bytes.sum(axis=1)
        np.testing.assert_array_equal(sent > 0.0, work.n_gpus > 1.0)


@examples
@seeds
def test_gpus_divide_the_work_exactly(random_cases: CaseMaker, replaced: Changer, seed: int) -> None:
    """FLOPs over all ranks are those of one GPU, but for what each rank repeats (indexers are left out here)."""
    shape, work = random_cases(seed, N)
    shape = replaced(shape, n_index_layers=np.zeros(N))
    ones = np.ones(N)
    alone = replaced(work, tensor_parallel=ones, expert_parallel=ones)
    gpus = work.tensor_parallel
    split = ["full_attention", "sliding_attention", "output_projection", "mlp_up", "mlp_down", "expert_up",
             "expert_down", "shared_expert", "recurrent_in_projection", "recurrent_out_projection",
             "recurrent_scan", "lm_head"]  # fmt: skip
    repeated_heads = shape.is_mla | (gpus > shape.n_kv_heads) | (shape.q_lora_rank > 0)
    repeated_heads |= (shape.sliding_n_kv_heads > 0) & (gpus > shape.sliding_n_kv_heads)
    for phase in PHASES:
        one, many = count_phase(phase, shape, alone), count_phase(phase, shape, work)
        columns = [SLOT_INDEX[s] for s in split]
        for name in ("flops", "weight_bytes"):
            np.testing.assert_allclose(
                getattr(many, name)[:, columns] * gpus[:, None], getattr(one, name)[:, columns], rtol=1e-12
            )
            qkv = SLOT_INDEX["qkv_projection"]
            share = getattr(many, name)[:, qkv] * gpus / np.maximum(getattr(one, name)[:, qkv], 1.0)
            np.testing.assert_allclose(share[(share > 0) & ~repeated_heads], 1.0, rtol=1e-12)
            assert (share[(share > 0) & repeated_heads] >= 1.0 - 1e-12).all()
            router = SLOT_INDEX["router"]
            np.testing.assert_array_equal(getattr(many, name)[:, router], getattr(one, name)[:, router])


@examples
@seeds
def test_a_window_never_costs_more_than_full_attention(
    random_cases: CaseMaker, replaced: Changer, layers_alike: Changer, seed: int
) -> None:
    shape, work = random_cases(seed, N)
    shape = layers_alike(shape)
    full = replaced(
        shape,
        n_full_attention_layers=shape.n_full_attention_layers + shape.n_sliding_attention_layers,
        n_sliding_attention_layers=np.zeros(N),
    )
    attention = [SLOT_INDEX["full_attention"], SLOT_INDEX["sliding_attention"]]
    for phase in PHASES:
        windowed, everywhere = count_phase(phase, shape, work), count_phase(phase, full, work)
        for name in ("flops", "kv_bytes"):
            less = getattr(windowed, name)[:, attention].sum(axis=1)
            assert (less <= getattr(everywhere, name)[:, attention].sum(axis=1) * (1 + 1e-12)).all()


@examples
@seeds
def test_a_window_wider_than_the_context_is_full_attention(
    random_cases: CaseMaker, replaced: Changer, layers_alike: Changer, seed: int
) -> None:
    shape, work = random_cases(seed, N)
    shape = layers_alike(shape)
    n = shape.n_attention_layers
    full = replaced(shape, n_full_attention_layers=n, n_sliding_attention_layers=np.zeros(N))
    wide = replaced(
        shape,
        n_full_attention_layers=np.zeros(N),
        n_sliding_attention_layers=n,
        sliding_window_tokens=work.prompt_tokens + work.output_tokens,
    )
    for phase in PHASES:
        a, b = count_phase(phase, full, work), count_phase(phase, wide, work)
        for name in TOTALS:
            np.testing.assert_allclose(
                getattr(a, name)[:, SLOT_INDEX["full_attention"]],
                getattr(b, name)[:, SLOT_INDEX["sliding_attention"]],
                rtol=1e-9,
            )


def _summed_over_steps(shape: ShapeColumns, work: WorkloadColumns, replaced: Changer) -> dict[str, SlotArray]:
    """Count decode step by step, each a request for two tokens whose prompt is all that came before."""
    total = {name: np.zeros((N, len(SLOTS))) for name in TOTALS}
    for step in range(int(work.output_tokens.max()) - 1):
        one = replaced(work, prompt_tokens=work.prompt_tokens + step, output_tokens=np.full(N, 2.0))
        table = count_phase("decode", shape, one)
        running = (step < work.output_tokens - 1.0)[:, None]
        for name in TOTALS:
            total[name] += np.where(running, getattr(table, name), 0.0)
    return total


@settings(max_examples=8, deadline=None)
@seeds
def test_decode_is_the_sum_of_its_steps(random_cases: CaseMaker, replaced: Changer, seed: int) -> None:
    """Windows of 1 to 60 tokens, crossed before, during, after or never within 1 to 40 steps."""
    shape, work = random_cases(seed, N)
    rng = np.random.default_rng(seed)
    shape = replaced(shape, sliding_window_tokens=rng.integers(1, 60, N).astype(np.float64))
    work = replaced(
        work,
        prompt_tokens=rng.integers(1, 60, N).astype(np.float64),
        output_tokens=rng.integers(1, 40, N).astype(np.float64),
    )
    whole, summed = count_phase("decode", shape, work), _summed_over_steps(shape, work, replaced)
    for name in TOTALS:
        np.testing.assert_allclose(getattr(whole, name), summed[name], rtol=1e-10, err_msg=name)
    attended = np.zeros(N)
    for row in range(N):
        first, steps = int(work.prompt_tokens[row]), int(work.output_tokens[row]) - 1
        attended[row] = sum(
            min(i, int(shape.sliding_window_tokens[row])) for i in range(first + 1, first + steps + 1)
        )
    sliding = SLOT_INDEX["sliding_attention"]
    present = whole.launches[:, sliding] > 0.0
    # FLOPs of a score and a value for each attended token, from the kernel's own widths
    per_token = 2.0 * work.batch_size * whole.width_in[:, sliding] * whole.width_out[:, sliding]
    expected = per_token * attended * shape.n_sliding_attention_layers
    np.testing.assert_allclose(whole.flops[present, sliding], expected[present], rtol=1e-10)


@examples
@seeds
def test_a_batch_of_requests_is_that_many_requests_but_for_weights(
    random_cases: CaseMaker, replaced: Changer, seed: int
) -> None:
    """Batching saves passes over weights and launches; FLOPs, cache and activations grow in proportion."""
    shape, work = random_cases(seed, N)
    single = replaced(work, batch_size=np.ones(N))
    for phase in PHASES:
        one, many = count_phase(phase, shape, single), count_phase(phase, shape, work)
        scale = work.batch_size[:, None]
        for name in ("flops", "kv_bytes", "activation_bytes", "network_bytes"):
            np.testing.assert_allclose(
                getattr(many, name), scale * getattr(one, name), rtol=1e-9, err_msg=name
            )
        _at_most(many.weight_bytes, scale * one.weight_bytes, "weights per request")


@examples
@seeds
def test_passes_carry_all_tokens(random_cases: CaseMaker, seed: int) -> None:
    shape, work = random_cases(seed, N)
    prefill, decode = (count_phase(phase, shape, work) for phase in PHASES)
    rows = work.batch_size * work.prompt_tokens
    np.testing.assert_allclose(prefill.steps * prefill.rows_per_pass, rows, rtol=1e-12)
    steady = work.continuous > 0.0
    assert (prefill.steps[~steady] == 1.0).all()
    assert (prefill.steps >= 1.0).all()
    assert (prefill.rows_per_pass[steady] <= PREFILL_TOKEN_BUDGET * (1 + 1e-12)).all()
    np.testing.assert_array_equal(decode.steps, work.output_tokens - 1.0)
    np.testing.assert_array_equal(decode.rows_per_pass, work.batch_size)


def _one_row(table: KernelTable, row: int) -> dict[str, SlotArray]:
    return {name: getattr(table, name)[row] for name in TOTALS}


@pytest.mark.parametrize("phase", PHASES)
def test_a_request_counts_the_same_alone_and_among_others(
    random_cases: CaseMaker, replaced: Changer, phase: Phase
) -> None:
    shape, work = random_cases(3, N)
    together = count_phase(phase, shape, work)
    for row in range(0, N, 25):
        index = np.array([row])
        alone = count_phase(
            phase,
            shape.take(index),
            replaced(work, **{f: getattr(work, f)[index] for f in WorkloadColumns.__dataclass_fields__}),
        )
        for name, values in _one_row(together, row).items():
            np.testing.assert_array_equal(values, getattr(alone, name)[0])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_experts_hit_lie_between_one_token_s_and_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    experts = rng.integers(1, 512, N).astype(np.float64)
    per_token = np.ceil(experts * rng.random(N))
    rows = np.exp(rng.uniform(0.0, 12.0, N))
    hit = expected_experts_hit(experts, per_token, rows)
    assert (hit >= per_token * (1 - 1e-12)).all()
    assert (hit <= np.minimum(experts, per_token * rows) * (1 + 1e-12)).all()
    np.testing.assert_allclose(expected_experts_hit(experts, per_token, np.ones(N)), per_token, rtol=1e-12)
    assert (expected_experts_hit(experts, per_token, rows + 1.0) >= hit * (1 - 1e-12)).all()
    assert not expected_experts_hit(np.zeros(N), np.zeros(N), rows).any()


@pytest.mark.parametrize(("experts", "per_token", "rows"), [(8, 2, 1), (8, 2, 3), (64, 6, 16), (128, 8, 32)])
def test_experts_hit_agree_with_drawing_them(experts: int, per_token: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    trials = 3000
    ranks = rng.random((trials, rows, experts)).argpartition(per_token - 1, axis=2)[:, :, :per_token]
    used = np.zeros((trials, experts), dtype=bool)
    np.put_along_axis(used, ranks.reshape(trials, -1), True, axis=1)
    drawn = used.sum(axis=1)
    expected = expected_experts_hit(*(np.array([float(x)]) for x in (experts, per_token, rows)))[0]
    assert abs(drawn.mean() - expected) <= 4.0 * drawn.std() / np.sqrt(trials) + 1e-9
