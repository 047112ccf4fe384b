"""Find the processes of a server under test, so that they do not count as other users of the GPU.

Invariant: only what ``/proc`` shows of this machine counts; a server in another container or host has no
processes here, and the GPU then counts as shared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_LISTENING: Final = "0A"  # state TCP_LISTEN in /proc/net/tcp
_PROC: Final = Path("/proc")


def server_processes(url: str, proc: Path = _PROC) -> frozenset[int]:
    """Return the ids of the processes that listen on the port of ``url``, and of all their descendants."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    sockets = _listening_sockets(port, proc)
    listeners = {pid for pid in _pids(proc) if sockets and sockets & _sockets_of(pid, proc)}
    return with_descendants(listeners, proc)


def _listening_sockets(port: int, proc: Path) -> set[str]:
    """Return the inodes of sockets listening on ``port``; columns: 1 address:port (hex), 3 state, 9 inode."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue  # no IPv6 here
        rows = [line.split() for line in lines]
        inodes |= {r[9] for r in rows if r[3] == _LISTENING and int(r[1].rpartition(":")[2], 16) == port}
    return inodes


def _pids(proc: Path) -> list[int]:
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]


def _sockets_of(pid: int, proc: Path) -> set[str]:
    try:
        entries = list((proc / str(pid) / "fd").iterdir())
    except OSError:
        return set()  # it ended, or belongs to another user
    links = [_target(entry) for entry in entries]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""  # a busy process closed it meanwhile: the others still count


def with_descendants(roots: set[int], proc: Path = _PROC) -> frozenset[int]:
    """Return ``roots`` and every process that descends from them."""
    children: dict[int, list[int]] = {}
    for pid in _pids(proc):
        children.setdefault(_parent(pid, proc), []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return frozenset(found)


def _parent(pid: int, proc: Path) -> int:
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])
