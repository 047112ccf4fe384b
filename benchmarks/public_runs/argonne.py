"""LLM-Inference-Bench of Argonne (BSD-3-Clause): power of vLLM, TensorRT-LLM and DeepSpeed-MII, and many
latencies.

Rules: the power window includes about one idle second at its end, so energy is the tail-corrected mean power
times the latency; a correction over 25 % means a window too short to trust (flag ``short_window``, half the
weight). A batch whose weights and KV cache exceed the memory ran as fewer sequences at a time than the row
says: dropped. Only GPUs of NVIDIA are kept from the latencies. What the latencies of llama.cpp call a batch is the
chunk in which it reads the prompt of one request: their time falls as it grows, and one token at a time takes as long
as prompt and output in single steps. They are requests of batch 1, kept at their largest chunk, with the layers spread
over the GPUs one after another (time does not fall with more GPUs). Configurations that occur twice become
medians.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from benchmarks.public_runs.rows import describe, finish, need_columns, precision_of, weight_of_trust
from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.catalog.params import parameter_count
from llmco2.records.engines import resolve_engine

POWER = "argonne_power"
LATENCY = "argonne_latency"
LLAMA_CPP = "llama.cpp"
_SHARED: Final = (
    "model_id",
    "gpu",
    "num_gpus",
    "tensor_parallel",
    "engine",
    "dtype",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "latency_s",
)
_SHORT_WINDOW_RATIO = 1.25
_USABLE_MEMORY = 0.90  # the share that the engines take by default
_GPUS: Final = ("A100-SXM4-40GB", "H100-SXM5-80GB", "GH200-96GB")
_ELEMENT_BYTES = 2  # all of it ran in 16 bit
_GENERATIONS: Final = {"vllm": "vllm-0.7", "tensorrt-llm": "tensorrt-llm-0"}  # it was measured in 2024
_BASES: Final = {
    "huggyllama/llama-7b": "meta-llama/Llama-2-7b-hf",
    "huggyllama/llama-13b": "meta-llama/Llama-2-13b-hf",
}


def fits(model: str, gpu: str, n_gpus: int, batch_size: float, context_tokens: float) -> bool:
    """Return whether 16-bit weights and the KV cache at the last token fit the GPUs."""
    arch = resolve_model(model)
    kv_per_token = 2 * arch.n_attention_layers * arch.n_kv_heads * arch.head_dim * _ELEMENT_BYTES
    needed_bytes = parameter_count(arch) * _ELEMENT_BYTES + batch_size * context_tokens * kv_per_token
    return needed_bytes <= _USABLE_MEMORY * resolve_gpu(gpu).memory_bytes * n_gpus


def _fitting(raw: pd.DataFrame, model: pd.Series) -> pd.Series:
    context = raw["prompt_tokens"] + raw["output_tokens"]
    cases = zip(model, raw["gpu"], raw["num_gpus"], raw["batch_size"], context, strict=True)
    return pd.Series([fits(*case) for case in cases], index=raw.index, dtype=bool)


def _request(raw: pd.DataFrame, source: str, model: pd.Series) -> pd.DataFrame:
    engine = raw["engine"].map(resolve_engine)
    return pd.DataFrame(
        {
            "source": source,
            "model": model,
            "gpu": raw["gpu"],
            "tensor_parallel": raw["num_gpus"].astype(int).where(engine != LLAMA_CPP, 1),
            "pipeline_parallel": raw["num_gpus"].astype(int).where(engine == LLAMA_CPP, 1),
            "engine": engine.replace(_GENERATIONS),
            "precision": raw["dtype"].map(precision_of),
            "batch_size": raw["batch_size"].astype(float),
            "prompt_tokens": raw["prompt_tokens"],
            "output_tokens": raw["output_tokens"],
            "notes": describe(raw, {"model_id": "model_id"}),
        }
    )


def _single_requests(raw: pd.DataFrame) -> pd.DataFrame:
    """Return the latencies with those of llama.cpp as single requests, each read in its largest chunk."""
    chunked = raw["engine"].map(resolve_engine) == LLAMA_CPP
    own = raw[chunked].sort_values("batch_size", kind="stable")
    own = own.drop_duplicates(["model_id", "gpu", "num_gpus", "prompt_tokens", "output_tokens"], keep="last")
    return pd.concat([raw[~chunked], own.assign(batch_size=1.0)], ignore_index=True)


def convert_power(raw: pd.DataFrame) -> pd.DataFrame:
    """Return whole-request energies and latencies."""
    need_columns(raw, (*_SHARED, "base_model", "energy_j", "avg_power_w", "avg_power_tailcorr_w"), POWER)
    raw = raw[_fitting(raw, raw["base_model"])]
    power = raw["avg_power_tailcorr_w"].fillna(raw["avg_power_w"])
    short = power / raw["avg_power_w"] > _SHORT_WINDOW_RATIO
    rows = _request(raw, POWER, raw["base_model"]).assign(
        energy_j=power * raw["latency_s"],
        latency_s=raw["latency_s"],
        average_power_w=power,
        energy_method="integrated_power",
        weight=np.where(short, 0.5, 1.0) * weight_of_trust(4),
        flags=np.where(short, "short_window", ""),
    )
    return finish(rows)


def convert_latency(raw: pd.DataFrame) -> pd.DataFrame:
    """Return latencies without energy; the one-token runs are time to first token of the whole batch."""
    need_columns(raw, (*_SHARED, "phase"), LATENCY)
    raw = _single_requests(raw[raw["gpu"].isin(_GPUS)])
    model = raw["model_id"].replace(_BASES)
    keep = _fitting(raw, model)
    raw, model = raw[keep], model[keep]
    rows = _request(raw, LATENCY, model).assign(
        latency_s=raw["latency_s"],
        ttft_s=raw["latency_s"].where(raw["phase"] == "prefill"),
        weight=weight_of_trust(4),
    )
    return finish(rows)
