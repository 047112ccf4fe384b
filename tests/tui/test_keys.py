"""Keys, clicks and sizes of the screen do what they say, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.widgets import ContentSwitcher, Input

from llmco2_tui.glyphs import filter_for
from llmco2_tui.widgets.lines import Lines

from .conftest import (
    REQUEST,
    SIZE,
    Desk,
    text,
)


async def test_letters_are_letters_inside_the_form(desk: Desk) -> None:
    app = desk.app(request=REQUEST)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        await pilot.press("3")
        app.query_one("#field-model", Input).value = ""
        await pilot.press("z", "q", "1", "plus")
        assert app.query_one("#field-model", Input).value == "zq1+"
        assert app.is_running
        await pilot.press("escape", "1")
        assert app.query_one(ContentSwitcher).current == "live"


@pytest.mark.parametrize("keys", [(), ("3",), ("question_mark",), ("z",)])
async def test_ctrl_c_ends_it_wherever_the_cursor_is(desk: Desk, keys: tuple[str, ...]) -> None:
    app = desk.app(request=REQUEST)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        await pilot.press(*keys)
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert not app.is_running
    assert app.return_code == 0


async def test_exports_hold_what_the_screen_shows(desk: Desk, tmp_path: Path) -> None:
    app = desk.app(export_dir=tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 6, each=desk.work)
        await pilot.press("e")
        await pilot.pause()
    files = {path.suffix: path.read_text() for path in tmp_path.iterdir()}
    assert set(files) == {".csv", ".json", ".svg"}
    state = json.loads(files[".json"])
    assert state["simulated"] is True
    assert state["comparison"]["phases"]["total"]["predicted_energy_j"] == 700.0
    assert state["grid"]["zone"] == "FRA"
    assert files[".csv"].startswith("seconds_ago,gpu_index,power_w,simulated\n")
    assert ",True\n" in files[".csv"]
    assert "SIMULATED" in files[".svg"]


async def test_rates_and_spans_stay_within_their_limits(desk: Desk) -> None:
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        await pilot.press(*["plus"] * 4)
        assert "10 Hz" in text(app, "TopLine")
        await pilot.press(*["minus"] * 7)
        assert "0.1 Hz" in text(app, "TopLine")
        await pilot.press(*["right_square_bracket"] * 5)
        assert "last 24 h" in text(app, "#power")
        await pilot.press(*["left_square_bracket"] * 5)
        assert "last 1 min" in text(app, "#power")


async def test_arrows_and_clicks_choose_a_gpu(eight: Desk) -> None:
    app = eight.app()
    async with app.run_test(size=SIZE) as pilot:
        await eight.pass_s(pilot, 2)
        assert "power of all 8 GPUs" in text(app, "#power")
        await pilot.press("down", "down")
        assert "power of GPU 1" in text(app, "#power")
        await pilot.click("GpuTable", offset=(5, 7))  # below the headings and the row of sums
        await pilot.pause()
        assert "power of GPU 5" in text(app, "#power")
        await pilot.press("up")
        assert "power of GPU 4" in text(app, "#power")
        await pilot.click("TopLine", offset=(10, 0))
        assert app.query_one(ContentSwitcher).current == "compare"


async def test_a_screen_that_is_too_small_says_so_and_loses_nothing(desk: Desk) -> None:
    desk.rig.set_power(0, 100.0)
    app = desk.app()
    async with app.run_test(size=(39, 5)) as pilot:
        await desk.pass_s(pilot, 5)
        assert "39×5, needs 40×6" in text(app, "#too-small")
        await pilot.resize_terminal(80, 24)
        await desk.pass_s(pilot, 1)
        assert "/700" in text(app, "GpuTable")
        assert abs((app.monitor_state.ledger.totals().energy_j or 0.0) - 600.0) <= 2.1


async def test_help_and_palette_open_over_running_readings(desk: Desk) -> None:
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        await pilot.press("question_mark")
        await desk.pass_s(pilot, 2)
        assert "Glossary" in app.screen.query_one("#help", Lines).text
        await pilot.press("escape")
        await pilot.press("ctrl+p")
        await desk.pass_s(pilot, 2)
        await pilot.press("escape")
        assert app.monitor_state.ledger.totals().elapsed_s == 5.0


async def test_ascii_reaches_every_character_of_the_screen(desk: Desk) -> None:
    glyphs = filter_for(ascii_only=True, term="xterm", encoding="utf-8")
    app = desk.app(glyphs=glyphs)
    async with app.run_test(size=(120, 40)) as pilot:
        await desk.pass_s(pilot, 6, each=desk.work)
        for key in ("1", "2", "3", "escape", "4", "question_mark"):
            await pilot.press(key)
            await pilot.pause()
            lines = app.screen._compositor.render_strips()
            shown = "".join(segment.text for line in lines for segment in line)
            assert shown.isascii(), sorted({c for c in shown if not c.isascii()})
