"""Workers do every job once, fail without taking others along, and end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, time
from pathlib import Path
from benchmarks.accuracy.pool import outcomes

FOLDER = Path(sys.argv[1])

def start(folder):
    (folder / f"worker-{os.getpid()}").touch()
    return work

def work(job):
    if job == "die":
        os._exit(9)
    if job == "fail":
        raise ValueError("no such thing")
    if job == "hang":
        time.sleep(60)
    return job * 2

if __name__ == "__main__":
    for outcome in outcomes(sys.argv[3:], int(sys.argv[2]), start, (FOLDER,)):
        print(outcome.index, outcome.value, outcome.failure, flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "pool_script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def begun(script: Path, *arguments: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, str(script), str(script.parent), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        # A shell that runs the tests in the background has them ignore the signal, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )


def test_a_job_that_fails_or_kills_its_process_costs_only_itself(script: Path) -> None:
    out, _ = begun(script, "2", "a", "fail", "die", "b", "c").communicate(timeout=60)
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert lines["0"] == "aa "
    assert "ValueError: no such thing (work, line" in lines["1"]
    assert "its process died (exit code 9)" in lines["2"]
    assert (lines["3"], lines["4"]) == ("bb ", "cc ")


def test_workers_end_when_their_parent_is_interrupted(script: Path) -> None:
    parent = begun(script, "1", "a", "b", "hang")
    assert parent.stdout is not None
    assert [parent.stdout.readline(), parent.stdout.readline()] == ["0 aa \n", "1 bb \n"]
    (worker,) = (int(path.name.removeprefix("worker-")) for path in script.parent.glob("worker-*"))
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=30)
    assert gone(worker)


def test_a_working_worker_ends_when_its_parent_is_killed_outright(script: Path) -> None:
    parent = begun(script, "1", "a", "hang")
    assert parent.stdout is not None
    parent.stdout.readline()
    (worker,) = (int(path.name.removeprefix("worker-")) for path in script.parent.glob("worker-*"))
    parent.kill()
    parent.communicate(timeout=30)
    assert gone(worker)


def test_an_idle_worker_ends_when_its_parent_is_killed_outright(script: Path) -> None:
    code = SCRIPT.replace("for outcome in", "import time\n    for outcome in").replace(
        "flush=True)", "flush=True)\n        time.sleep(60)"
    )
    script.write_text(code, encoding="utf-8")
    parent = begun(script, "1", "a", "b")
    assert parent.stdout is not None
    parent.stdout.readline()
    (worker,) = (int(path.name.removeprefix("worker-")) for path in script.parent.glob("worker-*"))
    parent.kill()
    parent.communicate(timeout=30)
    assert gone(worker)


def gone(pid: int) -> bool:
    """Wait for a process to end: it may be a zombie for a moment where nobody has asked for its status."""
    for _ in range(200):
        status = Path(f"/proc/{pid}/stat")
        try:
            if status.parent.parent.is_dir() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False
