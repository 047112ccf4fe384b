"""A recording is gone through in both directions, and its sums are those of the moment it stands at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from llmco2_tui.app import MonitorApp
from llmco2_tui.messages import Readings
from llmco2_tui.sources import MachineSources

from .conftest import SIZE, Desk, predict, text

WATTS, SECONDS = 300.0, 2000


@pytest.fixture
def long_recording(tmp_path: Path) -> Path:
    """A recording of 2000 seconds at 300 W."""
    device = {
        "index": 0, "nvml_index": 0, "uuid": "GPU-0", "name": "NVIDIA H100 80GB HBM3", "mig": False,
        "total_memory_bytes": 85520809984, "power_limit_w": 700.0, "has_energy_counter": True,
    }  # fmt: skip
    lines: list[dict[str, Any]] = [
        {"kind": "session", "format": "llmco2-session", "version": 1, "devices": [device]}
    ]
    lines += [
        {"kind": "sample", "t_s": float(s), "gpu_index": 0, "energy_counter_j": WATTS * s, "power_w": WATTS}
        for s in range(SECONDS)
    ]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


async def standing_at(pilot: Pilot[Any], app: MonitorApp, t_s: float) -> None:
    """Wait until every sampling up to ``t_s`` was read."""
    for _ in range(600):
        ledger = app.monitor_state.ledger.gpus.get(0)
        if ledger is not None and ledger.last_s == t_s:
            return
        await pilot.pause(0.02)
    raise AssertionError(f"never stood at {t_s}: {app.monitor_state.ledger.gpus.get(0)}")


async def test_keys_go_through_a_recording_and_back(long_recording: Path) -> None:
    sources = MachineSources(first="replay", recording=long_recording, speed=1e-6)  # it stands still
    app = MonitorApp(sources, predict, Desk.options())
    async with app.run_test(size=SIZE) as pilot:
        await app.workers.wait_for_complete()
        await standing_at(pilot, app, 0.0)
        await pilot.press("greater_than_sign")
        await standing_at(pilot, app, 199.0)  # ten hundredths of 1999 s
        assert app.monitor_state.totals().energy_j == WATTS * 199
        await pilot.press("full_stop")
        await standing_at(pilot, app, 219.0)
        await pilot.press("comma")
        await standing_at(pilot, app, 199.0)
        assert app.monitor_state.totals().energy_j == WATTS * 199
        for _ in range(12):
            await pilot.press("greater_than_sign")
            await pilot.pause(0.15)
        await standing_at(pilot, app, SECONDS - 1.0)
        assert app.monitor_state.totals().energy_j == WATTS * (SECONDS - 1)
        assert "ended; 0 plays it again" in text(app, "Banner")


def test_samplings_of_a_recording_are_never_replaced_by_newer_ones() -> None:
    one, several = Readings(samplings=((),), source=1), Readings(samplings=((), ()), source=1)
    assert one.can_replace(one)
    assert not one.can_replace(several)
    assert not several.can_replace(several)
    assert not one.can_replace(Readings(samplings=((),), source=2))
