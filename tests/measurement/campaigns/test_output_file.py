"""Measuring writes only what it made: devices, links, other people's files and half-written cards are safe."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llmco2.cli.main import main
from llmco2.errors import InputError, MeasurementError
from llmco2.measurement.campaigns.data_card import BEGIN, END, card_path, write_card
from llmco2.measurement.campaigns.output_file import replace_text
from llmco2.measurement.campaigns.run_log import RunLog, read_runs
from llmco2.measurement.scratch import LOCK_NAME, remove_abandoned, scratch_folder
from llmco2.records.run import MeasuredRun

ROW = MeasuredRun(run_id="a", source="test", model="m", gpu="g", energy_j=1.5, simulated=True)
QUICK = ("measure", "Qwen/Qwen3-0.6B", "--simulate", "--prompt-tokens", "64", "--output-tokens", "8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def special(kind: str, path: Path) -> None:
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/null")
    else:
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.xfail("making a device node takes a privilege that this process lacks")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", ["FIFO", "socket", "folder", "link to a device", "character device"])
def test_what_is_no_file_is_refused_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("out")
    special(kind, path)
    before = path.lstat()
    assert main([*QUICK, "--output", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "cannot write out: got a " in err
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_mtime) == (before.st_ino, before.st_mode, before.st_mtime)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_link_to_nothing_is_refused_and_stays(tmp_path: Path) -> None:
    link = tmp_path / "runs.jsonl"
    link.symlink_to(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="a link to a file that is not there"):
        RunLog(link)
    assert link.is_symlink()
    assert not (tmp_path / "nowhere.jsonl").exists()


def test_an_empty_file_of_somebody_else_stays_and_one_of_ours_goes(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.jsonl", tmp_path / "ours.jsonl"
    theirs.touch()
    RunLog(theirs).close()
    RunLog(ours).close()
    assert theirs.exists()
    assert not ours.exists()


def test_a_link_to_an_empty_file_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    RunLog(link).close()
    assert link.is_symlink()
    assert target.exists()


def test_a_file_that_took_the_name_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    log = RunLog(path)
    path.unlink()
    path.write_text("")
    log.close()
    assert path.exists()


def test_a_log_that_was_linked_is_appended_through_the_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    with RunLog(target) as log:
        log.append(ROW)
    link.symlink_to(target)
    with RunLog(link) as log:
        log.append(ROW)
    assert len(read_runs(target)) == 2


def test_a_card_is_refreshed_as_a_whole_and_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    log_path, real = tmp_path / "runs.jsonl", tmp_path / "cards.md"
    real.write_text(f"# Mine\n\n{BEGIN}\nold\n{END}\n\nmy words\n")
    real.chmod(0o640)
    card_path(log_path).symlink_to(real)
    write_card(log_path, [ROW])
    text = real.read_text()
    assert "1 rows in" in text
    assert "old" not in text
    assert text.startswith("# Mine")
    assert text.endswith("my words\n")
    assert card_path(log_path).is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_full_disk_leaves_the_old_card_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_path = tmp_path / "runs.jsonl"
    write_card(log_path, [ROW])
    old = card_path(log_path).read_text()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MeasurementError, match=r"cannot write .*runs.md: got No space left on device$"):
        write_card(log_path, [ROW, ROW])
    assert card_path(log_path).read_text() == old
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["runs.md"]


def test_a_new_text_replaces_no_folder(tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    with pytest.raises(MeasurementError, match="no regular file"):
        replace_text(tmp_path / "card", "text")


@pytest.mark.parametrize(
    ("output", "card", "says"),
    [
        ("runs.md", None, "the data card of runs.md would have its name"),
        ("notes.txt", b"my notes\n", "notes.md is no data card"),
        ("notes.txt", b"\xff\xfe", "cannot read notes.md: got bytes that are no UTF-8 text"),
    ],
)
def test_a_card_that_has_no_place_is_refused_before_anything_is_measured(
    here: Path, capsys: pytest.CaptureFixture[str], output: str, card: bytes | None, says: str
) -> None:
    if card is not None:
        (here / "notes.md").write_bytes(card)
    assert main([*QUICK, "--output", output]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert not Path(output).exists()


def test_a_simulation_of_a_server_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*QUICK, "--server", "http://127.0.0.1:9"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "a server cannot be simulated: got http://127.0.0.1:9" in err
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from llmco2.measurement.scratch import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    (folder / "weights").write_text("x")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_process_goes_at_the_next_start(tmp_path: Path) -> None:
    prefix = f"llmco2-test-{os.getpid()}-"
    done = subprocess.run([sys.executable, "-c", KILLED, prefix], capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert left.is_dir()
    with scratch_folder(prefix) as folder:
        assert not left.exists()
        assert remove_abandoned(prefix) == []  # its own is held
        assert folder.is_dir()
    assert not folder.exists()


def test_a_folder_that_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "llmco2-x-1").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK_NAME).touch()
    (tmp_path / "llmco2-x-2").symlink_to(elsewhere)
    assert remove_abandoned("llmco2-x-") == []
    assert elsewhere.is_dir()
