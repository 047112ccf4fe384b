"""An argument parser whose errors are one line, and the kinds of number that people type."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from llmco2.errors import explain, nearest_names, shortened

EXIT_USAGE = 2
_LINE_SHOWN: Final = 1_000
_RANGE: Final = ".."


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, with the nearest option, and leaves with exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **({"allow_abbrev": False} | kwargs))

    def error(self, message: str) -> NoReturn:
        """Print ``message`` on standard error and leave."""
        line = shortened(" ".join(message.split()), _LINE_SHOWN)
        self.exit(EXIT_USAGE, f"llmco2: {line}; see {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and refuse what no option takes: here, where the options that do exist are known."""
        known, extra = super().parse_known_args(args, namespace)
        if extra:
            self.error(self._unrecognized(extra))
        return known, extra

    def _unrecognized(self, extra: Sequence[str]) -> str:
        option = next((item for item in extra if item.startswith("-")), None)
        if option is None:
            return explain("unexpected argument", got=repr(extra[0]))
        name = option.partition("=")[0]
        options = [text for action in self._actions for text in action.option_strings]
        near = nearest_names(name, options, limit=2)
        return explain(
            "unknown option", got=name, remedy=f"did you mean {' or '.join(near)}?" if near else ""
        )


def number(text: str) -> float:
    """Return the number that ``text`` spells, an int where it is whole.

    NaN and infinity pass: the record they enter refuses them by name. Raises argparse.ArgumentTypeError
    for anything else.
    """
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(explain("not a number", got=repr(text))) from None
    return int(value) if value.is_integer() else value


def whole(text: str) -> int:
    """Return the whole number that ``text`` spells; raises argparse.ArgumentTypeError for anything else."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(explain("not a whole number", got=repr(text))) from None


def listed(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader of one value of ``kind``, or of several with commas between them.

    Numbers also come as a range ``1..256``, which doubles from its first to its last: 1, 2, 4 … 256. One value
    is returned bare, several as a tuple without repeats. A path with a comma is one value if it exists. The
    reader raises argparse.ArgumentTypeError for what is no value, no list and no range.
    """

    def read(text: str) -> Any:
        parts = text.split(",")
        if len(parts) == 1 and (kind is str or _RANGE not in text):
            return kind(text)
        if kind is str and Path(text).exists():
            return text
        values = tuple(dict.fromkeys(value for part in parts for value in _listed_part(text, part, kind)))
        return values[0] if len(values) == 1 else values

    return read


def _listed_part(text: str, part: str, kind: Callable[[str], Any]) -> Iterator[Any]:
    part = part.strip()
    if not part:
        raise argparse.ArgumentTypeError(explain("an empty place in a list", got=repr(text)))
    if kind is str:
        yield part
        return
    if len(part) > 1 and part.startswith("0") and part.isdigit():
        raise argparse.ArgumentTypeError(
            explain("not a list of numbers", got=repr(text), remedy="commas part a list, never thousands")
        )
    first, dots, last = part.partition(_RANGE)
    yield from _doubling(part, kind(first), kind(last)) if dots else (kind(part),)


def _doubling(text: str, first: float, last: float) -> Iterator[float]:
    """Yield ``first``, twice it, and so on below ``last``, then ``last``."""
    if not 1 <= first <= last < math.inf:
        raise argparse.ArgumentTypeError(
            explain(
                "not a range", got=repr(text), expected="FIRST..LAST, which doubles from FIRST, at least 1"
            )
        )
    while first < last:
        yield first
        first *= 2
    yield last
