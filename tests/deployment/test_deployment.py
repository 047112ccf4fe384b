"""A deployment is checked when it is made, and its columns say what the records say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.catalog.models import load_models, resolve_model
from llmco2.catalog.part_precisions import StoredPart
from llmco2.catalog.precisions import resolve_precision
from llmco2.catalog.stored import parts_under
from llmco2.deployment.columns import GENERIC_IDLE_SHARE, INTER_NODE_BYTES_PER_S, deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import (
    assemble_deployment,
    named_precision,
    request_deployment,
    resolve_deployment,
)
from llmco2.errors import RequestError
from llmco2.records.request import InferenceRequest


def deployed(  # noqa: PLR0917 - the columns of a request, in their order
    model: str = "Qwen/Qwen3-8B",
    gpu: str = "H100-SXM5-80GB",
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    engine: str = "unknown",
    precision: str = "unknown",
    kv: str = "unknown",
) -> Deployment:
    return resolve_deployment(model, gpu, tp, pp, ep, engine, precision, kv)


def test_spellings_of_one_deployment_are_equal_and_hash_alike() -> None:
    one = deployed("Qwen/Qwen3-8B", "H100-SXM5-80GB", engine="vllm", precision="bf16")
    other = deployed("qwen3-8b", "NVIDIA H100 80GB HBM3", engine="vLLM 0.19.0", precision="BFloat16")
    assert one == other
    assert len({one, other}) == 1
    assert one.datasheet is None
    assert one.gpu is load_gpus()["H100-SXM5-80GB"]


def test_a_request_and_its_columns_make_the_same_deployment() -> None:
    request = InferenceRequest(
        model="Qwen/Qwen3-8B", gpu="L40S", tensor_parallel=2, engine="sglang", kv_precision="fp8"
    )
    assert request_deployment(request) == deployed(gpu="L40S", tp=2, engine="sglang", kv="fp8")


def test_records_may_stand_in_for_names() -> None:
    assembled = assemble_deployment(
        resolve_model("Qwen/Qwen3-8B"), resolve_gpu("L40S"), "vllm", resolve_precision("fp8"), None,
        tensor_parallel=4, pipeline_parallel=2, expert_parallel=1,
    )  # fmt: skip
    assert assembled == deployed(gpu="L40S", tp=4, pp=2, engine="vllm", precision="fp8")


@pytest.mark.parametrize(
    ("gpu", "precision", "expected"),
    [
        ("H100-SXM5-80GB", "unknown", ("bf16", 2.0, 2.0, 2.0)),
        ("V100-SXM2-32GB", "unknown", ("fp16", 2.0, 2.0, 2.0)),
        (
            "H100-SXM5-80GB",
            "fp8",
            ("fp8-block", 1.0 + 4 / 128**2, 2.0, 2.0),
        ),  # Qwen3 so; head and residual stream stay at 16 bit
        ("H100-SXM5-80GB", "fp32", ("fp32", 4.0, 4.0, 4.0)),
    ],
)
def test_precision_decides_the_bytes_of_each_part(
    gpu: str, precision: str, expected: tuple[str, float, float, float]
) -> None:
    deployment = deployed(gpu=gpu, precision=precision)
    columns = deployment_columns([deployment])
    got = (
        deployment.precision.name,
        columns.weight_bytes_per_element[0],
        columns.head_weight_bytes_per_element[0],
        columns.activation_bytes_per_element[0],
    )
    assert got == expected


@pytest.mark.parametrize(
    ("model", "precision", "served"),
    [
        ("Qwen/Qwen3-8B-FP8", "unknown", "fp8-block"),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "unknown", "fp8"),
        ("Qwen/Qwen3-8B", "fp8-dynamic", "fp8"),
        ("Qwen/Qwen3-8B-FP8", "FP8_dynamic", "fp8"),
    ],
)
def test_weights_with_a_scale_per_channel_are_not_taken_for_blocks(
    model: str, precision: str, served: str
) -> None:
    deployment = deployed(model, precision=precision)
    assert deployment.precision.name == served
    per_weight = deployment_columns([deployment]).weight_bytes_per_element[0]
    assert per_weight == (1.0 if served == "fp8" else 1.0 + 4 / 128**2)


def test_experts_alone_are_narrow_under_mxfp4() -> None:
    columns = deployment_columns([deployed("openai/gpt-oss-20b", precision="mxfp4")])
    assert columns.expert_weight_bytes_per_element[0] == (4 + 8 / 32) / 8
    rest = ("attention", "recurrent", "dense_mlp", "shared_expert", "router", "head", "embedding")
    assert [getattr(columns, f"{part}_weight_bytes_per_element")[0] for part in rest] == [2.0] * 7


def test_a_checkpoints_own_record_decides_each_part_and_the_cache_until_a_precision_is_asked_for() -> None:
    model = resolve_model("Qwen/Qwen3-8B")
    plain = parts_under(model, resolve_precision("nvfp4"), kv_cache="fp8")
    wide = StoredPart(precision="bf16", weight_bytes_per_element=2.0)
    published = replace(model, checkpoint_precision="nvfp4", stored=replace(plain, attention=wide))
    for asked, attention, mlp, cache in (
        (None, 2.0, 4.5 / 8, 1.0),
        ("nvfp4", 2.0, 4.5 / 8, 1.0),
        ("fp8", 1.0, 1.0, 2.0),
    ):
        deployment = assemble_deployment(
            published, resolve_gpu("B200"), "vllm", asked and resolve_precision(asked), None,
            tensor_parallel=1, pipeline_parallel=1, expert_parallel=1,
        )  # fmt: skip
        columns = deployment_columns([deployment])
        assert columns.attention_weight_bytes_per_element[0] == pytest.approx(attention, rel=0.001)
        assert columns.dense_mlp_weight_bytes_per_element[0] == pytest.approx(mlp, rel=0.001)
        assert columns.kv_bytes_per_element[0] == cache


@pytest.mark.parametrize(("kv", "n_bytes"), [("unknown", 2.0), ("fp8", 1.0), ("fp32", 4.0), ("BF16", 2.0)])
def test_the_cache_has_a_precision_of_its_own(kv: str, n_bytes: float) -> None:
    assert deployment_columns([deployed(kv=kv)]).kv_bytes_per_element[0] == n_bytes


def test_unknown_is_no_precision() -> None:
    assert named_precision("unknown") is None
    assert named_precision(" Unknown ") is None
    assert named_precision("fp16") is resolve_precision("fp16")


def test_the_wider_of_tensor_and_expert_parallel_shards_a_layer() -> None:
    mixtral = "mistralai/Mixtral-8x7B-v0.1"
    columns = deployment_columns(
        [deployed(mixtral, tp=2, ep=8), deployed(mixtral, tp=8, ep=2), deployed(mixtral)]
    )
    assert columns.shard_degree.tolist() == [8, 8, 1]
    assert columns.expert_parallel.tolist() == [8, 2, 1]


def test_traffic_beyond_a_node_crosses_the_network_card() -> None:
    nvlink = load_gpus()["H100-SXM5-80GB"].interconnect_bytes_per_s
    rows = deployment_columns([deployed(tp=8), deployed(tp=8, pp=2), deployed(gpu="L40S", tp=8, pp=2)])
    # A link inside the server that is slower than the network card stays the slower of the two.
    slowest = min(load_gpus()["L40S"].interconnect_bytes_per_s, INTER_NODE_BYTES_PER_S)
    assert rows.device.network_bytes_per_s.tolist() == [nvlink, INTER_NODE_BYTES_PER_S, slowest]


def test_a_gpu_without_a_measured_idle_takes_the_generic_share() -> None:
    bare = next(gpu for gpu in load_gpus().values() if gpu.idle_power_w is None)
    measured = next(gpu for gpu in load_gpus().values() if gpu.idle_power_w is not None)
    model = "Qwen/Qwen3-0.6B"
    rows = deployment_columns([deployed(model, bare.gpu_id), deployed(model, measured.gpu_id)])
    assert rows.device.idle_power_w.tolist() == [GENERIC_IDLE_SHARE * bare.tdp_w, measured.idle_power_w]


def test_take_repeats_rows_of_every_column() -> None:
    columns = deployment_columns([deployed(), deployed("meta-llama/Llama-3.1-8B", "L40S", tp=4)])
    taken = columns.take(np.array([1, 0, 1]))
    assert taken.shard_degree.tolist() == [4, 1, 4]
    assert taken.shape.n_heads.tolist() == [columns.shape.n_heads[i] for i in (1, 0, 1)]
    assert taken.device.tdp_w.tolist() == [350, 700, 350]


def test_the_axis_that_does_not_divide_the_heads_is_named() -> None:
    with pytest.raises(RequestError, match=r"^expert_parallel does not divide the 16 attention heads"):
        deployed("Qwen/Qwen3-Next-80B-A3B-Instruct", ep=32)


def test_every_model_runs_on_some_gpu_and_every_gpu_runs_some_model() -> None:
    rows = deployment_columns(
        [deployed(model) for model in load_models()] + [deployed(gpu=gpu) for gpu in load_gpus()]
    )
    device = rows.device
    for values in (device.matmul_flops_per_s, device.vector_flops_per_s, device.network_bytes_per_s,
                   device.l2_bytes, device.n_sms, rows.weight_bytes_per_element):  # fmt: skip
        assert np.all(np.isfinite(values))
        assert np.all(values > 0.0)
