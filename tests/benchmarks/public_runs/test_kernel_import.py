"""Kernel tables: the columns of each kind mean what their docstring says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.public_runs import import_kernels
from benchmarks.public_runs.kernels import _COLUMNS
from llmco2.errors import FileFormatError

COMMON: dict[str, Any] = {
    "gpu": "H200-SXM-141GB",
    "kernel_source": "lib",
    "dtype": "bfloat16",
    "latency_ms": 2.0,
}
GEMM = {**COMMON, "op": "gemm", "m": 8, "n": 16, "k": 32, "power_w": 500.0, "power_limit_w": 700.0}
ATTENTION = {
    **COMMON,
    "op": "generation_attention",
    "batch_size": 4,
    "query_tokens": 1,
    "past_tokens": 1023,
    "num_heads": 32,
    "num_kv_heads": 8,
    "head_dim": 128,
    "kv_cache_dtype": "fp8",
    "window_size": 128,
}
MOE = {
    **COMMON,
    "op": "moe",
    "dtype": "fp8_block",
    "num_tokens": 64,
    "hidden_size": 2048,
    "inter_size": 768,
    "topk": 8,
    "num_experts": 128,
    "moe_tp_size": 2,
    "moe_ep_size": 4,
    "distribution": "balanced",
}
REDUCE = {**COMMON, "op": "all_reduce", "dtype": "half", "num_gpus": 8, "message_elements": 1024}


def _import(folder: Path, *rows: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(_COLUMNS))
    whole = [
        name for name in frame.columns if frame[name].dtype == "float64" and not name.endswith(("_w", "_ms"))
    ]
    frame.astype(dict.fromkeys(whole, "Int32")).to_parquet(folder / "kernels.parquet")
    return import_kernels(folder)


def test_each_kind_fills_its_own_columns(tmp_path: Path) -> None:
    kernels = _import(tmp_path, GEMM, ATTENTION, MOE, REDUCE).set_index("kind")
    assert kernels.loc["gemm", ["m", "n", "k"]].tolist() == [8, 16, 32]
    assert kernels.loc["gemm", "energy_j"] == pytest.approx(1.0)  # 500 W for 2 ms
    attention = kernels.loc["decode_attention"]
    assert attention[["batch_size", "m", "context_tokens", "n_heads", "n_kv_heads", "head_dim"]].tolist() == [
        4, 1, 1024, 32, 8, 128,
    ]  # fmt: skip
    assert (attention["kv_precision"], attention["window_tokens"]) == ("fp8", 128)
    moe = kernels.loc["moe"]
    assert moe[["m", "n", "k", "n_experts", "experts_per_token"]].tolist() == [64, 384, 2048, 128, 8]
    assert moe[["expert_tensor_parallel", "expert_parallel", "load_balance"]].tolist() == [2, 4, "balanced"]
    assert moe["precision"] == "fp8-block"
    assert kernels.loc["all_reduce", ["message_bytes", "n_gpus"]].tolist() == [2048, 8]
    assert kernels["latency_s"].eq(2e-3).all()
    assert kernels.drop("gemm")["power_w"].isna().all()


def test_a_kernel_that_occurs_twice_becomes_its_median(tmp_path: Path) -> None:
    kernels = _import(tmp_path, GEMM, {**GEMM, "latency_ms": 4.0}, {**GEMM, "m": 16})
    assert len(kernels) == 2
    twice = kernels[kernels["repeats"] == 2].iloc[0]
    assert twice["latency_s"] == pytest.approx(3e-3)
    assert twice["energy_j"] == pytest.approx(500.0 * 3e-3)


def test_a_foreign_kernel_table_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "kernels.parquet")
    with pytest.raises(FileFormatError, match="not the table of the source 'aiconfigurator'"):
        import_kernels(tmp_path)
    (tmp_path / "kernels.parquet").write_bytes(b"PAR1")
    with pytest.raises(FileFormatError, match=r"cannot read kernels\.parquet"):
        import_kernels(tmp_path)
