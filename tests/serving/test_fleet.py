"""A fleet as a Prometheus knows it: every GPU once, units right, and nothing missing is zero."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from llmco2.carbon.factors import CarbonFactors, resolve_factors
from llmco2.catalog.gpus import resolve_gpu
from llmco2.serving import export_names as names
from llmco2.serving.comparing import operational_gco2e
from llmco2.serving.errors import DAMAGED, REFUSED, ServerError
from llmco2.serving.fleet import DCGM_ENERGY, DCGM_POWER, Fleet, FleetHost, read_fleet
from llmco2.serving.prometheus_api import PrometheusClient, Value, values_of
from tests.serving.conftest import Answer, EngineStandIn

H100 = "NVIDIA H100 80GB HBM3"


def factors(gpu: str) -> CarbonFactors:
    return resolve_factors(resolve_gpu(gpu).gpu_id, zone="FRA")


def value(number: float, name: str = "", **labels: str) -> Value:
    return Value(labels={"__name__": name, **labels} if name else labels, value=number)


def dcgm(power_w: float, host: str, gpu: int, **more: str) -> Value:
    return value(
        power_w, DCGM_POWER, Hostname=host, gpu=str(gpu), UUID=f"GPU-{host}-{gpu}", modelName=H100,
        instance=f"{host}.lan:9400", **more,
    )  # fmt: skip


def fleet_of(answers: Mapping[str, list[Value]]) -> Fleet:
    """Answer each query by the first key that it contains."""

    def query(expression: str) -> list[Value]:
        return next((found for key, found in answers.items() if key in expression), [])

    return read_fleet(query, factors)


def host_of(fleet: Fleet, name: str) -> FleetHost:
    return next(host for host in fleet.hosts if host.name == name)


def test_gpus_of_hosts_with_their_joules_in_joules() -> None:
    fleet = fleet_of(
        {
            f"increase({DCGM_ENERGY}": [
                value(150_000_000.0, Hostname="a", gpu="0", UUID="GPU-a-0", instance="a.lan:9400"),
                value(30_000_000.0, Hostname="a", gpu="1", UUID="GPU-a-1", instance="a.lan:9400"),
            ],
            DCGM_POWER: [dcgm(500.0, "a", 0), dcgm(100.0, "a", 1), dcgm(70.0, "b", 0)],
        }
    )
    assert [host.name for host in fleet.hosts] == ["a", "b"]
    a, b = fleet.hosts
    assert (a.power_w, a.energy_j) == (600.0, 180_000.0)
    assert (b.power_w, b.energy_j) == (70.0, None)
    assert (fleet.n_gpus, fleet.power_w) == (3, 670.0)
    expected = sum(operational_gco2e(w * 3600, 3600.0, 1, factors(H100)) for w in (500.0, 100.0))
    assert a.gco2e_per_hour == pytest.approx(expected)


def test_a_gpu_counts_once_whoever_publishes_it() -> None:
    ours = value(505.0, names.GPU_POWER.name, gpu="0", uuid="GPU-a-0", gpu_name=H100, instance="a.lan:9877")
    slices = [dcgm(500.0, "a", 0, GPU_I_ID=slot, pod=f"pod-{slot}") for slot in ("1", "2", "3")]
    smi = value(
        501.0, "all_smi_gpu_power_consumption_watts", gpu_index="0", gpu_name=H100, instance="a.lan:9090"
    )
    fleet = fleet_of({DCGM_POWER: [smi, *slices, ours]})
    (host,) = fleet.hosts
    assert host.name == "a"  # as dcgm-exporter at the same address names it
    assert host.power_w == 505.0
    assert next(iter(host.gpus.values())).source == names.GPU_POWER.name
    only_slices = fleet_of({DCGM_POWER: slices})
    assert only_slices.power_w == 500.0


def test_engines_join_their_hosts_and_idle_is_no_cost_per_token() -> None:
    fleet = fleet_of(
        {
            f"increase({DCGM_ENERGY}": [
                value(300_000_000.0, Hostname="a", gpu="0", UUID="GPU-a-0", instance="a.lan:9400"),
                value(30_000_000.0, Hostname="b", gpu="0", UUID="GPU-b-0", instance="b.lan:9400"),
            ],
            DCGM_POWER: [dcgm(1000.0, "a", 0), dcgm(100.0, "b", 0)],
            "rate({": [
                value(80.0, instance="a.lan:8000", model_name="m", engine="0"),
                value(20.0, instance="a.lan:8000", model_name="m", engine="1"),
                value(0.0, instance="b.lan:8000", model="n"),
            ],
            "num_running_reqs": [
                value(7.0, "sglang:num_running_reqs", instance="a.lan:8000", model_name="m")
            ],
        }
    )
    a, b = host_of(fleet, "a"), host_of(fleet, "b")
    assert a.output_tokens_per_s == 100.0
    assert a.joules_per_output_token == pytest.approx(300_000.0 / (100.0 * 300))
    engine = a.engines["a.lan:8000", "m"]
    assert (engine.engine, engine.running) == ("SGLang", 7.0)
    assert b.output_tokens_per_s == 0.0
    assert b.joules_per_output_token is None
    assert b.engines["b.lan:8000", "n"].engine is None


def test_predictions_and_targets_that_are_down() -> None:
    fleet = fleet_of(
        {
            names.COMPARED_PREDICTED.name: [value(550.0, instance="a.lan:9877")],
            names.COMPARED_MEASURED.name: [value(500.0, instance="a.lan:9877")],
            "up == 0": [value(0.0, "up", instance="c.lan:9400", job="dcgm")],
            DCGM_POWER: [dcgm(500.0, "a", 0)],
        }
    )
    assert host_of(fleet, "a").error_percent == pytest.approx(10.0)
    down = host_of(fleet, "c.lan")
    assert (down.down, down.power_w, down.gco2e_per_hour, down.error_percent) == (
        ["c.lan:9400"],
        None,
        None,
        None,
    )
    assert fleet.power_w == 500.0


def test_a_query_that_fails_costs_its_own_figures_alone() -> None:
    def query(expression: str) -> list[Value]:
        if "rate(" in expression:
            raise ServerError(REFUSED, "too many samples")
        return [dcgm(500.0, "a", 0)] if DCGM_POWER in expression else []

    fleet = read_fleet(query, factors)
    assert fleet.power_w == 500.0
    assert fleet.output_tokens_per_s is None
    assert set(fleet.troubles) == {"too many samples"}


def test_an_unknown_gpu_has_watts_and_no_grams() -> None:
    def none(gpu: str) -> None:
        return None

    fleet = read_fleet(lambda asked: [dcgm(500.0, "a", 0)] if DCGM_POWER in asked else [], none)
    assert (fleet.power_w, fleet.gco2e_per_hour) == (500.0, None)


def vector(*series: tuple[dict[str, str], str]) -> dict[str, Any]:
    result = [{"metric": metric, "value": [1795855367.5, text]} for metric, text in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_nan_is_no_value() -> None:
    found = values_of(vector(({"a": "1"}, "NaN"), ({"a": "2"}, "12.5"), ({"a": "3"}, "+Inf")))
    assert found == [Value(labels={"a": "2"}, value=12.5)]
    assert values_of(vector()) == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"status": "error", "errorType": "bad_data", "error": 'parse "error"\n'}, REFUSED),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, DAMAGED),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}, DAMAGED),
        ({"status": "success", "data": {"resultType": "vector", "result": ["x"]}}, DAMAGED),
        ({"status": "success"}, DAMAGED),
        ([], DAMAGED),
        (None, DAMAGED),
    ],
)
def test_what_is_no_vector_is_one_line(answer: Any, code: str) -> None:
    with pytest.raises(ServerError) as caught:
        values_of(answer)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def api(
    engine: EngineStandIn, answers: Mapping[str, dict[str, Any]], status: int = 200, prefix: str = ""
) -> None:
    """Let the stand-in answer queries by the first key that they contain."""

    class Paths(dict[str, Answer | Callable[[], Answer]]):
        def get(self, path: str, default: Any = None) -> Any:  # type: ignore[override]
            parts = urlsplit(path)
            if parts.path != f"{prefix}/api/v1/query":
                return default
            asked = parse_qs(parts.query)["query"][0]
            found = next((answer for key, answer in answers.items() if key in asked), vector())
            return Answer(
                body=json.dumps(found).encode(), status=status, headers={"Content-Type": "application/json"}
            )

    engine.answers = Paths()


def test_a_query_is_asked_over_http_also_behind_a_prefix(engine: EngineStandIn) -> None:
    api(engine, {'{a="x y"}': vector(({"a": "x y"}, "3"))}, prefix="/prom")
    client = PrometheusClient(f"{engine.url}/prom/")
    assert client.query('m{a="x y"} == 3') == [Value(labels={"a": "x y"}, value=3.0)]
    client.close()


def test_prometheus_own_errors_are_told(engine: EngineStandIn) -> None:
    api(
        engine,
        {"": {"status": "error", "errorType": "bad_data", "error": "unclosed parenthesis"}},
        status=400,
    )
    client = PrometheusClient(engine.url)
    with pytest.raises(ServerError, match="bad_data: unclosed parenthesis"):
        client.query("((")
    client.close()


def test_another_web_server_is_no_prometheus(engine: EngineStandIn) -> None:
    engine.answers["/api/v1/query?query=up"] = Answer(body=b"<html>")
    client = PrometheusClient(engine.url)
    with pytest.raises(ServerError, match="is no JSON"):
        client.query("up")
    client.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.promtool
def test_a_real_prometheus_scrapes_simulated_hosts(engine: EngineStandIn, tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    assert program, "install Debian's prometheus"
    start_s = time.monotonic()

    def exporter() -> Answer:
        label = f'Hostname="gpu-a",UUID="GPU-1",gpu="0",modelName="{H100}"'
        joules = 400.0 * (time.monotonic() - start_s)
        lines = (
            f"# TYPE {DCGM_POWER} gauge", f"{DCGM_POWER}{{{label}}} 400",
            f"# TYPE {DCGM_ENERGY} counter", f"{DCGM_ENERGY}{{{label}}} {1e9 + 1e3 * joules}",
        )  # fmt: skip
        return Answer(body=("\n".join(lines) + "\n").encode(), headers={"Content-Type": "text/plain"})

    def served() -> Answer:
        made = 100 * (time.monotonic() - start_s)
        lines = (
            "# TYPE vllm:generation_tokens_total counter",
            f'vllm:generation_tokens_total{{engine="0",model_name="m"}} {made}',
            "# TYPE vllm:num_requests_running gauge",
            'vllm:num_requests_running{engine="0",model_name="m"} 3',
        )
        return Answer(body=("\n".join(lines) + "\n").encode(), headers={"Content-Type": "text/plain"})

    engine.answers["/dcgm"], engine.answers["/metrics"] = exporter, served
    target = engine.url.removeprefix("http://")
    jobs = [
        {"job_name": name, "metrics_path": path, "static_configs": [{"targets": targets}]}
        for name, path, targets in (
            ("dcgm", "/dcgm", [target]),
            ("vllm", "/metrics", [target]),
            ("gone", "/metrics", [f"127.0.0.1:{free_port()}"]),
        )
    ]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {"global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"}, "scrape_configs": jobs}
        )
    )
    port = free_port()
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
               f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
    with ExitStack() as stack:
        running = stack.enter_context(subprocess.Popen(command))
        stack.callback(running.terminate)
        client = PrometheusClient(f"http://127.0.0.1:{port}")
        stack.callback(client.close)
        fleet = _when_known(client)
    host = host_of(fleet, "gpu-a")
    assert fleet.troubles == ()
    assert host.power_w == 400.0
    assert host.joules_per_output_token == pytest.approx(4.0, rel=0.15)  # 400 W over 100 tokens a second
    assert host.engines[target, "m"].running == 3.0
    assert len(host.down) == 1  # the target at the same address that does not answer


def _when_known(client: PrometheusClient) -> Fleet:
    for _ in range(60):
        try:
            fleet = read_fleet(client.query, factors)
        except ServerError:
            fleet = Fleet(hosts=())
        enough = (
            fleet.output_tokens_per_s or 0.0
        ) > 4.0  # 12 s of 100 tokens a second, in a window of 5 minutes
        if enough and fleet.hosts[0].energy_j and fleet.hosts[0].down:
            return fleet
        time.sleep(0.5)
    raise AssertionError(f"Prometheus never knew the hosts: {fleet}")
