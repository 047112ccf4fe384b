"""What regressors fit: measured windows of requests (prefill, decode, or both), one energy each.

A run may know the energy of its prefill, of its decode or of both together, and each is a sample of its own. A
regressor is never told which of the three it is asked for: it reads the work inside the window, and a prefill alone is
the same work as a request for one token.

Invariant: samples come from the rows they are asked of; test labels are never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.baselines.label_table import Column, Table, measured_labels, row_weight
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.splits import DEPLOYMENT, grouped_split
from llmco2.data.tensors import IS_ENERGY, LABELS, N_LABELS
from llmco2.physics.readout import PhaseBasis

# Which phases (prefill, decode) the window of each energy holds.
PHASES_OF_LABEL: Final = {
    "prefill_energy_j": (1.0, 0.0),
    "decode_energy_j": (0.0, 1.0),
    "energy_j": (1.0, 1.0),
}
_ENERGIES: Final = tuple(name for name, energy in zip(LABELS, IS_ENERGY, strict=True) if energy)
_HELD_BACK_SHARE: Final = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows of runs; every array has one entry each."""

    row: Index  # table position of the run
    phases: NDArray[np.float64]  # (n_windows, 2): 1 where prefill, where decode is inside

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergySamples:
    """Windows with their measured energies, to fit."""

    windows: Windows
    log_energy: Column  # log J
    weight: Column  # those of one run add up to the run's


def energy_samples(data: EnergyDataModule, rows: Index) -> EnergySamples:
    """Return every energy that ``rows`` know."""
    labels = measured_labels(data, rows)[:, [LABELS.index(name) for name in _ENERGIES]]
    place, energy = np.nonzero(~np.isnan(labels))
    n_known = np.maximum((~np.isnan(labels)).sum(axis=1), 1)
    return EnergySamples(
        windows=Windows(row=rows[place], phases=_phases(energy)),
        log_energy=np.log(labels[place, energy]),
        weight=(row_weight(data, rows) / n_known)[place],
    )


def all_windows(rows: Index) -> Windows:
    """Return the three windows of every row, row by row."""
    energy = np.tile(np.arange(len(_ENERGIES)), len(rows))
    return Windows(row=np.repeat(rows, len(_ENERGIES)), phases=_phases(energy))


def energy_table(log_energy: Column) -> Table:
    """Return predictions of :func:`all_windows` as a table of labels; times are NaN."""
    table = np.full((len(log_energy) // len(_ENERGIES), N_LABELS), np.nan)
    columns = [LABELS.index(name) for name in _ENERGIES]
    table[:, columns] = np.exp(log_energy).reshape(-1, len(_ENERGIES))
    return table


def window_totals(windows: Windows, work: tuple[PhaseBasis, PhaseBasis], field: str) -> NDArray[np.float64]:
    """Return a field of the basis summed over the phases inside each window.

    Args:
        windows: the windows.
        work: of the windows' rows, window by window.
        field: a slot field ``(n, n_slots)`` or ``steps`` ``(n,)``.
    """
    parts = [
        windows.phases[:, p].reshape(-1, *[1] * (getattr(w, field).ndim - 1)) * getattr(w, field)
        for p, w in enumerate(work)
    ]
    total: NDArray[np.float64] = parts[0] + parts[1]
    return total


def held_back(data: EnergyDataModule, rows: Index, seed: int) -> Index:
    """Return those of ``rows`` whose deployments a fit stops early on; none where there is one deployment only.

    Whole deployments are held back, so that a fit stops where it no longer gets better on others than it sees.
    """
    own = data.frame.iloc[rows].reset_index(drop=True)
    if len(own[list(DEPLOYMENT)].drop_duplicates()) < 2:
        return rows[:0]
    chosen: Index = rows[grouped_split(own, DEPLOYMENT, test_share=_HELD_BACK_SHARE, seed=seed).test]
    return chosen


def _phases(energy: NDArray[np.intp]) -> NDArray[np.float64]:
    table = np.array([PHASES_OF_LABEL[name] for name in _ENERGIES])
    chosen: NDArray[np.float64] = table[energy]
    return chosen
