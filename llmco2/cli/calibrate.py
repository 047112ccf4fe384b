"""``llmco2 calibrate``: fit a few physical factors to a few runs of one's own, and write them for ``predict``.

Invariant: the table shows errors on runs that the factors were not fitted to, before and after; where no factor makes
them better, no file is written.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from llmco2.cli.output_file import check_output, write_whole

if TYPE_CHECKING:
    from rich.table import Table

    from llmco2.calibration.calibrate import CalibrationResult, FittedCalibration

_MIN_WIDTH, _MAX_WIDTH = 80, 120
_EXAMPLES = """examples:
  llmco2 calibrate my_runs.csv --output my_gpu.json
  llmco2 predict Qwen/Qwen3-8B --gpu H100-SXM5-80GB --engine vllm \\
      --calibration my_gpu.json
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``llmco2 calibrate``."""
    parser = subparsers.add_parser(
        "calibrate",
        help="fit the predictor to a GPU and engine with your own runs",
        usage="llmco2 calibrate RUNS --output FILE [options]",
        description="Fit a few physical factors to measured runs, at least three of each GPU and\n"
        "engine. A factor is kept where it makes runs better that are held back from\n"
        "the fit. The file that is written is for --calibration of llmco2 predict and\n"
        "monitor, and acts on the GPUs and engines in it alone. Where no factor helps,\n"
        "that is said, nothing is written, and the exit code is 0 all the same.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs",
        metavar="RUNS",
        help="measured runs, as llmco2 measure writes them: .jsonl, .csv, .csv.gz or .parquet",
    )
    parser.add_argument("--output", metavar="FILE", required=True, help="where the factors go (.json)")
    parser.add_argument(
        "--force", action="store_true", help="replace that file where it exists (default: ask)"
    )
    parser.add_argument(
        "--gpu", metavar="GPU", help="the GPU of every run, whatever the runs say: a name or a JSON datasheet"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="checkpoint to calibrate, its .json (default: the one that ships)",
    )
    parser.add_argument("--allow-simulated", action="store_true", help="accept runs of simulated GPUs")
    parser.add_argument(
        "--include-flagged", action="store_true", help="accept runs measured without a model's fast kernels"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, show and write; return the exit code: 0, also where no factor helps and nothing is written."""
    from llmco2.calibration.calibrate import calibration_text, fit_calibrations  # noqa: PLC0415
    from llmco2.data.tables import read_runs, run_rows  # noqa: PLC0415 - pandas, after the arguments are known
    from llmco2.predictor.checkpoint import load_checkpoint  # noqa: PLC0415

    output = Path(args.output)
    check_output(output, force=args.force, inputs=[Path(args.runs)])
    table = read_runs(args.runs, allow_simulated=args.allow_simulated, include_flagged=args.include_flagged)
    runs = run_rows(table)
    if args.gpu is not None:
        runs = [replace(one, gpu=args.gpu) for one in runs]
    checkpoint = load_checkpoint(args.checkpoint)
    result = fit_calibrations(runs, checkpoint)
    if result.helpful:
        text = calibration_text(result, checkpoint)

        def write(part: Path) -> None:
            part.write_text(text, encoding="utf-8")

        write_whole(output, write)
    _print(result, sys.stdout)
    for line in (*_remarks(result), _outcome(result, output)):
        print(f"llmco2: {line}", file=sys.stderr)
    return 0


def _print(result: CalibrationResult, stream: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=stream, highlight=False)
    console.width = min(max(console.width, _MIN_WIDTH), _MAX_WIDTH)
    console.print(_table(result))


def _table(result: CalibrationResult) -> Table:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    caption = "errors: mean of runs held back from the fit"
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=caption, caption_justify="left"
    )
    table.add_column("GPU and engine", overflow="fold")
    table.add_column("runs", justify="right")
    table.add_column("energy error", justify="right", no_wrap=True)
    table.add_column("time error", justify="right", no_wrap=True)
    table.add_column("factors", no_wrap=True)
    for fitted in result.fitted:
        held_out = fitted.held_out
        shown = {**fitted.scales, "interval width": fitted.width_scale} if fitted.helps else {}
        table.add_row(
            f"{fitted.gpu_id}\n{fitted.engine}",
            str(fitted.n_runs),
            _change(held_out.energy_before_percent, held_out.energy_after_percent),
            _change(held_out.time_before_percent, held_out.time_after_percent),
            "\n".join(f"{name:14} {value:5.2f}" for name, value in shown.items()) or "none helps",
        )
    return table


def _change(before: float, after: float) -> str:
    return "not measured" if math.isnan(before) else f"{before:.1f} → {after:.1f} %"


def _outcome(result: CalibrationResult, output: Path) -> str:
    number = len(result.helpful)
    if not number:
        return f"no factor makes held-back runs better, so {output} was not written: predict without it"
    return f"{number} calibration{'s' * (number > 1)} written to {output}"


def _remarks(result: CalibrationResult) -> list[str]:
    lines = [
        f"{_name(fitted)}: no factor makes held-back runs better, so it is left out"
        for fitted in result.fitted
        if result.helpful and not fitted.helps
    ]
    lines += [
        f"{_name(fitted)}: some of its runs were simulated, and answers will say so"
        for fitted in result.helpful
        if fitted.simulated
    ]
    for (gpu_id, engine), n in result.too_few.items():
        lines.append(f"{gpu_id} under {engine}: left out, {n} usable runs are too few")
    if result.unusable:
        lines.append(
            f"{result.unusable} runs left out: no sizes, no labels, mixed shapes or several replicas"
        )
    return lines


def _name(fitted: FittedCalibration) -> str:
    return f"{fitted.gpu_id} under {fitted.engine}"
