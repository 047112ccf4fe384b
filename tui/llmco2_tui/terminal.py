"""A terminal that may go away while the screen is on it: an SSH connection that breaks, a window that is closed.

Invariant: writing to a terminal that has gone does nothing. Textual's writing thread would die of it, and the
application, which waits for that thread, would never end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LastingStream:
    """A text stream whose writes are lost, and not failures, once its other end has gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and return the number of characters, written or lost."""
        try:
            return int(self._stream.write(text))
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Flush, where there is anything to flush to."""
        try:
            self._stream.flush()
        except OSError:
            return  # the terminal has gone, and nobody reads what is left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_terminal() -> Iterator[None]:
    """Have textual, which writes to the interpreter's own standard error, write to a stream that lasts."""
    kept = sys.__stderr__
    sys.__stderr__ = LastingStream(kept)  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        sys.__stderr__ = kept  # type: ignore[misc]
