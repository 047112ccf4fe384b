"""Typed, forgiving reading of a Hugging Face ``config.json``: one value under any of its historic key names.

Invariant: a value that is missing or of the wrong kind raises one line that names the file and the key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmco2.errors import FileFormatError, explain

MAX_WIDTH = 100_000_000  # no width, count or vocabulary of a real model is larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The values of one (sub-)configuration, with the defaults of its model type beneath."""

    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    where: str  # the file, for errors
    used: set[str] = field(default_factory=set, compare=False, repr=False)  # keys that a reader asked for

    def get(self, *keys: str) -> Any:
        """Return the first value that is present and not null under ``keys``; defaults come last."""
        self.used.update(keys)
        for source in (self.values, self.defaults):
            for key in keys:
                value = source.get(key)
                if value is not None:
                    return value
        return None

    def whole(self, *keys: str) -> int:
        """Return a whole number of at least 1; the first key is the one an error names."""
        value = self.get(*keys)
        if value is None:
            raise FileFormatError(
                explain(
                    f"{self.where} lacks {keys[0]!r}",
                    got=f"model type {self.values.get('model_type')!r}",
                    expected="the config.json of a decoder-only language model",
                    remedy="give the shape with architecture_from_shape",
                )
            )
        return self._checked(keys[0], value, low=1)

    def optional_whole(self, default: int, *keys: str) -> int:
        """Return a whole number of at least 0, or ``default`` where none of ``keys`` is there."""
        value = self.get(*keys)
        return default if value is None else self._checked(keys[0], value, low=0)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise FileFormatError(explain(f"{self.where}: {key} is no boolean", got=repr(value)))
        return value

    def sub(self, key: str) -> Config:
        """Return the nested configuration under ``key`` (empty where there is none)."""
        value = self.get(key)
        return Config(values=value if isinstance(value, Mapping) else {}, defaults={}, where=self.where)

    def over(self, changes: Mapping[str, Any]) -> Config:
        """Return this configuration with some values exchanged."""
        return Config(
            values={**self.values, **changes}, defaults=self.defaults, where=self.where, used=self.used
        )

    def _checked(self, key: str, value: Any, *, low: int) -> int:
        ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not ok or value != int(value) or not low <= value <= MAX_WIDTH:
            raise FileFormatError(
                explain(
                    f"{self.where}: {key} is out of range",
                    got=repr(value)[:60],
                    expected=f"a whole number from {low} to {MAX_WIDTH:,}",
                )
            )
        return int(value)
