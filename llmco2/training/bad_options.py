"""Complaints of the command line in one line, with the nearest options where one was misspelt."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pydoc import locate
from typing import Any

from llmco2.errors import InputError, LLMCO2Error, explain, nearest_names


def bad_option(complaint: str, parsers: Mapping[str, Any]) -> InputError:
    """Return the error for a parser's complaint; ``parsers`` are those of the subcommands."""
    line = " ".join(complaint.split())
    of_class = re.search(r"class_path '([\w.]+)': Option '(\w+)' is not accepted", line)
    of_parser = re.search(r"--([\w.]+)|accept option '([\w.]+)'", line)
    if of_class:
        typed, chosen = of_class[2], locate(of_class[1])
        known = set(inspect.signature(chosen).parameters) if callable(chosen) else set()
        line = f"{of_class[1].rpartition('.')[2]} has no option {typed!r}"
    else:
        typed = next(filter(None, of_parser.groups()), "") if of_parser else ""
        known = {
            name.removeprefix("--") for parser in parsers.values() for name in parser._option_string_actions
        }
    near = nearest_names(typed, known) if typed and typed not in known else []
    hint = f"did you mean {', '.join(near)}?" if near else ""
    return InputError(
        explain(line.rstrip("."), remedy=f"{hint} llmco2 train fit --help lists the options".strip())
    )


def our_error(error: BaseException | None) -> LLMCO2Error | None:
    """Return the first deliberate error among ``error`` and its causes, or None."""
    while error is not None and not isinstance(error, LLMCO2Error):
        error = error.__cause__ or error.__context__
    return error
