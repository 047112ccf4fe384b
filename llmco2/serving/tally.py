"""Counters that only grow, and go on after a restart from a file.

Invariant: a count never falls, the file is whole or absent, and the number of series is bounded.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from llmco2.errors import FileFormatError, InputError, explain

FORMAT: Final = "llmco2-export-state"
VERSION: Final = 1
MOST_SERIES: Final = 10_000
_MOST_BYTES: Final = 16 << 20
Key = tuple[str, tuple[str, ...]]  # metric, label values


class Tally:
    """Sums by metric and label values."""

    def __init__(self, counts: Mapping[Key, float] | None = None) -> None:
        self._counts: dict[Key, float] = dict(counts or {})

    def add(self, name: str, labels: tuple[str, ...], amount: float | None) -> None:
        """Count ``amount`` in; nothing where it is not known, not finite or negative, or there are too many series."""
        if amount is None or not math.isfinite(amount) or amount < 0:
            return
        key = (name, labels)
        if key in self._counts or len(self._counts) < MOST_SERIES:
            self._counts[key] = self._counts.get(key, 0.0) + amount

    def values(self, name: str) -> Iterator[tuple[tuple[str, ...], float]]:
        """Return the label values and count of each series of a metric."""
        return ((labels, count) for (metric, labels), count in self._counts.items() if metric == name)

    def save(self, path: Path) -> None:
        """Write the counts beside ``path`` and rename them into place; raises InputError where that cannot be."""
        counts = [[name, list(labels), count] for (name, labels), count in self._counts.items()]
        text = json.dumps({"format": FORMAT, "version": VERSION, "counts": counts}, allow_nan=False)
        part: str | None = None
        try:
            descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            Path(part).replace(path)
        except OSError as error:
            if part is not None:
                with suppress(OSError):
                    Path(part).unlink()
            raise InputError(explain(f"cannot write {path}", got=error.strerror or error)) from error

    @classmethod
    def load(cls, path: Path) -> Tally:
        """Return the counts of a file, none where it does not exist.

        Raises:
            InputError: it cannot be read; FileFormatError: it is damaged, and starting from zero is a person's choice.
        """
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise _damaged(path, "too large")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except UnicodeDecodeError as error:
            raise _damaged(path, "no text") from error
        except OSError as error:
            raise InputError(explain(f"cannot read {path}", got=error.strerror or error)) from error
        try:
            data = json.loads(text)
            if data["format"] != FORMAT or data["version"] != VERSION:
                raise _damaged(path, f"{data['format']!r:.40} version {data['version']!r:.20}")
            counts = {
                (str(name), tuple(map(str, labels))): float(count) for name, labels, count in data["counts"]
            }
        except FileFormatError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(path, f"{type(error).__name__}") from error
        if len(counts) > MOST_SERIES or not all(0 <= count < math.inf for count in counts.values()):
            raise _damaged(path, "counts that cannot be")
        return cls(counts)


def _damaged(path: Path, got: str) -> FileFormatError:
    return FileFormatError(
        explain(f"{path} is no state of llmco2 export", got=got, remedy="move it away to count from zero")
    )
