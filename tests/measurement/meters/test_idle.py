import sys
from types import SimpleNamespace

import pytest

from llmco2.measurement.meters.idle import cuda_context, cuda_initialised, measure_idle
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedGpu


def no_context() -> bool:
    return False


def test_bare_and_context_power_are_measured_apart(make_rig):
    rig = make_rig(SimulatedGpu(idle_power_w=60.0), SimulatedGpu(idle_power_w=75.0))

    def load(index: int) -> str | None:
        rig.set_power(index, 110.0 + index)

    with ZeusMeter(clock=rig.clock) as meter:
        first, second = measure_idle(meter, make_context=load, context_exists=no_context)
    assert first.bare_w == pytest.approx(60.0, rel=0.005)
    assert first.context_w == pytest.approx(110.0, rel=0.005)
    assert second.bare_w == pytest.approx(75.0, rel=0.005)
    assert second.context_w == pytest.approx(111.0, rel=0.005)
    assert first.missing == ()
    assert first.simulated


def test_without_cuda_only_bare_power_is_claimed(rig):
    with ZeusMeter(clock=rig.clock) as meter:
        (idle,) = measure_idle(
            meter, make_context=lambda _: "torch has no CUDA here", context_exists=no_context
        )
    assert idle.bare_w == pytest.approx(70.0, rel=0.005)
    assert idle.context_w is None
    assert [(entry.field, entry.reason) for entry in idle.missing] == [
        ("context_w", "torch has no CUDA here")
    ]


def test_a_context_that_was_there_already_leaves_no_bare_power(rig):
    with ZeusMeter(clock=rig.clock) as meter:
        (idle,) = measure_idle(meter, make_context=lambda _: None, context_exists=lambda: True)
    assert idle.bare_w is None
    assert idle.missing[0].reason == "a CUDA context was loaded already"
    assert idle.context_w == pytest.approx(70.0, rel=0.005)


def test_one_gpu_without_a_context_does_not_spoil_the_other(make_rig):
    rig = make_rig(SimulatedGpu(), SimulatedGpu())
    reasons = {0: None, 1: "torch sees only 1 GPUs"}
    with ZeusMeter(clock=rig.clock) as meter:
        first, second = measure_idle(meter, make_context=reasons.get, context_exists=no_context)
    assert first.context_w == pytest.approx(70.0, rel=0.005)
    assert second.context_w is None
    assert second.missing[0].reason == "torch sees only 1 GPUs"


def test_a_busy_gpu_is_not_called_idle(make_rig):
    rig = make_rig(SimulatedGpu(utilization_percent=80))
    with ZeusMeter(clock=rig.clock) as meter:
        (idle,) = measure_idle(meter, make_context=lambda _: "none", context_exists=no_context)
    assert idle.bare_w is None
    assert idle.missing[0].reason == "the GPU was 80 % busy: not idle"


def test_torch_is_not_imported_to_learn_that_it_has_no_context(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert not cuda_initialised()
    assert "torch" not in sys.modules
    monkeypatch.setitem(
        sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    )
    assert cuda_initialised()


def fake_torch(*, available: bool, n_gpus: int, made: list[str]) -> SimpleNamespace:
    cuda = SimpleNamespace(
        is_available=lambda: available, device_count=lambda: n_gpus, synchronize=lambda index: None
    )
    return SimpleNamespace(cuda=cuda, zeros=lambda n, device: made.append(device))


def test_a_context_is_made_only_where_torch_has_the_gpu(monkeypatch):
    made: list[str] = []
    monkeypatch.setitem(sys.modules, "torch", fake_torch(available=False, n_gpus=0, made=made))
    assert cuda_context(0) == "torch has no CUDA here"
    monkeypatch.setitem(sys.modules, "torch", fake_torch(available=True, n_gpus=1, made=made))
    assert cuda_context(1) == "torch sees only 1 GPUs"
    assert made == []
    assert cuda_context(0) is None
    assert made == ["cuda:0"]
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    assert cuda_context(0) == "torch is not installed"
