"""In a real pseudo-terminal: a signal or the quit key puts the terminal back and leaves the session's totals."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmco2.measurement.meters.session_file import read_session

LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"
COMMAND = (sys.executable, "-m", "llmco2.cli.main", "monitor", "--simulate", "one", "--zone", "FRA")
LONGEST_S = 60.0


class Terminal:
    """The monitor in a pseudo-terminal of 80 by 24."""

    def __init__(self, *options: str) -> None:
        self.master, slave = pty.openpty()
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(
            [*COMMAND, *options], stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
        )
        os.close(slave)
        self.seen = b""

    def read_until(self, what: bytes) -> None:
        end_s = time.monotonic() + LONGEST_S
        while what not in self.seen and time.monotonic() < end_s:
            self._read()
        assert what in self.seen

    def read_to_end(self) -> int:
        end_s = time.monotonic() + LONGEST_S
        while self.process.poll() is None and time.monotonic() < end_s:
            self._read()
        self._read()
        return self.process.wait(timeout=1)

    def _read(self) -> None:
        ready, _, _ = select.select([self.master], [], [], 0.1)
        if ready:
            try:
                self.seen += os.read(self.master, 1 << 16)
            except OSError:  # the other side is closed
                time.sleep(0.05)

    def hang_up(self) -> None:
        """Close the terminal, of which the system tells the program by a signal."""
        os.close(self.master)
        self.master = -1
        self.process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.master >= 0:
            os.close(self.master)


@pytest.mark.parametrize(
    ("leave", "code"), [(signal.SIGTERM, 128 + 15), (signal.SIGHUP, 128 + 1), ("q", 0)], ids=str
)
def test_however_it_ends_the_terminal_is_put_back(leave: signal.Signals | str, code: int) -> None:
    terminal = Terminal()
    try:
        terminal.read_until(b"kJ")  # readings are on the screen
        before = len(terminal.seen)
        if isinstance(leave, str):
            os.write(terminal.master, leave.encode())
        else:
            terminal.process.send_signal(leave)
        assert terminal.read_to_end() == code
        last = terminal.seen[before:]
        assert LEAVE_ALTERNATE_SCREEN in last
        assert SHOW_CURSOR in last
        after = last.partition(LEAVE_ALTERNATE_SCREEN)[2].decode(errors="replace")
        assert "SIMULATED: no real GPU drew this" in after
        assert "all GPUs: " in after
        assert "CO2e operational over 0:00:" in after
    finally:
        terminal.close()


def test_a_terminal_that_goes_ends_it_and_leaves_the_recording_whole(tmp_path: Path) -> None:
    path = tmp_path / "sitting.jsonl"
    terminal = Terminal("--record", str(path))
    try:
        terminal.read_until(b"kJ")
        terminal.hang_up()
        assert terminal.process.wait(timeout=LONGEST_S) == 128 + signal.SIGHUP
        assert path.read_bytes().endswith(b"}\n")
        assert read_session(path).samples
    finally:
        terminal.close()
