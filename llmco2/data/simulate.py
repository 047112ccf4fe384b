"""Made-up runs that say so, for trying out training where no measurement is at hand.

The rule, on purpose simpler than the model that is trained on it: a step takes the longer of its compute and
its memory time at fixed efficiencies, plus communication under tensor parallelism and a launch overhead of
the engine; a GPU draws its idle power plus a share of TDP for each of compute and memory by the time each is
busy, at most TDP; energies get 5 % and times 3 % of log-normal noise.

Invariant: every row has ``simulated = True``, and nothing here is evidence of anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpu import Gpu
from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.catalog.params import active_parameter_count, parameter_count
from llmco2.data.schema import canonical_frame
from llmco2.data.tables import write_runs
from llmco2.records.run import MeasuredRun

SOURCE: Final = "simulated"
SHIPPED_FILE: Final = "simulated_runs.csv.gz"
MODELS: Final = (
    "Qwen/Qwen2.5-0.5B",
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Llama-3.2-3B",
    "mistralai/Mistral-7B-v0.1",
    "meta-llama/Llama-3.1-8B",
    "google/gemma-2-9b",
    "Qwen/Qwen2.5-14B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.1-70B",
)
GPUS: Final = ("V100-SXM2-32GB", "T4", "L4", "L40S", "A100-SXM4-80GB", "H100-SXM5-80GB", "H200-SXM-141GB")
# seconds of host time a step that the GPU does not hide
ENGINE_OVERHEAD_S: Final = {"hf-eager": 18e-3, "vllm-0.11": 2.5e-3, "tensorrt-llm": 1.5e-3}
_COMPUTE_EFFICIENCY: Final = 0.55
_MEMORY_EFFICIENCY: Final = 0.75
_LINK_EFFICIENCY: Final = 0.6
_COMPUTE_POWER_SHARE: Final = 0.65
_MEMORY_POWER_SHARE: Final = 0.45
_IDLE_POWER_SHARE: Final = 0.12
_USABLE_MEMORY: Final = 0.9
_ELEMENT_BYTES: Final = 2.0
_ENERGY_NOISE: Final = 0.05
_TIME_NOISE: Final = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """Time and energy of a phase, all GPUs."""

    time_s: float
    energy_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deployment:
    """What serves the request."""

    arch: Architecture
    gpu: Gpu
    tensor_parallel: int
    precision: str
    overhead_s: float  # of the engine, each step


def step_cost(
    deployment: _Deployment, *, new_tokens: float, context_tokens: float, batch_size: float
) -> _Cost:
    """Return time (s) and energy (J) of one forward pass of ``batch_size × new_tokens`` tokens.

    Source: the rule in this module's docstring; 2 FLOP per active parameter and token, weights and cache read
    once.
    """
    arch, gpu, n_gpus = deployment.arch, deployment.gpu, deployment.tensor_parallel
    tokens = batch_size * new_tokens
    flops = 2.0 * active_parameter_count(arch) * tokens / n_gpus
    moved = (parameter_count(arch) * _ELEMENT_BYTES + kv_bytes(arch, batch_size, context_tokens)) / n_gpus
    compute_s = flops / (gpu.peak_flops_per_s[deployment.precision] * _COMPUTE_EFFICIENCY)
    memory_s = moved / (gpu.memory_bandwidth_bytes_per_s * _MEMORY_EFFICIENCY)
    ring = 2.0 * (n_gpus - 1) / n_gpus
    message = 2.0 * arch.n_attention_layers * tokens * arch.hidden_dim * _ELEMENT_BYTES
    link_s = ring * message / (gpu.interconnect_bytes_per_s * _LINK_EFFICIENCY)
    time_s = max(compute_s, memory_s) + link_s + deployment.overhead_s
    idle_w = gpu.idle_power_w or _IDLE_POWER_SHARE * gpu.tdp_w
    busy = (_COMPUTE_POWER_SHARE * compute_s + _MEMORY_POWER_SHARE * memory_s) / time_s
    power_w = min(idle_w + gpu.tdp_w * busy, gpu.tdp_w)
    return _Cost(time_s=time_s, energy_j=power_w * time_s * n_gpus)


def kv_bytes(arch: Architecture, batch_size: float, context_tokens: float) -> float:
    """Return the bytes of keys and values of ``batch_size`` sequences of ``context_tokens`` at 16 bit."""
    per_token = 2.0 * arch.n_attention_layers * arch.n_kv_heads * arch.head_dim * _ELEMENT_BYTES
    return batch_size * context_tokens * per_token


def simulate_runs(n_rows: int = 384, *, seed: int = 0) -> pd.DataFrame:
    """Return ``n_rows`` simulated runs of catalog models on catalog GPUs, phases apart; fixed by the seed."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    while len(rows) < n_rows:
        row = _draw(rng, len(rows))
        if row is not None:
            rows.append(row)
    return canonical_frame(pd.DataFrame(rows), MeasuredRun)


