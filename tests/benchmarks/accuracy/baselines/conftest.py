"""A small fold, data whose labels were changed, and one phase's work with numbers to count on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.release.heldout import Fold
from llmco2.data.module import EnergyDataModule
from llmco2.physics.readout import PhaseBasis

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fold(all_folds: list[Fold]) -> Fold:
    """Return the smallest fold with a new board, its training rows thinned so that fits are quick."""
    boards = [f for f in all_folds if f.name.startswith("board") and " and " not in f.name]
    smallest = min(boards, key=lambda f: len(f.test))
    return replace(smallest, train=smallest.train[::4])


@pytest.fixture
def with_labels() -> Callable[[EnergyDataModule, NDArray[np.float64]], EnergyDataModule]:
    """Return a maker of data modules with other labels, ``(n_runs, N_LABELS)``, and all else the same."""

    def make(data: EnergyDataModule, labels: NDArray[np.float64]) -> EnergyDataModule:
        other = copy.copy(data)
        other.tensors = replace(data.tensors, labels=torch.tensor(labels, dtype=torch.float32))
        return other

    return make


@pytest.fixture
def two_kernels() -> PhaseBasis:
    """Return one request of two kernels on two GPUs of 400 W: seconds at peak are round numbers."""
    return PhaseBasis(
        compute_s=np.array([[3.0, 2.0]]),
        weight_s=np.array([[1.0, 1.0]]),
        activation_s=np.array([[0.5, 1.0]]),
        kv_s=np.array([[0.5, 0.5]]),
        network_s=np.array([[0.0, 4.0]]),
        launches=np.array([[10.0, 30.0]]),
        steps=np.array([5.0]),
        sequence_steps=np.array([5.0]),
        n_gpus=np.array([2.0]),
        n_shards=np.array([2.0]),
        tdp_w=np.array([400.0]),
        compute_w=np.array([300.0]),
        memory_w=np.array([150.0]),
        power_limit_w=np.array([400.0]),
    )
