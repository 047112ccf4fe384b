"""The screen driven by keys: what is shown follows readings, answers, the zone and what people type."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, Input

from llmco2.errors import MeasurementError
from llmco2.measurement.meter import EnergyMeter
from llmco2.measurement.run_log import RunLog
from llmco2.measurement.session_file import SessionRecorder, read_session
from llmco2.measurement.zeus_meter import ZeusMeter
from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2_tui.app import MonitorApp
from llmco2_tui.campaign import CampaignFollower
from llmco2_tui.glyphs import filter_for
from llmco2_tui.measured import RunFeed
from llmco2_tui.messages import Readings
from llmco2_tui.sources import MachineSources, Source
from llmco2_tui.watching import watching
from llmco2_tui.widgets.lines import Lines

from .conftest import DECODE_J, PREFILL_J, REQUEST, STEADY, Desk, MakeDesk, account, predict, predict_nothing
from .test_campaign import run

SIZE = (80, 24)


def text(app: MonitorApp, selector: str) -> str:
    found = app.screen_stack[0].query_one(selector, Lines)
    return found.text


async def typed(pilot: Pilot[Any], field: str, value: str) -> None:
    found = pilot.app.query_one(f"#field-{field}", Input)
    found.focus()
    await pilot.pause()  # focus selects what stands there
    found.value = value[:-1]
    found.cursor_position = len(value) - 1
    await pilot.press(value[-1])  # the last one by key, so that keys are seen to reach the form
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def test_power_energy_and_grams_are_those_of_the_simulation(desk: Desk) -> None:
    desk.rig.set_power(0, 350.0)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 10)
        assert "350/700" in text(app, "GpuTable")
        totals = app.sitting.ledger.totals()
        truth_j = desk.rig.true_energy_j(0, 0.0, 10.0)
        assert totals.energy_j is not None
        assert abs(totals.energy_j - truth_j) <= 0.02 * 350.0 + 0.01  # one tick of the counter
        assert "3.50 kJ" in text(app, "TotalsPanel")
        assert "56.0 mg CO2e" in text(app, "TotalsPanel")  # 3500 J × 1.2 × 48 g/kWh
        assert "SIMULATED" in text(app, "Banner")


async def test_a_burst_that_is_dropped_costs_no_joule(desk: Desk) -> None:
    desk.rig.set_power(0, 500.0)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        seen = []
        app._readings = seen.append  # type: ignore[method-assign,assignment]
        desk.rig.clock.sleep(50.0)  # fifty messages wait; each replaces the one before
        await pilot.pause()
        del app._readings
        await desk.pass_s(pilot, 1)
        totals = app.sitting.ledger.totals()
        assert totals.energy_j is not None
        assert abs(totals.energy_j - desk.rig.true_energy_j(0, 0.0, desk.rig.clock.now_s())) <= 10.1


def test_only_newer_readings_of_the_same_source_replace_older_ones() -> None:
    older, newer, other = (Readings(samplings=(), source=n) for n in (1, 1, 2))
    assert newer.can_replace(older)
    assert not other.can_replace(older)


async def test_predicted_stands_beside_measured(desk: Desk) -> None:
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 11, each=desk.work)
        await pilot.press("2")
        await pilot.pause()
        shown = text(app, "#comparison")
        assert "2 batches measured" in shown
        total = next(line for line in shown.splitlines() if line.startswith("  total"))
        assert total.split()[:5] == ["total", "1,400", "1,050", "–", "1,750"]
        assert "1,350" in total
        assert "+3.7 %" in total
        assert "INSIDE the 90 % interval" in shown
        await pilot.press("t")
        await pilot.pause()
        per_token = text(app, "#comparison")
        assert "energy, mJ/token" in per_token
        assert f"{1000 * (PREFILL_J + DECODE_J) / 2048:.0f}" in per_token


async def test_choosing_a_zone_changes_every_gram(desk: Desk) -> None:
    desk.rig.set_power(0, 350.0)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 10)
        assert "56.0 mg CO2e" in text(app, "TotalsPanel")
        await pilot.press("z")
        await pilot.press(*"pol")
        await pilot.press("enter")
        await pilot.pause()
        assert "840 mg CO2e" in text(app, "TotalsPanel")
        assert "POL Poland 720 gCO2e/kWh" in text(app, "#live-grid")
        assert "STALE: 7 y old" in text(app, "#live-grid")


async def test_the_form_answers_as_one_types(desk: Desk) -> None:
    app = desk.app(request=REQUEST)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        await pilot.press("3")
        await pilot.pause()
        await typed(pilot, "batch-size", "16")
        table = text(app, "AnswerTable")
        total = next(line for line in table.splitlines() if line.startswith("total"))
        assert total.split() == ["total", "700", "J", "1.40", "kJ", "+100", "%"]
        await typed(pilot, "zone", "POL")
        operational = next(
            line for line in text(app, "AnswerTable").splitlines() if line.startswith("CO2e operational")
        )
        assert operational.split()[-2:] == ["+2,900", "%"]  # twice the energy at fifteen times the intensity
        await typed(pilot, "batch-size", "many")
        assert "batch is not a number: got 'many'" in text(app, "#form-error")
        await typed(pilot, "batch-size", "16")
        await typed(pilot, "model", "meta-llama/Llama-3.1-9B")
        words = " ".join(text(app, "AnswerTable").split())
        assert "did you mean meta-llama/Llama-3.1-8B-Instruct?" in words


async def test_a_form_taken_into_view_is_measured_by_marks(desk: Desk) -> None:
    desk.rig.set_power(0, 350.0)
    app = desk.app(request=REQUEST)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        await pilot.press("3")
        await typed(pilot, "batch-size", "16")
        await pilot.press("f6")
        await pilot.pause()
        assert app.query_one(ContentSwitcher).current == "compare"
        assert "batch 16" in text(app, "#comparison")
        assert "nothing measured yet" in text(app, "#comparison")
        await pilot.press("m")
        await desk.pass_s(pilot, 4)
        await pilot.press("m")
        await pilot.pause()
        total = next(line for line in text(app, "#comparison").splitlines() if line.startswith("  total"))
        assert "1,400" in total.split()
        assert "+0.0" in total or "-0.0" in total  # 4 s at 350 W, as predicted


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


async def test_a_lost_gpu_is_grey_with_its_reason_and_comes_back(make_desk: MakeDesk) -> None:
    desk = make_desk(STEADY, STEADY)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 3)
        desk.rig.lose(1)
        await desk.pass_s(pilot, 3)
        assert "LOST GPU 1" in text(app, "Banner")
        assert "fallen off the bus" in text(app, "GpuTable")
        before_j = app.sitting.ledger.gpus[1].energy_j
        desk.rig.find(1)
        await desk.pass_s(pilot, 3)
        assert "LOST" not in text(app, "Banner") + text(app, "GpuTable")
        after_j = app.sitting.ledger.gpus[1].energy_j
        assert before_j is not None
        assert after_j is not None
        assert abs(after_j - desk.rig.true_energy_j(1, 0.0, desk.rig.clock.now_s())) < 3.0


class NoGpu(Desk):
    """A machine without a driver until it is simulated."""

    def open(self) -> Source:
        raise MeasurementError(
            "no NVIDIA GPU can be read: libnvidia-ml.so.1 was not found; install the driver"
        )

    def simulate(self) -> Source:
        return Desk.open(self)


async def test_no_gpu_says_so_and_offers_a_way_on(desk: Desk) -> None:
    app = NoGpu(rig=desk.rig).app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        offer = text(app, "#no-source")
        assert "libnvidia-ml.so.1 was not found" in offer
        assert "--simulate" in offer
        assert "--replay" in offer
        await pilot.press("p")
        await desk.pass_s(pilot, 1)
        assert "no recording at this desk" in text(app, "#no-source")
        await pilot.press("s")
        await desk.pass_s(pilot, 2)
        assert "/700" in text(app, "GpuTable")


async def test_a_driver_that_goes_silent_is_said_and_tried_again(desk: Desk) -> None:
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 2)
        assert app._reader.source is not None
        app._reader.source.meter.close()
        await desk.pass_s(pilot, 2)
        app._watch()
        await pilot.pause()
        assert "NO READING: the meter is closed" in text(app, "Banner")


async def test_what_cannot_be_predicted_says_why(desk: Desk) -> None:
    app = desk.app(predict=predict_nothing)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 6, each=desk.work)
        assert "does not fit one H100-SXM5-80GB" in text(app, "#comparison")


async def test_a_predictor_that_breaks_is_a_reason_and_no_crash(desk: Desk) -> None:
    def broken(request: InferenceRequest) -> Footprint:
        raise ZeroDivisionError("float division by zero")

    app = desk.app(predict=broken)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 6, each=desk.work)
        assert "unexpected ZeroDivisionError: float division by zero" in text(app, "#comparison")
        assert "prefill       measured 75.0 J" in text(app, "#comparison")


async def test_a_run_of_this_process_is_watched_while_it_works(desk: Desk) -> None:
    done = threading.Event()

    def work(meter: EnergyMeter, feed: RunFeed) -> None:
        feed.serve(REQUEST)
        meter.begin_window("prefill")
        desk.rig.set_power(0, 600.0)
        desk.rig.clock.sleep(2.0)
        feed.window(meter.end_window("prefill"), batches=20.0)
        done.set()

    meter = ZeusMeter(clock=desk.rig.clock)
    app, run_ = watching(work, meter, predict=predict, options=desk.options(), poll_clock=desk.rig.clock)
    async with app.run_test(size=SIZE) as pilot:
        await app.workers.wait_for_complete()
        assert await asyncio.to_thread(done.wait, 30)
        await desk.pass_s(pilot, 2)
        shown = text(app, "#comparison")
        assert "20 batches measured" in shown
        prefill = next(line for line in shown.splitlines() if line.startswith("  prefill"))
        assert {"1,400", "1,200"} <= set(prefill.split())  # 20 batches of 70 J, and 2 s at 600 W
    assert run_.error is None


async def test_each_request_is_predicted_once_and_never_on_the_screen_s_thread(desk: Desk) -> None:
    calls: list[tuple[InferenceRequest, int]] = []

    def counted(request: InferenceRequest) -> Footprint:
        calls.append((request, threading.get_ident()))
        return predict(request)

    app = desk.app(predict=counted)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 16, each=desk.work)
    assert [request for request, _ in calls] == [REQUEST]
    assert calls[0][1] != threading.get_ident()


async def test_a_campaign_is_the_workload_in_view(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with RunLog(path) as log:
        log.append(run(1))
        log.append(run(2, failed="oom: 90 GB of 80"))
        app = desk.app(campaign=CampaignFollower(path))
        async with app.run_test(size=SIZE) as pilot:
            await desk.pass_s(pilot, 1)
            await pilot.press("4")
            await pilot.pause()
            assert "oom: 90 GB of 80" in text(app, "#campaign")
            log.append(run(3))
            app._look_at_campaign()
            await desk.pass_s(pilot, 1)
            assert "2 measured" in text(app, "#campaign")
            assert "2 batches measured" in text(app, "#comparison")


async def test_a_recorded_sitting_replays_to_the_same_sums(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "sitting.jsonl"
    app = desk.app(record=lambda source: SessionRecorder(path, source.meter))
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 12, each=desk.work)
        assert "recording" in text(app, "TopLine")
        lived, compared = app.sitting.ledger.totals(), app.sitting.comparison
    assert len(read_session(path).samples) == 13

    again = MonitorApp(MachineSources(first="replay", recording=path, speed=1e6), predict, Desk.options())
    async with again.run_test(size=SIZE) as pilot:
        await again.workers.wait_for_complete()
        while again.sitting.ledger.totals().elapsed_s < lived.elapsed_s:
            await pilot.pause(0.02)
        await again.workers.wait_for_complete()
        await pilot.pause()
        played = again.sitting.ledger.totals()
        assert played == lived
        assert again.sitting.comparison.rows == compared.rows
        assert "ended" in text(again, "Banner")
        await pilot.press("space")
        assert "paused" in text(again, "Banner") or "ended" in text(again, "Banner")


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


async def test_zero_counts_from_now_on(desk: Desk) -> None:
    desk.rig.set_power(0, 100.0)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 5)
        await pilot.press("0")
        await desk.pass_s(pilot, 3)
        totals = app.sitting.ledger.totals()
        assert totals.elapsed_s == 2.0
        assert totals.energy_j is not None
        assert abs(totals.energy_j - 200.0) <= 2.1


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
        await pilot.click("GpuTable", offset=(5, 6))
        assert "power of GPU 5" in text(app, "#power")
        await pilot.press("up")
        assert "power of GPU 4" in text(app, "#power")
        await pilot.click("TopLine", offset=(10, 0))
        assert app.query_one(ContentSwitcher).current == "compare"


async def test_a_screen_that_is_too_small_says_so_and_loses_nothing(desk: Desk) -> None:
    desk.rig.set_power(0, 100.0)
    app = desk.app()
    async with app.run_test(size=(60, 15)) as pilot:
        await desk.pass_s(pilot, 5)
        assert "60×15, needs 80×24" in text(app, "#too-small")
        await pilot.resize_terminal(80, 24)
        await desk.pass_s(pilot, 1)
        assert "/700" in text(app, "GpuTable")
        assert abs((app.sitting.ledger.totals().energy_j or 0.0) - 600.0) <= 2.1


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
        assert app.sitting.ledger.totals().elapsed_s == 5.0


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


async def test_the_account_of_the_command_line_is_kept(desk: Desk) -> None:
    app = desk.app(zone=None)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        assert "WOR World (assumed; z chooses)" in text(app, "#live-grid")
    assert account(None).view.assumed
