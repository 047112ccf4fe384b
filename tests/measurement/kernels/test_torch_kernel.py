"""Real torch kernels on CPU tensors: they compute what they should, from noise, through a cold cache."""

import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from llmco2.measurement.campaigns.plan import MeasurePlan
from llmco2.measurement.kernels.kernel import LAUNCHED_EAGERLY, WARM_CACHE
from llmco2.measurement.kernels.measure import measure_kernel
from llmco2.measurement.kernels.recipes import OperandMaker, recipe_of
from llmco2.measurement.kernels.shapes import FIELDS_OF_KIND, KernelShape
from llmco2.measurement.kernels.torch_kernel import ROTATION, TorchKernel
from llmco2.measurement.kernels.work import work_of
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedGpu
from llmco2.measurement.workloads.workload import WorkloadError

CPU = torch.device("cpu")
HEADS = {"batch_size": 2, "context_tokens": 5, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8}
SHAPES = [
    KernelShape(kind="gemm", precision="fp32", m=3, n=5, k=7),
    KernelShape(kind="prefill_attention", precision="fp32", **HEADS),
    KernelShape(kind="decode_attention", precision="fp32", **HEADS),
    KernelShape(kind="moe", precision="fp32", m=4, n=6, k=7, n_experts=4, experts_per_token=2),
    KernelShape(kind="rms_norm", precision="fp32", m=3, n=16),
    KernelShape(kind="layer_norm", precision="fp32", m=3, n=16),
    KernelShape(kind="gated_activation", precision="fp32", m=3, n=16),
    KernelShape(kind="embedding", precision="fp32", m=3, n=16, k=50),
    KernelShape(kind="copy", precision="fp32", m=3, n=16),
]


def attention(query, key, value, causal):
    """Softmax attention written out, a head of keys shared by as many heads of queries as it takes."""
    shared = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -math.inf)
    return scores.softmax(-1) @ value


def experts(rows, gate_and_up, down):
    n = gate_and_up.shape[1] // 2
    outputs = []
    for x, weights, back in zip(rows, gate_and_up, down, strict=True):
        gate, up = x @ weights[:n].T, x @ weights[n:].T
        outputs.append((gate * torch.sigmoid(gate) * up) @ back.T)
    return torch.stack(outputs)


def centred(x):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()


TRUTH = {
    "gemm": lambda x, w: x @ w.T,
    "prefill_attention": lambda q, k, v: attention(q, k, v, causal=True),
    "decode_attention": lambda q, k, v: attention(q, k, v, causal=False),
    "moe": experts,
    "rms_norm": lambda x, w: x / (x.pow(2).mean(-1, keepdim=True) + 1e-7).sqrt() * w,
    "layer_norm": lambda x, w, b: centred(x) * w + b,
    "gated_activation": lambda gate, up: gate * torch.sigmoid(gate) * up,
    "embedding": lambda indices, table: table[indices],
    "copy": lambda x: x,
}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_every_kind_computes_what_its_name_says_from_noise_of_the_counted_size(shape):
    recipe = recipe_of(shape)
    operands = recipe.make(shape, OperandMaker(shape, CPU), None)
    with torch.inference_mode():
        result = recipe.launch(operands)
    torch.testing.assert_close(result, TRUTH[shape.kind](*operands), rtol=1e-4, atol=1e-5)
    noise = [x for x in operands if x.is_floating_point()]
    assert all(x.count_nonzero() == x.numel() for x in noise)
    sizes = sum(x.numel() * x.element_size() for x in operands)
    work = work_of(shape)
    stored = work.memory_bytes - work.written_bytes
    if shape.kind == "moe":  # what the experts write and read in between is no operand
        stored -= 4 * shape.experts_in_use * shape.rows_per_expert * 3 * shape.n
    assert sizes == stored
    assert result.dtype == torch.float32


def test_every_kind_is_tested():
    assert {shape.kind for shape in SHAPES} == set(FIELDS_OF_KIND) == set(TRUTH)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_a_cold_cache_is_passed_through_three_times_before_operands_return(shape):
    cache_bytes = 10 * work_of(shape).read_bytes
    kernel = TorchKernel(shape, device="cpu", cache_bytes=cache_bytes)
    kernel.load()
    assert kernel.launches_per_cycle % (10 * ROTATION) == 0
    assert kernel.facts.cold_cache is True
    assert kernel.facts.notes == ("30 sets of operands",)
    assert kernel.facts.cuda_graphs is False
    assert kernel.facts.implementation.startswith("torch_")
    kernel.run(1)
    kernel.close()
    with pytest.raises(WorkloadError, match="not loaded"):
        kernel.run(1)


def test_sets_of_operands_are_different_noise_and_the_same_seed_makes_the_same():
    shape = KernelShape(kind="gemm", m=2, n=3, k=4)
    kernels = [TorchKernel(shape, device="cpu", cache_bytes=200.0) for _ in range(2)]
    for kernel in kernels:
        kernel.load()
    first, second = kernels[0]._sets[:2]
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[0], kernels[1]._sets[0][0])


def test_an_embedding_is_looked_up_at_other_rows_of_one_table():
    kernel = TorchKernel(KernelShape(kind="embedding", m=4, n=8, k=1000), device="cpu", cache_bytes=1000.0)
    kernel.load()
    (first, table), (second, same) = kernel._sets[:2]
    assert table is same
    assert not torch.equal(first, second)


def refuses(*operands, **options):
    raise TypeError("other arguments")


