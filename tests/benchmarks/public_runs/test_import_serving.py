"""Sources of servers keep to their rules: mlenergy, alejandroldz and the spot checks."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from tests.benchmarks.public_runs.conftest import STEADY, Importer


def test_mlenergy_v3_is_a_steady_batch_with_energy_per_token(import_rows: Importer) -> None:
    row = import_rows("mlenergy_v3", STEADY).iloc[0]
    assert row["energy_per_output_token_j"] == 0.2
    assert row["tpot_s"] == pytest.approx(64 / 3000)
    assert row["serving"] == "continuous"
    assert row["engine"] == "vllm-0.11"
    assert pd.isna(row["energy_j"])  # it is the same measurement times a constant
    assert pd.isna(row["prompt_tokens"])
    assert row["average_power_w"] == 600.0
    assert "task=lm-arena-chat" in row["notes"]


def test_mlenergy_v3_experts_span_the_tensor_parallel_group_and_data_parallel_is_dropped(
    import_rows: Importer,
) -> None:
    experts = {**STEADY, "num_gpus": 4, "tensor_parallel": 1, "expert_parallel": 4.0}
    runs = import_rows("mlenergy_v3", experts, {**experts, "data_parallel": 4.0})
    assert runs[["tensor_parallel", "expert_parallel"]].to_numpy().tolist() == [[4, 4]]


def test_mlenergy_v3_images_are_flagged_and_unsteady_rows_weigh_half(import_rows: Importer) -> None:
    runs = import_rows(
        "mlenergy_v3",
        {**STEADY, "task": "image-chat"},
        {**STEADY, "median_itl_s": 32 / 3000, "batch_size": 65.0},
    ).set_index("batch_size")
    assert runs.loc[64.0, "flags"] == "vision_language"
    assert runs.loc[65.0, "flags"] == "unsteady"
    assert runs.loc[65.0, "weight"] == pytest.approx(0.5)
    assert pd.isna(runs.loc[65.0, "average_power_w"])


def test_mlenergy_v2_has_its_own_engine_and_keeps_pipeline_stages(import_rows: Importer) -> None:
    row = import_rows(
        "mlenergy_v2",
        {
            **STEADY,
            "tpot_s": 0.02,
            "num_gpus": 16,
            "tensor_parallel": 8,
            "pipeline_parallel": 2.0,
            "dtype": "bf16",
        },
    ).iloc[0]
    assert (row["engine"], row["tensor_parallel"], row["pipeline_parallel"]) == ("vllm-0.5", 8, 2)
    assert row["weight"] == pytest.approx(0.8)


def test_mlenergy_legacy_leaves_out_models_without_a_decoder_base(import_rows: Importer) -> None:
    legacy = {"output_tokens": 100.0, "energy_j": 900.0, "latency_s": 4.5, "task": "chat"}
    runs = import_rows(
        "mlenergy_legacy", legacy, {**legacy, "base_model": None, "model_id": "RWKV/rwkv-raven-7b"}
    )
    assert len(runs) == 1
    assert runs.iloc[0]["average_power_w"] == pytest.approx(200.0)
    assert pd.isna(runs.iloc[0]["prompt_tokens"])


A2: dict[str, Any] = {
    "gpu": "A2",
    "engine_id": "vllm",
    "engine": "vllm",
    "dtype": "16",
    "base_model": "Qwen/Qwen2.5-3B",
    "prompt_tokens": 315.09,
    "output_tokens": 66.4,
    "energy_j": 160.0,
    "avg_power_w": 60.2,
    "latency_s": 2.66,
    "ttft_s": 0.13,
    "tpot_s": 0.038,
    "window_over_inference": 1.0,
    "notes": "task=humaneval; GPU energy joined",
}


def test_alejandroldz_keeps_clean_windows_and_known_widths(import_rows: Importer) -> None:
    runs = import_rows(
        "alejandroldz",
        A2,
        {**A2, "window_over_inference": 3.0, "batch_size": 16.0},
        {**A2, "dtype": "q6_K_L", "batch_size": 4.0},
        {**A2, "dtype": "nf4_double", "batch_size": 8.0},
        {**A2, "batch_size": 32.0},
        {**A2, "engine_id": "vllm-speculative", "engine": "vllm spec=ngram", "dtype": None},
    )
    assert sorted(runs["batch_size"]) == [1.0, 1.0, 8.0, 32.0]
    by_batch = runs[runs["engine"] == "vllm"].set_index("batch_size")
    assert by_batch.loc[1.0, ["precision", "ttft_s", "weight"]].tolist() == ["bf16", 0.13, pytest.approx(0.6)]
    assert pd.isna(by_batch.loc[32.0, "ttft_s"])
    assert by_batch.loc[8.0, "precision"] == "int4"
    assert by_batch.loc[8.0, "weight"] == pytest.approx(0.2)
    assert runs["power_limit_w"].eq(60.0).all()
    assert runs.set_index("engine").loc["vllm-speculative", "engine_version"] == "spec=ngram"


def test_spot_checks_join_phases_and_name_engine_generations(import_rows: Importer) -> None:
    shared = {"base_model": "meta-llama/Llama-3.1-8B", "gpu": "H100-SXM5-80GB", "dtype": "fp32 (no tf32)"}
    row = import_rows(
        "benchlab",
        {**shared, "phase": "prefill", "output_tokens": 1.0, "energy_j": 268.0},
        {**shared, "phase": "decode", "output_tokens": 999.0, "energy_j": 432.0},
    ).iloc[0]
    assert row[["prefill_energy_j", "decode_energy_j", "output_tokens", "precision"]].tolist() == [
        268.0,
        432.0,
        1000.0,
        "fp32",
    ]
    steady = import_rows(
        "chuyishang",
        {
            "model_id": "openai/gpt-oss-20b",
            "base_model": "openai/gpt-oss-20b",
            "batch_size": 7.6,
            "output_tokens": 237.0,
            "avg_power_w": 318.0,
            "energy_per_output_token_j": 0.39,
        },
    ).iloc[0]
    assert steady[["engine", "precision", "serving"]].tolist() == ["vllm-0.11", "mxfp4", "continuous"]
