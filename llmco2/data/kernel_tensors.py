"""Measured kernels as tensors: each is a model of one layer whose other kernels are left out.

A matrix product, an attention, an expert layer or an all-reduce is counted and described by the very code
that counts it inside a model, so the coefficients it trains are those that whole runs use.

Invariant: a kernel that this view cannot represent is dropped and counted in the log, never approximated.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.precisions import compute_peak_flops_per_s, resolve_precision
from llmco2.catalog.stored import parts_under
from llmco2.data.options import KernelOptions
from llmco2.data.tables import read_kernels
from llmco2.data.tensors import deployment_batch, tensor_basis
from llmco2.deployment.columns import DeploymentColumns, deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.errors import InputError, explain
from llmco2.networks.batch import DeploymentBatch, phase_graph_data
from llmco2.networks.coefficients import Vocabulary
from llmco2.operators.names import N_SLOTS, PHASES, SLOT_INDEX, Phase
from llmco2.physics.basis import phase_basis
from llmco2.physics.descriptors import PhaseGraphs, phase_graphs
from llmco2.physics.readout import PhaseBasis

_LOG = logging.getLogger(__name__)
# Kernels are timed back to back with a hot cache and no host in the way; that is an engine of its own.
MICROBENCHMARK: Final = "microbenchmark"
_MOST_DECODE_ROWS: Final = 256.0  # a matrix product with more rows is described as one of prefill
_MESSAGE_WIDTH: Final = 4096
_MESSAGE_ELEMENT_BYTES: Final = 2.0
_SLOTS_OF_KIND: Final = {
    "gemm": ("mlp_up",),
    "prefill_attention": ("full_attention", "sliding_attention"),
    "decode_attention": ("full_attention", "sliding_attention"),
    "moe": ("expert_up", "expert_activation", "expert_down"),
    "all_reduce": ("mlp_all_reduce",),
}
_BALANCED: Final = (None, "balanced", "uniform")


@dataclass(frozen=True, slots=True, kw_only=True)
class OneKernel:
    """A kernel as a deployment of a one-layer model and a request to it."""

    deployment: Deployment
    phase: Phase
    slots: tuple[str, ...]
    batch_size: float
    prompt_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTensors:
    """Measured kernels, ready to train on; a kernel is a deployment of its own."""

    deployments: tuple[Deployment, ...]
    graphs: Batch  # as DeploymentBatch.graphs: prefill of each, then decode of each
    phase: Tensor  # (n_kernels,) index into PHASES
    basis: PhaseBasis  # of each kernel's phase, other slots zero
    latency_s: Tensor  # (n_kernels,)
    power_w: Tensor  # (n_kernels,) of one GPU; NaN where nobody measured it

    def __len__(self) -> int:
        return len(self.deployments)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBatch:
    """All kernels with their places in a vocabulary."""

    graphs: DeploymentBatch
    phase: Tensor
    basis: PhaseBasis
    latency_s: Tensor
    power_w: Tensor


def load_kernels(options: KernelOptions, leave_out_gpu: str | None = None) -> pd.DataFrame:
    """Return the chosen kernels: at most ``max_rows``, spread evenly over (GPU, kind, precision).

    Raises:
        InputError: no such file, or no kernel left.
        FileFormatError: a damaged or foreign file.
    """
    if options.path is None:
        raise InputError(explain("no kernels to train on", remedy="set data.kernels.path"))
    path = Path(options.path)
    frame = read_kernels(path, allow_simulated=options.allow_simulated)
    frame = frame[frame["kind"].isin(list(_SLOTS_OF_KIND)) & (frame["gpu"] != leave_out_gpu)]
    if frame.empty:
        raise InputError(
            explain(f"{path.name} has no kernel to train on", expected=", ".join(_SLOTS_OF_KIND))
        )
    # The same number from every cell; cells that run out leave their share to the others.
    shuffled = frame.sample(frac=1.0, random_state=options.seed)
    place = shuffled.groupby(["gpu", "kind", "precision"], dropna=False).cumcount()
    chosen = place.sort_values(kind="stable").index[: options.max_rows]
    return frame.loc[sorted(chosen)].reset_index(drop=True)


def kernel_tensors(kernels: pd.DataFrame) -> KernelTensors:
    """Return the tensors of a table of kernel measurements.

    Raises InputError when no kernel can be represented.
    """
    dropped: Counter[str] = Counter()
    found: list[tuple[int, OneKernel]] = []
    rows = kernels.astype(object).where(kernels.notna(), None).to_dict("records")
    for i, row in enumerate(rows):
        try:
            found.append((i, one_kernel({str(name): value for name, value in row.items()})))
        except InputError as error:
            dropped[str(error)] += 1
    if dropped:
        reasons = "; ".join(f"{count} × {text}" for text, count in dropped.most_common(3))
        _LOG.info("dropped %d of %d kernels: %s", dropped.total(), len(rows), reasons)
    if not found:
        raise InputError(
            explain("no kernel can be represented", got=f"{len(rows)} rows", remedy=next(iter(dropped), ""))
        )
    index = np.array([i for i, _ in found], dtype=np.intp)
    chosen = [kernel for _, kernel in found]
    columns = deployment_columns([k.deployment for k in chosen])
    keep = _kept_slots(chosen)
    phase = np.array([PHASES.index(k.phase) for k in chosen])
    limit = kernels["power_limit_w"].to_numpy(dtype=np.float64)[index]
    power = kernels["power_w"].to_numpy(dtype=np.float64)[index].copy()
    power[kernels["n_gpus"].to_numpy()[index] > 1] = np.nan  # of which GPUs is not said
    return KernelTensors(
        deployments=tuple(k.deployment for k in chosen),
        graphs=Batch.from_data_list(
            [d for p in PHASES for d in phase_graph_data(_only(phase_graphs(p, columns), keep))]
        ),
        phase=torch.from_numpy(phase),
        basis=tensor_basis(_kernel_basis(chosen, columns, keep, phase, limit)),
        latency_s=torch.tensor(kernels["latency_s"].to_numpy(dtype=np.float64)[index], dtype=torch.float32),
        power_w=torch.tensor(power, dtype=torch.float32),
    )


def kernel_batch(tensors: KernelTensors, vocab: Vocabulary) -> KernelBatch:
    """Return the kernels with their places in a vocabulary; their engine is the microbenchmark."""

    whole = deployment_batch(tensors.deployments, vocab)
    # A one-layer stand-in has no family of its own to learn.
    graphs = replace(whole, graphs=tensors.graphs, family=torch.zeros_like(whole.family))
    return KernelBatch(graphs=graphs, phase=tensors.phase, basis=tensors.basis, latency_s=tensors.latency_s,
                       power_w=tensors.power_w)  # fmt: skip


def one_kernel(row: dict[str, Any]) -> OneKernel:
    """Return a measured kernel as a one-layer deployment and a request to it.

    Raises InputError for a kernel that cannot be represented; UnknownNameError for a GPU or precision.
    """
    kind = str(row["kind"])
    if kind not in _SLOTS_OF_KIND:
        raise InputError(explain("no such kernel in a model", got=kind, expected=", ".join(_SLOTS_OF_KIND)))
    build = {"gemm": _gemm, "moe": _moe, "all_reduce": _all_reduce}.get(kind, _attention)
    shape, request, parallel = build(row)
    gpu = resolve_gpu(str(row["gpu"]))
    precision = resolve_precision(str(row["precision"]))
    compute_peak_flops_per_s(gpu, precision)
    kv = precision if row.get("kv_precision") is None else resolve_precision(str(row["kv_precision"]))
    kv_bytes = precision.kv_bytes_per_element if kv is precision else kv.weight_bytes_per_element
    architecture = Architecture(model_id=f"one {kind}", vocab_size=1, **shape)
    deployment = Deployment(
        architecture=architecture,
        gpu_id=gpu.gpu_id,
        engine=MICROBENCHMARK,
        precision=precision,
        parts=parts_under(architecture, precision),
        kv_bytes_per_element=kv_bytes,
        tensor_parallel=parallel[0],
        expert_parallel=parallel[1],
        pipeline_parallel=1,
    )
    phase: Phase = "decode" if request[2] > 1 else "prefill"
    return OneKernel(deployment=deployment, phase=phase, slots=_SLOTS_OF_KIND[kind], batch_size=request[0],
                     prompt_tokens=request[1], output_tokens=request[2])  # fmt: skip


_Parts = tuple[dict[str, Any], tuple[float, float, float], tuple[int, int]]


def _tokens(rows: float) -> tuple[float, float, float]:
    """Return (batch, prompt, output) of one pass over ``rows`` tokens."""
    return (rows, 1.0, 2.0) if rows <= _MOST_DECODE_ROWS else (1.0, rows, 1.0)


def _need(row: dict[str, Any], name: str) -> float:
    value = row.get(name)
    if value is None or not float(value) > 0.0:
        raise InputError(explain(f"{row['kind']} without {name}"))
    return float(value)


def _gemm(row: dict[str, Any]) -> _Parts:
    shape = {"hidden_dim": int(_need(row, "k")), "ffn_dim": int(_need(row, "n")), "gated_mlp": False,
             "n_dense_mlp_layers": 1}  # fmt: skip
    return shape, _tokens(_need(row, "m")), (1, 1)


def _attention(row: dict[str, Any]) -> _Parts:
    heads, kv_heads, width = (int(_need(row, name)) for name in ("n_heads", "n_kv_heads", "head_dim"))
    window = int(row.get("window_tokens") or 0)
    kind = "n_sliding_attention_layers" if window else "n_full_attention_layers"
    shape = {"hidden_dim": heads * width, "n_heads": heads, "n_kv_heads": kv_heads, "head_dim": width,
             "sliding_window_tokens": window, kind: 1}  # fmt: skip
    batch, context = _need(row, "batch_size"), _need(row, "context_tokens")
    if row["kind"] == "prefill_attention":
        if context != _need(row, "m"):
            raise InputError("prefill attention over an earlier prefix")
        return shape, (batch, context, 1.0), (1, 1)
    if context < 2:
        raise InputError("decode attention without a prompt")
    return shape, (batch, context - 1.0, 2.0), (1, 1)


def _moe(row: dict[str, Any]) -> _Parts:
    if row.get("load_balance") not in _BALANCED:
        raise InputError("experts under an uneven load")
    slices, spread = int(row.get("expert_tensor_parallel") or 1), int(row.get("expert_parallel") or 1)
    shape = {"hidden_dim": int(_need(row, "k")), "n_moe_layers": 1, "n_experts": int(_need(row, "n_experts")),
             "experts_per_token": int(_need(row, "experts_per_token")),
             "expert_ffn_dim": int(_need(row, "n") * slices)}  # fmt: skip
    return shape, _tokens(_need(row, "m")), (slices * spread, spread)


def _all_reduce(row: dict[str, Any]) -> _Parts:
    tokens = _need(row, "message_bytes") / (_MESSAGE_WIDTH * _MESSAGE_ELEMENT_BYTES)
    shape = {"hidden_dim": _MESSAGE_WIDTH, "ffn_dim": _MESSAGE_WIDTH, "n_dense_mlp_layers": 1}
    return shape, _tokens(tokens), (int(row["n_gpus"]), 1)


def _kept_slots(kernels: list[OneKernel]) -> NDArray[np.bool_]:
    keep = np.zeros((len(kernels), N_SLOTS), dtype=bool)
    for i, kernel in enumerate(kernels):
        keep[i, [SLOT_INDEX[slot] for slot in kernel.slots]] = True
    return keep


def _only(graphs: PhaseGraphs, keep: NDArray[np.bool_]) -> PhaseGraphs:
    return replace(graphs, present=graphs.present & keep, features=graphs.features * keep[:, :, None])


def _kernel_basis(kernels: list[OneKernel], columns: DeploymentColumns, keep: NDArray[np.bool_],
                  phase: NDArray[np.intp], power_limit_w: NDArray[np.float64]) -> PhaseBasis:  # fmt: skip
    work = columns.workload(
        np.array([kernel.batch_size for kernel in kernels]),
        np.array([kernel.prompt_tokens for kernel in kernels]),
        np.array([kernel.output_tokens for kernel in kernels]),
        np.zeros(len(kernels)),
    )
    limit = np.where(np.isnan(power_limit_w), columns.device.tdp_w, power_limit_w)
    both = [phase_basis(p, columns, work, limit)[0] for p in PHASES]
    picked = {}
    for field in fields(PhaseBasis):
        prefill, decode = (np.asarray(getattr(basis, field.name)) for basis in both)
        is_slot = prefill.ndim == 2
        values = np.where(phase[:, None] == 1 if is_slot else phase == 1, decode, prefill)
        picked[field.name] = np.where(keep, values, 0.0) if is_slot else values
    picked["steps"] = picked["sequence_steps"] = np.zeros(len(kernels))  # no scheduler runs between kernels
    return PhaseBasis(**picked)
