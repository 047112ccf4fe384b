"""``python -m benchmarks.kernel_tables --root SYSTEMS_DATA --output FOLDER``: a Parquet table a kernel kind, and lanes.

SYSTEMS_DATA is ``aiconfigurator_core/systems/data`` of the unpacked wheel of PyPI's ``aiconfigurator-core`` 0.12.0. The
tables train and judge node functions; ``lanes.json`` says which library each stack runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.command_line import exit_code
from benchmarks.kernel_tables.lanes import lanes_of
from benchmarks.kernel_tables.read import tables
from llmco2.cli.arguments import OneLineParser
from llmco2.errors import InputError, explain

_WHERE = "aiconfigurator_core/systems/data of the unpacked aiconfigurator-core wheel"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables and print each kind with its number of rows."""
    parser = OneLineParser(
        prog="python -m benchmarks.kernel_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, required=True, metavar="FOLDER", help=_WHERE)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the tables go")
    args = parser.parse_args(argv)
    if not args.root.is_dir():
        raise InputError(explain("--root is no folder", got=args.root, expected=_WHERE))
    frames = write_tables(args.root, args.output)
    (args.output / "lanes.json").write_text(json.dumps(lanes_of(frames)), encoding="utf-8")
    return 0


def write_tables(root: Path, output: Path) -> dict[str, pd.DataFrame]:
    """Write one Parquet file a kind into ``output`` and return the tables by kind.

    Raises:
        InputError: ``root`` lacks the measurements of a kind, or ``output`` cannot be written.
    """
    frames = {}
    try:
        output.mkdir(parents=True, exist_ok=True)
        for kind, frame in tables(root):
            frame.to_parquet(output / f"{kind}.parquet")
            print(f"{kind}: {len(frame):,} rows")
            frames[kind] = frame
    except FileNotFoundError as error:
        raise InputError(explain(f"--root: {error}", expected=_WHERE)) from error
    except OSError as error:
        raise InputError(explain(f"cannot write {output}", got=error.strerror or str(error))) from error
    return frames


if __name__ == "__main__":
    sys.exit(exit_code(main))
