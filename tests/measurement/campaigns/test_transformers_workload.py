"""The in-process workload runs exactly the passes that were asked for, on real models with random weights."""

import pytest

from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import WorkloadError

KINDS = ["llama", "qwen2-gqa", "mixtral-moe", "mistral-sliding"]

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="needs the extra: pip install 'llmco2[measure]'")

from llmco2.measurement.workloads.transformers_workload import TransformersWorkload  # noqa: E402

PROMPT, OUTPUT, BATCH = 12, 7, 3


class StillClock:
    def now_s(self):
        return 0.0

    def sleep(self, seconds):
        raise AssertionError("a workload never waits")


def loaded(tiny_model, kind="llama", **changes):
    settings = {"precision": "fp32", "batch_size": BATCH, "prompt_tokens": PROMPT, "output_tokens": OUTPUT}
    configuration = RunConfiguration(model=kind, model_path=str(tiny_model(kind)), **(settings | changes))
    workload = TransformersWorkload(configuration, clock=StillClock(), device="cpu")
    workload.load()
    passes = []

    def record(module, args, kwargs, output):
        tokens = args[0] if args else kwargs["input_ids"]
        cache = output.past_key_values
        passes.append((tuple(tokens.shape), int(cache.get_seq_length()), output.logits.shape[1]))

    workload._model.register_forward_hook(record, with_kwargs=True)
    return workload, passes


PREFILL_PASS = (
    (BATCH, PROMPT),
    PROMPT,
    1,
)  # one pass, the cache holds the prompt, logits of its last token only
DECODE_PASSES = [((BATCH, 1), PROMPT + step, 1) for step in range(1, OUTPUT)]


@pytest.mark.parametrize("static_cache", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_phase_makes_exactly_its_passes(tiny_model, kind, static_cache):
    workload, passes = loaded(tiny_model, kind, static_cache=static_cache)
    workload.prefill(2)
    assert passes == [PREFILL_PASS] * 2
    passes.clear()
    workload.decode(3)  # every repeat starts again at the end of the prompt
    assert passes == DECODE_PASSES * 3
    passes.clear()
    workload.whole(2)
    assert passes == [PREFILL_PASS, *DECODE_PASSES] * 2
    passes.clear()
    workload.prefill(1)
    workload.decode(1)
    assert passes == [PREFILL_PASS, *DECODE_PASSES]
    workload.close()


@pytest.mark.parametrize("static_cache", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_repeated_decode_makes_the_same_tokens_as_the_first(tiny_model, kind, static_cache):
    """A cache that was not taken back properly would attend to other keys and drift."""
    workload, _ = loaded(tiny_model, kind, static_cache=static_cache)
    seen = []
    workload._model.register_forward_hook(
        lambda module, args, output: seen.append(output.logits[:, -1].clone())
    )
    workload.prefill(1)
    workload.decode(1)
    first = torch.stack(seen[1:])
    workload.decode(2)
    again = torch.stack(seen[1 + len(first) :])
    torch.testing.assert_close(again[: len(first)], first)
    torch.testing.assert_close(again[len(first) :], first)
    seen.clear()
    workload.whole(1)
    torch.testing.assert_close(torch.stack(seen[1:]), first)


def test_an_end_of_sequence_token_stops_nothing(tiny_model):
    workload, passes = loaded(tiny_model)

    class OnlyTheEnd(torch.nn.Module):
        def forward(self, hidden):
            end = torch.tensor([workload._model.config.eos_token_id]).expand(hidden.shape[:-1])
            return torch.nn.functional.one_hot(end, workload._model.config.vocab_size).float()

    workload._model.lm_head = OnlyTheEnd()
    workload.whole(1)
    assert workload._first_token.unique().tolist() == [workload._model.config.eos_token_id]
    assert passes == [PREFILL_PASS, *DECODE_PASSES]


def test_one_output_token_is_prefill_alone(tiny_model):
    workload, passes = loaded(tiny_model, output_tokens=1)
    workload.whole(2)
    assert passes == [PREFILL_PASS] * 2


def test_random_weights_are_normal_noise_and_reproducible(tiny_model):
    first, _ = loaded(tiny_model, "mixtral-moe")
    second, _ = loaded(tiny_model, "mixtral-moe")
    other, _ = loaded(tiny_model, "mixtral-moe", seed=1)
    for (name, parameter), same, different in zip(
        first._model.named_parameters(), second._model.parameters(), other._model.parameters(), strict=True
    ):
        assert torch.equal(parameter, same), name
        if parameter.dim() >= 2:
            assert 0.015 < parameter.std().item() < 0.025, name
            assert not torch.equal(parameter, different), name


def test_facts_name_engine_and_attention(tiny_model):
    for attention in ("eager", "sdpa"):
        workload, _ = loaded(tiny_model, attention=attention)
        assert workload.facts.attention_backend == attention
        assert workload.facts.cuda_graphs is False
        assert (
            "transformers 5" in workload.facts.engine_version
            or "transformers 4" in workload.facts.engine_version
        )
        assert "torch" in workload.facts.engine_version


def test_copying_a_cache_inside_the_window_is_flagged(tiny_model):
    sliding, _ = loaded(tiny_model, "mistral-sliding", static_cache=True)
    sliding.prefill(1)
    assert sliding.facts.flags == ("cache_copied",)
    for changes in ({"static_cache": True}, {"static_cache": False}):
        full, _ = loaded(tiny_model, "llama", **changes)
        full.prefill(1)
        assert full.facts.flags == ()


def test_batch_1_steps_are_timed_one_by_one(tiny_model):
    workload, passes = loaded(tiny_model)
    ticks = iter(range(1000))
    workload._clock = type("Clock", (), {"now_s": lambda self: float(next(ticks))})()
    assert workload.step_time_batch1_s() == 1.0
    assert passes[0][0] == (1, PROMPT)
    assert {shape for shape, _, _ in passes[1:]} == {(1, 1)}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"model_path": "no/such/folder"}, "no_config"),
        ({"attention": "flash_attention_2"}, "unsupported"),
        ({"precision": "nf4"}, "missing_package"),
        ({"precision": "int8"}, "missing_package"),
        ({"weights": "checkpoint"}, "unsupported"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_with_its_kind(tiny_model, changes, kind):
    if kind == "missing_package":
        try:
            import bitsandbytes  # noqa: F401, PLC0415
        except ImportError:
            pass
        else:
            pytest.skip("bitsandbytes is installed, so there is nothing to refuse")
    path = str(tiny_model("llama").parent)
    configuration = RunConfiguration(**({"model": "llama", "model_path": path} | changes))
    with pytest.raises(WorkloadError) as caught:
        TransformersWorkload(configuration, clock=StillClock(), device="cpu").load()
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


def test_out_of_memory_is_told_apart(tiny_model, monkeypatch):
    workload, _ = loaded(tiny_model)

    def explode(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore text")

    workload._model.forward = explode
    with pytest.raises(WorkloadError, match="Tried to allocate") as caught:
        workload.prefill(1)
    assert caught.value.kind == "out_of_memory"
    workload.close()
    workload.close()
