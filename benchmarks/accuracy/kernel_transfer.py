"""Latency of kernels on a GPU that no kernel was measured on: the shipped readout and fitted trees.

Run: ``python -m benchmarks.accuracy.kernel_transfer --kernels kernels.parquet --output FOLDER``; needs the ``evaluate``
extra (scikit-learn, matplotlib). The readout answers with the checkpoint's coefficients for an unknown engine and
board: it was fitted to whole runs and saw no kernel. The trees are fitted to the kernels of the other GPUs and predict
``log(latency / roofline time)`` of each kind of kernel from its shape on the board alone.

Invariant: neither sees a kernel of the GPU it is evaluated on, nor that GPU's name. Intervals are conformal: their ends
are errors on GPUs that were left out in turn, never on the one that is evaluated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.kernel_figure import draw_kernels
from benchmarks.accuracy.markdown import table_line
from benchmarks.public_runs.tables import kernel_table
from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.precisions import resolve_precision
from llmco2.data.kernel_tensors import KernelTensors, kernel_tensors, one_kernel
from llmco2.data.tables import read_kernels
from llmco2.deployment.columns import deployment_columns
from llmco2.errors import InputError
from llmco2.operators.names import PHASES
from llmco2.physics.readout import PhaseBasis, phase_readout
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint
from llmco2.predictor.network import PhaseCoefficients, coefficients

Array = NDArray[np.float64]
Index = NDArray[np.intp]
READOUT: Final = "shipped readout, no kernel seen"
TREES: Final = "trees on other GPUs' kernels"
ROOFLINE: Final = "roofline alone"
COVERAGE: Final = 0.9
KERNELS_PER_GPU: Final = 8000
_TILE: Final = 128.0  # rows and columns that one block of a matrix product works out
_TREES: Final = {"max_iter": 200, "learning_rate": 0.08, "max_leaf_nodes": 15, "l2_regularization": 1.0,
                 "random_state": 0}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Measured kernels with what they need at peak rates."""

    table: pd.DataFrame  # (n_kernels,) rows
    tensors: KernelTensors
    roofline_s: Array  # the larger of compute and memory time at peak rates, plus that of the network
    features: Array  # (n_kernels, n_features)

    @property
    def log_latency(self) -> Array:
        """Log of the measured seconds, ``(n_kernels,)``."""
        seconds: Array = self.table["latency_s"].to_numpy(dtype=np.float64)
        return np.log(seconds)

    @property
    def gpu(self) -> NDArray[np.object_]:
        """Board of each kernel."""
        return self.table["gpu"].to_numpy(dtype=object)

    @property
    def kind(self) -> NDArray[np.object_]:
        """Kind of each kernel."""
        return self.table["kind"].to_numpy(dtype=object)


def sample_kernels(table: pd.DataFrame, per_gpu: int, seed: int = 0) -> pd.DataFrame:
    """Return at most ``per_gpu`` kernels of each GPU, as many of every kind as there are."""
    shuffled = table.sample(frac=1.0, random_state=seed)
    place = shuffled.groupby(["gpu", "kind"]).cumcount()
    ordered = shuffled.assign(_place=place).sort_values("_place", kind="stable")
    chosen = ordered.groupby("gpu").head(per_gpu).index
    return table.loc[sorted(chosen)].reset_index(drop=True)


def countable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the kernels that can be counted; the others (uneven experts, earlier prefixes) are left out."""
    kept = []
    for i, row in enumerate(table.astype(object).where(table.notna(), None).to_dict("records")):
        try:
            one_kernel({str(name): value for name, value in row.items()})
        except InputError:
            continue
        kept.append(i)
    return table.iloc[kept].reset_index(drop=True)


def counted(table: pd.DataFrame) -> Kernels:
    """Return the kernels of a table, all countable, with their work and features."""
    tensors = kernel_tensors(table)
    basis = _numpy_basis(tensors.basis)
    memory = basis.weight_s + basis.activation_s + basis.kv_s
    roofline_s = np.maximum(basis.compute_s, memory).sum(1) + basis.network_s.sum(1)
    return Kernels(table=table, tensors=tensors, roofline_s=roofline_s,
                   features=_features(table, basis, roofline_s))  # fmt: skip


def readout_log_errors(checkpoint: Checkpoint, kernels: Kernels) -> Array:
    """Return ``log(predicted / measured)`` of the readout, ``(n_kernels,)``; the checkpoint knows no board's name."""
    anonymous = replace(
        checkpoint,
        network={**checkpoint.network, "hidden_dim": 0},  # the graph network answers known engines alone
        vocabulary={**checkpoint.vocabulary, "gpus": []},
    )
    deployments = list(kernels.tensors.deployments)
    learned = coefficients(anonymous, deployments, deployment_columns(deployments))
    basis = _numpy_basis(kernels.tensors.basis)
    times = [phase_readout(np, basis, part.slot, part.phase).time_s
             for part in (_without_host(learned[phase]) for phase in PHASES)]  # fmt: skip
    predicted = np.where(kernels.tensors.phase.numpy() == 1, times[1], times[0])
    errors: Array = np.log(predicted) - kernels.log_latency
    return errors


