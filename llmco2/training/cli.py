"""``llmco2 train fit|validate|test|predict``: one call of LightningCLI.

Invariant: classes are fixed, so a misspelt option is an error; the defaults are those of the shipped
``default.yaml``, from a checkout as from an installed wheel, and a later ``--config`` changes only what it
names.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llmco2.errors import InputError, LLMCO2Error, UnknownNameError, explain, nearest_names
from llmco2.resources import configs_dir

SUBCOMMANDS: Final = ("fit", "validate", "test", "predict")
EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_INPUT: Final = 2
_DEFAULT: Final = "default.yaml"
_CONFIG_OPTIONS: Final = ("--config", "-c")


def main(argv: list[str] | None = None) -> int:
    """Run the training command line and return its exit code; ``argv`` defaults to ``sys.argv[1:]``."""
    try:
        arguments = with_shipped_configs(sys.argv[1:] if argv is None else argv)
        _run(arguments)
    except LLMCO2Error as error:
        print(f"llmco2: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILURE
    except SystemExit as stop:  # the parser has printed its help or its one-line complaint
        return stop.code if isinstance(stop.code, int) else EXIT_INPUT
    return EXIT_OK


def shipped_configs() -> list[str]:
    """Return the names of the shipped configurations."""
    return sorted(path.stem for path in configs_dir().glob("*.yaml"))


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``--config NAME`` turned into the path of the shipped file of that name.

    A value that is a file, or has a folder in it, is left as it is.

    Raises UnknownNameError with the nearest names.
    """
    resolved: list[str] = []
    awaiting = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if awaiting:
            resolved.append(_config_path(argument))
        elif equals and option in _CONFIG_OPTIONS:
            resolved.append(f"{option}={_config_path(value)}")
        else:
            resolved.append(argument)
        awaiting = not awaiting and argument in _CONFIG_OPTIONS
    return resolved


def _config_path(value: str) -> str:
    path = Path(value)
    if path.exists() or path.name != value:
        return value
    shipped = configs_dir() / (value if path.suffix in {".yaml", ".yml"} else f"{value}.yaml")
    if shipped.is_file():
        return str(shipped)
    raise UnknownNameError(
        "configuration", value, shipped_configs(), remedy=f"there are: {', '.join(shipped_configs())}"
    )


def _run(arguments: list[str]) -> None:
    # lightning 2.6 calls jsonargparse by a name that it has retired; a user can do nothing about that …
    warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # … nor about this
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # noqa: PLC0415 - seconds
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI  # noqa: PLC0415

    from llmco2.data.module import EnergyDataModule  # noqa: PLC0415
    from llmco2.training.module import EnergyModule, check_readable  # noqa: PLC0415

    class TrainingCLI(LightningCLI):
        """The command line, which looks into a checkpoint before anything is made from it."""

        def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
            try:
                with _as_process_arguments(arguments):
                    super().parse_arguments(parser, args)
            except ArgumentError as error:
                raise bad_option(str(error), self._subcommand_parsers) from error
            chosen = self.config[self.config["subcommand"]].get("ckpt_path")
            if chosen is not None:
                check_readable(str(chosen))

    _log_to_stderr()
    default = {
        "default_config_files": [str(configs_dir() / _DEFAULT)],
        "exit_on_error": False,
        "allow_abbrev": False,
    }
    try:
        TrainingCLI(
            EnergyModule,
            EnergyDataModule,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                "prog": "llmco2 train",
                "exit_on_error": False,
                "allow_abbrev": False,
                **dict.fromkeys(SUBCOMMANDS, default),
            },
        )
    except MisconfigurationException as error:  # options that are fine one by one and contradict each other
        raise InputError(explain("the trainer refuses these options", got=str(error))) from error


def bad_option(complaint: str, parsers: Mapping[str, Any]) -> InputError:
    """Return the parser's complaint as one line, with the nearest options where one was misspelt."""
    line = " ".join(complaint.split())
    misspelt = re.search(r"--([\w.]+)|accept option '([\w.]+)'", line)
    known = {name.removeprefix("--") for parser in parsers.values() for name in parser._option_string_actions}
    typed = next(filter(None, misspelt.groups()), "") if misspelt else ""
    near = nearest_names(typed, known) if typed and typed not in known else []
    hint = f"did you mean {', '.join(near)}?" if near else ""
    return InputError(
        explain(line.rstrip("."), remedy=f"{hint} llmco2 train fit --help lists the options".strip())
    )


@contextlib.contextmanager
def _as_process_arguments(arguments: list[str]) -> Iterator[None]:
    """Let LightningCLI find the arguments where it looks for them; handed over otherwise, it warns.

    Only while it parses: other processes of a distributed run are started with the true arguments.
    """
    before = sys.argv
    sys.argv = ["llmco2 train", *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _log_to_stderr() -> None:
    """Let the package's own log be read, once, unless the host program has arranged for it.

    The trainer's chatter (devices, tips) is left out; its warnings are not.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logger = logging.getLogger("llmco2")
    if not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
