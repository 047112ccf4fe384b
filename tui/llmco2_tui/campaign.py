"""Following the file of a running ``llmco2 measure``.

Invariant: only new bytes are read, only complete lines are believed, and nothing is locked: the campaign never
notices. A file that was cut or replaced is read again from its start.
"""

from __future__ import annotations

import errno
import stat
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmco2.errors import LLMCO2Error, explain
from llmco2.measurement.campaigns.run_log import RUNS, row_from_line
from llmco2.records.run import MeasuredRun
from llmco2_tui.measured import MeasuredPhase, compacted, entries_of_run

_LATEST: Final = 50
_MOST_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignView:
    """A campaign as its file shows it."""

    path: str
    exists: bool = False
    total: int | None = None  # configurations, where the campaign's own file is known
    n_ok: int = 0
    n_failed: int = 0
    simulated: bool = False
    latest: tuple[MeasuredRun, ...] = ()  # newest last
    failures: tuple[MeasuredRun, ...] = ()  # newest last
    entries: tuple[MeasuredPhase, ...] = ()
    rows: tuple[MeasuredRun, ...] = ()  # every row, oldest first
    problem: str | None = None  # why the file cannot be followed any further

    @property
    def n_done(self) -> int:
        """Rows so far."""
        return self.n_ok + self.n_failed


class CampaignFollower:
    """Reads a growing file of measured runs."""

    def __init__(self, path: Path, *, plan: Path | None = None) -> None:
        """Follow ``path``; ``plan`` is the campaign's YAML, which knows how many rows there will be.

        ``InputError`` for a plan that cannot be read; the file itself may come later.
        """
        self.path = path
        self._total: int | None = None
        if plan is not None:
            from llmco2.measurement.campaigns.campaign_file import load_campaign  # noqa: PLC0415 - YAML, when asked

            self._total = load_campaign(plan).n_runs
        self._begin()

    def _begin(self) -> None:
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._line = 0
        self._n_ok = self._n_failed = 0
        self._simulated = False
        self._latest: deque[MeasuredRun] = deque(maxlen=_LATEST)
        self._failures: deque[MeasuredRun] = deque(maxlen=_LATEST)
        self._entries: list[MeasuredPhase] = []
        self._rows: list[MeasuredRun] = []
        self._problem: str | None = None

    def look(self) -> CampaignView | None:
        """Return the campaign as it is now, or ``None`` where nothing is new since the last look."""
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "a folder, a pipe or a device, no plain file")
            if status.st_size > _MOST_BYTES:
                raise OSError(errno.EFBIG, f"more than {_MOST_BYTES:,} bytes")
            identity = (status.st_dev, status.st_ino)
            if identity != self._identity or status.st_size < self._offset:
                self._begin()
                self._identity = identity
            elif status.st_size == self._offset:
                return None
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            known = self._identity is not None
            self._begin()
            return CampaignView(
                path=str(self.path), total=self._total, problem="the file is gone" if known else None
            )
        except OSError as error:
            self._problem = explain(f"{self.path} cannot be read", got=error.strerror)
            return self._view()
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.split(b"\n")[:-1]:
            self._take(line)
        return self._view()

    def _take(self, line: bytes) -> None:
        self._line += 1
        if not line.strip():
            return
        try:
            run = row_from_line(line, f"{self.path}, line {self._line}", RUNS)
            found = entries_of_run(run, float(self._n_ok + self._n_failed + 1))
        except LLMCO2Error as error:
            self._problem = str(error)
            return
        self._simulated = self._simulated or run.simulated
        if run.status == "ok":
            self._n_ok += 1
        else:
            self._n_failed += 1
            self._failures.append(run)
        self._latest.append(run)
        self._rows.append(run)
        self._entries = compacted([*self._entries, *found]) if found else self._entries

    def _view(self) -> CampaignView:
        return CampaignView(
            path=str(self.path),
            exists=True,
            total=self._total,
            n_ok=self._n_ok,
            n_failed=self._n_failed,
            simulated=self._simulated,
            latest=tuple(self._latest),
            failures=tuple(self._failures),
            entries=tuple(self._entries),
            rows=tuple(self._rows),
            problem=self._problem,
        )
