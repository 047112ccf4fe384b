"""``llmco2``: the command line's front door.

Invariant: every deliberate error ends as one line on standard error, without a traceback. Exit codes: 0
answered, 1 the machine or a file of ours failed, 2 the input is wrong, 3 nothing meets the targets of a choice,
130 interrupted, 141 the reader of a pipe left.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Final

import llmco2
from llmco2.cli import streams
from llmco2.cli.arguments import OneLineParser
from llmco2.errors import InputError, InstallationError, LLMCO2Error, UnknownNameError, explain, shortened
from llmco2.extras import missing_extra
from llmco2.resources import REINSTALL

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141
_LINE_SHOWN: Final = 1_000  # characters of an error's line


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: the module that runs it, and its line in the help text."""

    module: str
    help: str


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "predict": Command(
            module="llmco2.cli.predict", help="predict energy and carbon of a request or a table of them"
        ),
        "choose": Command(
            module="llmco2.cli.choose",
            help="choose GPUs, parallelism and batch for least energy within targets",
        ),
        "measure": Command(
            module="llmco2.cli.measure", help="measure a campaign of configurations on the GPUs at hand"
        ),
        "calibrate": Command(
            module="llmco2.cli.calibrate",
            help="fit the predictor to a GPU and engine with your own runs",
        ),
        "monitor": Command(
            module="llmco2_tui.cli", help="watch GPU energy live, predicted and measured side by side"
        ),
        "export": Command(
            module="llmco2.cli.export",
            help="publish energy and carbon, measured and predicted, for Prometheus",
        ),
        "attribute": Command(
            module="llmco2.cli.attribute",
            help="share a meter's energy and carbon out over requests, users or tenants",
        ),
        "train": Command(module="llmco2.cli.train", help="fit, validate or test a predictor of your own"),
        "models": Command(module="llmco2.cli.catalogs", help="list the known models"),
        "gpus": Command(module="llmco2.cli.catalogs", help="list the known GPUs, or show one"),
        "zones": Command(module="llmco2.cli.catalogs", help="list the known grid zones and cloud regions"),
        "engines": Command(module="llmco2.cli.catalogs", help="list the serving engines"),
        "precisions": Command(module="llmco2.cli.catalogs", help="list the number formats"),
        "doctor": Command(
            module="llmco2.cli.doctor",
            help="check this machine and installation; a fix for each fault",
        ),
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; ``argv`` defaults to the process's own arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams.prepare()
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
    except LLMCO2Error as error:
        return _fail(error, EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILURE)
    except ModuleNotFoundError as error:  # a module that a command imports when it needs it
        missing = _not_installed(arguments[0], error)
        return _fail(missing, EXIT_INPUT if isinstance(missing, InputError) else EXIT_FAILURE)
    except BrokenPipeError:
        streams.discard_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        streams.discard_stdout()
        return _fail(error, EXIT_FAILURE)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    return status


def _dispatch(arguments: list[str]) -> int:
    chosen = arguments[0] if arguments else None
    if chosen == "train":  # the training command line parses its own arguments, --help included
        return int(_load("train").main(arguments[1:]))
    if chosen is not None and not chosen.startswith("-") and chosen not in COMMANDS:
        raise UnknownNameError("command", chosen, COMMANDS, remedy="llmco2 --help lists the commands")
    module = _load(chosen) if chosen is not None and chosen in COMMANDS else None
    parser = _parser(module)
    if not arguments:
        parser.print_help(sys.stderr)
        return EXIT_INPUT
    args = parser.parse_args(arguments)
    if module is None:  # argparse has refused every other first word
        raise InputError(explain("no command given", expected=" ".join(COMMANDS)))
    return int(module.run(args))


def _parser(chosen: ModuleType | None) -> OneLineParser:
    """Return a parser that knows every command by name and the options of the chosen module's."""
    parser = OneLineParser(
        prog="llmco2",
        description="Energy and carbon of an LLM inference: predicted before it runs, measured when it does.",
        epilog="llmco2 COMMAND --help lists the options of a command.",
        formatter_class=_CommandList,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"llmco2 {llmco2.__version__}",
        help="show the version and exit",
    )
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    if chosen is not None:
        chosen.add_parser(subparsers)
    for name, command in COMMANDS.items():
        if name not in subparsers.choices:
            subparsers.add_parser(name, help=command.help)
    return parser


class _CommandList(argparse.HelpFormatter):
    """Help whose first column has room for the longest command, so that each stays on one line."""

    def _format_action(self, action: argparse.Action) -> str:
        self._action_max_length = max(self._action_max_length, max(map(len, COMMANDS)) + 6)
        return super()._format_action(action)


def _load(name: str) -> ModuleType:
    """Import the module of a command; a part that is not installed is named, never guessed around."""
    module = COMMANDS[name].module
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise _not_installed(name, error) from error


def _not_installed(name: str, error: ModuleNotFoundError) -> LLMCO2Error:
    """Return what to raise where command ``name`` lacks a module: the extra to install, or that llmco2 is damaged."""
    missing = missing_extra(f"llmco2 {name}", error, extra="train" if name == "train" else None)
    return missing or InstallationError(
        explain(f"llmco2 {name} cannot run here", got=f"no module named {error.name!r}", remedy=REINSTALL)
    )


def _fail(reason: object, status: int) -> int:
    line = shortened(" ".join(str(reason).split()), _LINE_SHOWN)
    with contextlib.suppress(OSError):  # a reader that left, a disk that is full
        print(f"llmco2: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
