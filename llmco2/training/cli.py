"""``llmco2 train fit|validate|test|predict``: one call of LightningCLI.

Invariant: the defaults are those of the shipped ``default.yaml``, from a checkout as from an installed wheel, and a
later ``--config`` changes only what it names; a misspelt option is an error.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from argparse import ArgumentError
from typing import Any, Final
from unittest import mock

from llmco2.errors import InputError, LLMCO2Error, explain
from llmco2.resources import configs_dir
from llmco2.training.bad_options import bad_option, our_error
from llmco2.training.shipped_configs import with_shipped_configs

SUBCOMMANDS: Final = ("fit", "validate", "test", "predict")
EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_INPUT: Final = 2
_IGNORED: Final = (
    (".*LeafSpec", FutureWarning),  # lightning 2.6 asks torch for a name that it renamed
    (".*does not have many workers", UserWarning),  # rows are in memory: workers would only copy them
    ("Total length of `list` across ranks is zero", UserWarning),  # no shape is held out to validate
    ("The dirpath has changed", UserWarning),  # every command logs into a folder of its own
    (".*KernelModule.configure_optimizers. will be overridden", UserWarning),  # what --optimizer is for
)


def main(argv: list[str] | None = None) -> int:
    """Run the training command line and return its exit code; ``argv`` defaults to ``sys.argv[1:]``."""
    try:
        arguments = with_shipped_configs(sys.argv[1:] if argv is None else argv)
        with warnings.catch_warnings():
            for message, category in _IGNORED:
                warnings.filterwarnings("ignore", message, category)
            _run(arguments)
    except LLMCO2Error as error:
        print(f"llmco2: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILURE
    except SystemExit as stop:  # the parser has printed its help or its one-line complaint
        return stop.code if isinstance(stop.code, int) else EXIT_INPUT
    return EXIT_OK


def _run(arguments: list[str]) -> None:
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of lightning's calls
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # noqa: PLC0415 - seconds
    from lightning.pytorch import LightningDataModule, LightningModule  # noqa: PLC0415
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI  # noqa: PLC0415

    from llmco2.training.checkpoint_file import check_readable  # noqa: PLC0415

    class TrainingCLI(LightningCLI):
        """The command line, which looks into a checkpoint before anything is made from it."""

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.link_arguments("data.init_args.kinds", "model.init_args.kinds")

        def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
            try:
                # handed over, LightningCLI warns of them; processes of a distributed run start with the true ones
                with mock.patch.object(sys, "argv", ["llmco2 train", *arguments]):
                    super().parse_arguments(parser, args)
            except ArgumentError as error:
                raise bad_option(str(error), self._subcommand_parsers) from error
            chosen = self.config[self.config["subcommand"]].get("ckpt_path")
            if chosen is not None:
                check_readable(str(chosen))

    _log_to_stderr()
    strict = {"exit_on_error": False, "allow_abbrev": False}
    default = {**strict, "default_config_files": [str(configs_dir() / "default.yaml")]}
    try:
        TrainingCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "llmco2 train", **strict, **dict.fromkeys(SUBCOMMANDS, default)},
        )
    except MisconfigurationException as error:  # options that are fine one by one and contradict each other
        raise InputError(explain("the trainer refuses these options", got=str(error))) from error
    except ValueError as error:  # the parser wraps what a class says of its options
        raise our_error(error) or error from None


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