def tree_log_errors(kernels: Kernels, train: Index, test: Index) -> Array:
    """Return ``log(predicted / measured)`` on ``test`` of trees fitted to ``train``, kind by kind, NaN without any."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - heavy, and an extra

    target = kernels.log_latency - np.log(kernels.roofline_s)
    errors = np.full(len(test), np.nan)
    for kind in np.unique(kernels.kind[test].astype(str)):
        mine, asked = train[kernels.kind[train] == kind], kernels.kind[test] == kind
        if len(mine):
            model = HistGradientBoostingRegressor(**_TREES).fit(kernels.features[mine], target[mine])
            errors[asked] = model.predict(kernels.features[test][asked]) - target[test][asked]
    return errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Log errors of every method on every GPU left out, and the ends that the other GPUs give its intervals."""

    errors: dict[tuple[str, str], Array]  # (method, gpu) → (n_kernels of the gpu,)
    widths: dict[tuple[str, str], Array]  # of |log error|, by kernel: what covers 90 % on the other GPUs


def transfer(kernels: Kernels, checkpoint: Checkpoint) -> Transfer:
    """Leave out each GPU in turn."""
    gpus = sorted(set(kernels.gpu))
    place = {gpu: np.flatnonzero(kernels.gpu == gpu) for gpu in gpus}
    shipped, bare = readout_log_errors(checkpoint, kernels), np.log(kernels.roofline_s) - kernels.log_latency
    found: dict[tuple[str, str], Array] = {}
    others: dict[tuple[str, str], list[tuple[Index, Array]]] = {(TREES, gpu): [] for gpu in gpus}
    for gpu in gpus:
        found[READOUT, gpu], found[ROOFLINE, gpu] = shipped[place[gpu]], bare[place[gpu]]
        found[TREES, gpu] = tree_log_errors(kernels, np.flatnonzero(kernels.gpu != gpu), place[gpu])
        for method, values in ((READOUT, shipped), (ROOFLINE, bare)):
            others[method, gpu] = [(place[other], values[place[other]]) for other in gpus if other != gpu]
    for one, other in combinations(
        gpus, 2
    ):  # fitted without both, evaluated on each: what the other's interval needs
        train = np.flatnonzero((kernels.gpu != one) & (kernels.gpu != other))
        for evaluated, answered in ((one, other), (other, one)):
            errors = tree_log_errors(kernels, train, place[evaluated])
            others[TREES, answered].append((place[evaluated], errors))
    widths = {key: _widths(kernels, place[key[1]], others[key]) for key in found}
    return Transfer(errors=found, widths=widths)


def conformal_width(errors: Sequence[Array], coverage: float = COVERAGE) -> float:
    """Return the |log error| that covers ``coverage`` of errors on left-out groups, each group of the same weight."""
    sizes = [np.abs(values[np.isfinite(values)]) for values in errors]
    values = np.concatenate(sizes)
    if not len(values):
        return float("nan")
    weight = np.concatenate([np.full(len(group), 1.0 / len(group)) for group in sizes if len(group)])
    order = np.argsort(values)
    reached = np.searchsorted(np.cumsum(weight[order]) / weight.sum(), coverage - 1e-12)
    return float(values[order][min(int(reached), len(values) - 1)])


def _widths(kernels: Kernels, rows: Index, others: list[tuple[Index, Array]]) -> Array:
    widths = np.full(len(rows), np.nan)
    for kind in set(kernels.kind[rows]):
        width = conformal_width([errors[kernels.kind[place] == kind] for place, errors in others])
        widths[kernels.kind[rows] == kind] = width
    return widths


