"""The run log never loses a finished row, never reads a torn one, and never shares its file."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.errors import FileFormatError, InputError, MeasurementError
from llmco2.measurement.campaigns.run_log import RunLog, read_runs
from llmco2.records.run import MeasuredRun

ROW = MeasuredRun(run_id="a", source="test", model="m", gpu="g", energy_j=1.5, simulated=True)

WRITER = textwrap.dedent(
    """
    import os, sys
    from dataclasses import replace
    from llmco2.measurement.campaigns.run_log import RunLog
    from llmco2.records.run import MeasuredRun

    row = MeasuredRun(run_id="", source="kill", model="m", gpu="g", notes="x" * 600)
    sys.stdin.readline()
    while True:  # one process plays many: each life opens the log, writes, and is killed by the parent
        pid = os.fork()
        if pid == 0:
            os.write(2, b"born %d\\n" % os.getpid())
            with RunLog(sys.argv[1]) as log:
                os.write(2, b"writing %d\\n" % os.getpid())
                number = len(log.rows)
                while True:
                    log.append(replace(row, run_id=str(number)))
                    os.write(1, b"%d\\n" % number)
                    number += 1
        os.waitpid(pid, 0)
        if not sys.stdin.readline():
            break
    """
)


def test_rows_come_back_equal(tmp_path):
    path = tmp_path / "runs.jsonl"
    rows = [ROW, replace(ROW, run_id="b", status="failed", failure_reason="out_of_memory: 80 GB")]
    with RunLog(path) as log:
        for row in rows:
            log.append(row)
    assert read_runs(path) == rows
    with RunLog(path) as log:
        assert log.rows == tuple(rows)
        assert log.repair is None
        assert log.finished_ids() == {"a", "b"}
        assert log.finished_ids(retry_failed=True) == {"a"}


def test_kill_9_at_100_random_moments_loses_no_finished_row(tmp_path):
    path = tmp_path / "runs.jsonl"
    rng = random.Random(7)
    acknowledged = tmp_path / "acknowledged"
    with acknowledged.open("wb") as out:
        parent = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
        for life in range(100):
            parent.stdin.write("live\n")
            parent.stdin.flush()
            wanted = "born" if life % 4 == 0 else "writing"  # some die while they open and repair the file
            word, number, pid = "", "", None
            while word != wanted or number != pid:  # a word of the life before may still be in the pipe
                word, number = parent.stderr.readline().split()
                pid = number if word == "born" else pid
            time.sleep(rng.uniform(0.0, 0.008))
            os.kill(int(pid), signal.SIGKILL)
        parent.stdin.close()
        parent.wait(10)
        parent.stderr.close()
    numbers = [int(line) for line in acknowledged.read_text().split()]
    with RunLog(path) as log:
        on_disk = [int(row.run_id) for row in log.rows]
    assert len(numbers) > 25  # that many appends returned, however slow the disk
    assert set(numbers) <= set(on_disk)
    assert on_disk == list(range(len(on_disk)))  # no gap, no duplicate, in order


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=1, max_value=10_000))
def test_a_line_torn_anywhere_is_moved_aside_and_nothing_else(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("log") / "runs.jsonl"
    with RunLog(path) as log:
        log.append(ROW)
    whole = path.read_bytes()
    line = (json.dumps(asdict(replace(ROW, run_id="torn"))) + "\n").encode()
    fragment = line[: 1 + cut % (len(line) - 2)]
    path.write_bytes(whole + fragment)
    with RunLog(path) as log:
        assert [row.run_id for row in log.rows] == ["a"]
        assert log.repair.fragment_bytes == len(fragment)
        log.append(replace(ROW, run_id="next"))
    assert (path.parent / "runs.jsonl.torn").read_bytes() == fragment + b"\n"
    assert [row.run_id for row in read_runs(path)] == ["a", "next"]


def test_a_row_that_lacks_only_its_newline_is_kept(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(json.dumps(asdict(ROW)).encode())
    with RunLog(path) as log:
        log.append(replace(ROW, run_id="b"))
    assert [row.run_id for row in read_runs(path)] == ["a", "b"]


def test_a_reader_may_look_while_the_writer_holds_the_file(tmp_path):
    path = tmp_path / "runs.jsonl"
    with RunLog(path) as log:
        log.append(ROW)
        assert read_runs(path) == [ROW]


def test_a_second_writer_is_refused_in_one_line_and_may_come_later(tmp_path):
    path = tmp_path / "runs.jsonl"
    with RunLog(path), pytest.raises(InputError, match="being written by another process") as caught:
        RunLog(path)
    assert "\n" not in str(caught.value)
    with RunLog(path):
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"model,gpu\nm,g\n",
        b"[]\n",
        b'{"run_id": "a"}\n',
        b"\x89PNG\r\n\x1a\n",
        json.dumps(asdict(ROW)).replace('"energy_j": 1.5', '"energy_j": "1.5"').encode() + b"\n",
        json.dumps(asdict(ROW) | {"surprise": 1}).encode() + b"\n",
    ],
)
def test_a_foreign_file_is_refused_with_its_line_and_left_alone(tmp_path, content):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"runs\.jsonl, line 1: not a measured run"):
        RunLog(path)
    assert path.read_bytes() == content
    with RunLog(tmp_path / "other.jsonl"):  # the lock of the refused file is gone, too
        pass


def test_a_damaged_line_in_the_middle_names_its_number(tmp_path):
    path = tmp_path / "runs.jsonl"
    row = json.dumps(asdict(ROW))
    path.write_text(f"{row}\n{row[:50]}\n{row}\n")
    with pytest.raises(FileFormatError, match="line 2"):
        RunLog(path)


def test_another_schema_version_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(asdict(ROW) | {"schema_version": 99}) + "\n")
    with pytest.raises(FileFormatError, match="got 99, expected 1"):
        read_runs(path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder_is_one_clear_line(tmp_path, monkeypatch, code):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(
        os, "open", refuse
    )  # root may write anywhere, so the permission itself cannot be used
    with pytest.raises(InputError, match="cannot write") as caught:
        RunLog(tmp_path / "runs.jsonl")
    assert os.strerror(code) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="No such file or directory"):
        RunLog(tmp_path / "nowhere" / "runs.jsonl")


def test_a_full_disk_keeps_every_finished_row(tmp_path):
    """The kernel itself refuses the write (a file size limit), in the middle of a row."""
    path = tmp_path / "runs.jsonl"
    script = textwrap.dedent(
        """
        import resource, sys
        from dataclasses import replace
        from llmco2.errors import MeasurementError
        from llmco2.measurement.campaigns.run_log import RunLog
        from llmco2.records.run import MeasuredRun

        row = MeasuredRun(run_id="a", source="full", model="m", gpu="g")
        with RunLog(sys.argv[1]) as log:
            log.append(row)
            size = log._size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, size + size // 2))
            try:
                log.append(replace(row, run_id="b"))
            except MeasurementError as error:
                print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("no space left to append to")
    assert done.stdout.count("\n") == 1
    assert path.read_bytes().endswith(b"}\n")
    assert [row.run_id for row in read_runs(path)] == ["a"]


def test_a_failing_disk_is_reported_as_such(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with RunLog(tmp_path / "runs.jsonl") as log:
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(MeasurementError, match="Input/output error"):
            log.append(ROW)
        assert log.rows == ()
    assert list(tmp_path.iterdir()) == []  # nothing was finished, so nothing is left behind


def test_not_a_number_never_reaches_the_file(tmp_path):
    with RunLog(tmp_path / "runs.jsonl") as log:
        with pytest.raises(MeasurementError, match="not a finite number"):
            log.append(replace(ROW, energy_j=float("nan")))
        assert log.rows == ()
