"""Measured runs as tensors: deployments once, sizes and labels row by row.

Invariant: an absent label is NaN and enters no loss. Rows of one deployment share its graphs, so a batch of
any rows needs the coefficients of every deployment only once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

from llmco2.data.shapes import batch_shapes, mean_basis
from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import resolve_deployment
from llmco2.errors import InputError, RequestError, explain
from llmco2.networks.batch import DeploymentBatch, all_graphs
from llmco2.networks.coefficients import Vocabulary
from llmco2.operators.names import PHASES
from llmco2.physics.basis import phase_basis
from llmco2.physics.descriptors import deployment_features
from llmco2.physics.groups import deployment_groups
from llmco2.physics.readout import PhaseBasis
from llmco2.records.request import UNKNOWN

LABELS: Final = ("prefill_energy_j", "decode_energy_j", "energy_j", "ttft_s", "tpot_s", "latency_s")
N_LABELS: Final = len(LABELS)
IS_ENERGY: Final = tuple(name.endswith("_j") for name in LABELS)
# Where a source does not publish its prompts: what its task's prompts are like, tokens (a shared assumption of all
# its rows; prefill is a small part of those rows' energy).
ASSUMED_PROMPT_TOKENS: Final = {
    "sourcegraph-fim": 1024.0,
    "image-chat": 1500.0,
    "video-chat": 4000.0,
    "gpqa": 256.0,
    "chat": 200.0,
    "code": 200.0,
}
DEFAULT_ASSUMED_PROMPT_TOKENS: Final = 200.0
_DEPLOYMENT_COLUMNS: Final = (
    "model", "gpu", "tensor_parallel", "pipeline_parallel", "expert_parallel", "engine", "precision", "kv_precision",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTensors:
    """A table of runs, ready to train on."""

    deployments: tuple[Deployment, ...]
    deployment: Tensor  # (n_runs,) index into deployments
    bases: tuple[PhaseBasis, PhaseBasis]  # prefill, decode; tensors (n_runs, …)
    labels: Tensor  # (n_runs, N_LABELS), NaN where unknown
    weight: Tensor  # (n_runs,) trust, balanced over groups
    source: tuple[str, ...]  # (n_runs,)
    run_id: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBatch:
    """Some runs of a table with the graphs of all its deployments."""

    graphs: DeploymentBatch
    deployment: Tensor  # (n_rows,)
    bases: tuple[PhaseBasis, PhaseBasis]
    labels: Tensor  # (n_rows, N_LABELS)
    weight: Tensor  # (n_rows,)
    source: Tensor  # (n_rows,)
    index: Tensor  # (n_rows,) position in the table


def assumed_prompt_tokens(runs: pd.DataFrame) -> pd.Series:
    """Return prompt tokens with the unknown ones filled in from the task named in ``notes``."""
    prompts = runs["prompt_tokens"].astype(float).copy()
    notes = runs["notes"].fillna("").astype(str)
    unknown = prompts.isna()
    for task, tokens in ASSUMED_PROMPT_TOKENS.items():
        prompts[unknown & prompts.isna() & notes.str.contains(task, regex=False)] = tokens
    return prompts.fillna(DEFAULT_ASSUMED_PROMPT_TOKENS)


def numbers(column: pd.Series[Any]) -> NDArray[np.float64]:
    """Return a column as float64 with NaN where it is empty."""
    return np.asarray(column.astype(float), dtype=np.float64)


def run_tensors(runs: pd.DataFrame) -> RunTensors:
    """Return the tensors of a table of runs.

    Raises InputError naming the first row whose deployment cannot be (a table is checked when it is imported).
    """
    keys = runs[list(_DEPLOYMENT_COLUMNS)].copy()
    for name in ("engine", "precision", "kv_precision"):
        keys[name] = keys[name].fillna(UNKNOWN)
    codes, unique = pd.factorize(pd.MultiIndex.from_frame(keys))
    deployments = tuple(_deployment(tuple(key), runs, codes, i) for i, key in enumerate(unique))
    output = numbers(runs["output_tokens"].astype(float).fillna(1.0).clip(lower=1.0))
    prompts = numbers(assumed_prompt_tokens(runs))
    shapes = batch_shapes(runs["shape_mix"], numbers(runs["batch_size"]), prompts, output)
    columns = deployment_columns(deployments).take(codes[shapes.run])
    work = columns.workload(
        shapes.batch_size,
        shapes.prompt_tokens,
        shapes.output_tokens,
        numbers(runs["serving"] == "continuous")[shapes.run],
    )
    limit = numbers(runs["power_limit_w"])[shapes.run]
    limit = np.where(np.isnan(limit), columns.device.tdp_w, limit)
    bases = tuple(
        tensor_basis(mean_basis(phase_basis(phase, columns, work, limit)[0], shapes)) for phase in PHASES
    )
    return RunTensors(
        deployments=deployments,
        deployment=torch.from_numpy(codes.astype(np.int64)),
        bases=bases,  # type: ignore[arg-type]
        labels=torch.tensor(_labels(runs, output), dtype=torch.float32),
        weight=torch.tensor(_balanced_weight(runs, codes), dtype=torch.float32),
        source=tuple(runs["source"].astype(str)),
        run_id=tuple(runs["run_id"].astype(str)),
    )


def tensor_basis(basis: PhaseBasis) -> PhaseBasis:
    """Return the basis with float32 tensors in place of arrays."""
    return PhaseBasis(**{f.name: torch.from_numpy(np.asarray(getattr(basis, f.name), dtype=np.float32))
                         for f in fields(PhaseBasis)})  # fmt: skip


def take_basis(basis: PhaseBasis, index: Tensor) -> PhaseBasis:
    """Return the rows ``index`` of a basis."""
    return PhaseBasis(**{f.name: getattr(basis, f.name)[index] for f in fields(PhaseBasis)})


def vocabulary(deployments: tuple[Deployment, ...]) -> Vocabulary:
    """Return the names that occur in the deployments, sorted; unknown ones are left to index 0."""
    return Vocabulary(
        engines=tuple(sorted({d.engine for d in deployments} - {UNKNOWN})),
        precisions=tuple(sorted({d.precision.name for d in deployments})),
        gpus=tuple(sorted({d.gpu_id for d in deployments})),
        families=tuple(sorted({d.architecture.family for d in deployments})),
        groups=tuple(sorted({group for d in deployments for group in deployment_groups(d)} - {""})),
    )


def deployment_batch(deployments: tuple[Deployment, ...], vocab: Vocabulary) -> DeploymentBatch:
    """Return the graphs of the deployments with their places in a vocabulary."""

    def places(kind: str, names: list[str]) -> Tensor:
        index = {name: i + 1 for i, name in enumerate(getattr(vocab, kind))}
        return torch.tensor([index.get(name, 0) for name in names], dtype=torch.long)

    columns = deployment_columns(deployments)
    groups = [
        places("groups", list(names)) for names in zip(*map(deployment_groups, deployments), strict=True)
    ]
    return DeploymentBatch(
        graphs=Batch.from_data_list(all_graphs(columns)),
        features=torch.from_numpy(deployment_features(columns)),
        n_deployments=len(deployments),
        engine=places("engines", [d.engine for d in deployments]),
        precision=places("precisions", [d.precision.name for d in deployments]),
        gpu=places("gpus", [d.gpu_id for d in deployments]),
        family=places("families", [d.architecture.family for d in deployments]),
        groups=torch.stack(groups, dim=1),
    )


def _deployment(
    key: tuple[object, ...], runs: pd.DataFrame, codes: NDArray[np.intp], place: int
) -> Deployment:
    model, gpu, tp, pp, ep, engine, precision, kv = key
    try:
        return resolve_deployment(str(model), str(gpu), int(tp), int(pp), int(ep),  # type: ignore[call-overload]
                                  str(engine), str(precision), str(kv))  # fmt: skip
    except RequestError as error:
        row = int(np.flatnonzero(codes == place)[0])
        where = runs["run_id"].iloc[row]
        raise InputError(
            explain(f"run {where} cannot be: {error}", remedy="correct or drop the row")
        ) from error


def _labels(runs: pd.DataFrame, output_tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    labels = runs[list(LABELS)].astype(float).to_numpy().copy()
    whole = LABELS.index("energy_j")
    per_token = runs["energy_per_output_token_j"].astype(float).to_numpy()
    from_rate = per_token * runs["batch_size"].astype(float).to_numpy() * output_tokens
    labels[:, whole] = np.where(np.isnan(labels[:, whole]), from_rate, labels[:, whole])
    return np.where(labels > 0.0, labels, np.nan)


def _balanced_weight(runs: pd.DataFrame, codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return trust divided by the square root of how many rows a deployment of a source has, with mean 1.

    A thousand rows of one deployment hold less than a thousand deployments do.
    """
    group = pd.Series(codes).astype(str) + "|" + runs["source"].astype(str).reset_index(drop=True)
    count = group.map(group.value_counts()).to_numpy(dtype=np.float64)
    weight: NDArray[np.float64] = numbers(runs["weight"].astype(float).fillna(1.0)) / np.sqrt(count)
    return weight / float(weight.mean())


def energy_known(tensors: RunTensors) -> NDArray[np.bool_]:
    """Return which runs know an energy of any phase, ``(n_runs,)``."""
    columns = [i for i, energy in enumerate(IS_ENERGY) if energy]
    known: NDArray[np.bool_] = (~tensors.labels[:, columns].isnan()).any(dim=1).numpy()
    return known