def summary(kernels: Kernels, found: Transfer) -> pd.DataFrame:
    """Return median error, bias, interval coverage and half width of each method, GPU and kind, percent."""
    rows = []
    for (method, gpu), errors in found.errors.items():
        kinds = kernels.kind[kernels.gpu == gpu]
        width = found.widths[method, gpu]
        for kind in ("all", *sorted(set(kinds))):
            mine = np.isfinite(errors) & ((kinds == kind) | (kind == "all"))
            if not mine.any():
                continue
            own = errors[mine]
            rows.append((method, gpu, kind, int(mine.sum()), 100.0 * float(np.median(np.abs(np.expm1(own)))),
                         100.0 * float(np.expm1(np.median(own))),
                         100.0 * float(np.mean(np.abs(own) <= width[mine])),
                         100.0 * float(np.expm1(np.median(width[mine])))))  # fmt: skip
    columns = ["method", "gpu", "kind", "kernels", "median_percent", "bias_percent", "coverage_percent",
               "half_width_percent"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def markdown(table: pd.DataFrame) -> str:
    """Return median errors by GPU, and the intervals' coverage below them."""
    gpus = sorted(set(table["gpu"]))
    head = ["kernels", "method", *gpus, "mean"]
    parts = [
        "\nMedian latency error on a GPU left out, %\n",
        table_line(head),
        table_line(["---"] * len(head)),
    ]
    for kind in ("all", *sorted(set(table["kind"]) - {"all"})):
        parts += [_row(table, kind, method, gpus, "median_percent") for method in (ROOFLINE, READOUT, TREES)]
    parts += ["\n90 % interval calibrated on the other GPUs: coverage, and (half width), %\n", table_line(head),
              table_line(["---"] * len(head))]  # fmt: skip
    for method in (READOUT, TREES):
        parts.append(_row(table, "all", method, gpus, "coverage_percent"))
        parts.append(_row(table, "all", method, gpus, "half_width_percent"))
    return "\n".join(parts)


def _row(table: pd.DataFrame, kind: str, method: str, gpus: list[str], column: str) -> str:
    own = table[(table["kind"] == kind) & (table["method"] == method)].set_index("gpu")[column]
    numbers = [float(own.get(gpu, np.nan)) for gpu in gpus]
    shape = "({:.0f})" if column == "half_width_percent" else "{:.1f}"
    shown = [*numbers, float(np.nanmean(numbers))]
    return table_line([kind, method, *("–" if np.isnan(value) else shape.format(value) for value in shown)])


def _features(table: pd.DataFrame, basis: PhaseBasis, roofline_s: Array) -> Array:
    """Return what trees read: shares and ratios, so that another board is another point of the same space."""
    compute, weight, activation, kv, network = (
        getattr(basis, name).sum(1) for name in ("compute_s", "weight_s", "activation_s", "kv_s", "network_s")
    )
    memory = weight + activation + kv + 1e-12
    boards = {name: float(resolve_gpu(name).n_sms or 100) for name in set(table["gpu"].astype(str))}
    sms = table["gpu"].astype(str).map(boards).to_numpy(dtype=np.float64)
    tiles = _tiles(table) / sms
    scaled = (table["precision"] == "fp8-block").to_numpy(dtype=np.float64)
    element = [resolve_precision(str(name)).weight_bytes_per_element for name in table["precision"]]
    return np.column_stack([
        np.log((compute + 1e-12) / memory), np.log(roofline_s), np.log(tiles), np.ceil(tiles) / tiles, weight / memory,
        kv / memory, network / roofline_s, np.log(basis.n_gpus), np.asarray(element), scaled,
    ])  # fmt: skip


def _tiles(table: pd.DataFrame) -> Array:
    """Return about how many blocks of work a kernel has, at least one."""

    def column(name: str) -> Array:
        return np.asarray(table[name].astype(float).fillna(1.0), dtype=np.float64)

    rows, kind = column("m"), table["kind"].astype(str).to_numpy()
    products = np.ceil(rows / _TILE) * np.ceil(column("n") / _TILE)
    heads = column("batch_size") * np.where(
        kind == "decode_attention", column("n_kv_heads"), column("n_heads")
    )
    spread = rows * column("experts_per_token")
    experts = np.minimum(spread, column("n_experts")) * np.ceil(spread / column("n_experts") / _TILE)
    choices = [products, heads * np.ceil(rows / _TILE), heads, experts * np.ceil(column("n") / _TILE)]
    kinds = [kind == name for name in ("gemm", "prefill_attention", "decode_attention", "moe")]
    tiles: Array = np.maximum(np.select(kinds, choices, default=1.0), 1.0)
    return tiles


def _without_host(learned: PhaseCoefficients) -> PhaseCoefficients:
    """Return the coefficients of kernels launched back to back: no host is in the way."""
    idle = np.zeros_like(learned.phase["host_launch_s"])
    return replace(learned, phase={**learned.phase, "host_launch_s": idle})


def _numpy_basis(basis: PhaseBasis) -> PhaseBasis:
    values: dict[str, Any] = {f.name: getattr(basis, f.name).double().numpy() for f in fields(PhaseBasis)}
    return PhaseBasis(**values)


def main() -> None:
    """Read the command line, print the tables and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kernels", type=Path, required=True, help="the public kernels.parquet, or a table of kernels"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables and the picture")
    parser.add_argument("--per-gpu", type=int, default=KERNELS_PER_GPU, help="kernels of each GPU")
    parser.add_argument("--checkpoint", help="in place of the one that ships")
    args = parser.parse_args()
    table = read_kernels(kernel_table(args.kernels, args.output))
    table = table[table["kind"].isin(["gemm", "prefill_attention", "decode_attention", "moe", "all_reduce"])]
    kernels = counted(countable(sample_kernels(table, args.per_gpu)))
    figures = summary(kernels, transfer(kernels, load_checkpoint(args.checkpoint)))
    args.output.mkdir(parents=True, exist_ok=True)
    figures.round(2).to_csv(args.output / "kernel_transfer.csv", index=False)
    (args.output / "kernel_transfer.md").write_text(markdown(figures) + "\n", encoding="utf-8")
    draw_kernels(figures, args.output / "kernel_transfer.png")
    print(markdown(figures))


if __name__ == "__main__":
    main()
