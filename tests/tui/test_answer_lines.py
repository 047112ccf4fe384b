"""The three lines on top answer at any size, and never cut a figure in half."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmco2_tui.comparison import compare
from llmco2_tui.ledger import Totals
from llmco2_tui.measured import WHOLE
from llmco2_tui.views import TotalsView
from llmco2_tui.widgets.answer_lines import AnswerView, Part, answer_lines, fit_parts, gpus_text
from llmco2_tui.widgets.lines import Line

from .conftest import REQUEST, SIZE, Desk, account, entry, footprint, text

ANSWERS = {REQUEST: footprint(REQUEST)}


def totals(**changes: object) -> Totals:
    values = {
        "n_gpus": 8,
        "n_with_power": 8,
        "n_with_energy": 8,
        "refused": 0,
        "restarts": 0,
        "power_w": 2750.0,
        "power_limit_w": 5600.0,
        "energy_j": 33_330.0,
        "idle_j": 700.0,
        "elapsed_s": 3600.0,
        "n_lost": 0,
        "integrated": False,
    }
    return Totals(**{**values, **changes})  # type: ignore[arg-type]


def view(measured_j: float | None = 800.0, *, simulated: bool = False, **of_totals: object) -> AnswerView:
    entries = [] if measured_j is None else [replace(entry(WHOLE, 1.0, measured_j), simulated=simulated)]
    return AnswerView(
        totals=TotalsView(totals=totals(**of_totals), operational_g=8.33, embodied_g=0.792),
        grams_per_hour=318.0,
        gpu_names=["NVIDIA H100 80GB HBM3"] * 8,
        comparison=compare(REQUEST, entries, ANSWERS, account("FRA")),
        simulated=simulated,
    )


def words(line: Line) -> str:
    return "".join(piece for piece, _ in line)


def shown(answer: AnswerView, width: int) -> list[str]:
    return [words(line) for line in answer_lines(answer, width)]


def test_a_wide_screen_says_everything() -> None:
    cost, workload, verdict = shown(view(720.0), 120)
    assert cost == (
        "2,750 W of 5,600 · 33.3 kJ = 9.26 Wh · 8.33 g CO2e + 792 mg embodied · 318 g/h in 1:00:00"
    )
    assert workload == "Llama-3.1-8B-Instruct batch 8 512+256 tokens bf16 on H100-SXM5-80GB"
    # 700 J and 720 J × 1.2 / 3.6e6 × 48 g/kWh, a quarter to each side
    assert verdict == "predicted 11.2 mg [8.40–14.0] measured 11.5 mg CO2e -2.8 % INSIDE the interval"


@pytest.mark.parametrize("zone_id", ["FRA", "POL"])
@given(batches=st.floats(1e-3, 1e9))
def test_the_interval_is_in_the_unit_of_the_prediction(zone_id: str, batches: float) -> None:
    entries = [replace(entry(WHOLE, 1.0, 700.0 * batches), batches=batches)]
    compared = compare(REQUEST, entries, ANSWERS, account(zone_id))
    verdict = words(answer_lines(replace(view(), comparison=compared), 120)[2])
    found = re.match(r"predicted (\S+) \S+ \[(\S+)–(\S+)\]", verdict)
    assert found is not None
    predicted, low, high = (float(number.replace(",", "")) for number in found.groups())
    assert low == pytest.approx(0.75 * predicted, rel=0.02)
    assert high == pytest.approx(1.25 * predicted, rel=0.02)


def test_kilowatt_hours_are_said_once() -> None:
    cost = shown(view(energy_j=5.076e6), 120)[0]
    assert "· 1.41 kWh · 8.33 g" in cost


def test_forty_columns_keep_the_figures() -> None:
    cost, workload, verdict = shown(view(), 40)
    assert cost == "2,750 W 33.3 kJ 8.33 g 318 g/h"
    assert workload == "Llama-3.1-8B-Instruct on H100-SXM5-80GB"
    assert verdict == "11.2 mg [8.40–14.0] vs 12.8 mg INSIDE"
    cost, _, verdict = shown(view(simulated=True), 40)
    assert cost.startswith("SIMULATED 2,750 W")
    assert verdict.endswith("12.8 mg simulated")


@pytest.mark.parametrize(("measured_j", "word"), [(5000.0, "ABOVE"), (10.0, "BELOW"), (700.0, "INSIDE")])
def test_the_verdict_is_one_word(measured_j: float, word: str) -> None:
    assert f" {word} the interval" in shown(view(measured_j), 100)[2]


def test_a_sum_that_lacks_a_gpu_says_so_at_any_width() -> None:
    for width in (40, 60, 80, 120):
        assert "(1 of 8 GPUs)" in shown(view(n_with_power=1, n_with_energy=1), width)[0]


def test_nothing_measured_and_nothing_in_view_are_said() -> None:
    assert shown(view(None), 80)[2] == "predicted 11.2 mg [8.40–14.0] measured – CO2e"
    bare = replace(view(), comparison=compare(None, [], {}, account("FRA")))
    assert shown(bare, 80)[1:] == [
        "no workload in view (3 types one in) on 8× H100-SXM5-80GB",
        "predicted: nothing; measured: nothing",
    ]
    refused = compare(REQUEST, [], {REQUEST: "it does not fit"}, account("FRA"))
    assert shown(replace(view(), comparison=refused), 80)[2] == "NO PREDICTION it does not fit"


def test_what_is_wrong_takes_the_first_line() -> None:
    assert shown(replace(view(), trouble="NO READING: the driver is gone"), 80)[0].startswith("NO READING")


def test_gpus_are_named_once_a_kind() -> None:
    assert gpus_text(["NVIDIA L4", "NVIDIA H100 80GB HBM3", "NVIDIA L4"]) == "2× L4, H100-SXM5-80GB"
    assert gpus_text([]) == "no GPU"


parts = st.lists(st.builds(Part, st.text("abc ×·µ", min_size=0, max_size=12), st.just(""), st.integers(0, 8)))


@given(parts=parts, width=st.integers(1, 80))
def test_pieces_are_whole_in_order_and_fit_where_they_may_go(parts: list[Part], width: int) -> None:
    line = fit_parts(parts, width)
    kept = [piece for piece, _ in line][::2]
    given_texts = iter(part.text for part in parts)
    assert all(piece in given_texts for piece in kept)
    never = [part for part in parts if part.text and part.goes == 0]
    if cell_len(words(line)) > width:
        assert len(kept) <= max(1, len(never))


@pytest.mark.parametrize("size", [(40, 6), (60, 15), (79, 24), (80, 24), (120, 40)])
@pytest.mark.parametrize("key", ["1", "2", "4"])
async def test_the_lines_stay_in_every_view_at_every_size(
    desk: Desk, size: tuple[int, int], key: str
) -> None:
    app = desk.app()
    async with app.run_test(size=size) as pilot:
        await desk.pass_s(pilot, 6, each=desk.work)
        await pilot.press(key)
        await pilot.pause()
        lines = ["".join(s.text for s in strip) for strip in app.screen._compositor.render_strips()]
        assert [line.rstrip() for line in lines[:3]] == text(app, "AnswerLines").splitlines()
        assert lines[0].lstrip().startswith("SIMULATED")
        assert all(len(line) <= size[0] for line in text(app, "AnswerLines").splitlines())


async def test_a_machine_without_readings_says_so_on_top(desk: Desk) -> None:
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 2)
        assert " W " in text(app, "AnswerLines").splitlines()[0]