@pytest.mark.parametrize(
    ("choose", "name"),
    [
        (lambda *operands, **options: 2, "torch_sdpa_efficient_attention"),
        (lambda *operands, **options: 77, "torch_sdpa_unknown"),
        (refuses, "torch_sdpa"),
        (None, "torch_sdpa"),
    ],
)
def test_the_name_of_an_attention_is_what_torch_says_or_none(monkeypatch, choose, name):
    monkeypatch.setattr(torch, "_fused_sdp_choice", choose)
    kernel = TorchKernel(SHAPES[1], device="cpu", cache_bytes=1.0)
    kernel.load()
    assert kernel.facts.implementation == name


def test_a_warm_cache_has_one_set_and_says_so():
    shape = KernelShape(kind="rms_norm", m=1, n=64, cold_cache=False)
    kernel = TorchKernel(shape, device="cpu", cache_bytes=1e6)
    kernel.load()
    assert len(kernel._sets) == 1
    assert kernel.facts.cold_cache is False
    assert kernel.facts.flags == ()


def test_operands_too_small_to_be_rotated_are_flagged(monkeypatch):
    monkeypatch.setattr("llmco2.measurement.kernels.torch_kernel.MAX_SETS", 5)
    kernel = TorchKernel(KernelShape(kind="rms_norm", m=1, n=64), device="cpu", cache_bytes=1e6)
    kernel.load()
    assert len(kernel._sets) == 5
    assert kernel.facts.cold_cache is False
    assert kernel.facts.flags == (WARM_CACHE,)


class FakeGraph:
    """A graph that counts what was captured into it and how often it was replayed."""

    captured = replayed = 0
    trouble = None

    def replay(self):
        type(self).replayed += 1


@contextmanager
def capture(graph, capture_error_mode):
    assert capture_error_mode == "thread_local"
    before = FakeGraph.launches[0]
    yield
    FakeGraph.captured = FakeGraph.launches[0] - before
    if FakeGraph.trouble is not None:
        raise FakeGraph.trouble


@pytest.fixture
def graphed(monkeypatch):
    """Return a kernel that takes the CPU for a GPU, with stand-ins for graphs; its launches are counted."""
    shape = KernelShape(kind="copy", m=4, n=8)
    kernel = TorchKernel(shape, device="cpu", cache_bytes=10 * work_of(shape).read_bytes)
    kernel._on_gpu = True
    launches = [0]

    def launch(operands):
        launches[0] += 1
        return operands[0]

    for name, value in {"captured": 0, "replayed": 0, "trouble": None, "launches": launches}.items():
        monkeypatch.setattr(FakeGraph, name, value, raising=False)
    kernel._recipe = replace(kernel._recipe, launch=launch)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return kernel


def test_a_cycle_is_captured_once_and_replayed_without_the_host(graphed):
    graphed.load()
    assert FakeGraph.captured == graphed.launches_per_cycle
    assert graphed.launches_per_cycle % 30 == 0
    assert graphed.facts.cuda_graphs is True
    assert graphed.facts.flags == ()
    before, replayed = FakeGraph.launches[0], FakeGraph.replayed
    graphed.run(7)
    assert FakeGraph.replayed - replayed == 7
    assert FakeGraph.launches[0] == before


def test_where_no_graph_can_be_captured_the_host_launches_each_and_the_row_says_so(graphed):
    FakeGraph.trouble = RuntimeError("operation not permitted when stream is capturing")
    graphed.load()
    assert graphed.facts.cuda_graphs is False
    assert graphed.facts.flags == (LAUNCHED_EAGERLY,)
    before = FakeGraph.launches[0]
    graphed.run(3)
    assert FakeGraph.launches[0] - before == 3 * graphed.launches_per_cycle


def test_running_out_of_memory_while_capturing_is_no_reason_to_go_on(graphed):
    FakeGraph.trouble = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(WorkloadError) as caught:
        graphed.load()
    assert caught.value.kind == "out_of_memory"
    graphed.close()
    assert graphed._sets == []


def test_operands_beyond_all_memory_are_out_of_memory():
    shape = KernelShape(kind="copy", m=2**31 - 1, n=2**19)  # 2 PB
    kernel = TorchKernel(shape, device="cpu")
    with pytest.raises(WorkloadError, match="allocate") as caught:
        kernel.load()
    assert caught.value.kind == "out_of_memory"
    kernel.close()


@pytest.mark.parametrize(("power_w", "precision"), [(250.0, "bf16"), (600.0, "fp32")])
def test_energy_of_a_launch_is_the_simulated_power_times_its_measured_time(make_rig, power_w, precision):
    """The kernel is real and takes its own time; the simulated board draws what it was told to."""
    rig = make_rig(SimulatedGpu(counter_period_s=0.005, sensor_period_s=0.005), virtual_time=False)
    plan = MeasurePlan(
        blocks=3, minimum_periods=50, minimum_window_s=0.2, warm_up_limit_s=0.5, temperature_span_s=0.1
    )
    kernel = TorchKernel(
        KernelShape(kind="gemm", precision=precision, m=16, n=64, k=64), device="cpu", cache_bytes=1e5
    )
    windows = []
    with ZeusMeter(clock=rig.clock) as meter:
        rig.set_power(0, power_w)
        kernel.load()
        label = measure_kernel(kernel, meter, plan, lambda stage, energy_j: windows.append(energy_j))
    # a busy machine sees ticks late
    assert label.energy_j == pytest.approx(power_w * label.latency_s, rel=0.05)
    # windows need not hold equally many launches, and on a busy machine not equally quick ones
    assert label.window_s == pytest.approx(sum(reading.duration_s for reading in label.readings))
    assert label.launches % kernel.launches_per_cycle == 0
    assert len(label.readings) == 3
    assert all(reading.duration_s >= 0.2 and reading.simulated for reading in label.readings)
    assert sum(windows) == pytest.approx(sum(reading.energy_j for reading in label.readings))