def write_shipped_runs(folder: str | Path) -> Path:
    """Write the table that ships in ``datasets/``; returns its path."""
    return write_runs(simulate_runs(), Path(folder) / SHIPPED_FILE)


def _draw(rng: np.random.Generator, number: int) -> dict[str, object] | None:
    """Return one run, or ``None`` where the drawn model does not fit the drawn GPUs."""
    model, gpu_name = str(rng.choice(MODELS)), str(rng.choice(GPUS))
    engine = str(rng.choice(list(ENGINE_OVERHEAD_S)))
    tensor_parallel = int(rng.choice([1, 1, 1, 2, 4]))
    batch_size = float(2 ** rng.integers(0, 7))
    prompt_tokens = float(np.rint(np.exp(rng.uniform(np.log(16), np.log(4096)))))
    output_tokens = float(np.rint(np.exp(rng.uniform(np.log(2), np.log(1024)))))
    noise = np.exp(rng.normal(size=4) * [_ENERGY_NOISE, _ENERGY_NOISE, _TIME_NOISE, _TIME_NOISE])
    arch, gpu = resolve_model(model), resolve_gpu(gpu_name)
    needed = parameter_count(arch) * _ELEMENT_BYTES + kv_bytes(
        arch, batch_size, prompt_tokens + output_tokens
    )
    if needed > _USABLE_MEMORY * gpu.memory_bytes * tensor_parallel or arch.n_kv_heads % tensor_parallel:
        return None
    precision = "bf16" if "bf16" in gpu.peak_flops_per_s else "fp16"
    deployment = _Deployment(
        arch=arch,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        precision=precision,
        overhead_s=ENGINE_OVERHEAD_S[engine],
    )
    first = step_cost(
        deployment, new_tokens=prompt_tokens, context_tokens=prompt_tokens, batch_size=batch_size
    )
    # the cost is about linear in the context, so the middle step is the mean one
    middle = prompt_tokens + output_tokens / 2
    later = step_cost(deployment, new_tokens=1, context_tokens=middle, batch_size=batch_size)
    steps = output_tokens - 1  # the prefill yields the first token
    prefill_j, decode_j = first.energy_j * noise[0], later.energy_j * steps * noise[1]
    ttft_s, tpot_s = first.time_s * noise[2], later.time_s * noise[3]
    labels = {
        "prefill_energy_j": prefill_j,
        "decode_energy_j": decode_j,
        "energy_j": prefill_j + decode_j,
        "ttft_s": ttft_s,
        "tpot_s": tpot_s,
        "latency_s": ttft_s + tpot_s * steps,
    }
    return {
        "run_id": f"{SOURCE}/{number:04d}",
        "source": SOURCE,
        "simulated": True,
        "model": model,
        "gpu": gpu_name,
        "tensor_parallel": tensor_parallel,
        "engine": engine,
        "precision": precision,
        "batch_size": batch_size,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "energy_method": "simulated",
        "notes": "simulated: made up by a rule, drawn by no GPU",
        **{name: float(f"{value:.6g}") for name, value in labels.items()},
    }
