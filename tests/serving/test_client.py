"""A server that is slow, huge, hostile or away costs one line and bounded time."""

from __future__ import annotations

import socket

import pytest

from llmco2.errors import InputError
from llmco2.serving.client import Limits, PageClient
from llmco2.serving.errors import (
    DAMAGED,
    FOREIGN,
    REDIRECTED,
    REFUSED,
    SLOW,
    TOO_LARGE,
    UNREACHABLE,
    ServerError,
)
from llmco2.serving.exposition import MAX_PAGE_BYTES
from llmco2.serving.sample import ENERGY, GENERATION_TOKENS
from llmco2.serving.server import WatchedServer
from tests.serving.conftest import Answer, EngineStandIn, page

SHORT = Limits(connect_s=1.0, page_s=0.3)


def code_of(url: str, path: str = "/metrics") -> str:
    with PageClient(url, limits=SHORT) as client, pytest.raises(ServerError) as caught:
        client.text(path)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_a_silent_server_is_slow(engine: EngineStandIn) -> None:
    engine.serve("/metrics", b"a 1\n", delay_s=0.6)
    assert code_of(engine.url) == SLOW


def test_a_server_that_drips_is_slow(engine: EngineStandIn) -> None:
    engine.serve("/metrics", b"a 1\n" * 100, chunk=4, delay_s=0.05)
    assert code_of(engine.url) == SLOW


def test_a_page_without_end_is_too_large(engine: EngineStandIn) -> None:
    engine.serve("/metrics", b"x" * (MAX_PAGE_BYTES + (1 << 18)))
    with PageClient(engine.url, limits=Limits(page_s=20.0)) as client, pytest.raises(ServerError) as caught:
        client.text("/metrics")
    assert caught.value.code == TOO_LARGE


def test_a_page_that_breaks_off_is_not_read(engine: EngineStandIn) -> None:
    engine.serve("/metrics", page("vllm_0_32"), stop_after=700)
    assert code_of(engine.url) == UNREACHABLE


def test_an_error_page_is_refused_with_its_status(engine: EngineStandIn) -> None:
    engine.serve("/metrics", b"boom", status=500)
    with PageClient(engine.url) as client, pytest.raises(ServerError, match="HTTP 500") as caught:
        client.text("/metrics")
    assert caught.value.code == REFUSED


def test_no_server_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert code_of(f"http://127.0.0.1:{port}") == UNREACHABLE


def test_a_compressed_page_is_not_unpacked(engine: EngineStandIn) -> None:
    engine.serve("/metrics", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert code_of(engine.url) == DAMAGED


def test_a_redirect_on_the_host_is_followed(engine: EngineStandIn) -> None:
    engine.serve("/metrics", b"", status=307, headers={"Location": "/metrics/"})
    engine.serve("/metrics/", b"a 1\n")
    with PageClient(engine.url) as client:
        assert client.text("/metrics") == b"a 1\n"


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:1/metrics", "https://127.0.0.1/metrics", "file:///etc/passwd", "http://[bad"]
)
def test_a_redirect_elsewhere_is_not_followed(engine: EngineStandIn, target: str) -> None:
    engine.serve("/metrics", b"", status=302, headers={"Location": target})
    assert code_of(engine.url) in (REDIRECTED, UNREACHABLE)
    assert engine.asked == ["/metrics"]


def test_a_redirect_in_a_circle_ends(engine: EngineStandIn) -> None:
    engine.serve("/metrics", b"", status=307, headers={"Location": "/metrics"})
    assert code_of(engine.url) == REDIRECTED
    assert len(engine.asked) == 4


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host:port",
        "http://a b",
        "http://u:p@host",
        "http://h\n",
    ],
)
def test_what_is_no_url_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(InputError) as caught:
        PageClient(url)
    assert "\n" not in str(caught.value)


def test_tensorrt_llm_is_never_drained(engine: EngineStandIn) -> None:
    engine.serve("/prometheus/metrics", page("trtllm_1"))
    engine.serve("/metrics", b"[]")
    engine.serve("/energy_metrics", b'{"total_energy_j": 1250.5, "query_time": 3.0}')
    server = WatchedServer(engine.url)
    sample = server.look()
    server.look()
    server.close()
    assert sample.counters[ENERGY].total == 1250.5
    assert "/metrics" not in engine.asked
    assert server.identity is not None
    assert (server.identity.tensor_parallel, server.identity.quantization) == (4, "FP8")


