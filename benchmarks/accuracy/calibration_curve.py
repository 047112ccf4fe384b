"""What one's own runs are worth on a board that was not measured: error after 0, 1, 3, 5, 10 and 25 of them.

Run: ``python -m benchmarks.accuracy.calibration_curve --runs FOLDER --output FOLDER``. Each board is left out in turn,
the formula is fitted without it and exported, and what ``llmco2 calibrate`` does is done with some runs of that board
and one engine. Two ways of drawing runs: at random (evaluated rows may share their models with calibration rows), and
from one half of the models, evaluated on the other half: the honest case of somebody who calibrates with the models at
hand and asks for another.

Invariant: evaluated rows are the same for every number of runs of a draw, and none of them calibrates.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.accuracy.calibration_figure import draw_calibration
from benchmarks.accuracy.markdown import table_line
from benchmarks.accuracy.mean_interval import MeanInterval, mean_interval
from benchmarks.public_runs.tables import run_table
from benchmarks.release.heldout import Fold, fit_rows, folds
from llmco2.calibration.calibrate import LEAST_RUNS, calibrate_group
from llmco2.calibration.runs import (
    N_ENERGIES,
    CalibrationRuns,
    calibration_runs,
    is_usable,
    log_ratios,
    primary,
)
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.options import SplitOptions
from llmco2.data.tables import run_rows
from llmco2.data.tensors import assumed_prompt_tokens
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint
from llmco2.predictor.intervals import Newness
from llmco2.predictor.residual import Residual
from llmco2.training.domain import training_domain
from llmco2.training.export import export_checkpoint, validation_intervals

Array = NDArray[np.float64]
Names = NDArray[np.object_]
COUNTS: Final = (0, 1, 3, 5, 10, 25)
N_DRAWS: Final = 5
FEWEST_EVALUATED: Final = 8
RANDOM_ROWS: Final = "random rows"
OTHER_MODELS: Final = "other models"
DRAWINGS: Final = (RANDOM_ROWS, OTHER_MODELS)
METHODS: Final = ("none", "median scale", "calibrate")
FLOOR: Final = "a scale a model, in sample"  # only what a request asks could take it lower


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Which rows of a group calibrate, in the order they are used, and which are evaluated."""

    calibrating: Index
    evaluated: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRuns:
    """Trusted runs of one board and engine, as a checkpoint that never saw the board has them."""

    gpu_id: str
    engine: str
    runs: CalibrationRuns
    models: Names  # (n_runs,)


