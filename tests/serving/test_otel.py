"""OpenTelemetry sees the figures that Prometheus sees, under the names of its conventions where there are any."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedNvml
from llmco2.serving import export_names as names
from llmco2.serving.otel import INSTRUMENTS, attributes_of, observe, start_export
from tests.serving.conftest import EngineStandIn
from tests.serving.test_exporter import Bench
from tests.serving.test_monitor_servers import MODEL, moving


@pytest.fixture
def bench(engine: EngineStandIn) -> Iterator[Bench]:
    with (
        SimulatedNvml(2, virtual_time=True, use_compiler=False) as rig,
        ZeusMeter(clock=rig.clock, windows=False) as meter,
    ):
        rig.set_power(0, 500.0)
        made = Bench(engine, rig, meter)
        made.pass_time(moving(0), moving(5), moving(10))
        yield made
        made.session.close()


def points(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], float]]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: [(dict(point.attributes), point.value) for point in metric.data.data_points]  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_every_instrument_reads_its_metric(bench: Bench) -> None:
    reader = InMemoryMetricReader()
    provider = observe(bench.exporter, reader, version="1.2.3")
    found = points(reader)
    provider.shutdown()
    for instrument in INSTRUMENTS:
        if instrument.metric is names.SERVER_RESTARTS:
            continue
        values = [
            v for attributes, v in found[instrument.name] if instrument.fixed.items() <= attributes.items()
        ]
        assert sum(values) == pytest.approx(bench.value(instrument.metric))
    energy = {attributes["hw.id"]: value for attributes, value in found["hw.energy"]}
    assert len(energy) == 2
    tokens = {
        attributes["gen_ai.token.type"]: attributes for attributes, _ in found["llmco2.server.token.usage"]
    }
    assert tokens["output"]["gen_ai.request.model"] == MODEL
    assert tokens["output"]["server.address"] == "127.0.0.1"
    phases = {
        a.get("llmco2.phase") for a, _ in found["llmco2.server.energy"] if a["llmco2.source"] == "predicted"
    }
    assert phases == {"prefill", "decode", "idle"}


def test_a_url_becomes_an_address_and_a_port() -> None:
    for url, port in (("http://h:8000", 8000), ("https://h/x", 443), ("http://h", 80)):
        found = attributes_of({"server": url, "unknown": "x"}, {"a": "b"})
        assert found == {"server.address": "h", "server.port": port, "a": "b"}


def test_a_collector_receives_them_over_http(bench: Bench) -> None:
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            unpacked = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            received.append((self.path, unpacked))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    collector = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=collector.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    end = start_export(
        bench.exporter, f"http://127.0.0.1:{collector.server_address[1]}", every_s=60.0, version="1.2.3"
    )
    end()  # sends what there is
    collector.shutdown()
    collector.server_close()
    thread.join(timeout=5)
    path, body = received[-1]
    request = ExportMetricsServiceRequest.FromString(body)
    sent = {
        metric.name
        for resource in request.resource_metrics
        for s in resource.scope_metrics
        for metric in s.metrics
    }
    assert path == "/v1/metrics"
    assert {"hw.energy", "hw.power", "llmco2.server.energy"} <= sent
