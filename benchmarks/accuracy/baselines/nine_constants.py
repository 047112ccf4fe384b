"""The nine-constant formula: a roofline with efficiencies and overheads, and three shares of rated power.

::

    kernel time = max(compute_s / e_c, weight_s / e_w + other traffic_s / e_a) + network_s / e_n + launches · l
    time        = Σ kernel time + steps · s
    energy      = shards · TDP · Σ [a · compute_s + b · traffic_s] + GPUs · (idle + c · TDP) · time

where ``…_s`` are seconds at peak rates. The nine constants e_c, e_w, e_a, e_n, l, s, a, b and c hold for every GPU,
model and engine. They are fitted to the training rows that know an energy, by least squares on log errors with a
soft-L1 loss; times of those rows count a third as much as energies, as they do when the shipped model trains (without
times, energy alone could not tell static from dynamic power).

Simplifications: no effect of engine, precision, board or family; no power limit; idle power is the catalog's, or a
generic share of TDP. With ``merged`` the two phases are added up before the roofline is taken, as if a request were
one kernel graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.baselines.label_table import (
    SLOT_FIELDS,
    Column,
    Cost,
    Table,
    energy_rows,
    label_table,
    measured_labels,
    merged_work,
    phase_work,
    row_deployments,
    row_weight,
)
from benchmarks.accuracy.method import SMALLEST_PREDICTION, LabelErrors, MethodGroup, label_errors
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import LABELS
from llmco2.physics.readout import PhaseBasis
from llmco2.training.loss import LABEL_WEIGHTS

NAME: Final = "nine constants"
_SOFT_ERROR: Final = 0.2  # log error beyond which a row pulls linearly


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """The nine constants, in the order they are fitted in."""

    compute_efficiency: float
    weight_efficiency: float
    activation_efficiency: float  # of activations, cache and state
    network_efficiency: float
    launch_s: float
    step_s: float
    compute_share: float  # of TDP, dynamic, while a GPU computes at peak
    memory_share: float  # of TDP, dynamic, while memory moves at peak
    static_share: float  # of TDP, above idle, all the time


# Lowest, initial and highest value of each.
RANGES: Final = {
    "compute_efficiency": (0.02, 0.6, 1.0),
    "weight_efficiency": (0.05, 0.8, 1.0),
    "activation_efficiency": (0.02, 0.5, 1.0),
    "network_efficiency": (0.01, 0.4, 1.0),
    "launch_s": (1e-7, 4e-6, 1e-3),
    "step_s": (1e-6, 2e-3, 0.3),
    "compute_share": (0.01, 0.5, 1.5),
    "memory_share": (0.01, 0.4, 1.5),
    "static_share": (1e-3, 0.15, 0.8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the formula reads of some rows."""

    phases: tuple[PhaseBasis, PhaseBasis]
    merged: PhaseBasis | None  # both phases as one, where the formula is to see them so
    idle_w: Column  # of one GPU


def row_work(data: EnergyDataModule, rows: Index, *, merged: bool = False) -> Work:
    """Return the formula's inputs for table positions ``rows``."""
    phases = phase_work(data, rows)
    # Slots that no row has cost time in every step of the fit.
    used = (phases[0].launches + phases[1].launches).sum(axis=0) > 0.0
    prefill, decode = (replace(p, **{n: getattr(p, n)[:, used] for n in SLOT_FIELDS}) for p in phases)
    return Work(
        phases=(prefill, decode),
        merged=merged_work(prefill, decode) if merged else None,
        idle_w=row_deployments(data, rows).device.idle_power_w,
    )


def formula_cost(constants: Constants, basis: PhaseBasis, idle_w: Column) -> Cost:
    """Return energy (J, all GPUs) and time (s) of a phase; the formulas are this module's."""
    other_s = basis.activation_s + basis.kv_s
    memory_s = basis.weight_s / constants.weight_efficiency + other_s / constants.activation_efficiency
    kernel_s = np.maximum(basis.compute_s / constants.compute_efficiency, memory_s)
    kernel_s = kernel_s + basis.network_s / constants.network_efficiency + basis.launches * constants.launch_s
    time_s = kernel_s.sum(axis=-1) + basis.steps * constants.step_s
    busy_s = constants.compute_share * basis.compute_s + constants.memory_share * (basis.weight_s + other_s)
    dynamic_j = basis.n_shards * basis.tdp_w * busy_s.sum(axis=-1)
    static_j = basis.n_gpus * (idle_w + constants.static_share * basis.tdp_w) * time_s
    return Cost(energy_j=dynamic_j + static_j, time_s=time_s)


def formula_table(constants: Constants, work: Work) -> Table:
    """Return every label."""
    prefill, decode = (formula_cost(constants, basis, work.idle_w) for basis in work.phases)
    whole = None if work.merged is None else formula_cost(constants, work.merged, work.idle_w)
    return label_table(work.phases, prefill, decode, whole)


def fit_constants(data: EnergyDataModule, rows: Index, *, merged: bool = False) -> Constants:
    """Return the constants fitted to those of ``rows`` that know an energy."""
    from scipy.optimize import least_squares  # noqa: PLC0415 - of an extra

    known = energy_rows(data, rows)
    work, labels = row_work(data, known, merged=merged), measured_labels(data, known)
    there = ~np.isnan(labels)
    share = there * np.array([LABEL_WEIGHTS[name] for name in LABELS])
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1.0)
    root_weight = np.sqrt(share * row_weight(data, known)[:, None])[there]
    log_labels = np.log(labels[there])

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        table = formula_table(_constants(logs), work)
        errors = np.log(np.maximum(table[there], SMALLEST_PREDICTION)) - log_labels
        return np.asarray(root_weight * errors)

    low, initial, high = np.log(np.array([RANGES[f.name] for f in fields(Constants)])).T
    found = least_squares(
        residuals, initial, bounds=(low, high), loss="soft_l1", f_scale=_SOFT_ERROR, max_nfev=100
    )
    return _constants(found.x)


def predicted(constants: Constants, data: EnergyDataModule, rows: Index, *, merged: bool = False) -> Table:
    """Return every label of ``rows``."""
    return formula_table(constants, row_work(data, rows, merged=merged))


def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:  # noqa: ARG001 - no chance in it
    """Return the errors on the fold's test rows."""
    constants = fit_constants(data, fold.train)
    return {NAME: label_errors(predicted(constants, data, fold.test), data, fold.test)}


def _constants(logs: NDArray[np.float64]) -> Constants:
    return Constants(**{f.name: float(v) for f, v in zip(fields(Constants), np.exp(logs), strict=True)})


METHOD_GROUP = MethodGroup(
    names=(NAME,),
    fold_errors=fold_errors,
    seeded=False,
    about="A roofline with nine constants for all GPUs, models and engines, fitted to training rows.",
)
