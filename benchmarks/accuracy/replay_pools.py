"""Pools for the replay: real runs with an energy, and real kernels with a latency.

Invariant: the test set holds whole requests (or whole kernel shapes), chosen by their names alone, so it does not
change with seeds, strategies or the order of rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.kernel_transfer import countable, counted, sample_kernels
from benchmarks.accuracy.replay import Pool
from benchmarks.release.heldout import TRUSTED_WEIGHT
from llmco2.catalog.gpus import resolve_gpu
from llmco2.data.focused import log_coordinates
from llmco2.data.kernel_tensors import one_kernel
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.data.regions import RegionGrid
from llmco2.data.splits import REQUEST, grouped_split
from llmco2.data.tables import read_kernels
from llmco2.data.tensors import IS_ENERGY, energy_known
from llmco2.data.workload import azure_workload

Array = NDArray[np.float64]
TEST_SHARE: Final = 0.25
KERNELS_PER_GPU: Final = 1500
_KERNEL_EDGES: Final = (2.0, 16.0, 128.0, 1024.0, 8192.0)
_RESOURCES: Final = ("compute_s", "weight_s", "activation_s", "kv_s", "network_s", "launches")


def run_pool(source: str | None) -> Pool:
    """Return the trusted runs with an energy; the label is that energy over TDP × roofline time."""
    data = EnergyDataModule(runs=source, split=SplitOptions(kind="none"))
    data.setup()
    trusted = data.frame["weight"].to_numpy(dtype=np.float64) >= TRUSTED_WEIGHT
    rows = np.flatnonzero(energy_known(data.tensors) & trusted)
    frame = data.frame.iloc[rows].reset_index(drop=True)
    features, roofline_j = run_features(data, rows, frame)
    labels = data.tensors.labels[rows][:, list(IS_ENERGY)].double().log().numpy()
    known = np.isfinite(labels)
    measured = np.where(known, labels, 0.0).sum(1) / known.sum(1)
    split = grouped_split(frame, REQUEST, test_share=TEST_SHARE, seed=0)
    return Pool(
        name="runs",
        features=features,
        target=measured - np.log(roofline_j),
        density=azure_workload().weights(frame),
        regions=RegionGrid().regions(frame),
        coordinates=log_coordinates(frame),
        pool=split.train,
        test=split.test,
    )


def run_features(data: EnergyDataModule, rows: NDArray[np.intp], frame: pd.DataFrame) -> tuple[Array, Array]:
    """Return what the forest reads, ``(n, n_features)``, and TDP × roofline time (J, all GPUs), ``(n,)``."""
    columns, roofline_s = [], np.zeros(len(rows))
    for basis in data.tensors.bases:
        part = {name: getattr(basis, name).double().numpy()[rows] for name in _RESOURCES}
        memory = part["weight_s"] + part["activation_s"] + part["kv_s"]
        roofline_s += (np.maximum(part["compute_s"], memory) + part["network_s"]).sum(1)
        columns += [np.log(values.sum(1) + 1e-9) for values in part.values()]
        columns.append(np.log1p(basis.steps.double().numpy()[rows]))
    n_gpus, tdp_w = (
        getattr(data.tensors.bases[0], name).double().numpy()[rows] for name in ("n_gpus", "tdp_w")
    )
    columns += [np.log(frame["batch_size"].to_numpy(dtype=np.float64)), np.log(n_gpus), tdp_w]
    columns += [_codes(frame[name]) for name in ("engine", "precision", "gpu")]
    return np.column_stack(columns), n_gpus * tdp_w * roofline_s


def kernel_pool(path: Path, per_gpu: int = KERNELS_PER_GPU) -> Pool:
    """Return the kernels of a table; the label is their latency over the roofline's.

    A kernel stands for a request to a one-layer model, whose prompt and batch say how dense the workload is there.
    """
    return pool_of_kernels(read_kernels(path), per_gpu)


def pool_of_kernels(table: pd.DataFrame, per_gpu: int = KERNELS_PER_GPU) -> Pool:
    """Return the pool of a table of kernel measurements."""
    kinds = ("gemm", "prefill_attention", "decode_attention", "moe")
    kernels = counted(countable(sample_kernels(table[table["kind"].isin(kinds)], per_gpu)))
    own = kernels.table
    records = own.astype(object).where(own.notna(), None).to_dict("records")
    asked = [one_kernel({str(name): value for name, value in row.items()}) for row in records]
    batch, prompt = np.array([k.batch_size for k in asked]), np.array([k.prompt_tokens for k in asked])
    unknown = np.full(len(asked), np.nan)
    work = log_coordinates(
        pd.DataFrame({"batch_size": batch, "prompt_tokens": prompt, "output_tokens": unknown})
    )
    bins = [np.searchsorted(_KERNEL_EDGES, values, side="right") for values in (batch, prompt)]
    regions = [
        f"{gpu} {kind} b{b} i{i}" for gpu, kind, b, i in zip(own["gpu"], own["kind"], *bins, strict=True)
    ]
    boards = own["gpu"].astype(str)
    tdp_w = boards.map({name: resolve_gpu(name).tdp_w for name in set(boards)}).to_numpy(dtype=np.float64)
    shape = ("kind", "precision", "m", "n", "k", "batch_size", "context_tokens", "n_heads", "n_kv_heads", "head_dim",
             "n_experts", "experts_per_token")  # fmt: skip
    named = own[list(shape)].astype(str).assign(model="", gpu="", run_id=[str(i) for i in range(len(own))])
    split = grouped_split(named, shape, test_share=TEST_SHARE, seed=0)
    return Pool(
        name="kernels",
        features=np.column_stack([kernels.features, _codes(own["kind"]), _codes(own["gpu"]), tdp_w, work]),
        target=kernels.log_latency - np.log(kernels.roofline_s),
        density=azure_workload().density(prompt, unknown, batch),
        regions=np.array(regions, dtype=object),
        coordinates=work,
        pool=split.train,
        test=split.test,
    )


def _codes(names: pd.Series) -> Array:
    return np.asarray(pd.factorize(names, sort=True)[0], dtype=np.float64)