def draw_runs(models: Names, drawing: str, seed: int) -> Draw | None:
    """Return one draw, or None where too few rows would be left to evaluate or to calibrate.

    ``random rows``: at most half of the rows calibrate, whatever their models. ``other models``: a random half of
    the models calibrates, and all rows of the other half are evaluated.
    """
    rng = np.random.default_rng(seed)
    if drawing == OTHER_MODELS:
        names = np.unique(models.astype(str))
        chosen = rng.permutation(names)[: len(names) // 2]
        mine = np.isin(models.astype(str), chosen)
        calibrating, evaluated = rng.permutation(np.flatnonzero(mine)), np.flatnonzero(~mine)
    else:
        order = rng.permutation(len(models))
        most = min(max(COUNTS), len(models) // 2)
        calibrating, evaluated = order[:most], np.sort(order[most:])
    if not len(calibrating) or len(evaluated) < FEWEST_EVALUATED:
        return None
    return Draw(calibrating=calibrating.astype(np.intp), evaluated=evaluated.astype(np.intp))


def energy_log_ratios(
    runs: CalibrationRuns, scales: dict[str, float], residual: Residual | None = None
) -> Array:
    """Return ``log(measured / predicted)`` of each run's energy, ``(n_runs,)``, NaN where it knows none."""
    return primary(log_ratios(runs, scales, residual)[:, :N_ENERGIES])


def mape_percent(ratios: Array) -> float:
    """Return the mean of ``|predicted / measured − 1|`` in percent over known ``log(measured / predicted)``."""
    known = ratios[np.isfinite(ratios)]
    return float(100.0 * np.mean(np.abs(np.expm1(-known)))) if len(known) else float("nan")


def draw_errors(board: BoardRuns, draw: Draw, n: int) -> dict[str, float]:
    """Return the MAPE (%) of every method on the evaluated rows after the first ``n`` calibrating runs."""
    evaluated = energy_log_ratios(board.runs.take(draw.evaluated), {})
    errors = dict.fromkeys(METHODS, mape_percent(evaluated))
    if n == 0:
        names = board.models[draw.evaluated]
        middle = {name: np.median(evaluated[names == name]) for name in set(names)}
        return {**errors, FLOOR: mape_percent(evaluated - np.array([middle[name] for name in names]))}
    used = board.runs.take(draw.calibrating[:n])
    errors["median scale"] = mape_percent(evaluated - np.nanmedian(energy_log_ratios(used, {})))
    if n >= LEAST_RUNS:
        fitted = calibrate_group(board.gpu_id, board.engine, used)
        after = energy_log_ratios(board.runs.take(draw.evaluated), fitted.scales, fitted.residual)
        errors["calibrate"] = mape_percent(after)
    return errors


def board_curve(board: BoardRuns, *, counts: Sequence[int] = COUNTS, n_draws: int = N_DRAWS) -> pd.DataFrame:
    """Return one row a drawing, draw, number of runs and method of a board and engine."""
    rows = []
    for drawing in DRAWINGS:
        for seed in range(n_draws):
            draw = draw_runs(board.models, drawing, seed)
            for n in counts if draw is not None else ():
                if draw is None or n > len(draw.calibrating):
                    continue
                for method, error in draw_errors(board, draw, n).items():
                    rows.append(
                        (board.gpu_id, board.engine, drawing, seed, n, method, error, len(draw.evaluated))
                    )
    columns = ["gpu", "engine", "drawing", "draw", "n_runs", "method", "mape_percent", "evaluated_rows"]
    return pd.DataFrame(rows, columns=columns)


def boards_unseen(data: EnergyDataModule, *, only: str = "") -> Iterator[Fold]:
    """Return the folds that leave out one board, those whose name contains ``only``."""
    return (f for f in folds(data) if f.case is Newness.NEW_GPU and only in f.name)


def checkpoint_without(data: EnergyDataModule, fold: Fold, path: Path, seed: int = 0) -> Checkpoint:
    """Fit the release's formula without a fold's rows, write it to ``path`` and read it as a prediction would."""
    network = fit_rows(data, fold.train, fold.name, graph=False, seed=seed)
    export_checkpoint(
        network,
        path,
        intervals=validation_intervals(torch.empty(0)),
        domain=training_domain(*data.training_side()),
        metadata={},
    )
    return load_checkpoint(str(path))


def board_runs(data: EnergyDataModule, fold: Fold, checkpoint: Checkpoint) -> list[BoardRuns]:
    """Return the fold's evaluated rows by engine, those with an energy that a calibration can use."""
    table = data.frame.assign(prompt_tokens=assumed_prompt_tokens(data.frame)).iloc[fold.test]
    usable = [run for run in run_rows(table) if is_usable(run)]
    found = []
    for engine in sorted({run.engine for run in usable}):
        own = [run for run in usable if run.engine == engine]
        (((gpu_id, name), runs),) = calibration_runs(own, checkpoint)[0].items()
        known = np.flatnonzero(np.isfinite(energy_log_ratios(runs, {})))
        models = np.array([run.model for run in own], dtype=object)
        if len(known):
            found.append(BoardRuns(gpu_id=gpu_id, engine=name, runs=runs.take(known), models=models[known]))
    return found


def curve(data: EnergyDataModule, *, only: str = "", counts: Sequence[int] = COUNTS, n_draws: int = N_DRAWS,
          seed: int = 0) -> pd.DataFrame:  # fmt: skip
    """Return the errors of every board, engine, drawing, draw, number of runs and method."""
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for fold in track(list(boards_unseen(data, only=only)), "boards left out"):
            checkpoint = checkpoint_without(data, fold, Path(folder) / "formula.json", seed)
            for board in board_runs(data, fold, checkpoint):
                tables.append(board_curve(board, counts=counts, n_draws=n_draws))
    return pd.concat(tables, ignore_index=True)


def summary(errors: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over draws with its 95 % interval: one row a board, engine, drawing and method."""
    keys = ["drawing", "gpu", "engine", "method", "n_runs"]
    rows = []
    for key, group in errors.groupby(keys, sort=False):
        found = mean_interval(group["mape_percent"])
        rows.append((*key, found.mean, found.half_width, found.n, int(group["evaluated_rows"].median())))
    columns = [*keys, "mape_percent", "half_width_percent", "draws", "evaluated_rows"]
    return pd.DataFrame(rows, columns=columns)


def over_groups(errors: pd.DataFrame) -> dict[tuple[str, str, int], MeanInterval]:
    """Return the mean over boards and engines by drawing, method and number of runs.

    Only draws that reach the largest number of runs count, so that a curve compares the same rows throughout.
    """
    keys = ["drawing", "gpu", "engine", "draw"]
    reached = errors.groupby(keys)["n_runs"].transform("max")
    means = summary(errors[reached == errors["n_runs"].max()])
    found: dict[tuple[str, str, int], list[float]] = {}
    for row in means.to_dict("records"):
        key = (str(row["drawing"]), str(row["method"]), int(row["n_runs"]))
        found.setdefault(key, []).append(float(row["mape_percent"]))
    return {key: mean_interval(values) for key, values in found.items()}


def markdown(errors: pd.DataFrame) -> str:
    """Return one table a drawing: boards and engines by number of runs; fewer than three do not calibrate."""
    means, parts = summary(errors), []
    counts = sorted(set(means["n_runs"]))
    for drawing in DRAWINGS:
        mine = means[means["drawing"] == drawing]
        head = ["board", "engine", "evaluated", *(f"{n} runs" for n in counts), "one scale, 10 runs", FLOOR]
        parts += [
            f"\nCalibrated with {drawing}, MAPE % (mean of draws ± 95 %)\n",
            table_line(head),
            table_line(["---"] * len(head)),
        ]
        for (gpu, engine), group in mine.groupby(["gpu", "engine"]):
            shown = group[group["method"] == "calibrate"]
            if shown["n_runs"].max() < LEAST_RUNS:
                continue
            cells = [_cell(shown[shown["n_runs"] == n]) for n in counts]
            scale = group[(group["method"] == "median scale") & (group["n_runs"] == 10)]
            floor = group[group["method"] == FLOOR]
            parts.append(
                table_line(
                    [
                        str(gpu),
                        str(engine),
                        str(group["evaluated_rows"].iloc[0]),
                        *cells,
                        _cell(scale),
                        _cell(floor),
                    ]
                )
            )
        parts += _mean_lines(errors, drawing, counts)
    return "\n".join(parts)


def _mean_lines(errors: pd.DataFrame, drawing: str, counts: list[int]) -> list[str]:
    found = over_groups(errors)
    lines = []
    for method in METHODS[1:]:
        cells = [str(found[drawing, method, n]) if (drawing, method, n) in found else "–" for n in counts]
        lines.append(table_line([f"mean, {method}", "", "", *cells, "", ""]))
    return lines


def _cell(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    row = rows.iloc[0]
    return str(
        MeanInterval(mean=row["mape_percent"], half_width=row["half_width_percent"], n=int(row["draws"]))
    )


def main() -> None:
    """Read the command line, print the tables and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", help="a run table, or a folder of public sources (default: the simulated set)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables and the picture")
    parser.add_argument("--only", default="", help="only boards whose name contains this")
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = None if args.runs is None else str(run_table(args.runs, args.output))
    data = EnergyDataModule(runs=runs, split=SplitOptions(kind="none"))
    data.setup()
    errors = curve(data, only=args.only)
    args.output.mkdir(parents=True, exist_ok=True)
    summary(errors).round(2).to_csv(args.output / "calibration_curve.csv", index=False)
    (args.output / "calibration_curve.md").write_text(markdown(errors) + "\n", encoding="utf-8")
    draw_calibration(summary(errors), over_groups(errors), args.output / "calibration_curve.png")
    print(markdown(errors))


if __name__ == "__main__":
    main()
