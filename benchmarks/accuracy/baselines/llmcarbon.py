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

from typing import Final

import numpy as np
import pandas as pd

from benchmarks.accuracy.answers import phase_answers
from benchmarks.accuracy.baselines.work import Array, RequestWork, unanswered

FLOPS_PER_PARAMETER_AND_TOKEN: Final = 2.0
# Achieved TFLOP/s of one A100 by parameters: within a node, and with pipeline stages across nodes.
TENSOR_TFLOPS: Final = (-8.82079068e-20, 1.68591116e-09, 1.33954735e02)
PIPELINE_TFLOPS: Final = (-5.60233749e-23, 8.45435587e-11, 1.34546129e02)
REFERENCE_PEAK_TFLOPS: Final = 312.0
LARGEST_ON_A_NODE: Final = 8 * 0.03e9 * 80.0  # parameters


def hardware_efficiency(parameters: Array) -> Array:
    """Return the share of peak FLOP/s that a model of this size reaches, ``(n,)``."""
    within, across = np.polyval(TENSOR_TFLOPS, parameters), np.polyval(PIPELINE_TFLOPS, parameters)
    return np.asarray(np.where(parameters < LARGEST_ON_A_NODE, within, across) / REFERENCE_PEAK_TFLOPS)


def inference_time_s(parameters: Array, tokens: Array, n_gpus: Array, peak_flops_per_s: Array) -> Array:
    """Return the seconds of ``tokens`` tokens; the peak is that of one GPU."""
    flops = FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens
    return np.asarray(flops / (n_gpus * peak_flops_per_s * hardware_efficiency(parameters)))


def answers(requests: pd.DataFrame, work: RequestWork) -> pd.DataFrame:
    """Return LLMCarbon's answers: prefill is the prompt's tokens, decode those of its steps."""
    batch = requests["batch_size"].to_numpy(dtype=np.float64)
    prompt = requests["prompt_tokens"].to_numpy(dtype=np.float64)
    power = work.n_gpus * work.tdp_w
    prefill, decode = (
        inference_time_s(work.active_parameters, tokens, work.n_gpus, work.peak_flops_per_s)
        for tokens in (batch * prompt, batch * work.decode.steps)
    )
    return unanswered(
        phase_answers(requests, power * prefill, prefill, power * decode, decode), work.answered
    )
