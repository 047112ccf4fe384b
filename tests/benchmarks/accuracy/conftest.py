"""The shipped simulated runs with their folds, and a contender that costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.accuracy.method import Contender, LabelErrors
from benchmarks.accuracy.ours import FORMULA, SHIPS
from benchmarks.release.heldout import Fold, folds
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions
from llmco2.data.tensors import LABELS, N_LABELS


@pytest.fixture(scope="session")
def data() -> EnergyDataModule:
    module = EnergyDataModule(split=SplitOptions(kind="none"))
    module.setup()
    return module


@pytest.fixture(scope="session")
def all_folds(data: EnergyDataModule) -> list[Fold]:
    return list(folds(data))


@pytest.fixture
def calls() -> list[tuple[str, int]]:
    """Folds and seeds that the cheap contender was asked for."""
    return []


@pytest.fixture
def cheap(calls: list[tuple[str, int]]) -> Contender:
    """Return a contender whose errors follow from row and seed; the formula is off twice as far as what ships."""

    def judge(data: EnergyDataModule, fold: Fold, seed: int) -> dict[str, LabelErrors]:
        calls.append((fold.name, seed))
        errors = np.full((len(fold.test), N_LABELS), np.nan)
        errors[:, LABELS.index("energy_j")] = 0.01 * (fold.test % 7) + 0.001 * seed
        return {SHIPS: errors, FORMULA: 2.0 * errors}

    return Contender(names=(SHIPS, FORMULA), judge=judge, seeded=True, about="No fit at all.")
