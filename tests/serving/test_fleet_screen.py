"""The table of hosts: sorted, filtered, one host on demand, and the last answer kept when a newer one fails."""

from __future__ import annotations

import json

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from llmco2.cli.main import main
from llmco2.errors import MeasurementError
from llmco2.serving import export_names as names
from llmco2.serving.fleet import DCGM_ENERGY, DCGM_POWER, Fleet
from llmco2_tui.fleet_app import FleetApp, FleetRead, HostScreen
from llmco2_tui.fleet_table import COLUMNS, fleet_text, sorted_hosts
from tests.serving.conftest import EngineStandIn
from tests.serving.test_fleet import H100, api, dcgm, fleet_of, value, vector

ANSWERS = {
    f"increase({DCGM_ENERGY}": [value(3e8, Hostname="a", UUID="GPU-a-0", instance="a.lan:9400")],
    DCGM_POWER: [dcgm(1000.0, "a", 0), dcgm(70.0, "b", 0), dcgm(60.0, "b", 1)],
    "rate({": [value(100.0, instance="a.lan:8000", model_name="org/up-8b")],
    "num_requests_running": [
        value(3.0, "vllm:num_requests_running", instance="a.lan:8000", model_name="org/up-8b")
    ],
    names.COMPARED_PREDICTED.name: [value(900.0, instance="a.lan:9877")],
    names.COMPARED_MEASURED.name: [value(1000.0, instance="a.lan:9877")],
    "up == 0": [value(0.0, "up", instance="c.lan:9400")],
}


def test_hosts_are_sorted_by_any_column_and_what_lacks_comes_last() -> None:
    hosts = fleet_of(ANSWERS).hosts
    for place in range(len(COLUMNS)):
        for descending in (False, True):
            found = sorted_hosts(hosts, place, descending=descending)
            known = [COLUMNS[place].order(host) for host in found if COLUMNS[place].order(host) is not None]
            assert known == sorted(known, reverse=descending)  # type: ignore[type-var]
            assert all(COLUMNS[place].order(host) is None for host in found[len(known) :])
    assert [host.name for host in sorted_hosts(hosts, 2, descending=True)] == ["a", "b", "c.lan"]
    assert [host.name for host in sorted_hosts(hosts, 0, descending=False, part="UP-8B")] == ["a"]
    assert sorted_hosts(hosts, 0, descending=False, part="nothing of it") == []


def test_the_text_says_the_answer_first_and_what_is_not_known() -> None:
    fleet = fleet_of(ANSWERS)
    text = fleet_text(Fleet(hosts=fleet.hosts, troubles=("too many samples",)))
    lines = text.splitlines()
    assert lines[0].startswith("3 hosts, 3 GPUs: 1,130 W, ")
    assert lines[0].endswith("100.0 tok/s")
    row = next(line.split() for line in lines if line.startswith("a "))
    assert row[:3] == ["a", "1", "1,000"]
    assert "-10 %" in text
    assert lines[-1] == "NOT KNOWN: too many samples"
    assert next(line for line in lines if line.startswith("c.lan")).split()[1] == "–"


async def until(pilot: Pilot[None], app: FleetApp, text: str) -> str:
    for _ in range(100):
        await pilot.pause(0.02)
        shown = "\n".join(
            str(app.query_one(f"#{name}", Static).render()) for name in ("fleet-line", "trouble")
        )
        if text in shown:
            return shown
    raise AssertionError(f"{text!r} never came: {shown}")


async def test_the_screen_sorts_filters_and_goes_into_a_host() -> None:
    app = FleetApp(lambda: fleet_of(ANSWERS))
    async with app.run_test(size=(100, 24)) as pilot:
        await until(pilot, app, "3 hosts")
        table = app.query_one(DataTable)
        assert names_in(table) == ["a", "b", "c.lan"]
        await pilot.press("r")
        assert names_in(table) == ["b", "a", "c.lan"]
        await pilot.press("r", "enter")
        await pilot.pause()
        assert isinstance(app.screen, HostScreen)
        lines = str(app.screen.query_one("#host-lines", Static).render())
        assert f"GPU 0 {H100}: 1,000 W, 300 kJ in 5 min" in lines
        assert "vLLM at a.lan:8000: org/up-8b, 100.0 tok/s, running 3" in lines
        app.post_message(
            FleetRead(fleet=fleet_of(ANSWERS), at_s=0.0)
        )  # a newer answer while the host is in view
        await pilot.pause()
        await pilot.press("escape", "slash", *"b")
        await pilot.press("enter")
        await pilot.pause()
        assert names_in(table) == [
            "a",
            "b",
        ]  # up-8b holds one too


def names_in(table: DataTable[Text]) -> list[str]:
    return [table.get_row_at(row)[0].plain for row in range(table.row_count)]


async def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    app = FleetApp(lambda: fleet_of({DCGM_POWER: [dcgm(1.0, "[/bold] [red", 0)]}))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, app, "1 hosts")
        assert names_in(app.query_one(DataTable)) == ["[/bold] [red"]
        await pilot.press("enter")
        await pilot.pause()
        assert "[/bold] [red" in str(app.screen.query_one("#host-lines", Static).render())


async def test_a_failed_answer_leaves_the_last_one_in_view() -> None:
    answers = iter([fleet_of(ANSWERS)])

    def ask() -> Fleet:
        found = next(answers, None)
        if found is None:
            raise MeasurementError("prom:9090 does not answer")
        return found

    app = FleetApp(ask, ask_s=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        shown = await until(pilot, app, "does not answer")
        assert "3 hosts" in shown
        assert app.query_one(DataTable).row_count == 3


@pytest.mark.parametrize("size", [(40, 6), (80, 24), (200, 60)])
async def test_any_size_of_terminal_and_two_hundred_hosts(size: tuple[int, int]) -> None:
    powers = [dcgm(float(host), f"h{host}", gpu) for host in range(200) for gpu in range(8)]
    app = FleetApp(lambda: fleet_of({DCGM_POWER: powers}))
    async with app.run_test(size=size) as pilot:
        await until(pilot, app, "200 hosts, 1600 GPUs")
        await pilot.press("down", "pagedown", "s")
        assert app.query_one(DataTable).row_count == 200


def test_once_and_json_over_http(engine: EngineStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    label = {
        "__name__": DCGM_POWER,
        "Hostname": "a",
        "gpu": "0",
        "UUID": "u",
        "modelName": H100,
        "instance": "a:1",
    }
    api(engine, {DCGM_POWER: vector((label, "500.5"))})
    assert main(["monitor", "--prometheus", engine.url, "--json", "--zone", "FRA"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["power_w"], facts["hosts"][0]["energy_j"], facts["zone"]) == (500.5, None, "FRA")
    assert facts["operational_gco2e_per_hour"] > 0
    assert main(["monitor", "--prometheus", engine.url, "--once"]) == 0
    assert capsys.readouterr().out.startswith("1 hosts, 1 GPUs: ")


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["--prometheus", "ftp://x", "--once"], 2, "not the URL of a server"),
        (["--prometheus", "http://127.0.0.1:9", "--simulate"], 2, "--prometheus and simulate"),
        (["--prometheus", "http://127.0.0.1:9", "--zone", "XXX", "--once"], 2, "unknown grid zone"),
        (["--prometheus", "http://127.0.0.1:9"], 2, "needs a terminal"),
        (["--prometheus", "http://127.0.0.1:9", "--once"], 1, "cannot read http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_is_one_line(
    argv: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", *argv]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err
