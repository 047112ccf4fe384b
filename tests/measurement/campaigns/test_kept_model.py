"""One model after another is built once for all configurations that run it, and nothing else outlives them."""

import gc
import json
import sys
import weakref
from dataclasses import replace

import pytest

from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.torch_errors import translated
from llmco2.measurement.workloads.workload import WorkloadError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="needs the extra: pip install 'llmco2[measure]'")

from llmco2.measurement.workloads import kept_model  # noqa: E402
from llmco2.measurement.workloads.kept_model import KeptModel  # noqa: E402
from llmco2.measurement.workloads.transformers_workload import TransformersWorkload  # noqa: E402

CPU = torch.device("cpu")
FALCON = {
    "model_type": "falcon",
    "architectures": ["FalconForCausalLM"],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 97,
}


class StillClock:
    def now_s(self):
        return 0.0


@pytest.fixture
def configuration(tiny_model):
    path = str(tiny_model("llama"))
    return RunConfiguration(
        model="llama", model_path=path, precision="fp32", prompt_tokens=8, output_tokens=4
    )


@pytest.fixture
def built(monkeypatch):
    """Return the list of configurations for which a model was built."""
    configurations, usual = [], kept_model.load_model

    def load_model(configuration, found, device):
        configurations.append(configuration)
        return usual(configuration, found, device)

    monkeypatch.setattr(kept_model, "load_model", load_model)
    return configurations


def workload_of(configuration, models):
    workload = TransformersWorkload(configuration, clock=StillClock(), device="cpu", models=models)
    workload.load()
    return workload


def test_a_model_is_built_once_for_all_sizes_caches_and_attentions(configuration, built):
    models = KeptModel()
    backends = []
    for changes in (
        {},
        {"batch_size": 3, "prompt_tokens": 5, "output_tokens": 2},
        {"static_cache": True},
        {"attention": "eager"},
        {"attention": "sdpa"},
    ):
        workload = workload_of(replace(configuration, **changes), models)
        backends.append(workload.facts.attention_backend)
        workload.prefill(2)
        workload.decode(2)
        workload.whole(1)
        workload.close()
    assert len(built) == 1
    assert backends == ["sdpa", "sdpa", "sdpa", "eager", "sdpa"]


def test_an_attention_that_was_switched_runs_as_if_built_with_it(configuration):
    models = KeptModel()
    prompt = torch.arange(8)[None]
    _, switched = models.get(configuration, CPU)
    sdpa = switched(prompt).logits
    _, switched = models.get(replace(configuration, attention="eager"), CPU)
    _, fresh = KeptModel().get(replace(configuration, attention="eager"), CPU)
    assert switched.config._attn_implementation == "eager"
    assert torch.equal(switched(prompt).logits, fresh(prompt).logits)
    assert torch.allclose(switched(prompt).logits, sdpa, atol=1e-5)


@pytest.mark.usefixtures("quiet_transformers")
def test_a_class_that_fixes_its_attention_when_built_is_built_again(tmp_path, built):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FALCON))
    models = KeptModel()
    for attention in ("sdpa", "eager"):
        asked = RunConfiguration(model="falcon", model_path=str(path), precision="fp32", attention=attention)
        _, model = models.get(asked, CPU)
        assert model.config._attn_implementation == attention
    assert len(built) == 2


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, {"seed": 1}, {"model": "other"}, {"weights": "checkpoint"}]
)
def test_other_weights_are_other_models_and_the_old_one_goes_first(configuration, monkeypatch, changes):
    models = KeptModel()
    _, model = models.get(configuration, CPU)
    old = weakref.ref(model)
    del model
    alive = []
    monkeypatch.setattr(kept_model, "load_model", lambda *_: alive.append(old() is not None) or "new")
    assert models.get(replace(configuration, **changes), CPU)[1] == "new"
    assert alive == [False]


def test_a_model_of_ones_own_goes_with_its_workload_and_a_kept_one_with_its_keeper(configuration):
    models = KeptModel()
    for keeper, outlives in ((None, False), (models, True)):
        workload = workload_of(configuration, keeper)
        model = weakref.ref(workload._model)
        prompt = weakref.ref(workload._prompt)
        workload.whole(1)
        workload.close()
        workload.close()
        gc.collect()
        assert (model() is not None) is outlives
        assert prompt() is None
    models.drop()
    assert model() is None


def test_a_build_that_fails_keeps_nothing(configuration, monkeypatch):
    models = KeptModel()
    usual = kept_model.load_model

    def fail(*_):
        raise WorkloadError("out_of_memory", "no room")

    monkeypatch.setattr(kept_model, "load_model", fail)
    with pytest.raises(WorkloadError):
        models.get(configuration, CPU)
    monkeypatch.setattr(kept_model, "load_model", usual)
    assert models.get(configuration, CPU)[1].config.hidden_size == 32


def test_a_new_prompt_does_not_wait_for_room_that_the_last_one_still_takes(configuration):
    """Two caches at once would not fit where one was measured to."""
    workload = workload_of(configuration, None)
    workload.prefill(1)
    last = weakref.ref(workload._cache.layers[0].keys)
    alive = []
    handle = workload._model.register_forward_pre_hook(lambda *_: alive.append(last() is not None))
    workload.prefill(1)
    handle.remove()
    assert alive == [False]
    workload.close()


def test_what_failed_lets_go_of_its_tensors_while_its_error_lives():
    class Activation:
        pass

    seen = []

    def layer():
        held = Activation()
        seen.append(weakref.ref(held))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def run():
        with translated("a run"):
            layer()

    with pytest.raises(WorkloadError) as caught:
        run()
    assert caught.value.kind == "out_of_memory"
    assert caught.value.__cause__ is not None
    assert seen[0]() is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA error: an illegal memory access was encountered", "gpu_error"),
        ("CUDA error: unspecified launch failure", "gpu_error"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "out_of_memory"),
        ("CUDA error: out of memory", "out_of_memory"),
        ("CUDA error: invalid configuration argument", "engine_error"),
        ("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`", "engine_error"),
        ("mat1 and mat2 shapes cannot be multiplied", "engine_error"),
    ],
)
def test_a_launch_that_cuda_refuses_is_no_broken_machine(text, kind):
    with pytest.raises(WorkloadError) as caught, translated("a run"):
        raise RuntimeError(text)
    assert caught.value.kind == kind


def test_letting_go_of_nothing_needs_no_torch(monkeypatch):
    """A campaign of servers runs where torch is not installed."""
    monkeypatch.setitem(sys.modules, "torch", None)
    KeptModel().drop()


def test_memory_goes_back_to_the_gpu_once_the_model_is_gone(configuration, monkeypatch):
    order = []
    models = KeptModel()
    _, model = models.get(configuration, CPU)
    weakref.finalize(model, order.append, "model")
    del model
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: order.append("cache"))
    models.drop()
    assert order == ["model", "cache"]
