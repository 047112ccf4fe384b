"""How far predictions are off: MAPE, median error and the share within ten percent, by label and for energy.

A run's energy error is the mean log error over the energies it knows, so a run that knows its phases
counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from llmco2.data.tensors import IS_ENERGY, LABELS

ENERGY: Final = "energy_at_large"
ERROR_BOUND: Final = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """Errors of one label over some rows, percent."""

    n_rows: int
    mape_percent: float
    median_percent: float
    eba10_percent: float  # share of predictions within 10 % of the measurement


def error_summary(errors: Tensor) -> ErrorSummary:
    """Return the summary of log errors ``(n_rows,)`` without NaN; at least one row."""
    relative = (errors.double().exp() - 1.0).abs()
    return ErrorSummary(
        n_rows=len(relative),
        mape_percent=100.0 * float(relative.mean()),
        median_percent=100.0 * float(relative.quantile(0.5)),
        eba10_percent=100.0 * float((relative <= ERROR_BOUND).double().mean()),
    )


def known_log_errors(predicted: Tensor, labels: Tensor) -> Tensor:
    """Return ``log(predicted / label)``, NaN where either is unknown; ``(n_rows, N_LABELS)``."""
    return predicted.clamp_min(1e-12).log() - labels.log()


def row_energy_errors(errors: Tensor) -> Tensor:
    """Return each row's mean log error over the energies it knows, NaN where it knows none; ``(n_rows,)``."""
    return errors[:, list(IS_ENERGY)].nanmean(dim=1)


def summaries(predicted: Tensor, labels: Tensor) -> dict[str, ErrorSummary]:
    """Return a summary for each label that occurs, and for energy at large."""
    errors = known_log_errors(predicted, labels)
    columns = {ENERGY: row_energy_errors(errors), **{name: errors[:, i] for i, name in enumerate(LABELS)}}
    known = {name: values[torch.isfinite(values)] for name, values in columns.items()}
    return {name: error_summary(values) for name, values in known.items() if len(values)}
