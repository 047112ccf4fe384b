"""A recording keeps what a person did: the request that was typed, the marks, the zone, the time of day."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llmco2.cli.main import main
from llmco2.errors import InputError
from llmco2.measurement.meters.session_file import Session, SessionEvent, SessionRecorder, read_session
from llmco2_tui.notes import WALL_CLOCK, wall_clock_at

from .conftest import REQUEST, SIZE, Desk


@pytest.fixture
async def sitting_file(desk: Desk, tmp_path: Path) -> Path:
    """A recorded sitting: a request on the command line, one batch of 4 s at 350 W marked, the zone changed."""
    path = tmp_path / "sitting.jsonl"
    desk.rig.set_power(0, 350.0)
    app = desk.app(request=REQUEST, record=lambda source: SessionRecorder(path, source.meter))
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 2)
        await pilot.press("m")
        await desk.pass_s(pilot, 4)
        await pilot.press("m")
        await desk.pass_s(pilot, 1)
        await pilot.press("m")
        await desk.pass_s(pilot, 1)
        await pilot.press("m", "u")  # a batch too many, taken back
        await pilot.press("z", *"pol", "enter")
        await desk.pass_s(pilot, 2)
    return path


def replayed(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert main(["monitor", *more, "--replay", str(path), "--json"]) == 0
    state: dict[str, Any] = json.loads(capsys.readouterr().out)
    return state


async def test_a_sitting_is_played_back_with_what_was_done_in_it(
    sitting_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = replayed(sitting_file, capsys)
    assert state["grid"]["zone"] == "POL"
    compared = state["comparison"]
    assert compared["request"]["model"] == REQUEST.model
    assert compared["measured_batches"] == 1.0
    assert compared["phases"]["total"]["measured_energy_j"] == pytest.approx(1400.0, abs=10.0)


async def test_what_is_asked_for_now_goes_before_what_was_noted(
    sitting_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = replayed(sitting_file, capsys, "Qwen/Qwen3-8B", "--gpu", "H100", "--zone", "FRA")
    assert state["grid"]["zone"] == "FRA"
    assert state["comparison"]["request"]["model"] == "Qwen/Qwen3-8B"
    assert state["comparison"]["measured_batches"] == 0.0


async def test_the_time_of_day_is_kept(sitting_file: Path) -> None:
    session = read_session(sitting_file)
    began = wall_clock_at(session, session.samples[0].t_s)
    assert began is not None
    assert timedelta(0) <= datetime.now(UTC) - began < timedelta(minutes=5)


def clock_notes(*notes: tuple[float, str]) -> Session:
    events = tuple(SessionEvent(t_s=t_s, name=WALL_CLOCK, data={"utc": utc}) for t_s, utc in notes)
    return Session(started_at="", simulated=False, devices=(), samples=(), windows=(), events=events)


def test_a_machine_that_slept_is_known_by_the_last_note() -> None:
    session = clock_notes((10.0, "2026-01-01T12:00:00+00:00"), (70.0, "2026-01-01T20:01:00+00:00"))
    at = [wall_clock_at(session, t_s) for t_s in (0.0, 40.0, 71.0)]
    assert [None if found is None else f"{found:%H:%M:%S}" for found in at] == [
        "11:59:50",
        "12:00:30",
        "20:01:01",
    ]
    assert wall_clock_at(clock_notes(), 0.0) is None
    with pytest.raises(InputError, match="a recorded time of day is damaged"):
        wall_clock_at(clock_notes((0.0, "noon")), 1.0)


@pytest.mark.parametrize(
    "event",
    [
        {"name": "typed_request", "data": {}},
        {"name": "typed_request", "data": {"request": {"model": "m"}}},
        {"name": "marked", "data": {"request": 5}},
        {"name": "zone", "data": {"zone": "Atlantis"}},
        {"name": "measured", "data": {"phase": "total", "batches": 1, "energy_j": -5.0, "time_s": 1.0}},
    ],
)
async def test_a_damaged_note_is_one_line(
    sitting_file: Path, capsys: pytest.CaptureFixture[str], event: dict[str, Any]
) -> None:
    lines = sitting_file.read_text().splitlines()
    asked = {"kind": "event", "t_s": 0.0, "name": "request", "data": {"model": "m", "gpu": "H100"}}
    lines += [json.dumps(asked), json.dumps({"kind": "event", "t_s": 1.0, **event})]
    sitting_file.write_text("\n".join(lines) + "\n")
    assert main(["monitor", "--replay", str(sitting_file), "--once"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("llmco2: a recorded ")
    assert err.count("\n") == 1
