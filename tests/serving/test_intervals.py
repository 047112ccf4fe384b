"""Rates and energies are differences of counters over the same seconds, never across a restart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.serving import sample as q
from llmco2.serving.interval import Interval, Look, has_restarted, interval, is_fine_enough, resolution
from llmco2.serving.reading import read_sample
from llmco2.serving.sample import ServerSample
from llmco2.serving.watch import ServerWatch
from tests.serving.conftest import page


def vllm(
    t_s: float, *, made: float, prompt: float = 0.0, running: float = 4, done: float = 0, itl_s: float = 0
) -> ServerSample:
    text = (
        f"vllm:prompt_tokens_total {prompt}\nvllm:generation_tokens_total {made}\nvllm:request_success_total {done}\n"
        f"vllm:num_requests_running {running}\nvllm:inter_token_latency_seconds_sum 0\n"
        f"vllm:inter_token_latency_seconds_count {made}\n"
    )
    return read_sample(text.encode(), t_s)


def ranks(t_s: float, *made: float) -> ServerSample:
    text = "".join(f'vllm:generation_tokens_total{{engine="{n}"}} {value}\n' for n, value in enumerate(made))
    return read_sample(text.encode(), t_s)


def llamacpp(t_s: float, made: float) -> ServerSample:
    return read_sample(
        f"llamacpp:tokens_predicted_total {made:g}\nllamacpp:prompt_tokens_total 5\n".encode(), t_s
    )


def test_counts_and_joules_are_of_the_same_seconds() -> None:
    looks = [
        Look(sample=vllm(10.0, made=1000, prompt=2000, running=2, done=7), energy_j=500.0),
        Look(sample=vllm(12.0, made=1100, prompt=2100, running=0, done=8), energy_j=900.0),
        Look(sample=vllm(15.0, made=1500, prompt=2400, running=6, done=9), energy_j=2000.0),
    ]
    found = interval(looks)
    assert (found.duration_s, found.energy_j) == (5.0, 1500.0)
    assert found.counts == {q.PROMPT_TOKENS: 400, q.GENERATION_TOKENS: 500, q.FINISHED_REQUESTS: 2}
    assert found.rate_per_s(q.GENERATION_TOKENS) == 100.0
    assert found.running == 4.0  # the look that saw nothing running is no batch
    assert found.waiting is None  # the page has no such series
    assert found.rate_per_s(q.CACHED_PROMPT_TOKENS) is None


@pytest.mark.parametrize(
    ("before", "after", "restarted"),
    [
        (vllm(0, made=1000), vllm(1, made=1001), False),
        (vllm(0, made=1000), vllm(1, made=1000), False),
        (vllm(0, made=1000), vllm(1, made=12), True),
        (ranks(0, 1000, 50), ranks(1, 9000, 3), True),  # the sum grew, one rank began anew
        (ranks(0, 1000, 50), ranks(1, 1000), True),
        (ranks(0, 1000), ranks(1, 1000, 50), True),
        (vllm(0, made=5), llamacpp(1, 50), True),
    ],
)
def test_a_restart_is_seen_in_any_rank_without_start_times(
    before: ServerSample, after: ServerSample, restarted: bool
) -> None:
    assert has_restarted(before, after) is restarted


def test_a_restart_begins_new_windows() -> None:
    watch = ServerWatch()
    for t_s, made in ((0, 1000), (1, 1100), (2, 12), (3, 112)):
        watch.add(Look(sample=vllm(t_s, made=made), energy_j=100.0 * t_s))
    assert (watch.restarts, watch.last_restart_s) == (1, 2)
    for found in (watch.over(60.0), watch.take(0.5), watch.lengths()):
        assert found is not None
        assert (found.start_s, found.end_s) == (2, 3)
        assert found.counts[q.GENERATION_TOKENS] == 100


def test_joules_that_fell_or_lack_are_no_energy() -> None:
    for first, last in ((None, 5.0), (5.0, None), (5.0, 4.0)):
        looks = [Look(sample=vllm(0, made=1), energy_j=first), Look(sample=vllm(1, made=2), energy_j=last)]
        assert interval(looks).energy_j is None


def test_a_series_that_came_later_has_no_count_yet() -> None:
    early = read_sample(b"vllm:generation_tokens_total 5\n", 0.0)
    found = interval([Look(sample=early), Look(sample=vllm(1, made=9, prompt=700))])
    assert found.counts == {q.GENERATION_TOKENS: 4}


@pytest.mark.parametrize(
    ("value", "step"), [(0, 1), (999_999, 1), (1_234_570, 10), (9_999_990, 10), (12_345_600, 100)]
)
def test_six_digits_move_in_steps(value: float, step: float) -> None:
    assert resolution(value, 6) == step


def test_llama_cpp_needs_long_windows_above_a_million_tokens() -> None:
    assert is_fine_enough(llamacpp(0, 1000), llamacpp(1, 1035))
    assert not is_fine_enough(llamacpp(0, 12_345_600), llamacpp(1, 12_345_700))  # 35 tokens or 165
    assert is_fine_enough(llamacpp(0, 12_345_600), llamacpp(1, 12_345_600))  # nothing, or too little to see
    watch = ServerWatch()
    for second in range(400):
        watch.add(Look(sample=llamacpp(second, 12_345_600 + 35 * second), energy_j=10.0 * second))
        if second == 5:
            assert watch.take(1.0) is None
    found = watch.take(1.0)
    assert found is not None
    assert found.rate_per_s(q.GENERATION_TOKENS) == pytest.approx(35.0, rel=0.02)
    assert found.energy_j == pytest.approx(10.0 * found.duration_s)
    last = watch.over(10.0)
    assert last is not None
    assert last.duration_s > 100
    assert last.rate_per_s(q.GENERATION_TOKENS) == pytest.approx(35.0, rel=0.03)


def test_intervals_that_are_taken_neither_overlap_nor_leave_gaps() -> None:
    watch = ServerWatch()
    taken = []
    for second in range(50):
        watch.add(Look(sample=vllm(second, made=10 * second), energy_j=3.0 * second))
        found = watch.take(2.0)
        if found is not None:
            taken.append(found)
    assert [one.start_s for one in taken[1:]] == [one.end_s for one in taken[:-1]]
    assert sum(one.energy_j or 0.0 for one in taken) == pytest.approx(
        3.0 * (taken[-1].end_s - taken[0].start_s)
    )


def test_memory_is_bounded_by_the_window() -> None:
    watch = ServerWatch(window_s=30.0)
    for second in range(300):
        watch.add(Look(sample=vllm(second, made=second)))
    longest = watch.over(1e9)
    assert longest is not None
    assert longest.duration_s <= 31.0


def test_lengths_are_those_of_enough_finished_requests() -> None:
    watch = ServerWatch()
    for second in range(100):
        long = second < 50  # requests of 1000 tokens, then of 100
        made = 1000 * second if long else 50_000 + 100 * (second - 50)
        watch.add(Look(sample=vllm(second, made=made, done=second)))
    found = watch.lengths()
    assert found is not None
    assert found.counts[q.FINISHED_REQUESTS] == 20
    assert found.counts[q.GENERATION_TOKENS] == 2000


@settings(max_examples=60, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.booleans()), min_size=2, max_size=20)
)
def test_no_rate_is_ever_negative(moves: list[tuple[int, int, bool]]) -> None:
    watch, totals = ServerWatch(), [0, 0]
    for t_s, (one, other, restart) in enumerate(moves):
        totals = [0, 0] if restart else [totals[0] + one, totals[1] + other]
        watch.add(Look(sample=ranks(float(t_s), *totals)))
        for found in (watch.over(3.0), watch.take(1.0)):
            assert found is None or all(count >= 0 for count in found.counts.values())


def test_cached_tokens_are_apart_by_every_way_an_engine_counts_them() -> None:
    def after(name: str) -> Interval:
        text = page(name).decode()
        zero = "\n".join(
            line.rpartition(" ")[0] + " 0" if not line.startswith("#") else line for line in text.splitlines()
        )
        return interval(
            [Look(sample=read_sample(zero.encode() + b"\n", 0)), Look(sample=read_sample(text.encode(), 1))]
        )

    by_source, cached, computed = after("vllm_0_32"), after("sglang_0_5"), after("llamacpp")
    assert (by_source.prefilled_tokens, by_source.prompt_tokens) == (1400, 2000)
    assert by_source.cache_hit_share == pytest.approx(0.3)
    assert by_source.acceptance_share == pytest.approx(2 / 3)
    assert (cached.prefilled_tokens, cached.cache_hit_share) == (1500, 0.25)
    assert computed.prompt_tokens == 1_234_570 + 201_344
    assert after("vllm_0_6").cache_hit_share is None  # not published, so not zero
    assert after("vllm_0_6").acceptance_share is None
