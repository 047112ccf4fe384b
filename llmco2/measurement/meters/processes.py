"""Who computes on a GPU: the process, its user, its command and the memory that it holds.

Invariant: what ``/proc`` does not show (a process that has ended, another namespace) is ``None``; text of other
people's processes is stripped of control characters before anybody prints it.
"""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LONGEST: Final = 200
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """One process on one GPU."""

    gpu_index: int  # Device.index
    pid: int
    memory_bytes: int | None = None  # of the GPU
    user: str | None = None
    command: str | None = None


def gpu_process(gpu_index: int, pid: int, memory_bytes: int | None, proc: Path = _PROC) -> GpuProcess:
    """Return the record of a process that the driver names, as far as ``proc`` shows it."""
    return GpuProcess(
        gpu_index=gpu_index,
        pid=pid,
        memory_bytes=memory_bytes,
        user=_user(proc / str(pid)),
        command=_command(proc / str(pid)),
    )


def _user(folder: Path) -> str | None:
    try:
        uid = folder.stat().st_uid
    except OSError:
        return None
    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return str(uid)


def _command(folder: Path) -> str | None:
    for name in ("cmdline", "comm"):  # a kernel thread and a zombie have no command line
        try:
            text = (folder / name).read_bytes()[: 4 * _LONGEST].replace(b"\0", b" ")
        except OSError:
            return None
        if text.strip():
            return printable(text.decode(errors="replace"))
    return None


def printable(text: str) -> str:
    """Return the first 200 characters of ``text``, each that is not printable replaced by a blank."""
    return "".join(letter if letter.isprintable() else " " for letter in text.strip())[:_LONGEST]
