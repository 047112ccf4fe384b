"""An argument parser whose errors are one line, and the kinds of number that people type."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from llmco2.errors import explain, nearest_names

EXIT_USAGE = 2


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, with the nearest option, and leaves with exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **({"allow_abbrev": False} | kwargs))

    def error(self, message: str) -> NoReturn:
        """Print ``message`` on standard error and leave."""
        line = " ".join(message.split())
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
