"""Following a campaign's file reads each complete line once and disturbs nobody."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from llmco2.cli.main import main
from llmco2.errors import InputError
from llmco2.measurement.campaigns.run_log import RunLog
from llmco2.records.request import InferenceRequest
from llmco2.records.run import MeasuredRun
from llmco2_tui.campaign import CampaignFollower, CampaignView
from llmco2_tui.campaign_rows import (
    HEADINGS,
    campaign_data,
    campaign_rows,
    requests_of,
    row_texts,
    seconds_to_go,
)
from llmco2_tui.comparison import ABOVE, INSIDE, Answer
from llmco2_tui.widgets.campaign_panel import campaign_lines

from .conftest import REQUEST, account, footprint


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
    assert len(campaign_rows(view, {}, account("FRA"))) == 2


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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"energy_j": float("nan")}, "got NaN is not a number"),
        ({"decode_energy_j": float("inf")}, "got Infinity is not a number"),
        ({"energy_j": "600"}, "got energy_j = '600'"),
        ({"simulated": 1}, "got simulated = 1"),
        ({"schema_version": 9}, "another schema version: got 9"),
    ],
)
def test_a_row_that_is_none_is_named_with_its_line(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "runs.jsonl"
    good = dataclasses.asdict(run(1))
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, **change}) + "\n")
    view = seen(CampaignFollower(path))
    assert view.n_ok == 1
    assert view.problem is not None
    assert "line 2" in view.problem
    assert says in view.problem


def measured_run(number: int, joules: float, *, simulated: bool, minute: int = 0) -> MeasuredRun:
    return dataclasses.replace(
        run(number),
        simulated=simulated,
        energy_j=joules,
        batch_size=8 * number,
        measured_at=f"2026-11-28T12:{minute:02}:00+00:00",
    )


def view_of(*runs: MeasuredRun, total: int | None = None) -> CampaignView:
    return CampaignView(path="runs.jsonl", exists=True, total=total, n_ok=len(runs), rows=runs)


def test_each_configuration_stands_beside_its_own_prediction() -> None:
    view = view_of(measured_run(1, 800.0, simulated=False), measured_run(2, 3000.0, simulated=False))
    answers: dict[InferenceRequest, Answer] = {request: footprint(request) for request in requests_of(view)}
    newest, oldest = campaign_rows(view, answers, account("FRA"))
    assert oldest.predicted is not None
    assert newest.predicted is not None
    assert (oldest.measured_j, oldest.predicted.predicted) == (800.0, 700.0)
    assert (newest.measured_j, newest.predicted.predicted) == (3000.0, 1400.0)
    assert oldest.predicted.error_percent == pytest.approx(-12.5)
    assert oldest.predicted.place == INSIDE
    assert newest.predicted.place == ABOVE
    # 800 J × 1.2 / 3.6e6 kWh × 48 g/kWh
    assert oldest.operational_g == pytest.approx(0.0128)


def test_simulated_labels_get_no_verdict() -> None:
    view = view_of(measured_run(1, 5.0, simulated=True))
    answers: dict[InferenceRequest, Answer] = {request: footprint(request) for request in requests_of(view)}
    (row,) = campaign_rows(view, answers, account("FRA"))
    assert row_texts(row)[4] == "simulated"
    data = campaign_data(view, [row])["rows"][0]
    assert data["error_percent"] is None
    assert data["place"] is None
    assert data["measured_energy_j"] == 5.0


def test_the_time_to_go_follows_from_the_pace() -> None:
    paced = [measured_run(n, 800.0, simulated=False, minute=2 * n) for n in (1, 2, 3)]
    assert seconds_to_go(view_of(*paced, total=8)) == 5 * 120.0
    assert seconds_to_go(view_of(*paced, total=3)) is None
    assert seconds_to_go(view_of(*paced)) is None
    assert seconds_to_go(view_of(paced[0], total=8)) is None


def test_a_finished_campaign_is_read_without_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_driver(*_: object, **__: object) -> None:
        raise AssertionError("no GPU is needed to read a file")

    monkeypatch.setattr("llmco2_tui.sources.open_live", no_driver)
    path = tmp_path / "runs.jsonl"
    with RunLog(path) as log:
        log.append(measured_run(1, 5.0, simulated=True))
        log.append(run(2, failed="does_not_fit: 163 GB of 80"))
    assert main(["monitor", "--campaign", str(path), "--once", "--zone", "FRA"]) == 0
    out = capsys.readouterr().out
    assert "2 done: 1 measured, 1 failed" in out
    assert "none of them judges a prediction" in out
    assert "failed: Llama-3.1-8B-Instruct b8 512+256: does_not_fit: 163 GB of 80" in out
    assert main(["monitor", "--campaign", str(path), "--json", "--zone", "FRA"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["campaign"]["rows"]
    assert row["measured_energy_j"] == 5.0
    assert row["predicted_energy_j"] > 0
    assert row["error_percent"] is None


@pytest.mark.parametrize(
    ("content", "says"), [(None, "there is no campaign"), ("{}\n", "line 1: not a measured")]
)
def test_a_campaign_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, says: str
) -> None:
    path = tmp_path / "runs.jsonl"
    if content is not None:
        path.write_text(content)
    assert main(["monitor", "--campaign", str(path), "--once"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


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


def test_what_is_odd_of_a_label_stands_beside_it() -> None:
    odd = dataclasses.replace(measured_run(1, 800.0, simulated=False), flags="counter_disagrees")
    (row,) = campaign_rows(view_of(odd), {}, account("FRA"))
    assert row_texts(row)[-1] == "counter_disagrees"
    assert len(row_texts(row)) == len(HEADINGS)
