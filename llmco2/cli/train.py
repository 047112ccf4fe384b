"""``llmco2 train fit|validate|test|predict``: hand the arguments to the training command line untouched.

Invariant: what the subcommands and shipped configurations are is said at once; the options are the training command
line's own to list, which takes the seconds that torch needs to load.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from llmco2.errors import UnknownNameError
from llmco2.resources import configs_dir

_HELP_OPTIONS: Final = ("-h", "--help")
_WIDTH: Final = 80
_HEAD: Final = """Train the kernel network on measured kernels, and judge it.

  fit        train; keeps a checkpoint, and arrays for predictions if asked to
  validate   error on the shapes that watch a fit
  test       error on the shapes that a fit never sees
  predict    write predicted beside measured times, one row a kernel

Without --config, default is read; without --data.path, the small simulated set
that ships. A later --config or option changes only what it names. Files go to
lightning_logs/ in --trainer.default_root_dir. Configurations that ship:

"""
_EXAMPLE: Final = """
example:
  llmco2 train fit --data.path=FOLDER --config release

llmco2 train fit --help lists every option; it and the rest take the seconds
that torch needs to load.
"""


def main(argv: Sequence[str]) -> int:
    """Run the training command line on ``argv`` and return its exit code."""
    from llmco2.training import cli  # noqa: PLC0415 - for this command alone

    if any(word in _HELP_OPTIONS for word in argv) and find_spec("lightning") is None:
        sys.stdout.write(head() + "\nThe options need an extra: pip install 'llmco2[train]'\n")
        return cli.EXIT_OK
    if not argv:
        sys.stderr.write(head())
        return cli.EXIT_INPUT
    if argv[0] in _HELP_OPTIONS:
        sys.stdout.write(head() + "\n")
        sys.stdout.flush()  # seconds before the rest
    elif not argv[0].startswith("-") and argv[0] not in cli.SUBCOMMANDS:
        raise UnknownNameError(
            "subcommand of llmco2 train",
            argv[0],
            cli.SUBCOMMANDS,
            remedy=f"there are {', '.join(cli.SUBCOMMANDS)}",
        )
    return int(cli.main(list(argv)) or 0)


def head() -> str:
    """Return what the subcommands do, which configurations ship, and an example."""
    return _HEAD + "".join(_config_lines()) + _EXAMPLE


def _config_lines() -> Iterator[str]:
    """Yield a line for each shipped configuration: its name and the first sentence of its first comment."""
    paths = sorted(configs_dir().glob("*.yaml"))
    column = 4 + max((len(path.stem) for path in paths), default=0)
    for path in paths:
        yield (
            textwrap.fill(
                _first_sentence(path),
                width=_WIDTH,
                initial_indent=f"  {path.stem:{column - 2}}",
                subsequent_indent=" " * column,
            )
            + "\n"
        )


def _first_sentence(path: Path) -> str:
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return " ".join(comment).partition(". ")[0].rstrip(".")
