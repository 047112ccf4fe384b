"""What was said of a server is said once; it holds for the same served model, and a damaged memory is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pytest

import llmco2
from llmco2.errors import FileFormatError, InputError
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedNvml
from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2.serving.deployment import Given
from llmco2.serving.memory import MOST_SERVERS, Memory, state_file
from llmco2.serving.opening import ServerOptions, ask_for_gpus, open_sessions, own_gpus
from llmco2.serving.session import ServerSession
from tests.serving.conftest import EngineStandIn
from tests.serving.test_monitor_servers import MODEL, moving

URL = "http://127.0.0.1:8000"


def memory(path: Path) -> Memory:
    return Memory(path, today=lambda: date(2026, 11, 28))


@pytest.fixture
def meter() -> Iterator[ZeusMeter]:
    with (
        SimulatedNvml(2, virtual_time=True, use_compiler=False) as rig,
        ZeusMeter(clock=rig.clock, windows=False) as opened,
    ):
        yield opened


def opened(
    engine: EngineStandIn, meter: ZeusMeter, kept: Memory, given: Given | None = None
) -> ServerSession:
    def predict(request: InferenceRequest) -> Footprint:
        return llmco2.predict(**asdict(request))

    gpus = None if given is None else (0, 1)
    options = ServerOptions(urls=(engine.url,), gpus=(gpus,), given=given or Given())
    (session,) = open_sessions(options, meter, meter.clock, predict, lambda _: None, kept)
    session.look(meter.sample)
    session.close()
    return session


def test_what_was_said_once_holds_next_time_and_says_so(
    engine: EngineStandIn, meter: ZeusMeter, tmp_path: Path
) -> None:
    kept = memory(tmp_path / "servers.json")
    engine.serve("/metrics", moving(1, model="house-name"))
    opened(engine, meter, kept, Given(model=MODEL, precision="fp8"))
    again = opened(engine, meter, kept)
    assert not isinstance(again.found, str)
    assert (again.found.deployment.model, again.found.deployment.precision) == (MODEL, "fp8")
    assert again.found.origins["precision"] == "remembered of 2026-11-28"
    assert (again.gpus.indices, again.gpus.origin) == ((0, 1), "remembered of 2026-11-28")
    changed = opened(engine, meter, kept, Given(precision="bf16"))
    assert not isinstance(changed.found, str)
    assert (changed.found.deployment.model, changed.found.deployment.precision) == (MODEL, "bf16")
    assert changed.found.origins["precision"] == "given"


def test_what_was_said_of_another_model_is_not_used(
    engine: EngineStandIn, meter: ZeusMeter, tmp_path: Path
) -> None:
    kept = memory(tmp_path / "servers.json")
    engine.serve("/metrics", moving(1, model="house-name"))
    opened(engine, meter, kept, Given(model=MODEL))
    engine.serve("/metrics", moving(1, model="another-name"))
    again = opened(engine, meter, kept)
    assert isinstance(again.found, str)
    assert "another-name" in again.found


def test_nothing_said_writes_nothing(engine: EngineStandIn, meter: ZeusMeter, tmp_path: Path) -> None:
    kept = memory(tmp_path / "servers.json")
    engine.serve("/metrics", moving(1))
    kept.keep(engine.url + "/other", given=Given(), gpus=(0,), served_model=None)
    before = (tmp_path / "servers.json").read_text()
    with pytest.raises(InputError, match="--server-gpus"):
        opened(engine, meter, kept)
    assert (tmp_path / "servers.json").read_text() == before


def test_gpus_that_are_gone_are_not_used(meter: ZeusMeter, tmp_path: Path) -> None:
    kept = memory(tmp_path / "servers.json")
    kept.keep(URL, given=Given(), gpus=(7,), served_model=None)
    devices = meter.devices()
    with pytest.raises(InputError, match="--server-gpus"):
        own_gpus(URL, None, devices, lambda _: (), kept.recall(URL))
    kept.keep(URL, given=Given(), gpus=(1,), served_model=None)
    assert own_gpus(URL, None, devices, lambda _: (), kept.recall(URL)).indices == (1,)
    assert own_gpus(URL, None, devices, lambda _: (0,), kept.recall(URL)).indices == (
        0,
    )  # its processes know better


def test_gpus_are_asked_for_where_nothing_tells_them(meter: ZeusMeter) -> None:
    questions = []

    def answer(question: str) -> str:
        questions.append(question)
        return "1"

    options = ServerOptions(urls=("http://127.0.0.1:9", "http://127.0.0.1:10"), gpus=((0,), None))
    found = ask_for_gpus(options, meter.devices(), answer)
    assert found.gpus == ((0,), (1,))
    assert questions == ["GPUs of http://127.0.0.1:10, of 0,1: "]
    for text in ("x", "7", ""):
        with pytest.raises(InputError):
            ask_for_gpus(options, meter.devices(), lambda _, text=text: text)  # type: ignore[misc]


def test_the_oldest_servers_are_forgotten(tmp_path: Path) -> None:
    kept = memory(tmp_path / "servers.json")
    for number in range(MOST_SERVERS + 3):
        kept.keep(f"http://h{number}", given=Given(precision="fp8"), gpus=None, served_model=None)
    assert kept.recall("http://h2") is None
    assert kept.recall("http://h3") is not None
    assert list(tmp_path.iterdir()) == [tmp_path / "servers.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": "x"}',
        '{"format": "llmco2-servers", "version": 1, "servers": []}',
        "[" * 90_000,
    ],
)
def test_a_damaged_memory_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match="delete it") as caught:
        memory(path).recall(URL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [None, {}, {"given": {"tensor_parallel": "x"}, "gpus": None}, {"given": 3}])
def test_a_damaged_entry_is_refused(entry: object, tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    path.write_text(json.dumps({"format": "llmco2-servers", "version": 1, "servers": {URL: entry or "x"}}))
    with pytest.raises(FileFormatError):
        memory(path).recall(URL)


def test_a_home_that_cannot_be_written_costs_the_memory_alone(tmp_path: Path) -> None:
    folder = tmp_path / "llmco2"
    kept = memory(folder / "servers.json")
    folder.symlink_to(tmp_path / "nowhere" / "at" / "all")
    assert kept.recall(URL) is None
    assert kept.keep(URL, given=Given(precision="fp8"), gpus=None, served_model=None) is False


def test_the_file_is_where_state_belongs(tmp_path: Path) -> None:
    assert state_file({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "llmco2" / "servers.json"
    assert (
        state_file({"XDG_STATE_HOME": "relative"}) == Path("~/.local/state/llmco2/servers.json").expanduser()
    )
