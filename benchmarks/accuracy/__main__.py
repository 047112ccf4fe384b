"""``python -m benchmarks.accuracy --runs PATH --output FOLDER``: score the product and others on measured runs."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pandas as pd

from benchmarks.accuracy.answers import product_answers
from benchmarks.accuracy.baselines.answers_file import write_requests
from benchmarks.accuracy.methods import METHODS, Method, Question, answers_of_file, chosen, question
from benchmarks.accuracy.pictures import draw_pictures
from benchmarks.accuracy.report import report, write_report
from benchmarks.accuracy.scores import scored
from benchmarks.accuracy.tables import BY_SOURCE, KERNELS, SUMMARY, result_tables
from benchmarks.accuracy.workload import Workload, measured_workload
from benchmarks.command_line import exit_code
from benchmarks.public_runs import import_runs
from llmco2.cli.arguments import OneLineParser
from llmco2.data.tables import read_runs
from llmco2.errors import InputError, LLMCO2Error, explain
from llmco2.predictor.checkpoint import load_checkpoint

ROWS_FILE: Final = "rows.csv.gz"
_NEEDED: Final = ("sklearn", "matplotlib")
_EXAMPLES: Final = """examples:
  python -m benchmarks.accuracy --runs public_files/
  python -m benchmarks.accuracy --runs my_runs.csv --methods llmco2,EcoLogits --output trial
  python -m benchmarks.accuracy --runs public_files/ --write-requests requests.csv
  python -m benchmarks.accuracy --runs public_files/ --answers AIConfigurator=answers.csv
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, score, and return the exit code."""
    args = _parser().parse_args(argv)
    output = Path(args.output)
    if output.exists() and not output.is_dir():
        raise InputError(explain("--output is no folder", got=output))
    methods = chosen(args.methods, [*METHODS, *(_from_file(text) for text in args.answers)])
    _check_packages()
    workload = measured_workload(_runs(Path(args.runs)))
    if args.write_requests:
        print(write_requests(workload, Path(args.write_requests)))
        return 0
    output.mkdir(parents=True, exist_ok=True)
    table = score(question(workload, args.checkpoint), methods)
    tables = result_tables(table)
    for name, own in tables.items():
        own.to_csv(output / name, index=False, float_format="%.5g")
    table.drop(columns="run").to_csv(output / ROWS_FILE, index=False, float_format="%.6g")
    kernels = output / KERNELS
    text = report(
        tables,
        [method for method in methods if (table["method"] == method.name).any()],
        draw_pictures(table, tables[BY_SOURCE], output),
        _facts(workload, args.checkpoint),
        pd.read_csv(kernels) if kernels.is_file() else None,
    )
    print(tables[SUMMARY].round(1).to_string(index=False))
    print(f"written: {write_report(text, output)}", file=sys.stderr)
    return 0


def score(asked: Question, methods: Sequence[Method]) -> pd.DataFrame:
    """Return the scored labels of all methods, one below the other; those that cannot be asked here are left out."""
    tables = []
    for method in methods:
        found = method.predict(asked)
        if found is None:
            print(f"not asked: {method.name} (this checkpoint has no hosts to leave out)", file=sys.stderr)
            continue
        tables.append(scored(asked.workload.labels, asked.workload.runs, found, method.name))
    if not tables or not sum(map(len, tables)):
        raise InputError(explain("no label that a method answers", got=f"{len(methods)} methods"))
    return pd.concat(tables, ignore_index=True)


def _facts(workload: Workload, checkpoint: str | None) -> dict[str, str]:
    answered = product_answers(workload, checkpoint)
    refused = workload.run_of_request[(answered["error"] != "").to_numpy()]
    loaded = load_checkpoint(checkpoint)
    sources = workload.runs["source"].nunique()
    return {
        "checkpoint": f"{loaded.name}, {loaded.sha256[:12]}",
        "runs": f"{len(workload.runs):,} of {sources} sources, {int(workload.runs['trusted'].sum()):,} trusted",
        "labels": f"{len(workload.labels):,}",
        "runs that the product refuses": f"{len(set(refused.tolist())):,}",
    }


def _runs(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise InputError(
            explain("no such runs", got=path, expected="a table of runs or a folder of public files")
        )
    logging.getLogger("benchmarks").setLevel(
        logging.ERROR
    )  # the importers' own commands say what they leave out
    return import_runs(path) if path.is_dir() else read_runs(path)


def _from_file(text: str) -> Method:
    name, separator, path = text.partition("=")
    if not (separator and name and Path(path).is_file()):
        raise InputError(explain("bad --answers", got=text, expected="NAME=FILE of an existing CSV"))
    return answers_of_file(name, Path(path))


def _check_packages() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise LLMCO2Error(
            explain("the baselines need more packages", got=f"no module {', '.join(missing)}",
                    remedy="pip install 'llmco2[plots]' scikit-learn")
        )  # fmt: skip


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="python -m benchmarks.accuracy",
        usage="python -m benchmarks.accuracy --runs PATH [options]",
        description="Ask the product for every measured run, and other methods for the same; write\n"
        "tables and pictures of their errors. Needs scikit-learn and matplotlib (make dev).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--runs", metavar="PATH", required=True, help="measured runs: a table, or a folder of public files")
    add("--output", metavar="FOLDER", default="benchmarks/results", help="(default: benchmarks/results)")
    add("--checkpoint", metavar="FILE", help="the .json of a checkpoint in place of the one that ships")
    add("--methods", metavar="A,B", help="only these methods, by their names in the tables (default: all)")
    add(
        "--answers",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="another tool's answers, as a method",
    )
    add("--write-requests", metavar="FILE", help="only write the requests that another tool is to answer")
    return parser


if __name__ == "__main__":
    sys.exit(exit_code(main))
