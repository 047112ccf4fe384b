"""``python -m benchmarks.accuracy``: rebuild every accuracy table from measured runs.

Invariant: stopped at any moment, the same command goes on with the fits that are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.command_line import exit_code
from llmco2.cli.arguments import OneLineParser, whole
from llmco2.errors import InputError, explain

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_DEFAULT_OUTPUT: Final = "benchmarks/results"
_COMMITTED: Final = "benchmarks/results/splits.csv"
_DEFAULT_SEEDS: Final = 5
_MOST_SEEDS: Final = 100
_MIN_WIDTH: Final = 80
_EXAMPLES: Final = """examples:
  python -m benchmarks.accuracy --runs public_runs/
  python -m benchmarks.accuracy --runs my_runs.csv --folds "board H100" \\
      --methods formula,"what ships" --seeds 1 --output trial
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, evaluate, and return the exit code."""
    return run(_parser().parse_args(argv))


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="python -m benchmarks.accuracy",
        usage="python -m benchmarks.accuracy --runs PATH [options]",
        description="Fit the predictor and its baselines with a model family, a board, both, a\n"
        "deployment or a request left out, group by group and seed by seed; write\n"
        "tables and pictures of their errors on what was left out. Finished fits are\n"
        "kept in the output folder (evaluation.jsonl), so a stopped command goes on\n"
        "where it was. Needs scikit-learn and matplotlib (make dev).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(parser)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", metavar="PATH", required=True, help="measured runs: a table, or a folder of public sources"
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        default=_DEFAULT_OUTPUT,
        help=f"where tables and pictures go (default: {_DEFAULT_OUTPUT})",
    )
    parser.add_argument(
        "--methods", metavar="A,B", help="only these methods, by their names in the tables (default: all)"
    )
    parser.add_argument(
        "--folds",
        metavar="TEXT",
        default="",
        help="only groups whose name contains this, such as 'board' or 'qwen' (default: all)",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=whole,
        default=_DEFAULT_SEEDS,
        help=f"fits of each method to each group, each with another seed (default: {_DEFAULT_SEEDS})",
    )
    parser.add_argument(
        "--baseline-seeds",
        metavar="N",
        type=whole,
        help="the same for baselines of the predictor (default: as --seeds)",
    )
    parser.add_argument(
        "--splits",
        metavar="FILE",
        help=f"list of groups and their rows to check against (default: {_COMMITTED}, if it is there)",
    )
    parser.add_argument("--jobs", metavar="N", type=whole, help="processes at once (default: one per core)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, write and show; return the exit code."""
    _check_number("--seeds", args.seeds, _MOST_SEEDS)
    if args.baseline_seeds is not None:
        _check_number("--baseline-seeds", args.baseline_seeds, _MOST_SEEDS)
    n_jobs = _cores() if args.jobs is None else args.jobs
    _check_number("--jobs", n_jobs, 1024)
    output = Path(args.output)
    if output.exists() and not output.is_dir():
        raise InputError(explain("--output is no folder", got=output))
    if not Path(args.runs).exists():
        raise InputError(
            explain("no such runs", got=args.runs, expected="a run table or a folder of sources")
        )
    splits = _committed_splits(args.splits)
    from rich.console import Console  # noqa: PLC0415 - after the arguments are known

    from benchmarks.accuracy.registry import check_extra  # noqa: PLC0415

    check_extra()
    from benchmarks.accuracy.evaluate import EvaluationOptions, evaluate  # noqa: PLC0415 - torch
    from benchmarks.public_runs.tables import run_table  # noqa: PLC0415

    options = EvaluationOptions(
        runs=str(run_table(args.runs, output)),
        output=output,
        methods=args.methods,
        folds=args.folds,
        seeds=args.seeds,
        baseline_seeds=args.baseline_seeds,
        workers=n_jobs,
        splits=splits,
    )
    with _only_errors():  # what was dropped on import is said by other commands
        cases = evaluate(options, Console(stderr=True))
    _print(cases, Console(highlight=False))
    print(f"tables and pictures written to {output}", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """Keep warnings of this package off the screen, and let them through again afterwards."""
    logger = logging.getLogger("llmco2")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_number(option: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise InputError(explain(f"bad {option}", got=value, expected=f"1 to {most}"))


def _committed_splits(name: str | None) -> Path | None:
    """Return the list to compare with: the one that was named, or the checkout's own where it is."""
    path = Path(_COMMITTED if name is None else name)
    if path.is_file():
        return path
    if name is None:
        return None
    raise InputError(explain("no such list of groups", got=name, expected="a splits.csv of this command"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _print(cases: pd.DataFrame, console: Console) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from benchmarks.accuracy.tables import figure, verdict, with_interval  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("left out", no_wrap=True)
    table.add_column("method", overflow="fold", min_width=20)
    for name in ("MAPE, % [95 %]", "EBA10", "verdict"):
        table.add_column(name, justify="right", no_wrap=True)
    for _, row in cases.sort_values(["case", "mape_percent"]).iterrows():
        table.add_row(
            row["case"],
            row["method"],
            with_interval(row["mape_percent"], row["mape_low_percent"], row["mape_high_percent"]),
            figure(row["eba10_percent"]),
            verdict(row),
        )
    console.width = max(console.width, _MIN_WIDTH)
    console.print(table)


if __name__ == "__main__":
    sys.exit(exit_code(main))
