"""Standard output and error as a terminal, pipe or nothing at all has them.

Invariant: what is written never fails to encode, and a stream that was closed before the start takes everything and
says nothing; an error never reaches standard output.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from types import MappingProxyType
from typing import Final

_HANDLER: Final = "llmco2-plain"
# What a console without a character is shown in its place; units stay units.
PLAIN_TEXT: Final = MappingProxyType(
    {
        "µ": "u",  # micro
        "μ": "u",  # mu
        "–": "-",
        "—": "-",
        "−": "-",
        "─": "-",
        "·": "|",
        "×": "x",
        "…": "...",
        "∞": "inf",
        "†": "+",
        "₂": "2",
        "→": "->",
        "≤": "<=",
        "≥": ">=",
        "±": "+-",
        "√": "v",
        "°": " deg ",
        "█": "#",
        "•": "*",
        "’": "'",
        "“": '"',
        "”": '"',
    }
)


def prepare() -> None:
    """Let standard output and error take any text; one that is closed takes it and keeps nothing."""
    codecs.register_error(_HANDLER, _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start: print would write an error to the other stream
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))
            continue
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_HANDLER)


def discard_stdout() -> None:
    """Point standard output at nothing, so that Python's own flush at exit has nothing to fail on."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that a stream cannot encode, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(PLAIN_TEXT.get(character, "?") for character in missing), error.end
