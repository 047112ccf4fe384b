"""TDP × time: every GPU draws its rated power for as long as the roofline says.

Source: the estimate behind most carbon calculators (Lacoste et al., "Quantifying the Carbon Emissions of Machine
Learning", arXiv 1910.09700: power × time), with the time of a run that was not measured taken from the roofline
(Williams, Waterman, Patterson, CACM 52(4), 2009)::

    time = Σ over kernels max(FLOPs / peak, bytes / bandwidth, sent bytes / link rate)
    energy = GPUs × TDP × time

Simplifications: kernels run one after another at peak rates; no launch, host or scheduling time; rated power
throughout. The fitted variant divides the time by one efficiency for all GPUs, models and engines, which is the
exponential of the weighted median log ratio over training rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.accuracy.baselines.label_table import (
    Column,
    Cost,
    Table,
    energy_rows,
    label_table,
    measured_labels,
    phase_work,
    row_weight,
)
from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import IS_ENERGY
from llmco2.physics.readout import PhaseBasis

UNFITTED = "TDP × roofline time"
FITTED = "TDP × roofline time (fitted)"


def roofline_time_s(basis: PhaseBasis) -> Column:
    """Return the seconds of a phase at peak rates, the slowest resource of every kernel, ``(n_rows,)``."""
    memory_s = basis.weight_s + basis.activation_s + basis.kv_s
    bound_s = np.maximum(np.maximum(basis.compute_s, memory_s), basis.network_s)
    total: Column = bound_s.sum(axis=-1)
    return total


def tdp_cost(basis: PhaseBasis) -> Cost:
    """Return GPUs × TDP × roofline time, and that time."""
    time_s = roofline_time_s(basis)
    return Cost(energy_j=basis.n_gpus * basis.tdp_w * time_s, time_s=time_s)


def predicted(data: EnergyDataModule, rows: Index) -> Table:
    """Return every label of ``rows`` at efficiency 1."""
    work = phase_work(data, rows)
    return label_table(work, tdp_cost(work[0]), tdp_cost(work[1]))


def weighted_median(values: Column, weight: Column) -> float:
    """Return the smallest value with at least half of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(share, 0.5 * share[-1])])


def fitted_efficiency(data: EnergyDataModule, rows: Index) -> float:
    """Return the share of peak rates that brings the median training energy right."""
    known = energy_rows(data, rows)
    energies = list(IS_ENERGY)
    with np.errstate(divide="ignore"):  # a decode of no steps has no energy, and no label either
        ratio = np.log(predicted(data, known)) - np.log(measured_labels(data, known))
    return float(np.exp(weighted_median(np.nanmean(ratio[:, energies], axis=1), row_weight(data, known))))


def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:  # noqa: ARG001 - no chance in it
    """Return the errors of both variants on the fold's test rows."""
    at_peak = predicted(data, fold.test)
    return {
        UNFITTED: label_errors(at_peak, data, fold.test),
        FITTED: label_errors(at_peak / fitted_efficiency(data, fold.train), data, fold.test),
    }


METHOD_GROUP = MethodGroup(
    names=(UNFITTED, FITTED),
    fold_errors=fold_errors,
    seeded=False,
    about="GPUs × TDP × roofline time (Lacoste et al. 2019 with a roofline), bare and with one fitted efficiency.",
)