@pytest.mark.parametrize("models", [b'{"data": [{"id": "m", "owned_by": "tensorrt_llm"}]}', None])
def test_tensorrt_llm_without_a_page_is_not_drained_either(
    engine: EngineStandIn, models: bytes | None
) -> None:
    if models is not None:
        engine.serve("/v1/models", models)
    engine.serve("/energy_metrics", b'{"total_energy_j": 1.0, "query_time": 1.0}')
    engine.serve("/metrics", b"[]")
    server = WatchedServer(engine.url)
    with pytest.raises(ServerError, match="TensorRT-LLM") as caught:
        server.look()
    server.close()
    assert caught.value.code == FOREIGN
    assert "/metrics" not in engine.asked


def test_energy_metering_that_is_off_leaves_no_energy(engine: EngineStandIn) -> None:
    engine.serve("/prometheus/metrics", page("trtllm_1"))
    engine.serve("/energy_metrics", b'{"error": "Energy monitoring is not available"}', status=503)
    server = WatchedServer(engine.url)
    assert ENERGY not in server.look().counters
    server.close()


def test_an_engine_tells_what_it_serves(engine: EngineStandIn) -> None:
    engine.serve("/metrics", page("vllm_0_32"))
    engine.serve(
        "/v1/models", b'{"data": [{"id": "made/up-8b", "root": "/models/up", "max_model_len": 8192}]}'
    )
    engine.serve("/version", b'{"version": "0.32.0"}')
    server = WatchedServer(engine.url)
    server.look()
    identity = server.identity
    assert identity is not None
    assert (identity.model, identity.version, identity.max_context_tokens) == ("/models/up", "0.32.0", 8192)
    assert (identity.dtype, identity.tensor_parallel) == (
        None,
        None,
    )  # it tells those in development mode only
    engine.serve(
        "/server_info?config_format=json",
        b'{"vllm_config": {"model_config": {"model": "made/up-8b", "dtype": "torch.bfloat16", "quantization": null},'
        b' "parallel_config": {"tensor_parallel_size": 2}, "cache_config": {"cache_dtype": "auto"}}}',
    )
    other = WatchedServer(engine.url)
    other.look()
    assert other.identity is not None
    assert (other.identity.dtype, other.identity.tensor_parallel) == ("bfloat16", 2)
    server.close()
    other.close()


@pytest.mark.parametrize(
    "body", [b"[" * 5000, b"null", b"[]", b'{"data": 3}', b'{"data": ["x"]}', b'{"data":[{"id":5}]}']
)
def test_facts_of_any_shape_leave_the_engine_readable(engine: EngineStandIn, body: bytes) -> None:
    engine.serve("/metrics", page("vllm_0_32"))
    for path in ("/v1/models", "/version", "/server_info?config_format=json"):
        engine.serve(path, body)
    server = WatchedServer(engine.url)
    assert server.look().counters[GENERATION_TOKENS].total == 1000
    assert server.identity is not None
    assert server.identity.served_model == "made/up-8b"
    server.close()


def test_a_failed_look_leaves_the_looks_before(engine: EngineStandIn) -> None:
    engine.serve("/metrics", page("vllm_0_32"))
    server = WatchedServer(engine.url)
    server.look(lambda: 5.0)
    engine.answers["/metrics"] = Answer(status=500)
    with pytest.raises(ServerError):
        server.look(lambda: 6.0)
    assert server.trouble is not None
    assert server.watch.newest is not None
    assert server.watch.newest.energy_j == 5.0
    engine.serve("/metrics", page("vllm_0_32"))
    server.look(lambda: 7.0)
    assert server.trouble is None
    server.close()


def test_several_models_need_a_name(engine: EngineStandIn) -> None:
    engine.serve(
        "/metrics",
        b'vllm:generation_tokens_total{model_name="a"} 1\nvllm:generation_tokens_total{model_name="b"} 2\n',
    )
    server = WatchedServer(engine.url, served_model="b")
    assert server.look().counters[GENERATION_TOKENS].total == 2
    server.close()


def test_a_url_with_a_path_is_read_as_it_is(engine: EngineStandIn) -> None:
    engine.serve("/metrics?model=a", page("llamacpp"))
    server = WatchedServer(f"{engine.url}/metrics?model=a")
    assert server.look().engine == "llamacpp"
    server.close()
