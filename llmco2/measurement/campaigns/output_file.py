"""Files that measuring writes: opened without touching what it did not make, replaced as a whole or not at all.

Invariant: only regular files are opened; a file is removed only by who created it, and only while it is empty and
still the one of that name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llmco2.errors import InputError, MeasurementError, explain

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFile:
    """A file open for reading and appending, and whether opening it created it."""

    descriptor: int
    created: bool

    def remove_if_unused(self, path: Path) -> None:
        """Remove ``path`` if this process made it, it is still the file that is open, and it is empty."""
        if not self.created:
            return
        here = os.fstat(self.descriptor)
        with contextlib.suppress(OSError):  # gone or replaced meanwhile: not ours to remove
            there = path.lstat()
            if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) and here.st_size == 0:
                path.unlink()


def open_for_appending(path: Path) -> OpenedFile:
    """Open or create a regular file.

    Raises:
        InputError: the path is a device, FIFO, socket or folder, a link to nothing, or cannot be opened.
    """
    refuse_special(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            descriptor, created = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644), True
        except FileExistsError:
            descriptor, created = os.open(path, flags), False
    except OSError as error:
        raise InputError(
            explain(
                f"cannot write {path}",
                got="a link to a file that is not there" if path.is_symlink() else error.strerror,
                expected="a file in an existing folder that you may write to",
                remedy="choose another --output",
            )
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # put there between the look and the opening
        os.close(descriptor)
        refuse_special(path)
        raise InputError(explain(f"cannot write {path}", got="no regular file"))
    return OpenedFile(descriptor=descriptor, created=created)


def refuse_special(path: Path) -> None:
    """Raise ``InputError`` where ``path`` is a folder, device, FIFO or socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # not there, or not to be looked at: opening it will tell
    kind = next((name for test, name in _KINDS if test(mode)), None)
    if kind is not None:
        raise InputError(
            explain(
                f"cannot write {path}",
                got=kind,
                expected="a regular file or a new name",
                remedy="choose another --output",
            )
        )


def replace_text(path: Path, text: str) -> None:
    """Write ``text`` beside ``path``, sync it, and rename it: the old content stays until the new one is whole.

    A link stays a link: the file that it leads to is replaced.

    Raises:
        MeasurementError: it cannot be written; the old content is untouched.
    """
    target = path.resolve()
    part: Path | None = None
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "no regular file")
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        part = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(mode)
        part.replace(target)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise MeasurementError(explain(f"cannot write {path}", got=error.strerror)) from error
