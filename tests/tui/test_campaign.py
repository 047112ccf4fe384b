"""Following a campaign's file reads each complete line once and disturbs nobody."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from llmco2.errors import InputError
from llmco2.measurement.campaigns.run_log import RunLog
from llmco2.records.run import MeasuredRun
from llmco2_tui.campaign import CampaignFollower, CampaignView
from llmco2_tui.widgets.campaign_panel import campaign_lines

from .conftest import REQUEST


def run(number: int, *, failed: str | None = None) -> MeasuredRun:
    return MeasuredRun(
        run_id=f"{number:016x}",
        source="quick",
        simulated=True,
        status="failed" if failed else "ok",
        failure_reason=failed,
        model=REQUEST.model,
        gpu=REQUEST.gpu,
        precision="bf16",
        batch_size=8,
        prompt_tokens=512,
        output_tokens=256,
        prefill_energy_j=None if failed else 75.0,
        decode_energy_j=None if failed else 600.0,
        ttft_s=0.1,
        latency_s=2.0,
    )


def text(view: CampaignView | None, height: int = 20) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in campaign_lines(view, 80, height))


def seen(follower: CampaignFollower) -> CampaignView:
    view = follower.look()
    assert view is not None
    return view


def test_rows_come_as_they_are_written_while_the_writer_holds_the_file(tmp_path: Path) -> None:
    follower = CampaignFollower(tmp_path / "runs.jsonl")
    assert "waiting for the file" in text(seen(follower))
    with RunLog(tmp_path / "runs.jsonl") as log:
        log.append(run(1))
        view = seen(follower)
        assert (view.n_ok, view.n_failed, len(view.entries)) == (1, 0, 2)
        assert follower.look() is None  # nothing new
        log.append(run(2, failed="does_not_fit: 163 GB of 80"))
        log.append(run(3))
        view = seen(follower)
    assert (view.n_ok, view.n_failed, len(view.entries)) == (2, 1, 4)
    assert view.simulated
    assert "does_not_fit: 163 GB of 80" in text(view)
    assert "SIMULATED" in text(view)
    assert text(view).count("prefill 75 J + decode 600 J") == 2


def test_a_line_being_written_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with RunLog(path) as log:
        log.append(run(1))
        log.append(run(2))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    follower = CampaignFollower(path)
    assert seen(follower).n_ok == 1
    with path.open("ab") as file:
        file.write(whole[len(whole) - 40 :])
    assert seen(follower).n_ok == 2


def test_a_replaced_file_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with RunLog(path) as log:
        for number in range(5):
            log.append(run(number))
    follower = CampaignFollower(path)
    assert seen(follower).n_ok == 5
    path.unlink()
    assert seen(follower).problem == "the file is gone"
    with RunLog(path) as log:
        log.append(run(9))
    assert seen(follower).n_ok == 1


def test_a_foreign_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"some": "thing"}\n')
    view = seen(CampaignFollower(path))
    assert view.problem is not None
    assert "line 1: not a measured run" in view.problem


def test_the_plan_tells_how_many_there_will_be(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("defaults: {model: m}\ngrid: {batch_size: [1, 2, 4], prompt_tokens: [16, 32]}\n")
    path = tmp_path / "runs.jsonl"
    with RunLog(path) as log:
        log.append(run(1))
        log.append(run(2, failed="oom"))
    view = seen(CampaignFollower(path, plan=plan))
    assert view.total == 6
    assert "2 of 6" in text(view)
    assert "1 measured, 1 failed" in text(view)


def test_a_damaged_plan_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("grid: 5\n")
    with pytest.raises(InputError, match=r"plan\.yaml"):
        CampaignFollower(tmp_path / "runs.jsonl", plan=plan)


def test_what_is_odd_of_a_label_fits_80_columns(tmp_path: Path) -> None:
    with RunLog(tmp_path / "runs.jsonl") as log:
        log.append(dataclasses.replace(run(1), model="Qwen/Qwen3-0.6B", flags="counter_disagrees"))
    (line,) = (
        line
        for line in text(seen(CampaignFollower(tmp_path / "runs.jsonl"))).splitlines()
        if "decode" in line
    )
    assert line.partition("[counter_disagrees]")[1]
    assert len(line.partition("]")[0]) < 78
