"""``python -m benchmarks.accuracy.kernels --kernels FOLDER --output FOLDER``: errors of learnt kernels, held out.

Folds: whole shapes held out (a fifth, chosen by hash), and a board held out. Each is fitted anew with the recipe
that ships; the roofline with launch, times the median ratio of each format and stack ("constant efficiency"), stands
beside. FOLDER holds the Parquet tables that ``python -m benchmarks.kernel_tables`` writes.

Invariant: no row of a held-out shape or board is seen by the fit that is judged on it, scales and median included.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.accuracy.tables import KERNELS
from benchmarks.command_line import exit_code
from llmco2.cli.arguments import OneLineParser, whole
from llmco2.data.kernel_module import KernelDataModule
from llmco2.data.kernel_rows import SHAPE_OF, KernelRows, held_out, read_kernel_rows
from llmco2.errors import InputError, explain
from llmco2.networks.kernel_network import NodeFunction
from llmco2.training.feedback import FocusOnErrors
from llmco2.training.kernel_module import KernelModule

HELD_SHARE: Final = 0.2
SHAPES: Final = "shapes"
BOARDS: Final = ("H200-SXM-141GB", "B300-SXM-288GB", "L40S", "A100-SXM4-80GB")
_ROWS: Final = 100_000
_STEPS: Final = 2_500
_BATCH: Final = 2_048
_EPOCH_STEPS: Final = 250  # between looks at the error of each stratum
_CHUNK: Final = 65_536
_CLASSES: Final = ("stack", "format", "kv_bytes", "narrow", "decode", "operation")


def fit_node(
    kind: str, frame: pd.DataFrame, *, steps: int = _STEPS, batch_size: int = _BATCH, seed: int = 0
) -> NodeFunction:
    """Return a node function fitted to all rows of ``frame`` by the recipe of the release."""
    epochs = max(round(steps / _EPOCH_STEPS), 1)
    with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        frame.to_parquet(Path(folder) / f"{kind}.parquet", index=False)
        torch.manual_seed(seed)
        data = KernelDataModule(
            path=folder, kinds=(kind,), max_rows=len(frame), test_share=0.0, validation_share=0.0,
            batch_size=batch_size, batches_per_epoch=min(steps, _EPOCH_STEPS), seed=seed,
        )  # fmt: skip
        module = KernelModule(kinds=(kind,))
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=epochs, callbacks=[FocusOnErrors()], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
            default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
    return module.network.node(kind).eval()


@torch.no_grad()
def node_log_errors(node: NodeFunction, rows: KernelRows) -> NDArray[np.float64]:
    """Return ``log(predicted / measured)`` of ``rows``, ``(n_rows,)``."""
    errors = [node(part) for part in torch.split(rows.features, _CHUNK)]
    result: NDArray[np.float64] = (torch.cat(errors) - rows.target).numpy().astype(np.float64)
    return result


def constant_log_errors(train: pd.DataFrame, train_target: NDArray[np.float64], test: pd.DataFrame,
                        target: NDArray[np.float64]) -> NDArray[np.float64]:  # fmt: skip
    """Return the log errors of one ratio to the roofline a stack and format: the median of training rows."""
    classes = [name for name in _CLASSES if name in train]
    ratio = train[classes].assign(ratio=train_target).groupby(classes)["ratio"].median().rename("ratio")
    found = test[classes].join(ratio, on=classes)["ratio"].fillna(float(np.median(train_target)))
    errors: NDArray[np.float64] = found.to_numpy(dtype=np.float64) - target
    return errors


def kernel_folds(
    kind: str, frame: pd.DataFrame, boards: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each fold's name and which rows it holds out; boards without rows of this kind are passed over."""
    yield SHAPES, held_out(kind, frame, HELD_SHARE)
    for board in boards:
        held = (frame["gpu"] == board).to_numpy()
        if held.any() and not held.all():
            yield board, held


def judge_kind(
    kind: str, frame: pd.DataFrame, boards: Sequence[str], *, steps: int, seed: int
) -> pd.DataFrame:
    """Return one row a fold and method of one kind: rows held out, median, mean and 90th percentile error, percent."""
    found = []
    for fold, held in kernel_folds(kind, frame, boards):
        train_frame, test_frame = (frame[mask].reset_index(drop=True) for mask in (~held, held))
        train, test = KernelRows(kind, train_frame), KernelRows(kind, test_frame)
        learnt = node_log_errors(fit_node(kind, train_frame, steps=steps, seed=seed), test)
        targets = [rows.target.numpy().astype(np.float64) for rows in (train, test)]
        constant = constant_log_errors(train_frame, targets[0], test_frame, targets[1])
        for method, errors in (("learnt kernel", learnt), ("constant efficiency", constant)):
            found.append(
                {"kind": kind, "held_out": fold, "method": method, "rows": len(errors)} | spread(errors)
            )
    return pd.DataFrame(found)


def spread(log_errors: NDArray[np.float64]) -> dict[str, float]:
    """Return median, mean and 90th percentile of ``|predicted / measured − 1|``, percent, and the median signed one."""
    signed = 100.0 * np.expm1(log_errors)
    size = np.abs(signed)
    return {
        "median_percent": float(np.median(size)),
        "mean_percent": float(size.mean()),
        "p90_percent": float(np.percentile(size, 90)),
        "bias_percent": float(np.median(signed)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Judge every kind that has a table and write ``kernels.csv``."""
    parser = OneLineParser(
        prog="python -m benchmarks.accuracy.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kernels", type=Path, required=True, metavar="FOLDER", help="kernel tables")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    parser.add_argument("--kinds", default=",".join(SHAPE_OF), metavar="A,B", help="only these kinds")
    parser.add_argument(
        "--boards", default=",".join(BOARDS), metavar="A,B", help="boards held out, one at a time"
    )
    parser.add_argument(
        "--rows", type=whole, default=_ROWS, metavar="N", help=f"rows of a kind (default {_ROWS})"
    )
    parser.add_argument(
        "--steps", type=whole, default=_STEPS, metavar="N", help=f"of a fit (default {_STEPS})"
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="N")
    args = parser.parse_args(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*LeafSpec")  # of lightning 2.6 with torch 2.13
    kinds = [kind for kind in args.kinds.split(",") if kind]
    for kind in kinds:
        if kind not in SHAPE_OF or not (args.kernels / f"{kind}.parquet").is_file():
            raise InputError(
                explain(
                    "no table of a kernel kind",
                    got=args.kernels / f"{kind}.parquet",
                    expected=f"kinds {', '.join(SHAPE_OF)}",
                    remedy="python -m benchmarks.kernel_tables writes them",
                )
            )
    boards = [board for board in args.boards.split(",") if board]
    tables = []
    args.output.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        frame = read_kernel_rows(args.kernels / f"{kind}.parquet", args.rows)
        tables.append(judge_kind(kind, frame, boards, steps=args.steps, seed=args.seed))
        print(tables[-1].round(1).to_string(index=False, header=len(tables) == 1), flush=True)
        pd.concat(tables).to_csv(args.output / KERNELS, index=False, float_format="%.4g")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
