"""A GPU given by its datasheet and a model by its config.json answer end to end, alone and in a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmco2.carbon import resolve_factors
from llmco2.catalog.gpus import load_gpus
from llmco2.errors import FileFormatError
from llmco2.predictor.api import predict, predict_frame
from llmco2.records.footprint import Footprint

DATASHEET: dict[str, Any] = {
    "gpu_id": "Prototype-X",
    "memory_gib": 96,
    "memory_bandwidth_gb_per_s": 4000,
    "tdp_w": 500,
    "fp32_tflops": 60,
    "fp16_tflops": 900,
    "bf16_tflops": 900,
    "interconnect_gb_per_s": 300,
}
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def datasheet(tmp_path: Path) -> Path:
    path = tmp_path / "prototype.json"
    path.write_text(json.dumps(DATASHEET))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my-model" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CONFIG))
    return path


def answer(random_checkpoint_path: Path, **request: Any) -> Footprint:
    return predict(**request, checkpoint=str(random_checkpoint_path))


def test_files_answer_alone_and_in_a_table(
    datasheet: Path, config: Path, random_checkpoint_path: Path
) -> None:
    alone = answer(
        random_checkpoint_path, model=str(config), gpu=str(datasheet), tensor_parallel=2, batch_size=4
    )
    assert alone.request.gpu == "Prototype-X"
    assert alone.memory_available_bytes == 96 * 2**30
    assert "gpu Prototype-X was not measured under load" in alone.notes
    assert not alone.in_domain
    table = pd.DataFrame(
        {
            "model": [str(config), str(config.parent), "Qwen/Qwen3-8B"],
            "gpu": [str(datasheet), str(datasheet), "H100-SXM5-80GB"],
            "tensor_parallel": 2,
            "batch_size": 4,
        }
    )
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["error"].tolist() == ["", "", ""]
    for name, value in (("energy_j", alone.total.energy_j), ("latency_s", alone.latency_s),
                        ("operational_gco2e", alone.carbon.operational_gco2e),
                        ("embodied_gco2e", alone.carbon.embodied_gco2e)):  # fmt: skip
        assert answers[name].tolist()[:2] == pytest.approx([value, value], rel=1e-6)


def test_a_path_object_is_as_good_as_its_text(
    datasheet: Path, config: Path, random_checkpoint_path: Path
) -> None:
    text = answer(random_checkpoint_path, model=str(config.parent), gpu=str(datasheet))
    assert answer(random_checkpoint_path, model=config.parent, gpu=datasheet) == text


def test_a_config_counts_as_the_catalog_does(config: Path, random_checkpoint_path: Path) -> None:
    given = {"gpu": "H100-SXM5-80GB", "batch_size": 8}
    by_file = answer(random_checkpoint_path, model=str(config), **given)
    by_name = answer(random_checkpoint_path, model="meta-llama/Llama-3.1-8B", **given)
    assert by_file.total.energy_bounds_j.low == pytest.approx(by_name.total.energy_bounds_j.low, rel=1e-9)
    assert by_file.memory_needed_bytes == pytest.approx(by_name.memory_needed_bytes, rel=1e-4)


def test_a_datasheet_under_a_catalog_name_is_read_all_the_same(
    tmp_path: Path, random_checkpoint_path: Path
) -> None:
    capped = tmp_path / "capped.json"
    capped.write_text(json.dumps({**DATASHEET, "gpu_id": "H100-SXM5-80GB", "memory_gib": 80, "tdp_w": 350}))
    given = {"model": "Qwen/Qwen3-8B", "batch_size": 32}
    ours = answer(random_checkpoint_path, gpu=str(capped), **given)
    catalogs = answer(random_checkpoint_path, gpu="H100-SXM5-80GB", **given)
    assert ours.total.average_power_w <= 350 < catalogs.total.energy_bounds_j.high / catalogs.total.time_s
    assert ours.total.energy_bounds_j != catalogs.total.energy_bounds_j
    both = predict_frame(
        pd.DataFrame({"model": "Qwen/Qwen3-8B", "gpu": [str(capped), "H100-SXM5-80GB"], "batch_size": 32}),
        checkpoint=str(random_checkpoint_path),
    )
    assert both["energy_j"].tolist() == pytest.approx(
        [ours.total.energy_j, catalogs.total.energy_j], rel=1e-6
    )


def test_a_file_changed_between_calls_is_read_again(
    datasheet: Path, config: Path, random_checkpoint_path: Path
) -> None:
    given: dict[str, Any] = {"model": str(config), "gpu": str(datasheet)}
    before = answer(random_checkpoint_path, **given)
    config.write_text(json.dumps({**CONFIG, "num_hidden_layers": 64}))
    deeper = answer(random_checkpoint_path, **given)
    assert deeper.total.energy_bounds_j.low > 1.5 * before.total.energy_bounds_j.low
    datasheet.write_text(json.dumps({**DATASHEET, "memory_bandwidth_gb_per_s": 1000}))
    slower = answer(random_checkpoint_path, **given)
    assert slower.latency_s > deeper.latency_s
    table = pd.DataFrame([given])
    assert predict_frame(table, checkpoint=str(random_checkpoint_path))["latency_s"].iloc[0] == pytest.approx(
        slower.latency_s
    )


def test_carbon_of_a_gpu_that_no_table_lists_is_that_of_the_nearest_card(
    datasheet: Path, random_checkpoint_path: Path
) -> None:
    embodied = {
        factor.name: factor
        for factor in answer(random_checkpoint_path, model="Qwen/Qwen3-8B", gpu=str(datasheet)).carbon.factors
    }["gpu_embodied"]
    assert embodied.source.startswith("Prototype-X: not listed; taken from the nearest card, ")
    assert "confidence low" in embodied.source
    small = resolve_factors("Prototype-X", gpu_memory_gib=16.0, gpu_tdp_w=70.0)
    assert "nearest card, T4" in small.gpu_embodied.source
    assert small.gpu_embodied.value < embodied.value


def test_size_chooses_no_card_for_a_gpu_that_is_listed() -> None:
    for gpu in load_gpus().values():
        sized = resolve_factors(gpu.gpu_id, gpu_memory_gib=gpu.memory_bytes / 2**30, gpu_tdp_w=gpu.tdp_w)
        assert sized == resolve_factors(gpu.gpu_id), gpu.gpu_id


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds no JSON object"),
        (json.dumps({**DATASHEET, "tdp": 5}), "has an unknown key: got tdp"),
        (json.dumps({**DATASHEET, "tdp_w": -5}), "tdp_w is no number: got -5"),
        (json.dumps({k: v for k, v in DATASHEET.items() if k != "memory_gib"}), "memory_gib is missing"),
    ],
)
def test_a_damaged_datasheet_is_refused_alone_and_is_its_rows_error_in_a_table(
    content: str, message: str, datasheet: Path, random_checkpoint_path: Path
) -> None:
    datasheet.write_text(content)
    with pytest.raises(FileFormatError, match=message) as refused:
        answer(random_checkpoint_path, model="Qwen/Qwen3-8B", gpu=str(datasheet))
    table = pd.DataFrame({"model": "Qwen/Qwen3-8B", "gpu": [str(datasheet), "H100-SXM5-80GB"]})
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["error"].tolist() == [str(refused.value), ""]


def test_a_missing_config_is_refused(tmp_path: Path, random_checkpoint_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"none\.json"):
        answer(random_checkpoint_path, model=str(tmp_path / "none.json"), gpu="H100-SXM5-80GB")
