"""The exporter's counters add up, outlive a restart, stay bounded, and bear the names that the dashboard reads."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

import llmco2
from llmco2.carbon.factors import CarbonFactors, resolve_factors
from llmco2.cli.export import listening_address
from llmco2.cli.main import main
from llmco2.errors import FileFormatError, InputError
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedNvml
from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2.serving import export_names as names
from llmco2.serving.exporter import MOST_MODELS, OTHER, Exporter, GridFacts
from llmco2.serving.exposition import Page, parse_page
from llmco2.serving.session import OwnGpus, ServerSession
from llmco2.serving.tally import MOST_SERIES, Tally
from tests.serving.conftest import Answer, EngineStandIn
from tests.serving.test_monitor_servers import MODEL, moving

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
GRID = GridFacts(zone="FRA", source="a table", carbon_intensity_gco2e_per_kwh=36.0)


def predict(request: InferenceRequest) -> Footprint:
    return llmco2.predict(**asdict(request))


def factors(gpu: str) -> CarbonFactors:
    return resolve_factors("H100-SXM5-80GB", zone="FRA")


@pytest.fixture
def rig() -> Iterator[SimulatedNvml]:
    with SimulatedNvml(2, virtual_time=True, use_compiler=False) as started:
        yield started


@pytest.fixture
def meter(rig: SimulatedNvml) -> Iterator[ZeusMeter]:
    with ZeusMeter(clock=rig.clock, windows=False) as opened:
        yield opened


class Bench:
    """An exporter over two simulated GPUs and one server on the first."""

    def __init__(
        self, engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter, tally: Tally | None = None
    ) -> None:
        self.engine, self.rig = engine, rig
        gpus = OwnGpus(indices=(0,), device=meter.devices()[0].name, origin="given")
        self.session = ServerSession(
            engine.url, predict=predict, gpus=gpus, now_s=rig.clock.now_s, factors=factors
        )
        self.exporter = Exporter(
            meter, [self.session], factors=factors, grid=GRID, version="1.2.3", tally=tally
        )

    def pass_time(self, *bodies: bytes, each_s: float = 5.0) -> None:
        for body in bodies:
            self.engine.answers["/metrics"] = Answer(body=body)
            self.exporter.look()
            self.rig.clock.sleep(each_s)

    def text(self) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self.exporter)
        return generate_latest(registry)

    def page(self) -> Page:
        return parse_page(self.text())

    def value(self, metric: names.Metric, **labels: str) -> float | None:
        found = [
            series.value
            for series in self.page().values(metric.name)
            if all(series.labels[label] == value for label, value in labels.items())
        ]
        return sum(found) if found else None


@pytest.fixture
def bench(engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter) -> Iterator[Bench]:
    rig.set_power(0, 500.0)
    rig.set_power(1, 100.0)
    made = Bench(engine, rig, meter)
    yield made
    made.session.close()


def test_counters_hold_what_was_drawn_served_and_predicted(bench: Bench) -> None:
    bench.pass_time(moving(0), moving(5), moving(10))
    assert bench.value(names.GPU_ENERGY, gpu="0") == pytest.approx(5000.0, rel=0.02)
    assert bench.value(names.GPU_ENERGY, gpu="1") == pytest.approx(1000.0, rel=0.02)
    assert bench.value(names.GPU_POWER, gpu="1") == pytest.approx(100.0, rel=0.01)
    assert bench.value(names.OUTPUT_TOKENS, model=MODEL) == pytest.approx(4000.0)
    assert bench.value(names.PROMPT_TOKENS, model=MODEL) == pytest.approx(8000.0)
    measured = bench.value(names.MEASURED, server=bench.session.url)
    assert measured == pytest.approx(5000.0, rel=0.02)
    by_phase = [bench.value(names.PREDICTED, phase=phase) for phase in ("prefill", "decode", "idle")]
    predicted = bench.value(names.COMPARED_PREDICTED)
    assert sum(joules or 0.0 for joules in by_phase) == pytest.approx(predicted)
    low, high = bench.value(names.COMPARED_LOW), bench.value(names.COMPARED_HIGH)
    assert low is not None
    assert high is not None
    assert predicted is not None
    assert low < predicted < high
    grams = bench.value(names.MEASURED_CARBON)
    one = factors("")
    host_j = one.host_power.value * 10.0
    expected = (measured + host_j) * one.pue.value / 3.6e6 * one.carbon_intensity.value  # type: ignore[operator]
    assert grams == pytest.approx(expected)
    assert bench.value(names.INTENSITY, zone="FRA") == pytest.approx(36.0 / 3.6e6)
    assert bench.value(names.SERVER_UP) == 1.0


def test_what_is_not_known_has_no_series(bench: Bench) -> None:
    bench.engine.answers["/metrics"] = Answer(status=500)
    bench.exporter.look()
    assert bench.value(names.SERVER_UP) == 0.0
    assert bench.value(names.OUTPUT_TOKENS) is None
    assert bench.value(names.ERROR) is None
    bench.rig.lose(1)
    bench.exporter.look()
    assert bench.value(names.GPU_UP, gpu="1") == 0.0
    assert bench.value(names.GPU_POWER, gpu="1") is None
    assert bench.value(names.GPU_UP, gpu="0") == 1.0


def test_an_engines_restart_is_counted_and_no_counter_falls(bench: Bench) -> None:
    bench.pass_time(moving(0, since=9e5), moving(5, since=9e5))
    before = bench.value(names.OUTPUT_TOKENS)
    bench.pass_time(moving(1), moving(6))
    assert bench.value(names.SERVER_RESTARTS) == 1.0
    assert before == pytest.approx(2000.0)
    assert bench.value(names.OUTPUT_TOKENS) == pytest.approx(4000.0)


def test_counts_go_on_after_a_restart_of_the_exporter(
    bench: Bench, engine: EngineStandIn, rig: SimulatedNvml, meter: ZeusMeter, tmp_path: Path
) -> None:
    state = tmp_path / "counts.json"
    bench.pass_time(moving(0), moving(5))
    bench.exporter.tally.save(state)
    before = {
        name: bench.value(metric) for name, metric in (("e", names.GPU_ENERGY), ("t", names.OUTPUT_TOKENS))
    }
    again = Bench(engine, rig, meter, Tally.load(state))
    assert again.value(names.GPU_ENERGY) == before["e"]
    again.pass_time(moving(10), moving(15))
    again.session.close()
    assert again.value(names.OUTPUT_TOKENS) == pytest.approx((before["t"] or 0) + 2000)
    assert again.value(names.GPU_ENERGY) == pytest.approx((before["e"] or 0) + 600.0 * 5, rel=0.02)
    assert list(tmp_path.iterdir()) == [state]


def test_a_server_that_changes_its_models_name_without_end_stays_bounded(bench: Bench) -> None:
    for number in range(MOST_MODELS + 5):
        name = f"model-{number}"
        bench.pass_time(moving(0, model=name), moving(5, model=name))
    series = bench.page().values(names.OUTPUT_TOKENS.name)
    assert len(series) == MOST_MODELS + 1
    assert bench.value(names.OUTPUT_TOKENS, model=OTHER) == pytest.approx(5 * 2000)
    assert bench.value(names.DROPPED) == 5.0


def test_a_tally_takes_nothing_that_is_no_count_and_not_too_many_series() -> None:
    tally = Tally()
    for amount in (None, float("nan"), float("inf"), -1.0):
        tally.add("m", ("a",), amount)
    assert list(tally.values("m")) == []
    for number in range(MOST_SERIES + 10):
        tally.add("m", (str(number),), 1.0)
    assert len(list(tally.values("m"))) == MOST_SERIES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": "other", "version": 1, "counts": []}',
        '{"format": "llmco2-export-state", "version": 9, "counts": []}',
        '{"format": "llmco2-export-state", "version": 1, "counts": [["a"]]}',
        '{"format": "llmco2-export-state", "version": 1, "counts": [["a", ["b"], -1]]}',
        '{"format": "llmco2-export-state", "version": 1, "counts": [["a", ["b"], NaN]]}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_damaged_state_is_refused_and_left_as_it_is(text: str, tmp_path: Path) -> None:
    state = tmp_path / "counts.json"
    state.write_text(text, encoding="latin-1")
    with pytest.raises(FileFormatError, match="move it away") as caught:
        Tally.load(state)
    assert "\n" not in str(caught.value)
    assert state.read_text(encoding="latin-1") == text


@pytest.mark.parametrize(
    ("text", "found"),
    [(":9877", ("", 9877)), ("9877", ("127.0.0.1", 9877)), ("[::1]:80", ("::1", 80)), ("h:1", ("h", 1))],
)
def test_addresses_as_people_write_them(text: str, found: tuple[str, int]) -> None:
    assert listening_address(text) == found


@pytest.mark.parametrize("text", ["", ":", "host", "host:0", "host:70000", "a b:1", ":x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no address"):
        listening_address(text)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--prometheus", "nowhere"], "--prometheus is no address"),
        (["--interval", "0"], "--interval is out of range"),
        (["--server", "ftp://x"], "not the URL of a server"),
        (["--otlp", "ftp://x"], "not the URL of a server"),
        (["--server", "http://h", "--server-gpus", "0", "--server-gpus", "1"], "2 for 1 servers"),
        (["--zone", "XXX"], "unknown grid zone"),
        (["--state", "/nowhere/at/all.json"], "cannot write /nowhere/at/all.json"),
    ],
)
def test_what_is_typed_wrong_is_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--simulate", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_the_command_serves_until_sigterm_and_saves_its_counts(engine: EngineStandIn, tmp_path: Path) -> None:
    start_s = time.monotonic()
    engine.answers["/metrics"] = lambda: Answer(body=moving(time.monotonic() - start_s))
    state = tmp_path / "counts.json"
    command = [sys.executable, "-m", "llmco2.cli.main", "export", "--simulate", "--prometheus", "127.0.0.1:0"]
    assert (
        subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 2
    )  # a port is named
    port = _free_port()
    command[-1] = f"127.0.0.1:{port}"
    command += ["--server", engine.url, "--state", str(state), "--interval", "0.5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            assert f"127.0.0.1:{port}/metrics" in running.stderr.readline()
            page = _scraped(port, names.COMPARED_MEASURED.name)
        finally:
            running.send_signal(signal.SIGTERM)
            status = running.wait(timeout=20)
    assert status == 0
    assert page.values(names.INFO.name)[0].labels["simulated"] == "true"
    assert dict(Tally.load(state).values(names.COMPARED_MEASURED.name))


def _free_port() -> int:
    import socket  # noqa: PLC0415 - for this alone

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _scraped(port: int, name: str) -> Page:
    for _ in range(200):
        page = parse_page(httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).content)
        if page.values(name):
            return page
        time.sleep(0.1)
    raise AssertionError(f"{name} was never published")


def test_every_metric_is_published_under_base_units(bench: Bench) -> None:
    bench.pass_time(moving(0), moving(5), moving(1), moving(6))
    for number in range(MOST_MODELS + 2):
        bench.pass_time(moving(0, model=f"m{number}"), moving(5, model=f"m{number}"))
    text = bench.text().decode()
    for metric in names.METRICS:
        assert f"# TYPE {metric.name} {metric.kind}" in text
        assert metric.name.endswith("_total") == (metric.kind == names.COUNTER)
        assert metric.help.endswith(".")
        series = bench.page().values(metric.name)
        assert series, metric.name
        assert all(set(one.labels) == set(metric.labels) for one in series)


def dashboard() -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana-dashboard.json").read_text("utf-8"))  # type: ignore[no-any-return]


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def test_the_dashboard_reads_names_and_labels_that_are_published() -> None:
    known = {metric.name: set(metric.labels) | {"instance"} for metric in names.METRICS}
    used = set()
    for expression in expressions():
        for name, matchers in re.findall(r"(llmco2_\w+)(?:\{([^}]*)\})?", expression):
            used.add(name)
            assert name in known, name
            assert set(re.findall(r"(\w+)=~?", matchers)) <= known[name], expression
    shown = {
        names.GPU_POWER,
        names.GPU_ENERGY,
        names.GPU_CARBON,
        names.MEASURED_CARBON,
        names.PREDICTED_CARBON,
    }
    assert {metric.name for metric in shown} <= used
    queries = [variable["query"] for variable in dashboard()["templating"]["list"]]
    asked = [
        re.match(r"label_values\((\w+), (\w+)\)", query["query"])
        for query in queries
        if isinstance(query, dict)
    ]
    assert len(asked) == 2
    assert all(found is not None and found[2] in known[found[1]] for found in asked)


def test_panels_neither_overlap_nor_repeat() -> None:
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for p in [panel["gridPos"]]
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    titles = [panel["title"] for panel in dashboard()["panels"]]
    assert len(titles) == len(set(titles))


def test_the_unit_and_the_container_start_a_command_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((DEPLOY / "llmco2-export.service").read_text("utf-8"))
    program, *argv = unit["Service"]["ExecStart"].split()
    assert Path(program).name == "llmco2"
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", (DEPLOY / "Containerfile").read_text("utf-8"), flags=re.M)
    for command in (argv, json.loads(entry)[1:]):
        with pytest.raises(SystemExit) as left:
            main([*command, "--help"])
        assert left.value.code == 0
        known = capsys.readouterr().out
        assert all(word in known for word in command if word.startswith("--"))
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
    assert "gpu-a:9877" in scraped["scrape_configs"][0]["static_configs"][0]["targets"]


@pytest.mark.promtool
def test_promtool_finds_nothing_to_say(bench: Bench, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "install Debian's prometheus, which brings promtool"
    bench.pass_time(moving(0), moving(5), moving(1), moving(6))
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=bench.text(), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    rules = [
        {"record": f"checked:{n}", "expr": re.sub(r"\$__rate_interval|\$__range", "5m", expression)}
        for n, expression in enumerate(expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    parsed = subprocess.run(
        [promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert parsed.returncode == 0, parsed.stderr
    config = subprocess.run(
        [promtool, "check", "config", str(DEPLOY / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert config.returncode == 0, config.stderr
