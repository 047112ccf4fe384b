"""``llmco2 monitor --server``: the server's work, its own GPUs' joules, and both sides on the screen."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pytest

import llmco2
from llmco2.cli.main import main
from llmco2.errors import InputError
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedNvml
from llmco2.measurement.workloads.gpu_processes import gpus_of_server
from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2.serving.deployment import Given, is_here
from llmco2.serving.errors import ServerError
from llmco2.serving.opening import ServerOptions, own_gpus
from llmco2.serving.session import OwnGpus, ServerSession
from llmco2_tui.app import MonitorApp
from llmco2_tui.comparison import compare
from llmco2_tui.grid import GridAccount
from llmco2_tui.measured import WHOLE, MeasuredPhase, compacted, entry_data
from llmco2_tui.servers import entry_of
from llmco2_tui.sources import SIMULATED, MachineSources
from llmco2_tui.widgets.server_panel import ServerPanel, server_lines
from tests.serving.conftest import Answer, EngineStandIn, page
from tests.tui.conftest import TODAY, find_zone, fixed_factors

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def moving(seconds: float, *, since: float = 0.0, running: int = 8, model: str = MODEL) -> bytes:
    """A page of an engine that makes 400 tokens a second for 4 requests of 200 and 100 tokens."""
    label = f'{{engine="0",model_name="{model}"}}'
    made = since + 400 * seconds
    lines = (
        f"vllm:num_requests_running{label} {running}",
        f"vllm:prompt_tokens_total{label} {2 * made}",
        f"vllm:generation_tokens_total{label} {made}",
        f"vllm:request_success_total{label} {made / 100}",
        f"vllm:inter_token_latency_seconds_sum{label} {0.02 * made}",
        f"vllm:inter_token_latency_seconds_count{label} {made}",
    )
    return ("\n".join(lines) + "\n").encode()


def clocked(engine: EngineStandIn, now_s: Callable[[], float] = time.monotonic) -> None:
    start_s = now_s()
    engine.answers["/metrics"] = lambda: Answer(body=moving(now_s() - start_s, since=10_000.0))


def predict(request: InferenceRequest) -> Footprint:
    return llmco2.predict(**asdict(request))


@pytest.fixture
def rig() -> Iterator[SimulatedNvml]:
    with SimulatedNvml(2, virtual_time=True, use_compiler=False) as started:
        yield started


@pytest.fixture
def meter(rig: SimulatedNvml) -> Iterator[ZeusMeter]:
    with ZeusMeter(clock=rig.clock, windows=False) as opened:
        yield opened


def session(engine: EngineStandIn, rig: SimulatedNvml, gpus: OwnGpus, **more: object) -> ServerSession:
    return ServerSession(engine.url, predict=predict, gpus=gpus, now_s=rig.clock.now_s, **more)  # type: ignore[arg-type]


def test_the_gpus_of_a_server_are_those_of_the_process_that_listens(
    engine: EngineStandIn, rig: SimulatedNvml
) -> None:
    assert gpus_of_server(engine.url) == ()
    rig.set_process(1, os.getpid())
    assert gpus_of_server(engine.url) == (1,)


def test_gpus_are_as_said_by_process_the_only_one_or_asked_for(
    engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter
) -> None:
    devices = meter.devices()
    assert own_gpus(engine.url, (1, 0), devices).indices == (0, 1)
    assert own_gpus(engine.url, None, devices[:1]).origin.startswith("assumed: the only GPU here")
    with pytest.raises(InputError, match="--server-gpus 0,1"):
        own_gpus(engine.url, None, devices)
    with pytest.raises(InputError, match="names GPU 7"):
        own_gpus(engine.url, (0, 7), devices)
    rig.set_process(0, os.getpid())
    found = own_gpus(engine.url, None, devices)
    assert (found.indices, found.origin, found.device) == ((0,), "by its processes", devices[0].name)
    assert own_gpus("http://192.0.2.1:8000", None, devices).indices == ()  # an address of documentation


def test_this_machine_is_known_by_its_addresses() -> None:
    assert is_here("http://127.0.0.1:8000")
    assert is_here("http://localhost:1")
    assert is_here("http://[::1]:1")
    assert not is_here("http://192.0.2.1:8000")
    assert not is_here("http://no such host/")


def test_joules_are_those_of_the_servers_own_gpus(
    engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter
) -> None:
    clocked(engine, rig.clock.now_s)
    rig.set_power(0, 500.0)
    rig.set_power(1, 100.0)
    watched = session(engine, rig, OwnGpus(indices=(0,), device=meter.devices()[0].name, origin="given"))
    watched.look(meter.sample)
    assert watched.step() is None
    rig.clock.sleep(10.0)
    watched.look(meter.sample)
    found = watched.step()
    watched.close()
    assert found is not None
    assert found.interval.duration_s == pytest.approx(10.0)
    assert found.measured_j == pytest.approx(5000.0, rel=0.02)
    assert found.output_tokens == pytest.approx(4000.0)
    assert found.predicted is not None
    assert found.workload is not None
    assert found.workload.request.batch_size == pytest.approx(8, rel=0.021)
    assert watched.totals.compared_measured_j == found.measured_j
    assert watched.totals.compared_predicted_j == found.predicted.energy_j


def test_a_restart_and_an_outage_cost_one_interval_and_nothing_else(
    engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter
) -> None:
    rig.set_power(0, 500.0)
    watched = session(engine, rig, OwnGpus(indices=(0,), device=meter.devices()[0].name))
    joules = []
    pages: list[bytes | None] = [
        moving(0, since=9e5),
        moving(5, since=9e5),
        None,
        moving(1),
        moving(6),
        moving(11),
    ]
    for body in pages:
        engine.answers["/metrics"] = Answer(status=503) if body is None else Answer(body=body)
        with contextlib.nullcontext() if body else pytest.raises(ServerError, match="HTTP 503"):
            watched.look(meter.sample)
        found = watched.step()
        if found is not None:
            joules.append(found.measured_j)
        rig.clock.sleep(5.0)
    watched.close()
    assert watched.server.watch.restarts == 1
    assert joules == [pytest.approx(2500.0, rel=0.02)] * 3
    assert watched.totals.output_tokens == pytest.approx(3 * 2000)


def test_a_gpu_that_is_lost_gives_no_joules_rather_than_too_few(
    engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter
) -> None:
    clocked(engine, rig.clock.now_s)
    watched = session(engine, rig, OwnGpus(indices=(0, 1), device=meter.devices()[0].name))
    watched.look(meter.sample)
    rig.lose(1)
    rig.clock.sleep(5.0)
    watched.look(meter.sample)
    found = watched.step()
    watched.close()
    assert found is not None
    assert found.measured_j is None
    assert found.predicted is not None


def test_a_model_that_the_catalog_lacks_is_named_and_can_be_given(
    engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter
) -> None:
    engine.serve("/metrics", moving(1, model="secret-model"))
    gpus = OwnGpus(indices=(0,), device=meter.devices()[0].name)
    unnamed, named = (
        session(engine, rig, gpus),
        session(engine, rig, gpus, given=Given(model=MODEL, precision="fp8")),
    )
    for one in (unnamed, named):
        one.look(meter.sample)
        one.close()
    assert isinstance(unnamed.found, str)
    assert "secret-model" in unnamed.found
    assert not isinstance(named.found, str)
    assert (named.found.deployment.model, named.found.deployment.precision) == (MODEL, "fp8")
    assert named.found.origins["model"] == "given"


def test_entries_hold_the_phases_apart_and_survive_compaction() -> None:
    request = InferenceRequest(model=MODEL, gpu="H100-SXM5-80GB", batch_size=8, serving="continuous")
    footprint = predict(request)
    account = GridAccount(None, today=TODAY, find_zone=find_zone, resolve=fixed_factors)

    def entry(prefills: float, batches: float, idle_j: float) -> MeasuredPhase:
        return MeasuredPhase(
            t_s=1.0, request=request, phase=WHOLE, batches=batches, prefill_batches=prefills,
            predicted_idle_j=idle_j, energy_j=1000.0, time_s=50.0,
        )  # fmt: skip

    for entries in ([entry(3.0, 5.0, 70.0)], [entry(5.0, 3.0, 0.0)], [entry(1.0, 2.0, 5.0)] * 2500):
        view = compare(request, compacted(entries), {request: footprint}, account)
        prefills = sum(one.prefilled_batches for one in entries)
        batches = sum(one.batches for one in entries)
        expected = prefills * footprint.prefill.energy_j + batches * footprint.decode.energy_j
        expected += sum(one.predicted_idle_j for one in entries)
        assert view.total is not None
        assert view.total.energy.predicted == pytest.approx(expected)
        assert view.points[-1].predicted_j == pytest.approx(expected)
        assert view.total.energy.measured == pytest.approx(1000.0 * len(entries))
    assert entry_data(entry(3.0, 5.0, 70.0))["prefill_batches"] == 3.0


def test_both_sides_hosts_run_for_the_same_seconds(
    engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter
) -> None:
    clocked(engine, rig.clock.now_s)
    watched = session(engine, rig, OwnGpus(indices=(0,), device=meter.devices()[0].name))
    watched.look(meter.sample)
    rig.clock.sleep(10.0)
    watched.look(meter.sample)
    found = watched.step()
    watched.close()
    assert found is not None
    entry = entry_of(found)
    assert entry is not None
    assert entry.time_s == pytest.approx(10.0)
    view = compare(
        entry.request, [entry], {entry.request: predict(entry.request)}, GridAccount(None, today=TODAY)
    )
    carbon = view.total.carbon if view.total is not None else None
    assert carbon is not None
    assert found.predicted is not None
    per_joule = (carbon.measured - carbon.predicted) / ((found.measured_j or 0.0) - found.predicted.energy_j)  # type: ignore[operator]
    expected = GridAccount(None, today=TODAY).operational_g(entry.request.gpu, 1e6, 0.0, 1)  # without a host
    assert expected is not None
    assert per_joule == pytest.approx(expected / 1e6, rel=1e-6)


def test_once_and_json_tell_both_sides(engine: EngineStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    clocked(engine)
    argv = ["monitor", "--simulate", "one", "--server", engine.url, "--zone", "FRA"]
    assert main([*argv, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["servers"]
    interval = facts["interval"]
    assert facts["engine"] == "vLLM"
    assert facts["series_found"]["generation_tokens"] == "vllm:generation_tokens_total"
    assert "kv_use" in facts["series_missing"]
    assert interval["kv_use_share"] is None
    assert interval["output_tokens_per_s"] == pytest.approx(400, rel=0.1)
    assert (
        interval["predicted_energy_low_j"]
        < interval["predicted_energy_j"]
        < interval["predicted_energy_high_j"]
    )
    assert interval["measured_energy_j"] > 0
    assert interval["error_percent"] is not None
    assert main([*argv, "--once"]) == 0
    out = capsys.readouterr().out
    assert f"server {engine.url}: vLLM" in out
    assert "predicted by phase: prefill" in out
    assert "gCO2e/1k output tokens" in out


def test_once_says_why_a_server_cannot_be_read(
    engine: EngineStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.serve("/metrics", b"<html>\n")
    assert main(["monitor", "--simulate", "one", "--server", engine.url, "--once"]) == 0
    assert "NOT READ: line 1 is no line of a metrics page" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--server", "ftp://x"], "not the URL of a server"),
        (["--server", "http://h", "--replay"], "--server and --replay"),
        (["--server-gpus", "0"], "--server-gpus without a server"),
        (["--served-model", "m"], "--served-model without a server"),
        (["--server", "http://h", "--server-gpus", "0", "--server-gpus", "1"], "2 for 1 servers"),
        (["--server", "http://h", "--server-gpus", "0,x"], "not a list of GPUs"),
        (["--server", "http://h", "--batch-size", "4"], "--batch-size with a server"),
        (["--server", "http://127.0.0.1:9", "--simulate", "eight", "--once"], "--server-gpus 0,1"),
    ],
)
def test_what_is_typed_wrong_is_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["monitor", *argv])
    except SystemExit as left:
        status = int(str(left.code))
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err


async def test_the_screen_shows_predicted_beside_measured_of_a_server(engine: EngineStandIn) -> None:
    clocked(engine)
    sources = MachineSources(first=SIMULATED, servers=ServerOptions(urls=(engine.url,)), predict=predict)
    app = MonitorApp(sources, predict)
    async with app.run_test(size=(100, 30)) as pilot:
        for _ in range(300):
            await pilot.pause(0.05)
            total = app.monitor_state.comparison.total
            if total is not None and total.energy.measured:
                break
        assert total is not None
        assert total.energy.measured
        assert total.energy.predicted > 0
        request = app.monitor_state.request
        assert request is not None
        assert (request.model, request.serving) == (MODEL, "continuous")
        panel = app.query_one(ServerPanel)
        for _ in range(100):
            await pilot.pause(0.05)
            if "/token now" in panel.text:
                break
        title, load, cost = panel.text.splitlines()
        assert title.startswith("vLLM · Llama-3.1-8B-Instruct · GPU 0")
        assert re.search(r"out [34]\d\d tok/s", load)
        assert "gCO2e/1k tokens" in cost
        assert cost.endswith("not judged: simulated")


def test_the_panel_says_why_there_is_no_figure_and_fits_its_width(
    engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter
) -> None:
    gpus = OwnGpus(indices=(0,), device=meter.devices()[0].name)
    watched = session(engine, rig, gpus)
    assert texts(watched, 60)[1] == "  looking for it …"
    engine.answers["/metrics"] = Answer(status=503)
    with pytest.raises(ServerError):
        watched.look(meter.sample)
    assert "HTTP 503" in texts(watched, 90)[1]
    far = session(engine, rig, OwnGpus(indices=(), origin="elsewhere"))
    for one in (watched, far):
        for seconds in (0, 5):
            engine.answers["/metrics"] = Answer(body=moving(seconds, model="x" * 300))
            one.look(meter.sample)
            one.step()
            rig.clock.sleep(5.0)
    assert "no GPU of its own here" in texts(far, 200)[0]
    assert "the catalog does not know the served model" in texts(far, 200)[2]
    assert "/token now" in texts(watched, 200)[2]
    known = session(engine, rig, gpus, given=Given(model=MODEL))
    for seconds in (10, 15):
        engine.answers["/metrics"] = Answer(body=moving(seconds, model="x"))
        known.look(meter.sample)
        known.step()
        rig.clock.sleep(5.0)
    assert re.search(r"predicted [+-].* %, (IN|OUT)SIDE", texts(known, 200)[2])
    known.close()
    for width in (20, 40, 79, 200):
        assert all(len(text) <= width for one in (watched, far) for text in texts(one, width))
    watched.close()
    far.close()


def texts(watched: ServerSession, width: int) -> list[str]:
    return ["".join(text for text, _ in line) for line in server_lines(watched, width)]


def test_an_engine_elsewhere_that_counts_joules_is_measured_by_them(
    engine: EngineStandIn, rig: SimulatedNvml
) -> None:
    text = page("trtllm_1").decode()
    label = 'engine_type="trtllm",model_name="made/up-8b"'
    far = session(engine, rig, OwnGpus(indices=(), origin="elsewhere"), given=Given(model=MODEL))
    for made, joules in ((1000, 500.0), (1400, 1700.5)):
        grown = text.replace(
            f"generation_tokens_total{{{label}}} 1000", f"generation_tokens_total{{{label}}} {made}"
        )
        engine.serve("/prometheus/metrics", grown)
        engine.serve("/energy_metrics", json.dumps({"total_energy_j": joules, "query_time": 1.0}))
        far.look(None)
        found = far.step()
        rig.clock.sleep(5.0)
    far.close()
    assert found is not None
    assert (found.measured_j, found.output_tokens) == (1200.5, 400.0)
    assert found.predicted is not None
    assert not isinstance(far.found, str)
    assert (far.found.deployment.tensor_parallel, far.found.deployment.precision) == (4, "fp8")
    assert far.found.deployment.gpu == "H100-SXM5-80GB"


def test_two_servers_on_one_host_have_their_own_gpus_and_tokens(
    engine: EngineStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    other = EngineStandIn()
    clocked(engine)
    start_s = time.monotonic()
    other.answers["/metrics"] = lambda: Answer(
        body=moving(2 * (time.monotonic() - start_s), model="Qwen/Qwen3-8B")
    )
    argv = ["monitor", "--simulate", "eight", "--json"]
    for url, gpus in ((engine.url, "1,2"), (other.url, "7")):
        argv += ["--server", url, "--server-gpus", gpus]
    assert main(argv) == 0
    other.close()
    one, two = json.loads(capsys.readouterr().out)["servers"]
    assert (one["gpus"], two["gpus"]) == ([1, 2], [7])
    assert (one["served_model"], two["served_model"]) == (MODEL, "Qwen/Qwen3-8B")
    assert one["deployment"]["tensor_parallel"] == 2
    assert two["interval"]["output_tokens_per_s"] == pytest.approx(800, rel=0.15)
    idle_w = two["interval"]["measured_power_w"]  # the last of eight is idle
    assert one["interval"]["measured_power_w"] > 2 * idle_w


def test_a_server_without_any_gpu_here_is_predicted_alone(
    engine: EngineStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    clocked(engine)
    assert main(["monitor", "--server", engine.url, "--gpu", "H100", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    (server,) = facts["servers"]
    assert facts["gpus"] == []
    assert server["interval"]["measured_energy_j"] is None
    assert server["interval"]["predicted_energy_j"] > 0
    assert server["gpus_by"] == "this machine has no GPU that can be read"
