"""EcoLogits' closed form of GPU energy and latency.

Source: EcoLogits 0.11.3, methodology "LLM inference", regressed by its authors on the ML.ENERGY benchmark (H100)::

    energy per output token and GPU = α · exp(β · batch) · active parameters + γ       Wh, parameters in billions
    latency per output token = a · active parameters + b · batch + c                   s
    GPUs = 1.2 · parameters · bits / 8 over the memory of a GPU, up to a power of two

Energy is per request and GPU, so a batch costs batch × output tokens × GPUs as much. The server around the GPUs and
the PUE are left out, because measured energies are those of GPUs.

Simplifications: the bits are those of the run's weights and the memory is its board's (the package assumes 16 and
80 GB where it is not stated); the GPUs are those of the rule and not those of the run, because that is the closed form;
all output tokens cost the same, so the first one stands for prefill; prompts are free, as they are in the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from benchmarks.accuracy.baselines.label_table import Column, Cost, Table, label_table, phase_work
from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.release.heldout import Fold
from llmco2.catalog.params import active_parameter_count, parameter_count
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import numbers

NAME: Final = "EcoLogits"
ENERGY_ALPHA_WH: Final = 1.1665273170451914e-06  # per token and billion active parameters
ENERGY_BETA: Final = -0.011205921025579175  # per request of the batch
ENERGY_GAMMA_WH: Final = 4.052928146734005e-05  # per token
LATENCY_ALPHA_S: Final = 0.0006785088094353663  # per billion active parameters
LATENCY_BETA_S: Final = 0.0003119310311688259  # per request of the batch
LATENCY_GAMMA_S: Final = 0.019473717579473387
MEMORY_OVERHEAD: Final = 1.2
_J_PER_WH: Final = 3600.0
_BILLION: Final = 1e9


def energy_per_token_j(active_parameters: Column, batch_size: Column) -> Column:
    """Return what one GPU draws for one output token of one request, J."""
    scale = ENERGY_ALPHA_WH * np.exp(ENERGY_BETA * batch_size)
    return np.asarray((scale * active_parameters / _BILLION + ENERGY_GAMMA_WH) * _J_PER_WH)


def latency_per_token_s(active_parameters: Column, batch_size: Column) -> Column:
    """Return the time of one step of the batch, s."""
    return LATENCY_ALPHA_S * active_parameters / _BILLION + LATENCY_BETA_S * batch_size + LATENCY_GAMMA_S


def gpus_needed(parameters: Column, bytes_per_parameter: Column, memory_bytes: Column) -> Column:
    """Return how many GPUs hold the weights with their overhead: a power of two."""
    count = np.ceil(MEMORY_OVERHEAD * parameters * bytes_per_parameter / memory_bytes)
    return np.asarray(2.0 ** np.ceil(np.log2(count)))


def predicted(data: EnergyDataModule, rows: Index) -> Table:
    """Return every label of ``rows``."""
    work, place = phase_work(data, rows), data.tensors.deployment.numpy()[rows]
    facts = np.array([
        (active_parameter_count(d.architecture), parameter_count(d.architecture),
         d.precision.weight_bytes_per_element, d.gpu.memory_bytes) for d in data.tensors.deployments
    ], dtype=np.float64)  # fmt: skip
    active, parameters, width, memory_bytes = facts[place].T
    batch = numbers(data.frame["batch_size"].iloc[rows])
    n_gpus = gpus_needed(parameters, width, memory_bytes)
    token_j = batch * n_gpus * energy_per_token_j(active, batch)
    token_s = latency_per_token_s(active, batch)
    steps = work[1].steps
    prefill = Cost(energy_j=token_j, time_s=token_s)
    return label_table(work, prefill, Cost(energy_j=token_j * steps, time_s=token_s * steps))


def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:  # noqa: ARG001 - nothing is fitted
    """Return the errors on the fold's test rows."""
    return {NAME: label_errors(predicted(data, fold.test), data, fold.test)}


METHOD_GROUP = MethodGroup(
    names=(NAME,),
    fold_errors=fold_errors,
    seeded=False,
    about="Energy per output token from active parameters and batch size (EcoLogits 0.11.3), nothing fitted.",
)
