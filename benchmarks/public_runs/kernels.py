"""Measured kernels of NVIDIA's AIConfigurator (Apache-2.0) as ``KernelMeasurement`` rows.

Columns used by each kind, and the work that follows from them (a multiply-add counts as 2 FLOP):

- ``gemm``: (m × k) by (k × n); ``2·m·n·k`` FLOP.
- ``prefill_attention``: ``batch_size`` sequences of ``m`` new tokens, ``context_tokens`` = past + new keys;
  causal: ``4·batch·n_heads·head_dim·m·(context − (m − 1)/2)`` FLOP without a window.
- ``decode_attention``: one new token per sequence (``m`` = 1) over ``context_tokens`` keys, its own included;
  ``4·batch·n_heads·head_dim·context`` FLOP; reads ``2·batch·context·n_kv_heads·head_dim`` cache elements.
  Under a window both use ``min(context, window_tokens)`` keys.
- ``moe``: ``m`` tokens over the whole expert group, width ``k`` → ``n`` → ``k`` where ``n`` is already the
  shard of one expert on a GPU (``expert_tensor_parallel``); gate, up and down projections:
  ``6·m·experts_per_token·n·k`` FLOP in all, a share ``1/expert_parallel`` of it on a GPU when tokens are
  balanced.
- ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``all_to_all``: ``message_bytes`` over ``n_gpus``.

Rules: kernels ran back to back with a hot L2; the latency is one launch. Power exists on H200 and B200 only.
"""

from __future__ import annotations

from typing import Final

import pandas as pd

from benchmarks.public_runs.rows import need_columns, precision_of
from llmco2.data.schema import canonical_frame
from llmco2.records.run import KERNEL_COLUMNS, KernelMeasurement

SOURCE = "aiconfigurator"
KINDS: Final = {
    "gemm": "gemm",
    "context_attention": "prefill_attention",
    "generation_attention": "decode_attention",
    "moe": "moe",
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
}
_ELEMENT_BYTES: Final = {"bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
_COLUMNS: Final = (
    "gpu",
    "op",
    "kernel_source",
    "dtype",
    "m",
    "n",
    "k",
    "latency_ms",
    "kv_cache_dtype",
    "batch_size",
    "query_tokens",
    "past_tokens",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "num_tokens",
    "hidden_size",
    "inter_size",
    "topk",
    "num_experts",
    "moe_tp_size",
    "moe_ep_size",
    "distribution",
    "num_gpus",
    "message_elements",
    "window_size",
    "power_w",
    "power_limit_w",
    "engine_version",
)
_IDENTITY: Final = tuple(
    name
    for name in KERNEL_COLUMNS
    if name not in ("latency_s", "power_w", "energy_j", "repeats", "schema_version")
)


def convert(raw: pd.DataFrame) -> pd.DataFrame:
    """Return kernel measurements; kernels that occur twice become medians."""
    need_columns(raw, _COLUMNS, SOURCE)
    raw = raw.reset_index(drop=True)
    number = {name: raw[name].astype("float64") for name in _COLUMNS if name in _NUMERIC}
    text = {name: _map_text(raw[name]) for name in ("gpu", "kernel_source", "distribution", "engine_version")}
    op = raw["op"].astype(str)
    is_moe = op == "moe"
    precision = _map_text(raw["dtype"], precision_of)
    bytes_per_element = precision.map(_ELEMENT_BYTES).astype("float64")
    latency_s = number["latency_ms"] / 1e3
    rows = pd.DataFrame(
        {
            "source": SOURCE,
            "gpu": text["gpu"],
            "kind": op.map(KINDS),
            "precision": precision,
            "m": number["m"].fillna(number["query_tokens"]).fillna(number["num_tokens"]),
            "n": number["n"].fillna(number["inter_size"] / number["moe_tp_size"]),
            "k": number["k"].fillna(number["hidden_size"]),
            "batch_size": number["batch_size"],
            "context_tokens": number["query_tokens"] + number["past_tokens"],
            "n_heads": number["num_heads"],
            "n_kv_heads": number["num_kv_heads"],
            "head_dim": number["head_dim"],
            "n_experts": number["num_experts"],
            "experts_per_token": number["topk"],
            "n_gpus": number["num_gpus"].fillna(1).astype("int64"),
            "message_bytes": number["message_elements"] * bytes_per_element,
            "latency_s": latency_s,
            "power_w": number["power_w"],
            "energy_j": number["power_w"] * latency_s,
            "kv_precision": _map_text(raw["kv_cache_dtype"], precision_of),
            "window_tokens": number["window_size"],
            "expert_tensor_parallel": number["moe_tp_size"].where(is_moe),
            "expert_parallel": number["moe_ep_size"].where(is_moe),
            "load_balance": text["distribution"],
            "implementation": text["kernel_source"],
            "engine_version": text["engine_version"],
            "power_limit_w": number["power_limit_w"],
        }
    )
    return _merge_repeats(canonical_frame(rows[rows["kind"].notna()], KernelMeasurement))


_NUMERIC: Final = frozenset(_COLUMNS) - {
    "gpu",
    "op",
    "kernel_source",
    "dtype",
    "kv_cache_dtype",
    "distribution",
    "engine_version",
}


def _map_text(values: pd.Series, rename: object = None) -> pd.Series:
    names = {
        value: (rename(str(value)) if callable(rename) else str(value))
        for value in values.dropna().unique().tolist()
    }
    return values.astype(object).map(names).astype(object).where(values.notna(), None)


def _merge_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    repeated = frame.duplicated(list(_IDENTITY), keep=False)
    if not repeated.any():
        return frame
    grouped = frame[repeated].groupby(list(_IDENTITY), dropna=False, sort=False)
    merged = grouped.agg(
        latency_s=("latency_s", "median"), power_w=("power_w", "median"), repeats=("latency_s", "size")
    ).reset_index()
    merged["energy_j"] = merged["power_w"] * merged["latency_s"]
    return pd.concat([frame[~repeated], canonical_frame(merged, KernelMeasurement)], ignore_index=True)


def empty() -> pd.DataFrame:
    """Return a table of no kernels."""
    return canonical_frame(pd.DataFrame({name: [] for name in KERNEL_COLUMNS}), KernelMeasurement)
