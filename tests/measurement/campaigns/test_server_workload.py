"""The server workload over real HTTP on loopback: exact counts, and every fault ends in bounded time."""

import time

import pytest

from llmco2.measurement.meters.clock import MonotonicClock
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.openai_stream import ServerLimits
from llmco2.measurement.workloads.server_workload import ServerWorkload
from llmco2.measurement.workloads.workload import WorkloadError

PROMPT, OUTPUT, BATCH = 24, 12, 4
LIMITS = ServerLimits(connect_s=1.0, silence_s=0.4, request_s=2.0)
BOUND_S = 3.0


@pytest.fixture
def workload_on():
    made = []

    def make(url, **changes):
        settings = {"batch_size": BATCH, "prompt_tokens": PROMPT, "output_tokens": OUTPUT} | changes
        configuration = RunConfiguration(
            model="m", workload="server", server_url=url, engine="vllm", **settings
        )
        made.append(ServerWorkload(configuration, clock=MonotonicClock(), limits=LIMITS))
        return made[-1]

    yield make
    for workload in made:
        workload.close()


def test_requests_run_at_the_set_concurrency_with_exact_token_counts(fake_server, workload_on):
    server = fake_server()
    workload = workload_on(server.url)
    workload.load()
    server.requests.clear()
    timings = workload.whole(2)
    assert len(timings) == 2 * BATCH
    assert server.most_open == BATCH
    assert {t.output_tokens for t in timings} == {OUTPUT}
    assert all(len(body["prompt"]) == PROMPT for body in server.requests)
    assert {(body["max_tokens"], body["ignore_eos"], body["min_tokens"]) for body in server.requests} == {
        (OUTPUT, True, OUTPUT)
    }
    assert workload.facts.engine_version == "1.2.3"
    assert workload.facts.flags == ()
    assert (workload.facts.prompt_tokens, workload.facts.output_tokens) == (PROMPT, OUTPUT)


def test_no_two_prompts_are_alike_so_no_prefix_cache_answers(fake_server, workload_on):
    server = fake_server()
    workload = workload_on(server.url)
    workload.load()
    workload.prefill(3)
    workload.whole(3)
    prompts = [tuple(body["prompt"]) for body in server.requests]
    assert len(prompts) >= 24
    assert len(set(prompts)) == len(prompts)


def test_prefill_asks_for_one_token(fake_server, workload_on):
    server = fake_server()
    workload = workload_on(server.url)
    workload.load()
    server.requests.clear()
    timings = workload.prefill(1)
    assert {body["max_tokens"] for body in server.requests} == {1}
    assert all(t.output_tokens == 1 and t.ttft_s <= t.latency_s for t in timings)


def test_first_token_splits_the_time(fake_server, workload_on):
    server = fake_server()
    workload = workload_on(server.url, batch_size=1, output_tokens=60)
    workload.load()
    (timing,) = workload.whole(1)
    # 60 tokens 2 ms apart: the first comes after one delay, the rest take at least 59 of them
    assert timing.latency_s - timing.ttft_s >= 59 * 0.002
    assert timing.ttft_s < timing.latency_s / 4
    assert workload.step_time_batch1_s() >= 0.002


def test_a_chat_server_that_refuses_extras_is_asked_in_its_own_way(fake_server, workload_on):
    server = fake_server(chat_only=True, refuse_extras=True, template_tokens=5)
    workload = workload_on(server.url)
    workload.load()
    server.requests.clear()
    workload.whole(1)
    assert all(set(body) & {"ignore_eos", "min_tokens"} == set() for body in server.requests)
    assert workload.facts.prompt_tokens == PROMPT  # the template's five tokens were taken into account
    assert workload.facts.flags == ()


def test_without_a_usage_record_chunks_are_counted_and_flagged(fake_server, workload_on):
    server = fake_server()
    workload = workload_on(server.url)
    workload.load()
    server.fault = "no_usage"
    timings = workload.whole(1)
    assert {t.output_tokens for t in timings} == {OUTPUT}
    assert workload.facts.flags == ("tokens_counted_by_chunks",)


def test_answers_that_end_early_are_flagged_with_their_real_length(fake_server, workload_on):
    server = fake_server()
    workload = workload_on(server.url)
    workload.load()
    server.fault = "early"
    workload.whole(1)
    assert workload.facts.output_tokens == 9
    assert workload.facts.flags == ("early_stop",)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("stop", "server_stopped"),
        ("stall", "server_stalled"),
        ("nonsense", "server_nonsense"),
        ("empty", "server_nonsense"),
        ("html", "server_nonsense"),
        ("long_line", "server_nonsense"),
        ("endless", "server_nonsense"),
        ("error_event", "server_error"),
        ("error_500", "server_error"),
        ("endless_error", "server_error"),
        ("endless_comments", "server_nonsense"),
        ("too_many", "server_nonsense"),
        ("gzip", "server_nonsense"),
        ("nested", "server_nonsense"),
        ("redirect", "server_redirects"),
    ],
)
def test_every_fault_ends_in_bounded_time_with_its_reason(fake_server, workload_on, fault, kind):
    server = fake_server()
    workload = workload_on(server.url)
    workload.load()
    server.fault = fault
    began_s = time.monotonic()
    with pytest.raises(WorkloadError) as caught:
        workload.whole(1)
    assert time.monotonic() - began_s < BOUND_S
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)
    server.fault = None
    assert len(workload.whole(1)) == BATCH  # the client is still usable


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("endless_page", "of more than 4,194,304 bytes"),
        ("bomb_page", "an answer packed as gzip, though asked for it plain"),
        ("redirect_page", "name that address: got HTTP 307 to http://127.0.0.1:1/v1/"),
        ("nested_page", "/v1/models is no JSON answer"),
    ],
)
def test_a_page_that_is_none_is_named_and_bounded(fake_server, workload_on, fault, says):
    server = fake_server()
    server.fault = fault
    began_s = time.monotonic()
    with pytest.raises(WorkloadError, match=says) as caught:
        workload_on(server.url).load()
    assert time.monotonic() - began_s < BOUND_S
    assert "\n" not in str(caught.value)


def test_more_tokens_than_were_asked_for_are_no_answer(fake_server, workload_on):
    server = fake_server()
    workload = workload_on(server.url)
    workload.load()
    server.fault = "too_many"
    with pytest.raises(WorkloadError, match="24 tokens counted, of 12 asked for at most"):
        workload.whole(1)


def test_a_server_that_trickles_for_ever_is_cut_at_the_request_limit(fake_server, workload_on, monkeypatch):
    server = fake_server()
    workload = workload_on(server.url, output_tokens=10_000)  # 20 s of tokens against a limit of 2 s
    workload.load()
    began_s = time.monotonic()
    with pytest.raises(WorkloadError, match="no end after 2 s"):
        workload.whole(1)
    assert time.monotonic() - began_s < BOUND_S


def test_a_dead_server_is_named(fake_server, workload_on):
    server = fake_server()
    url = server.url
    server.close()
    with pytest.raises(WorkloadError, match="no answer from") as caught:
        workload_on(url).load()
    assert caught.value.kind == "server_dead"


def test_a_server_that_dies_between_runs_is_named(fake_server, workload_on):
    server = fake_server()
    workload = workload_on(server.url)
    workload.load()
    server.close()
    with pytest.raises(WorkloadError) as caught:
        workload.whole(1)
    assert caught.value.kind == "server_dead"
    workload.close()


def test_decode_alone_is_refused(fake_server, workload_on):
    with pytest.raises(WorkloadError, match="cannot decode alone"):
        workload_on(fake_server().url).decode(1)
