"""What people said of servers, kept so that they say it once.

Invariant: a fact that is remembered is used for the same served model at the same URL alone, and says that it is
remembered. The file holds no more servers than its limit, and is whole or as it was.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Final

from llmco2.errors import FileFormatError, InputError, LLMCO2Error, explain
from llmco2.serving.deployment import Given

FORMAT: Final = "llmco2-servers"
VERSION: Final = 1
MOST_SERVERS: Final = 200
_MOST_BYTES: Final = 1 << 20
_NUMBERS: Final = {"tensor_parallel": int, "pipeline_parallel": int, "output_tokens": float}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What was said of one server, and when."""

    given: Given
    gpus: tuple[int, ...] | None
    served_model: str | None
    said_on: str  # ISO date


def state_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where servers are remembered: ``$XDG_STATE_HOME/llmco2/servers.json``, by default in ~/.local/state."""
    base = environ.get("XDG_STATE_HOME", "")
    folder = Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()
    return folder / "llmco2" / "servers.json"


class Memory:
    """The servers of one file."""

    def __init__(self, path: Path | None = None, *, today: Callable[[], date] = date.today) -> None:
        """Nothing is read or written yet."""
        self._path, self._today = path or state_file(), today

    def recall(self, url: str) -> Remembered | None:
        """Return what was said of a server, if anything.

        Raises:
            FileFormatError: the file is damaged; the text says how to begin anew.
        """
        entry = self._read().get(url)
        return None if entry is None else self._remembered(entry)

    def keep(self, url: str, *, given: Given, gpus: tuple[int, ...] | None, served_model: str | None) -> bool:
        """Remember what was said of a server now; what was not said keeps what it was for the same served model.

        Return whether it could be written: a home that is read-only costs the memory and nothing else.
        """
        servers = self._read()
        before = servers.pop(url, None)
        known = self._remembered(before) if before is not None else None
        said = given.said
        if known is not None and known.served_model in (None, served_model):
            said = known.given.said | said
        kept_gpus = gpus if gpus is not None else known.gpus if known is not None else None
        servers[url] = {
            "given": said,
            "gpus": None if kept_gpus is None else list(kept_gpus),
            "served_model": served_model,
            "said_on": self._today().isoformat(),
        }
        while len(servers) > MOST_SERVERS:
            del servers[next(iter(servers))]
        return self._write(servers)

    def _remembered(self, entry: Any) -> Remembered:
        known = {field.name for field in fields(Given)}
        try:
            said = {name: value for name, value in entry["given"].items() if name in known}
            given = Given(**{name: _NUMBERS.get(name, str)(value) for name, value in said.items()})
            gpus = None if entry["gpus"] is None else tuple(int(index) for index in entry["gpus"])
            served = None if entry["served_model"] is None else str(entry["served_model"])
            return Remembered(given=given, gpus=gpus, served_model=served, said_on=str(entry["said_on"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(type(error).__name__) from error

    def _read(self) -> dict[str, Any]:
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                raise self._damaged("too large")
            data = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(explain(f"cannot read {self._path}", got=error.strerror or error)) from error
        except (ValueError, RecursionError) as error:
            raise self._damaged(type(error).__name__) from error
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
            raise self._damaged("another format")
        servers = data.get("servers")
        if not isinstance(servers, dict):
            raise self._damaged("no servers")
        return servers

    def _write(self, servers: Mapping[str, Any]) -> bool:
        text = json.dumps({"format": FORMAT, "version": VERSION, "servers": servers}, indent=1)
        part: str | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(dir=self._path.parent, prefix=".servers.")
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text + "\n")
            Path(part).replace(self._path)
        except OSError:
            if part is not None:
                with suppress(OSError):
                    Path(part).unlink()
            return False
        return True

    def _damaged(self, got: str) -> LLMCO2Error:
        return FileFormatError(
            explain(f"{self._path} is no memory of servers", got=got, remedy="delete it to begin anew")
        )
