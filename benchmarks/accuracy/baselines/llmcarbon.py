"""LLMCarbon's operational energy of an inference.

Source: Faiz et al., "LLMCarbon", arXiv 2309.14393 (ICLR 2024), as its released code computes it::

    time = 2 · parameters · tokens / (GPUs × peak FLOP/s × hardware efficiency)
    energy = GPUs × power × time

with the parameters of the base (active) model for mixtures of experts. The hardware efficiency is the one its authors
regressed on Megatron-LM's published throughput on A100-80GB: a quadratic in the parameters for models that fit one
node of eight GPUs (0.03 billion parameters per gigabyte and GPU), another beyond, both over the A100's 312 TFLOP/s.

Simplifications: the efficiency is taken over to every board and precision as a share of its peak; power is the
board's TDP, where the authors used measured system power for validation; PUE is 1, because measured energies are
those of GPUs; prompt and output tokens cost the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from benchmarks.accuracy.baselines.label_table import (
    Column,
    Cost,
    Table,
    label_table,
    phase_work,
    row_deployments,
)
from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.release.heldout import Fold
from llmco2.catalog.params import active_parameter_count
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import assumed_prompt_tokens, numbers

NAME: Final = "LLMCarbon"
FLOPS_PER_PARAMETER_AND_TOKEN: Final = 2.0
# Achieved TFLOP/s of one A100 by parameters: within a node, and with pipeline stages across nodes.
TENSOR_TFLOPS: Final = (-8.82079068e-20, 1.68591116e-09, 1.33954735e02)
PIPELINE_TFLOPS: Final = (-5.60233749e-23, 8.45435587e-11, 1.34546129e02)
REFERENCE_PEAK_TFLOPS: Final = 312.0
LARGEST_ON_A_NODE: Final = 8 * 0.03e9 * 80.0  # parameters


def hardware_efficiency(parameters: Column) -> Column:
    """Return the share of peak FLOP/s that a model of this size reaches, ``(n_rows,)``."""
    within, across = np.polyval(TENSOR_TFLOPS, parameters), np.polyval(PIPELINE_TFLOPS, parameters)
    return np.asarray(np.where(parameters < LARGEST_ON_A_NODE, within, across) / REFERENCE_PEAK_TFLOPS)


def inference_cost(
    parameters: Column, tokens: Column, n_gpus: Column, peak_flops_per_s: Column, power_w: Column
) -> Cost:
    """Return energy (J) and time (s) of ``tokens`` tokens; peak and power are those of one GPU."""
    flops = FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens
    time_s = flops / (n_gpus * peak_flops_per_s * hardware_efficiency(parameters))
    return Cost(energy_j=n_gpus * power_w * time_s, time_s=time_s)


def predicted(data: EnergyDataModule, rows: Index) -> Table:
    """Return every label of ``rows``: prefill is the prompt's tokens, decode those of its steps."""
    work, frame = phase_work(data, rows), data.frame.iloc[rows]
    device = row_deployments(data, rows).device
    active = np.array(
        [active_parameter_count(d.architecture) for d in data.tensors.deployments], dtype=np.float64
    )
    parameters = active[data.tensors.deployment.numpy()[rows]]
    batch = numbers(frame["batch_size"])
    tokens = (batch * numbers(assumed_prompt_tokens(frame)), batch * work[1].steps)
    prefill, decode = (
        inference_cost(parameters, n, work[0].n_gpus, device.matmul_flops_per_s, work[0].tdp_w)
        for n in tokens
    )
    return label_table(work, prefill, decode)


def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:  # noqa: ARG001 - nothing is fitted
    """Return the errors on the fold's test rows."""
    return {NAME: label_errors(predicted(data, fold.test), data, fold.test)}


METHOD_GROUP = MethodGroup(
    names=(NAME,),
    fold_errors=fold_errors,
    seeded=False,
    about="Parameters × tokens over achieved FLOP/s × TDP (LLMCarbon, arXiv 2309.14393), nothing fitted.",
)
