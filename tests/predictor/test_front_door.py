"""One request and a table of requests answer alike, and their carbon is the carbon module's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmco2
from llmco2.carbon import carbon_columns
from llmco2.catalog.gpus import load_gpus
from llmco2.errors import InputError
from llmco2.predictor.api import predict, predict_frame
from llmco2.records.columns import ANSWER_COLUMNS, FRAME_COLUMNS
from llmco2.records.footprint import Footprint
from llmco2.records.request import REQUEST_COLUMNS
from llmco2.report.rows import footprint_row

NUMBERS = tuple(name for name in ANSWER_COLUMNS if name not in ("in_domain", "notes", "error"))
CARBON: dict[str, Any] = {"zone": "DEU", "pue": 1.2, "lifetime_years": 4.0, "utilization": 0.6}


def single(request: Any, **given: Any) -> Footprint | str:
    try:
        return predict(**request, **given)
    except InputError as error:
        return str(error)


def assert_same(row: pd.Series[Any], alone: Footprint | str) -> None:
    """Check one row of a table against the answer, or the refusal, of the same request on its own."""
    if isinstance(alone, str):
        assert row["error"] == alone
        assert pd.isna(row["in_domain"])
        assert row["notes"] == ""
        assert all(np.isnan(row[name]) for name in NUMBERS)
        return
    expected = footprint_row(alone)
    assert row["error"] == ""
    assert row["in_domain"] == expected["in_domain"]
    assert row["notes"] == expected["notes"]
    for name in NUMBERS:
        assert row[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-300), name


def test_a_table_answers_each_row_as_the_single_call_does(
    checkpoint_path: str | None, random_table: Callable[[int, int], pd.DataFrame]
) -> None:
    table = random_table(5, 400)
    answers = predict_frame(table, checkpoint=checkpoint_path, **CARBON)
    alone = [single(request, checkpoint=checkpoint_path, **CARBON) for request in table.to_dict("records")]
    assert sum(isinstance(one, str) for one in alone) > 50  # refusals are compared too
    assert sum(isinstance(one, Footprint) for one in alone) > 150
    for (_, row), one in zip(answers.iterrows(), alone, strict=True):
        assert_same(row, one)


@given(
    batch_size=st.floats(1, 65_536),
    prompt_tokens=st.integers(1, 10_000_000) | st.floats(1, 10_000_000),
    output_tokens=st.integers(1, 10_000_000),
    serving=st.sampled_from(["static", "continuous"]),
    engine=st.sampled_from(["unknown", "vllm", "hf-eager"]),
)
def test_every_size_in_range_is_answered_or_refused_for_memory(
    random_checkpoint_path: Any, **request: Any
) -> None:
    request |= {"model": "Qwen/Qwen3-0.6B", "gpu": "H200-SXM-141GB"}
    alone = single(request, checkpoint=str(random_checkpoint_path))
    if isinstance(alone, str):
        assert "does not fit" in alone
    else:
        bounds = alone.total.energy_bounds_j
        interval = alone.total.energy_interval_j
        chain = [bounds.low, interval.low, alone.total.energy_j, interval.high, bounds.high]
        assert chain == sorted(chain)
        assert all(np.isfinite(chain))
    answers = predict_frame(pd.DataFrame([request]), checkpoint=str(random_checkpoint_path))
    assert_same(answers.iloc[0], alone)


def test_carbon_columns_follow_from_energy_latency_and_the_factors_of_the_footprint(
    random_checkpoint_path: Any, random_table: Callable[[int, int], pd.DataFrame]
) -> None:
    table = random_table(6, 300)
    answers = predict_frame(
        table, checkpoint=str(random_checkpoint_path), carbon_intensity_gco2e_per_kwh=100.0
    )
    answers = answers[answers["error"] == ""]
    assert len(answers) > 100
    for _, row in answers.iloc[::25].iterrows():
        alone = predict(
            **{name: row[name] for name in REQUEST_COLUMNS},
            checkpoint=str(random_checkpoint_path), carbon_intensity_gco2e_per_kwh=100.0,
        )  # fmt: skip
        value = {factor.name: factor.value for factor in alone.carbon.factors}
        embodied_kg = value["gpu_embodied"] + value["server_embodied"]
        operational, embodied = carbon_columns(
            row["energy_j"], row["latency_s"], alone.n_gpus, 100.0, value["pue"], value["host_power"],
            embodied_kg, value["lifetime"], value["utilization"],
        )  # fmt: skip
        assert row["operational_gco2e"] == pytest.approx(operational[0], rel=1e-12)
        assert row["embodied_gco2e"] == pytest.approx(embodied[0], rel=1e-12)


def test_the_footprint_repeats_the_request_with_names_resolved(random_checkpoint_path: Any) -> None:
    footprint = llmco2.predict(
        model="llama 3.1 8b instruct", gpu="NVIDIA A100-SXM4-80GB", engine="transformers", batch_size=4,
        checkpoint=str(random_checkpoint_path),
    )  # fmt: skip
    request = footprint.request
    assert (request.model, request.gpu) == ("meta-llama/Llama-3.1-8B", "A100-SXM4-80GB")
    assert (request.engine, request.precision, request.kv_precision) == ("hf-eager", "bf16", "bf16")
    assert footprint.predictor == "random"
    assert footprint.memory_available_bytes == load_gpus()["A100-SXM4-80GB"].memory_bytes
    # 8.03e9 weights at two bytes and the cache of 4 × 1149 tokens at 131,072 bytes, and a workspace
    assert 16.06e9 + 4 * 1149 * 131_072 < footprint.memory_needed_bytes < 20e9
    again = llmco2.predict(**{name: getattr(request, name) for name in REQUEST_COLUMNS},
                           checkpoint=str(random_checkpoint_path))  # fmt: skip
    assert again == footprint


def test_per_token_figures_divide_the_batch(random_checkpoint_path: Any) -> None:
    footprint = predict(model="Qwen/Qwen3-8B", gpu="H100-SXM5-80GB", batch_size=8, prompt_tokens=100,
                        output_tokens=25, checkpoint=str(random_checkpoint_path))  # fmt: skip
    assert footprint.energy_per_output_token_j == pytest.approx(footprint.total.energy_j / 200)
    assert footprint.energy_per_total_token_j == pytest.approx(footprint.total.energy_j / 1000)
    assert footprint.ttft_s == pytest.approx(footprint.prefill.time_s)
    assert footprint.tpot_s == pytest.approx(footprint.decode.time_s / 24)
    assert footprint.latency_s == pytest.approx(footprint.ttft_s + 24 * footprint.tpot_s)


def test_a_table_gets_the_columns_of_an_answer_in_their_order(random_checkpoint_path: Any) -> None:
    table = pd.DataFrame({"gpu": ["A100-SXM4-80GB"], "note": ["mine"], "model": ["Qwen/Qwen3-8B"]})
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    others = [name for name in FRAME_COLUMNS if name not in ("model", "gpu")]
    assert list(answers.columns) == ["gpu", "note", "model", *others]
    assert answers["note"].tolist() == ["mine"]
    assert list(table.columns) == ["gpu", "note", "model"]  # the caller's table is not touched
    assert answers[["prompt_tokens", "output_tokens"]].to_numpy().tolist() == [[1020, 129]]


def test_a_long_table_is_answered_in_order_across_chunks(random_checkpoint_path: Any) -> None:
    batches = np.arange(1, 10_001) % 64 + 1
    engines = np.where(np.arange(10_000) % 3, "vllm", "hf-eager")
    table = pd.DataFrame({"model": "Qwen/Qwen3-0.6B", "gpu": "H100-SXM5-80GB", "engine": engines,
                          "batch_size": batches, "output_tokens": 16})  # fmt: skip
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["batch_size"].tolist() == batches.tolist()
    few = predict_frame(table.iloc[:192], checkpoint=str(random_checkpoint_path))
    np.testing.assert_allclose(answers["energy_j"][:192], few["energy_j"], rtol=1e-6)
    # Rows 192 apart ask the same; the graph network's 32-bit products differ in their last bits from chunk to chunk.
    np.testing.assert_allclose(answers["energy_j"][192:], answers["energy_j"][:-192], rtol=1e-6)


def test_numpy_scalars_are_numbers(random_checkpoint_path: Any) -> None:
    given: Any = {"model": "Qwen/Qwen3-8B", "gpu": "L40S", "checkpoint": str(random_checkpoint_path)}
    scalars: Any = {
        "batch_size": np.int64(8),
        "prompt_tokens": np.float32(64),
        "tensor_parallel": np.uint8(2),
    }
    expected = predict(**given, batch_size=8, prompt_tokens=64, tensor_parallel=2)
    assert predict(**given, **scalars) == expected
