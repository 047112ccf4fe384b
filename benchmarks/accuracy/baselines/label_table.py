"""From the work of a request's phases to a table of every label: the bookkeeping that closed forms share.

Invariant: only counted work and catalog facts are read here, never a label; arrays are float64.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import LABELS, N_LABELS, energy_known, take_basis
from llmco2.deployment.columns import DeploymentColumns, deployment_columns
from llmco2.physics.readout import PhaseBasis

Column = NDArray[np.float64]  # (n_rows,)
Table = NDArray[np.float64]  # (n_rows, N_LABELS), joules and seconds in the order of LABELS
SLOT_FIELDS = ("compute_s", "weight_s", "activation_s", "kv_s", "network_s", "launches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Energy of all GPUs (J) and time (s) of some work, each ``(n_rows,)``; NaN where a method has no answer."""

    energy_j: Column
    time_s: Column


def phase_work(data: EnergyDataModule, rows: Index) -> tuple[PhaseBasis, PhaseBasis]:
    """Return the work of prefill and of decode for table positions ``rows``, arrays in place of tensors."""
    index = torch.from_numpy(np.asarray(rows, dtype=np.int64))
    prefill, decode = (_arrays(take_basis(basis, index)) for basis in data.tensors.bases)
    return prefill, decode


def merged_work(prefill: PhaseBasis, decode: PhaseBasis) -> PhaseBasis:
    """Return both phases as one: every slot's seconds and launches, and the steps, added up."""
    own = {f.name: getattr(prefill, f.name) for f in fields(PhaseBasis)}
    added = {name: getattr(prefill, name) + getattr(decode, name) for name in (*SLOT_FIELDS, "steps")}
    return PhaseBasis(**{**own, **added})


def row_deployments(data: EnergyDataModule, rows: Index) -> DeploymentColumns:
    """Return the deployment of each row as columns, ``(n_rows,)``."""
    place = data.tensors.deployment.numpy()[rows].astype(np.intp)
    return deployment_columns(data.tensors.deployments).take(place)


def label_table(
    work: tuple[PhaseBasis, PhaseBasis], prefill: Cost, decode: Cost, whole: Cost | None = None
) -> Table:
    """Return all labels from the cost of the phases; ``whole`` is their sum unless it is given.

    Time to first token is that of one prefill pass and time per token that of one decode pass, as in training.
    """
    total = whole or Cost(energy_j=prefill.energy_j + decode.energy_j, time_s=prefill.time_s + decode.time_s)
    columns = {
        "prefill_energy_j": prefill.energy_j,
        "decode_energy_j": decode.energy_j,
        "energy_j": total.energy_j,
        "ttft_s": prefill.time_s / np.maximum(work[0].steps, 1.0),
        "tpot_s": decode.time_s / np.maximum(work[1].steps, 1.0),
        "latency_s": total.time_s,
    }
    return np.stack([columns[name] for name in LABELS], axis=1).reshape(-1, N_LABELS)


def energy_rows(data: EnergyDataModule, rows: Index) -> Index:
    """Return those of ``rows`` that know an energy."""
    chosen: Index = rows[energy_known(data.tensors)[rows]]
    return chosen


def measured_labels(data: EnergyDataModule, rows: Index) -> Table:
    """Return the measured labels of ``rows``, NaN where unknown."""
    table: Table = data.tensors.labels[rows].double().numpy()
    return table


def row_weight(data: EnergyDataModule, rows: Index) -> Column:
    """Return how much each of ``rows`` counts in a fit."""
    weight: Column = data.tensors.weight[rows].double().numpy()
    return weight


def _arrays(basis: PhaseBasis) -> PhaseBasis:
    return PhaseBasis(**{f.name: getattr(basis, f.name).double().numpy() for f in fields(PhaseBasis)})
