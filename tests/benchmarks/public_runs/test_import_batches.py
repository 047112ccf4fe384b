"""Sources of batches that start and end together keep to their rules: joulebench, wilkins, splitwise, argonne …"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.public_runs import drop_flagged, import_source
from benchmarks.public_runs.argonne import fits
from llmco2.errors import FileFormatError
from tests.benchmarks.public_runs.conftest import JOULE, Importer


def test_joulebench_repeats_become_one_median_row_at_the_padded_length(import_rows: Importer) -> None:
    runs = import_rows("joulebench", *({**JOULE, "energy_j": e} for e in (990.0, 1000.0, 1100.0)))
    assert len(runs) == 1
    row = runs.iloc[0]
    assert row["energy_j"] == 1000.0
    assert row["repeats"] == 3
    assert row["energy_std_j"] == pytest.approx(60.8276, rel=1e-5)  # sample deviation of 990, 1000, 1100
    assert row["prompt_tokens"] == 256.0
    assert row["weight"] == 1.0
    assert (row["engine"], row["precision"], row["engine_version"]) == (
        "hf-eager",
        "fp16",
        "4.57.6/torch-2.5.1",
    )


def test_joulebench_keeps_quantised_engines_and_tiers_apart_and_excluded_rows_light(
    import_rows: Importer,
) -> None:
    report = {**JOULE, "tier": "report", "excluded_by_author": True, "n_runs": 10.0, "j_per_tok_std": 0.5}
    runs = import_rows(
        "joulebench",
        {**report, "dtype": "gptq"},
        {**report, "dtype": "int8"},
        {**report, "dtype": "fp16", "excluded_by_author": False},
    ).set_index("engine")
    assert set(runs.index) == {"hf-gptq", "hf-bitsandbytes", "hf-eager"}
    assert runs.loc["hf-gptq", "precision"] == "int4"
    assert runs.loc["hf-gptq", "weight"] == pytest.approx(0.4)
    assert runs.loc["hf-gptq", "flags"] == "excluded_by_author"
    assert runs.loc["hf-eager", "weight"] == pytest.approx(0.8)
    assert runs.loc["hf-eager", "repeats"] == 10
    assert runs.loc["hf-eager", "energy_std_j"] == pytest.approx(0.5 * 128 * 4)


WILKINS: dict[str, Any] = {
    "dtype": "bf16",
    "prompt_tokens": 38.0,
    "output_tokens": 7.0,
    "mean_forward_len": 42.0,
    "energy_per_forward_j": 4.0,
    "latency_per_forward_s": 0.033,
    "energy_j": 28.0,
    "latency_s": 0.23,
}


def test_wilkins_passes_become_prefills_of_their_mean_length(import_rows: Importer) -> None:
    warm_up = {**WILKINS, "latency_per_forward_s": 0.32, "energy_per_forward_j": 13.4}
    runs = import_rows(
        "wilkins_nocache", warm_up, *({**WILKINS, "energy_per_forward_j": e} for e in (3.0, 4.0, 8.0))
    )
    assert len(runs) == 1
    row = runs.iloc[0]
    assert (row["prefill_energy_j"], row["ttft_s"], row["prompt_tokens"]) == (4.0, 0.033, 42.0)
    assert (row["output_tokens"], row["batch_size"], row["engine"]) == (1.0, 1.0, "hf-eager")
    assert row["repeats"] == 3  # the warm-up pass is dropped
    assert pd.isna(row["energy_j"])
    assert pd.isna(row["decode_energy_j"])


def test_wilkins_stages_and_emulated_bf16_are_flagged(import_rows: Importer) -> None:
    runs = import_rows(
        "wilkins_nocache",
        {**WILKINS, "num_gpus": 4, "base_model": "meta-llama/Llama-2-70b-hf"},
        {**WILKINS, "gpu": "V100-PCIe-16GB"},
    ).set_index("gpu")
    assert runs.loc["A100-SXM4-40GB", "pipeline_parallel"] == 4
    assert runs.loc["A100-SXM4-40GB", "tensor_parallel"] == 1
    assert runs.loc["A100-SXM4-40GB", "flags"] == "one_gpu_busy"
    assert runs.loc["V100-PCIe-16GB", "flags"] == "emulated_precision"
    assert runs.loc["V100-PCIe-16GB", "weight"] == pytest.approx(0.2)
    assert drop_flagged(runs.reset_index())["gpu"].tolist() == ["A100-SXM4-40GB"]


def _splitwise(row: int, **changes: Any) -> list[dict[str, Any]]:
    shared = {
        "base_model": "meta-llama/Llama-2-70b-hf",
        "gpu": "A100-SXM4-80GB",
        "num_gpus": 2,
        "tensor_parallel": 2,
        "prompt_tokens": 512.0,
        "src_row": row,
        **changes,
    }
    return [
        {**shared, "phase": "prefill", "output_tokens": 1.0, "latency_s": 0.2},
        {**shared, "phase": "decode", "output_tokens": 127.0, "latency_s": 6.35},
        {
            **shared,
            "phase": "total",
            "output_tokens": 128.0,
            "latency_s": 6.55,
            "energy_j": 3900.0,
            "avg_power_w": 595.0,
        },
    ]


def test_splitwise_joins_the_phases_and_drops_what_is_unsound(import_rows: Importer) -> None:
    runs = import_rows(
        "splitwise",
        *_splitwise(0),
        *_splitwise(1, prompt_tokens=8192.0),
        *_splitwise(2, batch_size=64.0),
        *_splitwise(3, gpu="H100-SXM5-80GB", power_cap="H100 capped to 50% (pcap)"),
    )
    assert len(runs) == 3  # the 64 × 512 batch at tensor parallel 2 is gone
    plain = runs[(runs["prompt_tokens"] == 512) & (runs["gpu"] == "A100-SXM4-80GB")].iloc[0]
    assert (plain["ttft_s"], plain["latency_s"], plain["energy_j"]) == (0.2, 6.55, 3900.0)
    assert plain["tpot_s"] == pytest.approx(0.05)
    assert plain["weight"] == pytest.approx(0.6)
    long = runs[runs["prompt_tokens"] == 8192].iloc[0]
    assert pd.isna(long["energy_j"])
    assert long["weight"] == pytest.approx(0.8)
    assert runs[runs["gpu"] == "H100-SXM5-80GB"].iloc[0]["power_limit_w"] == 350.0


def test_splitwise_runs_that_ended_before_their_length_are_dropped(import_rows: Importer) -> None:
    ended = [row | {"output_tokens": 1024.0} if row["phase"] == "total" else row for row in _splitwise(1)]
    assert import_rows("splitwise", *_splitwise(0), *ended)["output_tokens"].tolist() == [128.0]


ARGONNE: dict[str, Any] = {
    "engine": "vllm",
    "dtype": "fp16/bf16",
    "base_model": "meta-llama/Meta-Llama-3-8B",
    "batch_size": 32.0,
    "prompt_tokens": 1024.0,
    "output_tokens": 1024.0,
    "energy_j": 3000.0,
    "avg_power_w": 300.0,
    "avg_power_tailcorr_w": 330.0,
    "latency_s": 10.0,
    "phase": "total",
}


def test_argonne_energy_is_tail_corrected_and_oversubscribed_batches_are_dropped(
    import_rows: Importer,
) -> None:
    runs = import_rows("argonne_power", ARGONNE, {**ARGONNE, "base_model": "meta-llama/Llama-2-7b-hf"})
    assert runs["model"].tolist() == ["meta-llama/Meta-Llama-3-8B"]
    assert runs.iloc[0]["energy_j"] == pytest.approx(3300.0)
    assert runs.iloc[0]["engine"] == "vllm-0.7"  # of 2024


def test_argonne_memory_check_by_hand() -> None:
    # Llama-2-7B: 13.48 GB of weights, 4 × 32 × 32 × 128 = 524,288 bytes a token; 32 × 2048 tokens = 34.4 GB
    assert not fits("meta-llama/Llama-2-7b-hf", "A100-SXM4-40GB", 1, 32, 2048)
    assert fits("meta-llama/Llama-2-7b-hf", "A100-SXM4-40GB", 1, 16, 2048)
    assert fits("meta-llama/Llama-2-7b-hf", "A100-SXM4-40GB", 2, 32, 2048)


def test_argonne_latencies_keep_nvidia_and_tell_first_tokens(tmp_path: Path) -> None:
    common = {
        **ARGONNE,
        "model_id": "huggyllama/llama-7b",
        "num_gpus": 1,
        "tensor_parallel": 1,
        "batch_size": 1,
    }
    rows = [
        {**common, "gpu": "H100-SXM5-80GB"},
        {**common, "gpu": "Gaudi2"},
        {**common, "gpu": "H100-SXM5-80GB", "output_tokens": 1, "phase": "prefill", "latency_s": 0.03},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "latency.csv.gz", index=False)
    runs = import_source("argonne_latency", tmp_path).set_index("output_tokens")
    assert set(runs["gpu"]) == {"H100-SXM5-80GB"}
    assert set(runs["model"]) == {"meta-llama/Llama-2-7b-hf"}
    assert runs.loc[1.0, "ttft_s"] == 0.03
    assert pd.isna(runs.loc[1024.0, "ttft_s"])
    assert runs["energy_j"].isna().all()


def test_a_batch_of_llama_cpp_is_the_chunk_of_one_prompt(tmp_path: Path) -> None:
    common = {**ARGONNE, "engine": "llama.cpp", "model_id": "huggyllama/llama-7b", "num_gpus": 4,
              "tensor_parallel": 4, "gpu": "H100-SXM5-80GB"}  # fmt: skip
    rows = [{**common, "batch_size": chunk, "latency_s": time}
            for chunk, time in [(1, 27.0), (64, 21.9), (16, 22.5)]]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "latency.csv.gz", index=False)
    runs = import_source("argonne_latency", tmp_path)
    names = ["batch_size", "latency_s", "tensor_parallel", "pipeline_parallel"]
    assert runs[names].to_numpy().tolist() == [[1.0, 21.9, 1, 4]]


def test_dfki_divides_a_run_over_its_batches_and_keeps_their_shapes(write_raw: Callable[..., Path]) -> None:
    folder = write_raw(
        "dfki", [{"run": 1.0, "energy_j": 600.0, "latency_s": 3.0, "avg_power_w": 200.0, "n_batches": 2.0}]
    )
    key = {"model_id": "meta-llama/Llama-2-7b-hf", "gpu": "A100-SXM4-40GB", "run": 1}
    shapes = [
        {**key, "batch_index": 1, "batch_size": 4, "padded_prompt_tokens": 40, "decode_steps": 10},
        {**key, "batch_index": 0, "batch_size": 8, "padded_prompt_tokens": 132, "decode_steps": 8192},
    ]
    pd.DataFrame(shapes).to_csv(folder / "dfki_batches.csv.gz", index=False)
    row = import_source("dfki", folder).iloc[0]
    assert json.loads(row["shape_mix"]) == [[8, 132, 8192], [4, 40, 10]]
    assert (row["energy_j"], row["latency_s"]) == (300.0, 1.5)
    assert (row["batch_size"], row["prompt_tokens"], row["output_tokens"]) == (6.0, 86.0, 4101.0)
    assert row["weight"] == pytest.approx(0.2)
    assert row["engine"] == "hf-autocast"  # and not the engine of every other eager source
    pd.DataFrame(shapes[:0], columns=list(shapes[0])).to_csv(folder / "dfki_batches.csv.gz", index=False)
    with pytest.raises(FileFormatError, match="no batch shapes for a dfki run"):
        import_source("dfki", folder)


def test_ecocompute_summary_rows_know_decode_only(import_rows: Importer) -> None:
    shared = {"output_tokens": 256.0, "energy_j": 1280.0, "latency_s": 12.8, "avg_power_w": 100.0}
    runs = import_rows(
        "ecocompute",
        {
            **shared,
            "engine_id": "hf-bitsandbytes",
            "dtype": "int8 (bnb)",
            "prompt_tokens": 10.0,
            "phase": "total",
            "tier": "raw",
        },
        {**shared, "engine_id": "hf-eager", "dtype": "FP16", "phase": "decode", "tier": "summary"},
    ).set_index("engine")
    assert runs.loc["hf-bitsandbytes", ["energy_j", "precision"]].tolist() == [1280.0, "int8"]
    assert pd.isna(runs.loc["hf-eager", "energy_j"])
    assert runs.loc["hf-eager", "decode_energy_j"] == 1280.0
    assert runs.loc["hf-eager", "tpot_s"] == pytest.approx(0.05)
    assert runs.loc["hf-eager", "weight"] == pytest.approx(0.4)


def test_jetson_keeps_the_highest_clock_and_flags_the_board(tmp_path: Path) -> None:
    def phase(name: str, row: int, clock: int, energy_j: float, tokens: int) -> dict[str, Any]:
        return {
            "model_id": "meta-llama/Llama-3.2-1B",
            "gpu": "JetsonOrin",
            "dtype": "fp16",
            "batch_size": 2,
            "prompt_tokens": 10,
            "output_tokens": tokens,
            "phase": name,
            "energy_j": energy_j,
            "avg_power_w": 20.0,
            "latency_s": energy_j / 20.0,
            "prefill_freq_bin": clock,
            "decode_freq_bin": clock,
            "src_row": row,
        }

    rows = [
        phase("prefill", 0, 10, 1.0, 1),
        phase("decode", 0, 10, 100.0, 100),
        phase("prefill", 1, 0, 9.0, 1),
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "jetson_phases.csv.gz", index=False)
    runs = import_source("jetson_grpo", tmp_path)
    assert len(runs) == 1
    assert runs.iloc[0][["prefill_energy_j", "decode_energy_j", "flags"]].tolist() == [
        1.0,
        100.0,
        "edge_board",
    ]
    assert drop_flagged(runs).empty
