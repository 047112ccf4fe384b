"""How every state looks, at 80×24 and at 120×40: the specification of the screen, as pictures.

After a wanted change: ``python -m pytest tests/tui/test_snapshots.py --snapshot-update``, and look at each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from llmco2.measurement.campaigns.run_log import RunLog
from llmco2.measurement.simulation.rig import SimulatedGpu
from llmco2_tui.campaign import CampaignFollower
from llmco2_tui.glyphs import filter_for

from .conftest import REQUEST, STEADY, Desk, MakeDesk, NoGpu, predict, predict_nothing, with_state
from .test_campaign import run

SIZES = ((80, 24), (120, 40))
Compare = Callable[..., bool]


@dataclass(frozen=True, kw_only=True)
class State:
    """How to get there."""

    gpus: tuple[SimulatedGpu, ...] = (STEADY,)
    prepare: Callable[[Desk], None] = lambda desk: None
    each: Callable[[Desk, int], None] = lambda desk, second: desk.work(second)
    seconds: int = 20
    keys: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def lose_one(desk: Desk, second: int) -> None:
    desk.work(second)
    if second == 12:
        desk.rig.lose(1)


def stranger(desk: Desk) -> None:
    desk.rig.set_process(0, 1)


def too_hot(desk: Desk) -> None:
    desk.rig.set(0, throttle=0x4 | 0x40)


def busy_eight(desk: Desk, second: int) -> None:
    desk.work(second)
    for gpu in range(1, 7):
        desk.rig.set_power(gpu, 250.0 + 60.0 * gpu + 40.0 * ((second + gpu) % 3))
        desk.rig.set(gpu, utilization=90 + gpu)


STATES = {
    "one_gpu": State(),
    "eight_gpus": State(gpus=(STEADY,) * 8, each=busy_eight),
    "mig": State(gpus=(with_state(mig=True),)),
    "shared_gpu": State(prepare=stranger),
    "lost_gpu": State(gpus=(STEADY, STEADY), each=lose_one),
    "no_energy_counter": State(gpus=(with_state(has_counter=False),)),
    "throttled": State(prepare=too_hot),
    "no_prediction": State(keys=("2",), options={"predict": predict_nothing}),
    "out_of_domain": State(
        keys=("2",),
        seconds=3,
        each=lambda desk, second: None,
        options={"request": type(REQUEST)(model=REQUEST.model, gpu=REQUEST.gpu, batch_size=128)},
    ),
    "stale_grid": State(keys=("2",), options={"zone": "POL"}),
    "compare": State(keys=("2",)),
    "per_token": State(keys=("2", "t")),
    "what_if": State(keys=("3", "tab", "tab", "tab", "backspace", "1", "6")),
    "help": State(keys=("question_mark",)),
    "zone": State(keys=("z", "f")),
    "light": State(options={"light": True}),
    "ascii": State(options={"glyphs": filter_for(ascii_only=True, term="xterm", encoding="utf-8")}),
}

SMALL_ONLY = ("help", "zone", "light", "ascii", "per_token", "throttled")  # alike at any size


def look(desk: Desk, state: State) -> Callable[[Pilot[Any]], Awaitable[None]]:
    async def run_before(pilot: Pilot[Any]) -> None:
        pilot.app.cursor_blink = False  # type: ignore[attr-defined]
        await desk.pass_s(pilot, state.seconds, each=lambda second: state.each(desk, second))
        for key in state.keys:
            await pilot.press(key)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        for found in pilot.app.screen.query("Input"):
            found.cursor_blink = False  # type: ignore[attr-defined]
        await pilot.pause()

    return run_before


CASES = [(name, size) for name in STATES for size in SIZES if size == SIZES[0] or name not in SMALL_ONLY]


@pytest.mark.parametrize(("name", "size"), CASES, ids=[f"{name}-{w}x{h}" for name, (w, h) in CASES])
def test_state(make_desk: MakeDesk, snap_compare: Compare, name: str, size: tuple[int, int]) -> None:
    state = STATES[name]
    desk = make_desk(*state.gpus)
    state.prepare(desk)
    app = desk.app(**{"predict": predict, **state.options})
    assert snap_compare(app, run_before=look(desk, state), terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_no_gpu(desk: Desk, snap_compare: Compare, size: tuple[int, int]) -> None:
    app = NoGpu(rig=desk.rig).app()
    assert snap_compare(app, run_before=look(desk, State(seconds=1)), terminal_size=size)


@pytest.mark.parametrize("size", [(79, 24), (39, 6)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_small(desk: Desk, snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(desk.app(), run_before=look(desk, State(seconds=6)), terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_campaign(desk: Desk, snap_compare: Compare, size: tuple[int, int], tmp_path: Path) -> None:
    path = Path("runs.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with RunLog(path) as log:
            for number in range(6):
                log.append(run(number, failed="does_not_fit: 163 GB of 80" if number == 2 else None))
        plan = Path("plan.yaml")
        plan.write_text("defaults: {model: m}\ngrid: {batch_size: [1, 2, 4], prompt_tokens: [16, 32, 64]}\n")
        app = desk.app(campaign=CampaignFollower(path, plan=plan))
        state = State(seconds=2, keys=("4",), each=lambda desk, second: None)
        assert snap_compare(app, run_before=look(desk, state), terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_no_color(
    desk: Desk, snap_compare: Compare, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(desk.app(), run_before=look(desk, State(keys=("2",))), terminal_size=size)
