"""A group of methods that share a fit, and what it must offer to be evaluated.

Invariant: a method fits on a fold's training rows alone and predicts all of its test rows; what it returns is
``log(predicted / measured)``, so an error of 0 is exact and the sign says which way it is off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule, Index

# (n_test, N_LABELS): log(predicted / measured) in the order of llmco2.data.tensors.LABELS, NaN where the label is
# unknown or the method does not predict it. A row's energy error is the mean over its known energies
# (llmco2.training.metrics.row_energy_errors).
LabelErrors = NDArray[np.float64]

# Takes the data, a fold and a seed; returns the errors of each method of the group on the fold's test rows.
FoldErrors = Callable[[EnergyDataModule, Fold, int], Mapping[str, LabelErrors]]

SMALLEST_PREDICTION = 1e-12  # so that a predicted zero has a logarithm; joules or seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodGroup:
    """One or several methods that share a fit."""

    names: tuple[str, ...]  # names as tables show them
    fold_errors: FoldErrors
    seeded: bool  # False: every seed gives the same answer, so it is run once
    about: str  # one sentence with the source


def label_errors(predicted: NDArray[np.float64], data: EnergyDataModule, rows: Index) -> LabelErrors:
    """Return the log errors of predictions of these rows.

    Args:
        predicted: joules and seconds in the order of ``LABELS``, ``(n_rows, N_LABELS)``; NaN where not predicted.
        data: holds the measured labels.
        rows: table positions of the predictions' rows, ``(n_rows,)``.
    """
    measured = data.tensors.labels[rows].double().numpy()
    errors: LabelErrors = np.log(np.maximum(predicted, SMALLEST_PREDICTION)) - np.log(measured)
    return errors
