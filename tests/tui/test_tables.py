"""The tables of GPUs and processes are sorted, scrolled and chosen from without mixing up rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmco2.measurement.meters.processes import GpuProcess, gpu_process, printable
from llmco2_tui.widgets.gpu_table import GpuTable, columns_for, spark_width

from .conftest import SIZE, Desk, text


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()[1:]]


async def test_gpus_have_names_and_a_row_of_sums(eight: Desk) -> None:
    app = eight.app()
    async with app.run_test(size=SIZE) as pilot:
        await eight.pass_s(pilot, 3)
        found = rows(text(app, "GpuTable"))
        assert found[0][:3] == ["Σ", "8", "GPUs"]
        assert found[0][3] == "3,220/5,600"  # 300 + 350 + … + 600 W, and 70 W of the one that rests
        assert [row[:2] for row in found[1:]] == [[str(n), "H100-SXM5-80GB"] for n in range(8)]


async def test_sorting_moves_rows_and_keeps_the_chosen_gpu(eight: Desk) -> None:
    app = eight.app()
    async with app.run_test(size=SIZE) as pilot:
        await eight.pass_s(pilot, 3)
        await pilot.press("down", "down", "down")
        assert "power of GPU 2" in text(app, "#power")
        await pilot.press("o")  # by power, the most first
        await pilot.pause()
        assert [row[0] for row in rows(text(app, "GpuTable"))] == ["Σ", *"65432107"]
        assert "power of GPU 2" in text(app, "#power")
        await pilot.press("down")
        await pilot.pause()
        assert "power of GPU 1" in text(app, "#power")
        await pilot.press("O")
        await pilot.pause()
        assert [row[0] for row in rows(text(app, "GpuTable"))] == ["Σ", *"70123456"]
        eight.rig.set_power(7, 650.0)
        await eight.pass_s(pilot, 2)
        assert [row[0] for row in rows(text(app, "GpuTable"))] == ["Σ", *"01234567"]


async def test_a_click_on_a_heading_sorts_by_it(eight: Desk) -> None:
    app = eight.app()
    async with app.run_test(size=SIZE) as pilot:
        await eight.pass_s(pilot, 3)
        await pilot.click("GpuTable", offset=(25, 0))  # W/limit
        await pilot.pause()
        assert app.monitor_state.sort == "power"
        assert "▼W/limit" in text(app, "GpuTable")


async def test_more_gpus_than_rows_scroll_with_the_cursor(make_desk) -> None:  # type: ignore[no-untyped-def]
    desk = make_desk(*[make_desk().rig.gpus[0]] * 16)
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 2)
        await pilot.press(*["down"] * 16)
        await pilot.pause()
        table = app.query_one(GpuTable)
        assert "power of GPU 15" in text(app, "#power")
        assert table.scroll_offset.y > 0
        await desk.pass_s(pilot, 2)
        assert table.cursor_row == 16


@pytest.mark.parametrize("width", [38, 58, 77, 78, 99, 118, 200])
def test_columns_fill_the_width_and_never_more_than_they_need(width: int) -> None:
    columns = columns_for(width)
    used = sum(column.width for column in columns)
    assert used == width if width >= 78 else used == 78
    assert spark_width(width) >= 6


async def test_processes_have_users_and_commands(desk: Desk) -> None:
    desk.rig.set_process(0, os.getpid())
    app = desk.app()
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 3)
        (row,) = rows(text(app, "ProcessTable"))
        assert row[:2] == ["0", str(os.getpid())]
        assert "python" in " ".join(row) or "pytest" in " ".join(row)


def test_what_proc_does_not_show_is_not_made_up(tmp_path: Path) -> None:
    assert gpu_process(0, 4_000_000, None, tmp_path) == GpuProcess(gpu_index=0, pid=4_000_000)
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"")
    (folder / "comm").write_bytes(b"kthread\n")
    found = gpu_process(1, 7, 2**30, tmp_path)
    assert found.command == "kthread"
    assert found.memory_bytes == 2**30
    assert found.user is not None


def test_other_people_s_commands_cannot_write_on_the_terminal() -> None:
    assert printable("python\x1b[2J\x07 serve\n\u202eevil") == "python [2J  serve  evil"
    assert len(printable("x" * 10_000)) == 200
