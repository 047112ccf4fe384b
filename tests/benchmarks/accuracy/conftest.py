"""The shipped simulated runs with their folds, and a method that costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.accuracy.method import LabelErrors, MethodGroup
from benchmarks.accuracy.shipped import FORMULA, SHIPPED
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
    """Folds and seeds that the cheap method was asked for."""
    return []


@pytest.fixture
def cheap(calls: list[tuple[str, int]]) -> MethodGroup:
    """Return a method whose errors follow from row and seed; the formula is off twice as far as what ships."""

    def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> dict[str, LabelErrors]:
        calls.append((fold.name, seed))
        errors = np.full((len(fold.test), N_LABELS), np.nan)
        errors[:, LABELS.index("energy_j")] = 0.01 * (fold.test % 7) + 0.001 * seed
        return {SHIPPED: errors, FORMULA: 2.0 * errors}

    return MethodGroup(names=(SHIPPED, FORMULA), fold_errors=fold_errors, seeded=True, about="No fit at all.")
