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

from typing import Final

import numpy as np
import pandas as pd

from benchmarks.accuracy.baselines.work import Array, RequestWork, unanswered

ENERGY_ALPHA_WH: Final = 1.1665273170451914e-06  # per token and billion active parameters
ENERGY_BETA: Final = -0.011205921025579175  # per request of the batch
ENERGY_GAMMA_WH: Final = 4.052928146734005e-05  # per token
LATENCY_ALPHA_S: Final = 0.0006785088094353663  # per billion active parameters
LATENCY_BETA_S: Final = 0.0003119310311688259  # per request of the batch
LATENCY_GAMMA_S: Final = 0.019473717579473387
MEMORY_OVERHEAD: Final = 1.2
_J_PER_WH: Final = 3600.0
_BILLION: Final = 1e9


def energy_per_token_j(active_parameters: Array, batch_size: Array) -> Array:
    """Return what one GPU draws for one output token of one request, J."""
    scale = ENERGY_ALPHA_WH * np.exp(ENERGY_BETA * batch_size)
    return np.asarray((scale * active_parameters / _BILLION + ENERGY_GAMMA_WH) * _J_PER_WH)


def latency_per_token_s(active_parameters: Array, batch_size: Array) -> Array:
    """Return the time of one step of the batch, s."""
    return LATENCY_ALPHA_S * active_parameters / _BILLION + LATENCY_BETA_S * batch_size + LATENCY_GAMMA_S


def gpus_needed(parameters: Array, bytes_per_parameter: Array, memory_bytes: Array) -> Array:
    """Return how many GPUs hold the weights with their overhead: a power of two."""
    count = np.ceil(MEMORY_OVERHEAD * parameters * bytes_per_parameter / memory_bytes)
    return np.asarray(2.0 ** np.ceil(np.log2(count)))


def answers(requests: pd.DataFrame, work: RequestWork) -> pd.DataFrame:
    """Return EcoLogits' answers; the first output token stands for prefill."""
    batch = requests["batch_size"].to_numpy(dtype=np.float64)
    output = requests["output_tokens"].to_numpy(dtype=np.float64)
    n_gpus = gpus_needed(work.parameters, work.weight_bytes_per_element, work.memory_bytes)
    token_j = batch * n_gpus * energy_per_token_j(work.active_parameters, batch)
    token_s = latency_per_token_s(work.active_parameters, batch)
    table = pd.DataFrame(
        {
            "prefill_energy_j": token_j,
            "decode_energy_j": token_j * (output - 1.0),
            "energy_j": token_j * output,
            "ttft_s": token_s,
            "tpot_s": token_s,
            "latency_s": token_s * output,
        }
    )
    return unanswered(table, work.answered)
