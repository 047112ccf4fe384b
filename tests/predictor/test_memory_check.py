"""A request that does not fit says what is missing, and its remedy really fits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmco2.deployment.deployment import parallelism_error
from llmco2.errors import DoesNotFitError, InputError
from llmco2.predictor.answer import answer_requests
from llmco2.predictor.api import predict
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.predictor.columns import SizeColumns
from llmco2.predictor.memory_check import PAGING_ENGINES
from llmco2.records.engines import ENGINES

PARTS = re.compile(
    r"got (?P<needed>\S+) GB a GPU \(weights (?P<weights>\S+), KV cache (?P<cache>\S+)\), "
    r"expected at most (?P<available>\S+) GB, so (?P<missing>\S+) GB are missing; (?P<remedy>.+)$"
)


def test_the_message_shows_the_arithmetic(random_checkpoint_path: Path) -> None:
    with pytest.raises(DoesNotFitError) as refused:
        predict(model="meta-llama/Llama-3.1-70B", gpu="H100-SXM5-80GB", batch_size=1, prompt_tokens=1000,
                output_tokens=1000, checkpoint=str(random_checkpoint_path))  # fmt: skip
    said = str(refused.value)
    assert said.startswith("meta-llama/Llama-3.1-70B (70.6B, bf16) does not fit H100-SXM5-80GB: got ")
    parts = PARTS.search(said)
    assert parts, said
    # 70.55e9 weights of two bytes; 2000 tokens × 80 layers × 2 × 8 heads × 128 × 2 bytes
    assert float(parts["weights"]) == pytest.approx(141.1, abs=0.1)
    assert float(parts["cache"]) == pytest.approx(2000 * 80 * 2 * 8 * 128 * 2 / 1e9, rel=1e-3)
    gap = float(parts["needed"]) - float(parts["available"])
    assert float(parts["missing"]) == pytest.approx(gap, abs=0.1)
    assert parts["remedy"] == "tensor_parallel 2 would fit"


def test_each_remedy_fits_and_nothing_smaller_that_is_a_power_of_two_does(
    requests: Any, random_checkpoint_path: Path
) -> None:
    checkpoint = load_checkpoint(str(random_checkpoint_path))
    sizes = replace(requests.sizes, batch_size=np.minimum(requests.sizes.batch_size, 256.0),
                    prompt_tokens=np.minimum(requests.sizes.prompt_tokens, 32_768.0),
                    output_tokens=np.minimum(requests.sizes.output_tokens, 8_192.0))  # fmt: skip
    answer = answer_requests(checkpoint, requests.deployments, sizes)

    def fits(row: int, **change: Any) -> bool:
        deployment = requests.deployments[sizes.deployment[row]]
        batch_size = change.pop("batch_size", sizes.batch_size[row])
        one = SizeColumns(
            deployment=np.zeros(1, dtype=np.intp), batch_size=np.array([float(batch_size)]),
            prompt_tokens=sizes.prompt_tokens[[row]], output_tokens=sizes.output_tokens[[row]],
            continuous=sizes.continuous[[row]],
        )  # fmt: skip
        tried = answer_requests(checkpoint, [replace(deployment, **change)], one)
        within = tried.prediction.memory.total_bytes[0] <= tried.prediction.memory_available_bytes[0]
        assert not within or tried.errors == [""]
        return bool(within)

    wider, narrower = 0, 0
    for row in np.flatnonzero(np.array(answer.errors) != "")[::8].tolist():
        said = answer.errors[row]
        heads = requests.deployments[sizes.deployment[row]].architecture.n_heads
        remedy = re.search(r"tensor_parallel (\d+) would fit", said)
        if remedy:
            degree = int(remedy[1])
            wider += 1
            assert heads % degree == 0
            assert fits(row, tensor_parallel=degree), said
            deployment = requests.deployments[sizes.deployment[row]]
            halved = replace(deployment, tensor_parallel=degree // 2)
            smaller = halved.shard_degree > deployment.shard_degree and not parallelism_error(halved)
            assert not (smaller and fits(row, tensor_parallel=degree // 2)), said
        if "a smaller batch would fit" in said:
            narrower += 1
            assert fits(row, batch_size=1), said
        assert remedy or "a smaller batch" in said or "use a smaller model" in said, said
    assert wider > 20
    assert narrower > 10


def test_a_paging_engine_waits_in_turns_where_another_fails(random_checkpoint_path: Path) -> None:
    request: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B", "gpu": "A100-SXM4-40GB"}
    request |= {"batch_size": 512, "checkpoint": str(random_checkpoint_path)}
    paged = predict(**request, engine="vllm")
    assert not paged.in_domain
    assert any(note.startswith("KV cache of the batch exceeds GPU memory by ") for note in paged.notes)
    assert paged.memory_needed_bytes > paged.memory_available_bytes
    with pytest.raises(DoesNotFitError, match="a smaller batch would fit"):
        predict(**request, engine="hf-eager")


def test_a_paging_engine_needs_room_for_one_sequence_all_the_same(random_checkpoint_path: Path) -> None:
    with pytest.raises(DoesNotFitError, match="tensor_parallel"):
        predict(model="meta-llama/Llama-3.1-70B", gpu="A100-SXM4-40GB", engine="vllm",
                checkpoint=str(random_checkpoint_path))  # fmt: skip


def test_a_model_that_no_group_of_gpus_holds_says_so(random_checkpoint_path: Path) -> None:
    with pytest.raises(InputError, match="use a smaller model, a narrower precision or more pipeline stages"):
        predict(model="deepseek-ai/DeepSeek-V3", gpu="T4", precision="fp16",
                checkpoint=str(random_checkpoint_path))  # fmt: skip


def test_paging_engines_are_engines() -> None:
    assert set(ENGINES) >= PAGING_ENGINES


@pytest.mark.parametrize("generation", ["vllm-0.7", "sglang-0.4", "tensorrt-llm-0"])
def test_an_older_generation_pages_as_its_product_does(generation: str, random_checkpoint_path: Path) -> None:
    asked = {"model": "meta-llama/Llama-3.1-8B", "gpu": "A100-SXM4-40GB", "batch_size": 512,
             "prompt_tokens": 2048, "output_tokens": 256, "checkpoint": str(random_checkpoint_path)}  # fmt: skip
    assert any("run in turns" in note for note in predict(engine=generation, **asked).notes)
