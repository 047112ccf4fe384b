"""``python -m benchmarks.public_runs FOLDER --output FOLDER``: one run table and one kernel table of public sources."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from benchmarks.command_line import exit_code
from benchmarks.public_runs.registry import KERNELS_FILE
from benchmarks.public_runs.tables import kernel_table, run_table
from llmco2.cli.arguments import OneLineParser
from llmco2.errors import InputError, explain


def main() -> int:
    """Write the tables and print where they are."""
    parser = OneLineParser(
        prog="python -m benchmarks.public_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", type=Path, metavar="FOLDER", help="the public files, with runs.csv.gz")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the tables go")
    parser.add_argument(
        "--include-flagged",
        action="store_true",
        help="keep vision-language rows, edge boards and emulated precisions",
    )
    args = parser.parse_args()
    if not args.sources.is_dir():
        raise InputError(explain("no such folder", got=args.sources, expected="the folder of public files"))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    print(run_table(args.sources, args.output, include_flagged=args.include_flagged))
    if (args.sources / KERNELS_FILE).is_file():
        print(kernel_table(args.sources, args.output))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
