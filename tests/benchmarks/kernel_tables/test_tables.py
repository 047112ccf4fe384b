"""The command reads a package's folder into one table a kind, in seconds, with the flaws of its tables left out."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.command_line import EXIT_INPUT, exit_code
from benchmarks.kernel_tables import __main__ as command
from benchmarks.kernel_tables.read import tables
from llmco2.kernel_model.features import SIZES, STACKS
from llmco2.kernel_model.formats import FORMATS
from llmco2.kernel_model.lanes import read_lanes

COMMON = {"kernel_source": "torch_flow_triton", "latency": 0.5}
PRODUCT = {**COMMON, "gemm_dtype": "bfloat16", "m": 16, "n": 4096, "k": 4096}
ATTENTION = {"num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "window_size": 0, "batch_size": 4, "isl": 1,
             "step": 1023, "kv_cache_dtype": "fp8", "attn_dtype": "bfloat16", **COMMON}  # fmt: skip
LATENT = {"num_heads": 16, "batch_size": 4, "isl": 1, "step": 511, "kv_cache_dtype": "bfloat16", **COMMON}
EXPERTS = {**COMMON, "moe_dtype": "fp8", "distribution": "balanced", "num_tokens": 64, "hidden_size": 2048,
           "inter_size": 768, "topk": 8, "num_experts": 128, "moe_tp_size": 1, "moe_ep_size": 1}  # fmt: skip
NET = {**COMMON, "phase": "generation", "batch_size": 2, "seq_len": 128, "d_model": 2048, "num_k_heads": 16,
       "num_v_heads": 32, "head_k_dim": 128, "head_v_dim": 128}  # fmt: skip
FILES = {
    "gemm_perf": [PRODUCT, {**PRODUCT, "gemm_dtype": "fp8_block"}, {**PRODUCT, "gemm_dtype": "unheard_of"}],
    "generation_attention_perf": [ATTENTION],
    "context_attention_perf": [{**ATTENTION, "isl": 512, "step": 0}, {**ATTENTION, "isl": 512, "step": 512}],
    "generation_mla_perf": [LATENT],
    "context_mla_perf": [{**LATENT, "isl": 512, "step": 0}],
    "mla_bmm_perf": [
        {**COMMON, "num_tokens": 8, "num_heads": 16, "op_name": "mla_gen_pre", "bmm_dtype": "fp8"}
    ],
    "moe_perf": [EXPERTS],
    "custom_allreduce_perf": [
        {**COMMON, "num_gpus": 8, "message_size": 1024, "op_name": "allreduce", "kernel_source": source}
        for source in ("vLLM_custom_graph", "vLLM_custom_eager")
    ],
    "gdn_perf": [NET],
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a made-up folder in the package's layout, board/backend/stack/version/file."""
    root = tmp_path / "data"
    for version, latency in (("0.9.0", 0.7), ("0.10.0", 0.5)):
        folder = root / "h100_sxm" / "nvidia" / "vllm" / version
        folder.mkdir(parents=True)
        for name, rows in FILES.items():
            pd.DataFrame([{**row, "latency": latency} for row in rows]).to_parquet(folder / f"{name}.parquet")
    return root


def test_every_kind_is_a_table_of_its_sizes_in_seconds(package: Path) -> None:
    found = dict(tables(package))
    assert set(found) == set(SIZES)
    for kind, frame in found.items():
        assert set(SIZES[kind]) <= set(frame), kind
        assert frame["latency_s"].tolist() == [5e-4], kind  # the newest version of each shape, once
        assert frame["gpu"].tolist() == ["H100-SXM5-80GB"], kind
        assert frame["stack"].tolist() == [STACKS.index("vllm")], kind


def test_rows_that_hold_a_host_or_a_prefix_are_left_out(package: Path) -> None:
    found = dict(tables(package))
    assert [FORMATS[int(i)].name for i in found["gemm"]["format"]] == [
        "16bit"
    ]  # vLLM's block FP8 is host-bound
    assert found["prefill_attention"]["tokens"].tolist() == [512.0]
    assert found["decode_attention"]["context_tokens"].tolist() == [1024.0]
    assert found["collective"]["message_bytes"].tolist() == [2048.0]  # elements of two bytes


def test_the_command_writes_tables_and_lanes(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert command.main(["--root", str(package), "--output", str(output)]) == 0
    assert "gemm: 1 rows" in capsys.readouterr().out
    assert {path.stem for path in output.glob("*.parquet")} == set(SIZES)
    lanes = read_lanes(json.loads((output / "lanes.json").read_text()))
    assert lanes.find("gemm", "vllm", "sm90", "16bit").measured


def test_a_folder_without_measurements_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        argv = ["--root", str(root), "--output", str(tmp_path / "out")]
        assert exit_code(lambda argv=argv: command.main(argv)) == EXIT_INPUT  # type: ignore[misc]
        error = capsys.readouterr().err
        assert "--root" in error
        assert error.count("\n") == 1
