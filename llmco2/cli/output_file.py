"""Files that a command writes: what may not be overwritten, and how one appears whole or not at all.

Invariant: only a new file, or a plain one that its owner agreed to replace, is ever written; a device, a pipe, a link
and a file that the same command reads are refused before any work is done.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from llmco2.errors import InputError, explain

_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link", "name the file that it leads to"),
    (stat.S_ISDIR, "a folder", "name a file in it"),
    (stat.S_ISCHR, "a device", "leave --output out to print"),
    (stat.S_ISBLK, "a device", "name a file"),
    (stat.S_ISFIFO, "a named pipe", "leave --output out to print"),
    (stat.S_ISSOCK, "a socket", "name a file"),
)


def check_output(path: Path, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise InputError, before any work is done, if ``path`` must not or could not be written.

    ``inputs`` are the files that the command reads. A plain file that exists is replaced with ``force``, or where a
    person at a terminal says so.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        found = None
    except (OSError, ValueError) as error:  # a name too long, a part that is no folder, a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(explain(f"cannot write {path!s:.200}", got=reason or error)) from error
    if not path.parent.is_dir():
        got = f"no folder {path.parent}"
        raise InputError(explain(f"cannot write {path}", got=got, remedy="create it first"))
    if found is not None:
        _check_kind(path, found.st_mode)
        for source in inputs:
            if source.exists() and path.samefile(source):
                raise InputError(
                    explain(f"cannot write {path}", got="the file that is read", expected="another name")
                )
        if not force and not _agreed(path):
            raise InputError(explain(f"{path} exists", remedy="give --force to replace it, or another name"))
    if not os.access(path.parent, os.W_OK):
        raise InputError(explain(f"cannot write {path}", got=f"the folder {path.parent} is read-only"))


def _check_kind(path: Path, mode: int) -> None:
    for is_kind, what, remedy in _KINDS:
        if is_kind(mode):
            raise InputError(explain(f"cannot write {path}", got=what, expected="a file", remedy=remedy))


def _agreed(path: Path) -> bool:
    """Ask at the terminal whether ``path`` may be replaced; where there is no terminal, it may not."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"llmco2: {path} exists; replace it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a file beside ``path``, then rename it into place.

    Raises InputError when the disk is full or the folder cannot be written; nothing is left behind then.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.", suffix=".part")
        os.close(descriptor)
        part = Path(name)
        try:
            write(part)
            part.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner reads
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        raise InputError(explain(f"cannot write {path}", got=error.strerror or error)) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
