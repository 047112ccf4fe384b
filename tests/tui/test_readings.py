"""The screen follows its source: live, lost, silent, recorded or replayed; no joule is lost or invented."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from llmco2.measurement.meters.meter import EnergyMeter
from llmco2.measurement.meters.session_file import SessionRecorder, read_session
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2_tui.app import MonitorApp
from llmco2_tui.measured import RunFeed
from llmco2_tui.messages import Readings
from llmco2_tui.sources import MachineSources
from llmco2_tui.watching import watching

from .conftest import (
    REQUEST,
    SIZE,
    STEADY,
    Desk,
    MakeDesk,
    NoGpu,
    predict,
    text,
)


async def test_power_energy_and_grams_are_those_of_the_simulation(desk: Desk) -> None:
    desk.rig.set_power(0, 350.0)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 10)
        assert "350/700" in text(app, "GpuTable")
        totals = app.monitor_state.ledger.totals()
        truth_j = desk.rig.true_energy_j(0, 0.0, 10.0)
        assert totals.energy_j is not None
        assert abs(totals.energy_j - truth_j) <= 0.02 * 350.0 + 0.01  # one tick of the counter
        assert "3.50 kJ" in text(app, "AnswerLines")
        assert "56.0 mg CO2e" in text(app, "AnswerLines")  # 3500 J × 1.2 × 48 g/kWh
        assert "SIMULATED" in text(app, "AnswerLines")


async def test_a_burst_that_is_dropped_costs_no_joule(desk: Desk) -> None:
    desk.rig.set_power(0, 500.0)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        desk.rig.clock.sleep(50.0)  # fifty messages wait; each replaces the one before
        await pilot.pause()
        await desk.pass_s(pilot, 1)
        totals = app.monitor_state.ledger.totals()
        assert totals.energy_j is not None
        assert abs(totals.energy_j - desk.rig.true_energy_j(0, 0.0, desk.rig.clock.now_s())) <= 10.1


def test_only_newer_readings_of_the_same_source_replace_older_ones() -> None:
    older, newer, other = (Readings(samplings=((),), source=n) for n in (1, 1, 2))
    assert newer.can_replace(older)
    assert not other.can_replace(older)
    passed = Readings(samplings=((), ()), source=1)  # several of a recording
    assert not newer.can_replace(passed)
    assert not passed.can_replace(older)


async def test_a_lost_gpu_is_grey_with_its_reason_and_comes_back(make_desk: MakeDesk) -> None:
    desk = make_desk(STEADY, STEADY)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 3)
        desk.rig.lose(1)
        await desk.pass_s(pilot, 3)
        assert "LOST GPU 1" in text(app, "Banner")
        assert "fallen off the bus" in text(app, "#gpu-notes")
        before_j = app.monitor_state.ledger.gpus[1].energy_j
        desk.rig.find(1)
        await desk.pass_s(pilot, 3)
        assert "LOST" not in text(app, "Banner") + text(app, "GpuTable")
        after_j = app.monitor_state.ledger.gpus[1].energy_j
        assert before_j is not None
        assert after_j is not None
        assert abs(after_j - desk.rig.true_energy_j(1, 0.0, desk.rig.clock.now_s())) < 3.0


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


async def test_a_recorded_sitting_replays_to_the_same_sums(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "sitting.jsonl"
    app = desk.app(record=lambda source: SessionRecorder(path, source.meter))
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 12, each=desk.work)
        assert "recording" in text(app, "TopLine")
        lived, compared = app.monitor_state.ledger.totals(), app.monitor_state.comparison
    assert len(read_session(path).samples) == 13

    again = MonitorApp(MachineSources(first="replay", recording=path, speed=1e6), predict, Desk.options())
    async with again.run_test(size=SIZE) as pilot:
        await again.workers.wait_for_complete()
        while again.monitor_state.ledger.totals().elapsed_s < lived.elapsed_s:
            await pilot.pause(0.02)
        await again.workers.wait_for_complete()
        await pilot.pause()
        played = again.monitor_state.ledger.totals()
        assert played == lived
        assert again.monitor_state.comparison.rows == compared.rows
        assert "ended" in text(again, "Banner")
        await pilot.press("space")
        assert "paused" in text(again, "Banner") or "ended" in text(again, "Banner")


async def test_zero_counts_from_now_on(desk: Desk) -> None:
    desk.rig.set_power(0, 100.0)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 5)
        await pilot.press("0")
        await desk.pass_s(pilot, 3)
        totals = app.monitor_state.ledger.totals()
        assert totals.elapsed_s == 2.0
        assert totals.energy_j is not None
        assert abs(totals.energy_j - 200.0) <= 2.1
