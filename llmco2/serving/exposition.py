"""Prometheus text pages, read within limits.

Invariant: reading a page takes time and memory in proportion to its size, whose limit is checked first. A page
that is damaged anywhere in the lines that are wanted is refused as a whole, because half a page has lost series.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from llmco2.errors import explain
from llmco2.serving.errors import DAMAGED, TOO_LARGE, ServerError

MAX_PAGE_BYTES: Final = 8 << 20  # a vLLM of one process writes 54 kB; 64 ranks stay below 4 MB
MAX_LINE_BYTES: Final = 16 << 10
MAX_SERIES: Final = 20_000  # of those that are wanted
_SHOWN: Final = 60
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series of a page: its labels, and its newest value, which may be infinite but is never NaN."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The wanted series of one page, by the name of their samples."""

    series: Mapping[str, tuple[Series, ...]]
    types: Mapping[str, str]  # counter | gauge | histogram | summary | unknown, by the name of the sample
    notes: tuple[str, ...] = ()  # what was odd about it, one line each

    def values(self, name: str) -> tuple[Series, ...]:
        """Return the series of ``name``; none where the page lacks it."""
        return self.series.get(name, ())


def printable(text: str, limit: int = _SHOWN) -> str:
    """Return text from a server as one line without control characters, at most ``limit`` characters long."""
    line = "".join(ch if ch.isprintable() else "?" for ch in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def parse_page(content: bytes, wanted: Callable[[str], bool] = lambda _: True) -> Page:
    """Return the series of a text page whose sample names are ``wanted``.

    A series that stands twice counts once, with its last value; a NaN is left out. Both are noted. Raises
    :class:`ServerError` (``too_large`` or ``damaged``) with the number of the line.
    """
    if len(content) > MAX_PAGE_BYTES:
        raise ServerError(
            TOO_LARGE, explain("the metrics page is too large", got=f"over {MAX_PAGE_BYTES >> 20} MiB")
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ServerError(
            DAMAGED, explain("the metrics page is not UTF-8 text", got=f"byte {error.start}")
        ) from None
    reader = _Reader(wanted)
    for number, line in enumerate(text.split("\n"), start=1):
        reader.take(number, line.rstrip("\r"))
    if text and not text.endswith(
        "\n"
    ):  # the format asks for it, and a number that broke off reads as another
        raise ServerError(DAMAGED, explain("the metrics page broke off", got=repr(printable(text[-_SHOWN:]))))
    return reader.page()


class _Reader:
    """Collects the wanted lines of a page."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._wanted = wanted
        self._known: dict[str, bool] = {}
        self._found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        self._types: dict[str, str] = {}
        self._notes: dict[str, None] = {}
        self._n_series = 0

    def note(self, text: str) -> None:
        self._notes.setdefault(text)

    def take(self, number: int, line: str) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise ServerError(
                DAMAGED, explain(f"line {number} of the metrics page is too long", got=len(line))
            )
        stripped = line.strip()
        if not stripped or stripped.startswith("{"):  # a name in quotes, as no engine writes it
            return
        if stripped.startswith("#"):
            self._comment(stripped)
            return
        name = _name(stripped)
        if name not in self._known:
            self._known[name] = _is_name(name) and self._wanted(name)
        if not _is_name(name):
            raise _damaged(number, stripped)
        if self._known[name]:
            self._sample(number, stripped)

    def _comment(self, line: str) -> None:
        words = line.split(None, 3)
        if len(words) == 4 and words[1] == "TYPE":
            self._types[words[2]] = words[3]

    def _sample(self, number: int, line: str) -> None:
        try:
            samples = [s for family in text_string_to_metric_families(line + "\n") for s in family.samples]
        except (ValueError, IndexError, KeyError) as error:
            raise _damaged(number, line) from error
        for sample in samples:
            value = float(sample.value)
            if math.isnan(value):
                self.note(f"{printable(sample.name)} is NaN")
                continue
            key = tuple(sorted(sample.labels.items()))
            values = self._found.setdefault(sample.name, {})
            if key in values:
                self.note(f"{printable(sample.name)} stands twice; its last value counts")
            else:
                self._n_series += 1
            values[key] = value
        if self._n_series > MAX_SERIES:
            raise ServerError(
                TOO_LARGE,
                explain("the metrics page holds too many series", expected=f"at most {MAX_SERIES:,}"),
            )

    def page(self) -> Page:
        return Page(
            series={
                name: tuple(Series(labels=dict(key), value=value) for key, value in values.items())
                for name, values in self._found.items()
            },
            types=dict(self._typed()),
            notes=tuple(self._notes),
        )

    def _typed(self) -> Iterator[tuple[str, str]]:
        for name in self._found:
            base = next(
                (name.removesuffix(end) for end in ("", "_total", "_bucket", "_sum", "_count", "_created")
                 if name.endswith(end) and name.removesuffix(end) in self._types),
                name,
            )  # fmt: skip
            yield name, self._types.get(base, "unknown")


def _name(line: str) -> str:
    end = next((place for place, ch in enumerate(line) if ch in "{ \t"), len(line))
    return line[:end]


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _damaged(number: int, line: str) -> ServerError:
    return ServerError(
        DAMAGED,
        explain(f"line {number} is no line of a metrics page", got=repr(printable(line))),
    )
