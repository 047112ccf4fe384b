"""Every error this package raises on purpose.

::

    LLMCO2Error
    ├── InputError            what a person typed or handed in (CLI exit code 2)
    │   ├── UnknownNameError  a name that is in no catalog table, with the nearest names
    │   ├── RequestError      a request that cannot be (zero tokens, TP that does not divide the heads)
    │   ├── DoesNotFitError   weights + KV cache + workspace exceed the memory of the GPUs
    │   ├── FileFormatError   a damaged, truncated or foreign file, with its line where known
    │   ├── CheckpointError   a checkpoint that is missing, damaged, foreign, of another version, or diverged
    │   └── MissingExtraError what was asked for needs an extra that is not installed
    ├── InstallationError     a part of llmco2 itself is missing or damaged
    └── MeasurementError      the machine could not be measured (driver, counter, MIG, lost GPU)

A message is one line: what, got, expected, remedy. Use :func:`explain` to build it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Final


class LLMCO2Error(Exception):
    """Base of every deliberate error; its text is one line that a person can act on."""


class InputError(LLMCO2Error, ValueError):
    """Something a person typed or handed in is wrong; the command line leaves with exit code 2."""


class UnknownNameError(InputError):
    """A name that no catalog table knows; ``suggestions`` holds the nearest known names, best first."""

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        self.kind = kind
        self.name = name
        self.suggestions: Sequence[str] = nearest_names(name, known)
        hint = f"did you mean {', '.join(self.suggestions)}?" if self.suggestions else ""
        remedy = remedy if hint else remedy.removeprefix("or ")
        super().__init__(
            explain(
                f"unknown {kind}",
                got=shortened(repr(name), _NAME_SHOWN),
                remedy=" ".join(x for x in (hint, remedy) if x),
            )
        )


class RequestError(InputError):
    """A request that cannot be served as written."""


class DoesNotFitError(RequestError):
    """Weights, KV cache and workspace exceed the memory of the GPUs asked for."""


class FileFormatError(InputError):
    """A damaged, truncated or foreign file."""


class CheckpointError(InputError):
    """A checkpoint that somebody named is missing, damaged, foreign or of another version, or diverged in training."""


class MissingExtraError(InputError):
    """What was asked for needs an optional part of the package; the text has the command that installs it."""


class InstallationError(LLMCO2Error):
    """A part of llmco2 itself is missing or damaged; nothing that a person typed is at fault."""


class MeasurementError(LLMCO2Error):
    """The machine could not be measured; the text says why and what mends it."""


_NAME_SHOWN: Final = 80
_VALUE_SHOWN: Final = 200
_COMPARED: Final = 120  # characters of a name that is compared with known ones: comparing takes time squared


def shortened(value: object, limit: int = _VALUE_SHOWN) -> str:
    """Return the text of ``value``; of one longer than ``limit`` the two ends and how long it is."""
    text = str(value)
    if len(text) <= limit:
        return text
    tail = limit // 4
    return f"{text[: limit - tail]}…{text[-tail:]} ({len(text):,} characters)"


def explain(what: str, *, got: object = None, expected: object = None, remedy: str = "") -> str:
    """Return the one-line message ``what: got …, expected …; remedy``; a long ``got`` is shortened."""
    facts = [] if got is None else [f"got {shortened(got)}"]
    facts += [] if expected is None else [f"expected {expected}"]
    line = what + (": " + ", ".join(facts) if facts else "")
    return " ".join((line + (f"; {remedy}" if remedy else "")).split())


def nearest_names(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to ``limit`` known names nearest to ``name``, best first, comparing without case."""
    by_key = {candidate.casefold(): candidate for candidate in known}
    key = name.casefold()[:_COMPARED]
    inside = sorted((k for k in by_key if key and key in k), key=len)
    close = difflib.get_close_matches(key, by_key, n=limit, cutoff=0.55)
    ordered = dict.fromkeys([*close, *inside])
    return [by_key[k] for k in list(ordered)[:limit]]
