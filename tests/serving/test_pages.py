"""Pages of every engine and version are read under the names they use, and nothing missing becomes zero."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.serving import sample as q
from llmco2.serving.errors import AMBIGUOUS, DAMAGED, FOREIGN, TOO_LARGE, ServerError
from llmco2.serving.exposition import MAX_PAGE_BYTES, parse_page
from llmco2.serving.reading import read_sample
from llmco2.serving.sample import Quantile, ServerSample
from tests.serving.conftest import PAGES, page

# What each page says: prompt, computed, cached, generated tokens, requests finished, running, waiting, KV share
SAID = {
    "vllm_0_6": ("vllm", 2000, None, None, 1000, 10, 4, 1, 0.25),
    "vllm_0_10": ("vllm", 2000, None, 500, 1000, 10, 4, 1, 0.25),
    "vllm_0_32": ("vllm", 2000, 1400, 600, 1000, 10, 4, 1, 0.25),
    "vllm_dp2": ("vllm", 5000, None, None, 1500, 20, 6, 0, 0.9),
    "vllm_ray": ("vllm", None, None, None, 2000, None, 5, None, None),
    "sglang_0_5": ("sglang", 2000, None, 500, 1000, 10, 4, 1, 0.25),
    "sglang_router": ("sglang", 2000, None, 500, 1000, 10, 4, 1, 0.25),
    "tgi_3": ("tgi", 2000, None, None, 1000, 10, 4, 1, None),
    "trtllm_1": ("trtllm", 2000, None, 500, 1000, 10, 4, 1, 0.25),
    "triton_24": ("triton", None, None, None, None, 10, 4, None, 0.25),
    "llamacpp": ("llamacpp", None, 1234570, 201344, 987654, None, 2, 0, None),
    "lmdeploy_0_18": ("lmdeploy", 2000, None, None, 1000, 10, 4, 1, 0.25),
    "dynamo_1": ("dynamo", 2000, None, None, 1000, 10, 4, 1, None),
}
COUNTERS = (
    q.PROMPT_TOKENS,
    q.COMPUTED_PROMPT_TOKENS,
    q.CACHED_PROMPT_TOKENS,
    q.GENERATION_TOKENS,
    q.FINISHED_REQUESTS,
)


def read(name: str) -> ServerSample:
    return read_sample(page(name), 0.0)


@pytest.mark.parametrize("name", SAID)
def test_every_engine_is_read_by_its_own_names(name: str) -> None:
    engine, *said = SAID[name]
    found = read(name)
    assert found.engine == engine
    counters = [found.counters[c].total if c in found.counters else None for c in COUNTERS]
    gauges = [found.gauges[g].total if g in found.gauges else None for g in (q.RUNNING, q.WAITING)]
    kv_use = found.gauges[q.KV_USE].highest if q.KV_USE in found.gauges else None
    assert [*counters, *gauges, kv_use] == said
    assert not set(found.missing) & set(found.found)


@pytest.mark.parametrize("name", SAID)
def test_what_a_page_lacks_is_named_as_missing(name: str) -> None:
    found = read(name)
    lines = page(name).decode().splitlines(keepends=True)
    series = {reading.series for reading in found.counters.values()}
    for gone in series:
        kept = "".join(line for line in lines if not line.startswith((gone + "{", gone + " ")))
        if not kept.strip("\n") or "_sum" in gone:
            continue
        less = read_sample(kept.encode(), 0.0)
        quantity = next(key for key, reading in found.counters.items() if reading.series == gone)
        assert quantity not in less.counters or less.counters[quantity].series != gone
        assert quantity in less.missing or quantity in less.counters


def test_the_newest_name_is_read_where_a_page_has_both() -> None:
    found = read("vllm_0_10").found
    assert found[q.KV_USE] == "vllm:kv_cache_usage_perc"
    assert found[q.ITL] == "vllm:inter_token_latency_seconds"
    assert found[q.CACHED_PROMPT_TOKENS] == "vllm:prefix_cache_hits_total"
    assert read("vllm_0_6").found[q.ITL] == "vllm:time_per_output_token_seconds"


def test_time_per_token_of_a_request_is_not_the_time_between_tokens() -> None:
    found = read("vllm_0_32")
    assert (found.histograms[q.ITL].count, found.histograms[q.TPOT].count) == (990, 10)
    assert q.ITL not in read("tgi_3").histograms


def test_ranks_are_summed_and_shares_are_not_averaged() -> None:
    found = read("vllm_dp2")
    assert found.n_ranks == 2
    assert found.counters[q.GENERATION_TOKENS].by_rank == {"0": 1000, "1": 500}
    assert found.gauges[q.KV_USE].highest == 0.9
    assert found.histograms[q.ITL].count == 1980
    assert found.histograms[q.ITL].total == pytest.approx(39.6)


def test_shards_of_one_rank_count_once() -> None:
    found = read("sglang_all_schedulers")
    assert found.gauges[q.RUNNING].by_rank == {"0": 4, "1": 2}


def test_a_histogram_whose_name_ends_in_total_is_no_counter() -> None:
    name = "vllm:generation_tokens_total"
    text = f"{name}_count 300\n{name}_sum 9\n{name} 7\n"
    assert (
        q.GENERATION_TOKENS not in read_sample(b"vllm:prompt_tokens_total 1\n" + text.encode(), 0.0).counters
    )


def test_gauges_that_stick_and_watermarks_are_not_read() -> None:
    every = {series for name in SAID for series in read(name).found.values()}
    stuck = ("sglang:gen_throughput", "sglang:cache_hit_rate", "llamacpp:n_tokens_max")
    assert not every & {*stuck, "llamacpp:predicted_tokens_seconds"}


def test_a_page_tells_dtype_and_parallelism_where_it_does() -> None:
    found = read("trtllm_1").config
    assert (found["tensor_parallel"], found["quantization"]) == ("4", "FP8")
    assert found["gpu"] == "NVIDIA H100 80GB HBM3"


def test_energy_that_an_engine_counts_is_summed_over_its_gpus() -> None:
    assert read("triton_24").counters[q.ENERGY].total == 3001.0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", FOREIGN),
        (b"\n\n", FOREIGN),
        (b"[]", DAMAGED),
        (b"404 page not found\n", DAMAGED),
        (b"<html><body>login</body></html>\n", DAMAGED),
        (b'vllm:num_requests_running{engine="0",model_na', DAMAGED),
        (b"vllm:generation_tokens_total 1054", DAMAGED),  # of 105472
        (b"vllm:generation_tokens_total 0x10\n", DAMAGED),
        (b"vllm:generation_tokens_total 1_000\n", DAMAGED),
        (b'vllm:generation_tokens_total{a="1",a="2"} 3\n', DAMAGED),
        (b"\xff\xfe\x00 1\n", DAMAGED),
        (b'vllm:x{a="' + b"\\" * 20_000 + b'"} 1\n', DAMAGED),
        (b"DCGM_FI_DEV_POWER_USAGE 1\n", FOREIGN),
        (b"vllm:a 1\n" * (MAX_PAGE_BYTES // 8), TOO_LARGE),
        (b'vllm:a{model_name="m1"} 1\nvllm:num_requests_running{model_name="m2"} 1\n', AMBIGUOUS),
    ],
)
def test_what_is_no_page_of_one_engine_is_refused_by_name(content: bytes, code: str) -> None:
    with pytest.raises(ServerError) as caught:
        read_sample(content, 0.0)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_page_with_too_many_series_is_refused() -> None:
    text = "".join(f'vllm:num_requests_running{{engine="{n}"}} 1\n' for n in range(20_001))
    with pytest.raises(ServerError, match="too many series"):
        parse_page(text.encode())


def test_labels_may_hold_anything() -> None:
    text = 'vllm:num_requests_running{engine="0",model_name="C:\\\\m\\\\a \\"q\\", {x}\\n"} 3 1795855367000\n'
    found = read_sample(text.encode(), 0.0)
    assert found.model == 'C:\\m\\a "q", {x}\n'
    assert found.gauges[q.RUNNING].total == 3


def test_a_series_that_stands_twice_counts_once_and_nan_is_missing() -> None:
    text = b"vllm:num_requests_running 3\nvllm:num_requests_running 4\nvllm:num_requests_waiting NaN\n"
    found = read_sample(text, 0.0)
    assert found.gauges[q.RUNNING].total == 4
    assert q.WAITING in found.missing
    assert found.notes == (
        "vllm:num_requests_running stands twice; its last value counts",
        "vllm:num_requests_waiting is NaN",
    )


@pytest.mark.parametrize("value", ["-1", "+Inf", "-Inf", "NaN"])
def test_a_count_that_cannot_be_one_is_missing(value: str) -> None:
    found = read_sample(f"vllm:generation_tokens_total {value}\nvllm:num_requests_running 1\n".encode(), 0.0)
    assert q.GENERATION_TOKENS in found.missing
    assert len(found.notes) == 1


def test_exemplars_and_foreign_lines_are_passed_over() -> None:
    text = (
        b"# UNIT vllm:generation_tokens tokens\n"
        b'vllm:generation_tokens_total{model_name="m"} 10.0 # {trace_id="abc"} 1.0 1795855367.0\n'
        b'other{broken="\n'
        b"# EOF\n"
    )
    assert read_sample(text, 0.0).counters[q.GENERATION_TOKENS].total == 10


def test_one_of_several_models_can_be_named() -> None:
    text = b'vllm:generation_tokens_total{model_name="a"} 1\nvllm:generation_tokens_total{model_name="b"} 2\n'
    assert read_sample(text, 0.0, model="b").counters[q.GENERATION_TOKENS].total == 2
    with pytest.raises(ServerError, match="does not serve this model"):
        read_sample(text, 0.0, model="c")


def test_buckets_that_contradict_each_other_give_no_quantile() -> None:
    lines = (
        b'vllm:time_to_first_token_seconds_bucket{le="0.1"} 5\nvllm:time_to_first_token_seconds_bucket{le="0.05"} 9\n'
        b"vllm:time_to_first_token_seconds_sum 1\nvllm:time_to_first_token_seconds_count 9\n"
    )
    found = read_sample(lines, 0.0)
    assert found.histograms[q.TTFT].mean == pytest.approx(1 / 9)
    assert found.histograms[q.TTFT].quantile(0.5) is None
    assert found.notes == ("the buckets of vllm:time_to_first_token_seconds do not add up",)


def test_a_quantile_above_the_last_bound_says_so() -> None:
    found = read("vllm_0_32").histograms[q.TTFT]  # 6 to 0.1 s, 9 to 0.5 s, 10 in all
    assert found.quantile(0.5) == Quantile(value=pytest.approx(0.1 * 5 / 6))
    assert found.quantile(0.9) == Quantile(value=pytest.approx(0.5))
    assert found.quantile(0.99) == Quantile(value=0.5, beyond=True)


@settings(max_examples=150, derandomize=True)
@given(st.sampled_from(sorted(PAGES.glob("*.txt"))), st.integers(0, 4000), st.binary(max_size=6))
def test_damage_anywhere_gives_a_sample_or_one_line(path: object, place: int, junk: bytes) -> None:
    content = path.read_bytes()  # type: ignore[attr-defined]
    place %= len(content)
    for damaged in (content[:place], content[:place] + junk + content[place + len(junk) :]):
        found = sample_or_line(damaged)
        if isinstance(found, str):
            assert "\n" not in found
        else:
            assert all(value >= 0 for r in found.counters.values() for value in r.by_rank.values())


def sample_or_line(content: bytes) -> ServerSample | str:
    try:
        return read_sample(content, 0.0)
    except ServerError as error:
        return str(error)


def test_prefixes_that_routers_and_frontends_put_before_names_are_known() -> None:
    for ours, theirs in (
        ("trtllm_", "trtllm:"),
        ("sglang:", "sglang_"),
        ("vllm:", "ray_vllm:"),
        ("vllm:", "vllm_"),
    ):
        name = {"trtllm_": "trtllm_1", "sglang:": "sglang_0_5", "vllm:": "vllm_0_32"}[ours]
        renamed = read_sample(page(name).replace(ours.encode(), theirs.encode()), 0.0)
        assert renamed.counters.keys() == read(name).counters.keys()
        assert renamed.found[q.GENERATION_TOKENS].startswith(theirs)


def test_names_that_other_tools_document_and_no_engine_has_are_not_read() -> None:
    text = b"sglang:num_output_tokens_total 5\nsglang:num_running_reqs 1\n"
    assert q.GENERATION_TOKENS in read_sample(text, 0.0).missing
    text = b"tgi_request_generated_tokens_total 5\ntgi_queue_size 7\n"
    found = read_sample(text, 0.0)
    assert {q.GENERATION_TOKENS, q.RUNNING} <= set(found.missing)
    assert found.gauges[q.WAITING].total == 7
