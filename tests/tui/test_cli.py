"""Without a screen: one reading, the sums of a recording, exports, and one line for whatever is typed wrong."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmco2.cli.main import main
from llmco2.measurement.meters.session_file import read_session
from llmco2_tui.measured import DECODE, PREFILL, RecordedSamples, recorded_entries, samplings
from llmco2_tui.sources import demo_session

from .conftest import REQUEST


def monitor(*argv: str) -> int:
    return main(["monitor", *argv])


def test_one_reading_as_json_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert monitor("--simulate", "eight", "--json", "--zone", "FRA") == 0
    state = json.loads(capsys.readouterr().out)
    assert state["simulated"] is True
    assert [gpu["index"] for gpu in state["gpus"]] == list(range(8))
    assert all(gpu["power_limit_w"] == 700.0 for gpu in state["gpus"])
    assert state["grid"]["zone"] == "FRA"


def test_one_reading_for_people_says_that_it_is_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert monitor("--simulate", "mig", "--once") == 0
    out = capsys.readouterr().out
    assert out.startswith("SIMULATED: no real GPU drew this")
    assert "of 700 W" in out
    assert out.count("MIG") == 1


def test_the_recording_that_ships_is_simulated_small_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    path = demo_session()
    assert path.stat().st_size < 200_000
    session = read_session(path)
    assert session.simulated
    assert all(device.simulated for device in session.devices)
    assert all(sample.simulated for sample in session.samples)
    entries = recorded_entries(session)
    assert {entry.phase for entry in entries} == {PREFILL, DECODE}
    assert {entry.request.batch_size for entry in entries} == {8, 32}
    assert monitor("--replay", "--json") == 0
    state = json.loads(capsys.readouterr().out)
    measured = sum(entry.energy_j for entry in entries)
    counters = [[s.energy_counter_j or 0.0 for s in session.samples if s.gpu_index == n] for n in range(2)]
    drawn = sum(counter[-1] - counter[0] for counter in counters)
    assert state["totals"]["energy_j"] == pytest.approx(drawn)
    assert measured < drawn
    assert state["comparison"]["request"]["model"] == REQUEST.model


def test_a_recording_becomes_a_table(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert monitor("--replay", str(recording), "--export", str(out)) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    samples = read_session(recording).samples
    assert len(rows) == len(samples)
    assert [float(row["energy_counter_j"]) for row in rows] == [s.energy_counter_j for s in samples]
    assert {row["simulated"] for row in rows} == {"True"}


def test_a_recording_becomes_a_picture(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.svg"
    assert monitor("--replay", str(recording), "--export", str(out), "--zone", "FRA") == 0
    text = out.read_text()
    assert "SIMULATED" in text
    assert "REPLAY" in text
    assert "France" in text


class StoppedClock:
    now = 0.0

    def now_s(self) -> float:
        return self.now


def test_a_fast_replay_passes_over_no_sampling(recording: Path) -> None:
    session, clock = read_session(recording), StoppedClock()
    passed = RecordedSamples(session, clock)
    found = []
    for now in (0.0, 3.5, 3.6, 1e6, 1e6):
        clock.now = now
        found += passed.take()
    assert found == samplings(session.samples)


def test_samplings_begin_where_a_gpu_comes_again() -> None:
    rounds = samplings(read_session(demo_session()).samples)
    assert {tuple(sample.gpu_index for sample in one) for one in rounds} == {(0, 1)}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--simulate", "--replay"), "--simulate and --replay"),
        (("--rate", "50"), "--rate is out of range: got 50, expected 0.1 to 10 Hz"),
        (("--rate", "nan"), "--rate is out of range"),
        (("--speed", "3"), "--speed without a replay"),
        (("--replay", "--speed", "0"), "--speed is out of range"),
        (("--plan", "x.yaml"), "--plan without a campaign"),
        (("--export", "x.csv"), "--export without a recording"),
        (("--replay", "--export", "x.docx"), "--export knows no such format"),
        (("--replay", "--record", "y.jsonl"), "a recording cannot be recorded again"),
        (("--once", "--record", "y.jsonl"), "--record with one reading"),
        (("--replay", "missing.jsonl", "--once"), "missing.jsonl"),
        (("--zone", "Atlantis", "--once"), "unknown grid zone"),
        (("--gpu", "H100"), "--gpu without a model"),
        (("--simulate", "Qwen3-8B", "--once"), "Qwen3-8B"),
        (("--simulate",), "the screen needs a terminal"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_typed_wrong_is_one_line(
    argv: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = monitor(*argv)
    except SystemExit as left:  # argparse's own refusals
        status = int(left.code or 0)
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_recording_is_never_overwritten(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = recording.read_bytes()
    assert monitor("--simulate", "--record", str(recording)) == 2
    assert "exists" in capsys.readouterr().err
    assert recording.read_bytes() == before


def test_a_damaged_recording_names_its_line(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = recording.read_text().splitlines()
    lines[4] = "{oops"
    recording.write_text("\n".join(lines) + "\n")
    assert monitor("--replay", str(recording), "--once") == 2
    assert "line 5" in capsys.readouterr().err


def test_one_reading_needs_no_textual_and_no_torch() -> None:
    code = (
        "import sys; from llmco2.cli.main import main; main(['monitor', '--simulate', '--json']); "
        "print([name for name in ('textual', 'torch', 'pandas') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("source", ["--replay", "--simulate"])
def test_a_request_without_a_gpu_is_for_the_one_that_is_watched(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert monitor("Qwen/Qwen3-8B", "--batch-size", "2", source, "--once") == 0
    assert "Qwen3-8B · " in capsys.readouterr().out


def test_the_help_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        monitor("--help")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
