"""Our FLOPs and bytes beside those that an engine estimates of one GPU, over the same tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmco2.errors import InputError
from llmco2.serving import sample as q
from llmco2.serving.counted_work import CountedWork, counted_work
from llmco2.serving.interval import Interval
from llmco2.serving.reading import read_sample
from llmco2.serving.workload import Deployment, Workload, workload
from tests.serving.conftest import page

SERVED = Deployment(
    model="meta-llama/Llama-3.1-8B", gpu="H100-SXM5-80GB", engine="vllm-0.11", precision="bf16"
)
PARAMETERS = 8.03e9
EMBEDDING = 128_256 * 4096


def interval_of(**counts: float) -> Interval:
    base = {q.PROMPT_TOKENS: 8000.0, q.GENERATION_TOKENS: 4000.0, q.FINISHED_REQUESTS: 40.0}
    return Interval(start_s=0.0, end_s=10.0, counts=base | counts, running=8.0)


def work_of(short: Interval, deployment: Deployment = SERVED) -> Workload:
    found = workload(short, short, read_sample(page("vllm_0_32"), 0.0), deployment)
    assert isinstance(found, Workload)
    return found


def counted_of(short: Interval, deployment: Deployment = SERVED) -> CountedWork:
    found = counted_work(short, work_of(short, deployment))
    assert found is not None
    return found


def test_flops_are_two_a_parameter_and_token() -> None:
    short = interval_of(**{q.FLOPS_PER_GPU: 1.9e14})
    found = counted_of(short)
    # prompt tokens go through all but the embedding and, all but the last of each, the head; made ones through the head
    body = PARAMETERS - 2 * EMBEDDING
    expected = 2 * (body * 12_000 + EMBEDDING * 4000)
    assert found.flops == pytest.approx(expected, rel=0.05)
    assert found.flops_ratio == pytest.approx(found.flops / 1.9e14)
    assert (found.engine_bytes, found.bytes_ratio) == (None, None)


def test_bytes_are_the_weights_of_every_step() -> None:
    short = interval_of(**{q.READ_BYTES_PER_GPU: 7e12, q.WRITTEN_BYTES_PER_GPU: 1e12})
    found = counted_of(short)
    steps = 4000 / 8
    assert found.bytes_moved == pytest.approx(steps * 2 * (PARAMETERS - EMBEDDING), rel=0.15)
    assert found.engine_bytes == 8e12


def test_shards_and_replicas_share_the_work_of_one_gpu() -> None:
    counts = {q.FLOPS_PER_GPU: 1e14}
    one = counted_of(interval_of(**counts))
    two = counted_of(interval_of(**counts), replace(SERVED, tensor_parallel=2))
    assert two.flops == pytest.approx(one.flops / 2, rel=0.02)
    replicas = counted_of(replace(interval_of(**counts), n_ranks=2), replace(SERVED, replicas=2))
    assert replicas.flops == pytest.approx(one.flops / 2, rel=0.05)
    assert replicas.engine_flops == 5e13


def test_an_estimate_that_is_off_is_none() -> None:
    short = interval_of(**{q.FLOPS_PER_GPU: 0.0, q.READ_BYTES_PER_GPU: 0.0})
    assert counted_work(short, work_of(short)) is None


def test_what_cannot_be_counted_is_refused() -> None:
    short = interval_of(**{q.FLOPS_PER_GPU: 1e14})
    with pytest.raises(InputError):
        counted_work(short, work_of(short, replace(SERVED, model="no-such-model")))
