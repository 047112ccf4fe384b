"""Equal physics, equal answers: names that share bytes and rates share their answer, over the catalog."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from llmco2 import predict, predict_frame
from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.models import load_models
from llmco2.records.engines import ENGINES

FIGURES = ["energy_j", "energy_low_j", "energy_high_j", "ttft_s", "tpot_s", "latency_s", "operational_gco2e"]


def table(**columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 400
    plain = [engine.name for engine in ENGINES.values() if not engine.formats]
    return pd.DataFrame(
        {
            "model": rng.choice(list(load_models()), n),
            "gpu": rng.choice(list(load_gpus()), n),
            "engine": rng.choice(plain, n),
            "tensor_parallel": rng.choice([1, 2, 8], n),
            "batch_size": rng.choice([1, 7, 64, 300], n),
            "prompt_tokens": rng.choice([1, 300, 5000], n),
            "output_tokens": rng.choice([1, 200, 3000], n),
            "serving": rng.choice(["static", "continuous"], n),
            **columns,
        }
    )


def test_bf16_and_fp16_have_one_answer_where_a_board_runs_both_alike() -> None:
    alike = [
        g for g, gpu in load_gpus().items()
        if gpu.peak_flops_per_s.get("bf16") == gpu.peak_flops_per_s.get("fp16")
    ]  # fmt: skip
    boards = list(itertools.islice(itertools.cycle(alike), 400))
    one, other = (predict_frame(table(gpu=boards, precision=p)) for p in ("bf16", "fp16"))
    answered = (one["error"] == "") & (other["error"] == "")
    assert answered.sum() > 100
    pd.testing.assert_frame_equal(one.loc[answered, FIGURES], other.loc[answered, FIGURES])


def test_a_table_answers_as_its_single_rows() -> None:
    requests = table()
    answers = predict_frame(requests)
    good = np.flatnonzero(answers["error"] == "")[:12]
    for row in good:
        asked = {k: v.item() if hasattr(v, "item") else v for k, v in requests.iloc[row].to_dict().items()}
        alone = predict(**asked)
        assert alone.total.energy_j == pytest.approx(answers["energy_j"][row], rel=1e-9)
        assert alone.ttft_s == pytest.approx(answers["ttft_s"][row], rel=1e-9)


@pytest.mark.parametrize(
    ("alias", "name"), [("vLLM 0.19.0", "vllm"), ("trtllm", "tensorrt-llm"), ("HF", "hf-eager")]
)
def test_an_alias_of_an_engine_answers_as_its_name(alias: str, name: str) -> None:
    asked = {"model": "Qwen/Qwen3-8B", "gpu": "H100", "batch_size": 16}
    assert predict(**asked, engine=alias).total.energy_j == predict(**asked, engine=name).total.energy_j


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
@pytest.mark.parametrize("gpu", ["A100-SXM4-80GB", "H100", "B200"])
@pytest.mark.parametrize("precision", ["int8-w8a16", "int4", "nvfp4-w4a16", "mxfp4"])
def test_fewer_bits_are_not_slower_to_decode_where_their_kernels_were_not_measured(
    engine: str, gpu: str, precision: str
) -> None:
    asked = {"model": "meta-llama/Llama-3.1-8B", "gpu": gpu, "engine": engine, "batch_size": 4}
    wide, narrow = (predict(**asked, precision=p).tpot_s for p in ("bf16", precision))
    assert narrow <= wide * (1 + 1e-9)
