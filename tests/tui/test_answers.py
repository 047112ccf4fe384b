"""Predicted beside measured: what is shown follows answers, the zone and what people type into the form."""

from __future__ import annotations

import threading
from pathlib import Path

from textual.widgets import ContentSwitcher

from llmco2.measurement.campaigns.run_log import RunLog
from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2_tui.campaign import CampaignFollower

from .conftest import (
    DECODE_J,
    PREFILL_J,
    REQUEST,
    SIZE,
    Desk,
    account,
    predict,
    predict_nothing,
    text,
    typed,
)
from .test_campaign import run


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
        assert total.split()[-1] == "–"
        assert "SIMULATED measurement: it judges no prediction" in shown
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
        assert "56.0 mg CO2e" in text(app, "AnswerLines")
        await pilot.press("z")
        await pilot.press(*"pol")
        await pilot.press("enter")
        await pilot.pause()
        assert "840 mg CO2e" in text(app, "AnswerLines")
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
        assert total.split()[-2:] == ["1,400", "–"]  # 4 s at 350 W, as predicted; simulated, so not judged
        assert "SIMULATED measurement: it judges no prediction" in text(app, "#comparison")


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


async def test_the_account_of_the_command_line_is_kept(desk: Desk) -> None:
    app = desk.app(zone=None)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        assert "WOR World (assumed; z chooses)" in text(app, "#live-grid")
    assert account(None).view.assumed
