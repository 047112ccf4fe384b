"""A cache taken back to the end of its prompt decodes the same numbers again, bit for bit, whatever it holds."""

from __future__ import annotations

import json

import pytest

from llmco2.measurement.workloads.configuration import RunConfiguration

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'llmco2[measure]'")

from llmco2.measurement.workloads.cache_state import CacheState, empty  # noqa: E402
from llmco2.measurement.workloads.transformers_workload import TransformersWorkload  # noqa: E402

PROMPT, STEPS, BATCH, VOCABULARY = 12, 6, 2, 97
pytestmark = pytest.mark.usefixtures("quiet_transformers")
_BASE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
}
_STATES = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": VOCABULARY, "state_size": 4}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_DELTA = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
RECURRENT = {  # every kind of cache with states that a step overwrites
    "mamba": _STATES | {"conv_kernel": 4, "expand": 2, "time_step_rank": 2},
    "mamba2": _STATES | {"num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
    "nemotron_h": _BASE
    | {"mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2, "ssm_state_size": 4}
    | {"hybrid_override_pattern": "M-M*"},
    "qwen3_next": _BASE
    | _DELTA
    | _EXPERTS
    | {"layer_types": ["linear_attention", "full_attention"] * 2}
    | {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "jamba": _BASE
    | _EXPERTS
    | {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 2},
    "falcon_h1": _BASE
    | {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_chunk_size": 8},
    "lfm2": _BASE | {"layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3},
}
ATTENTION_ALONE = {
    "llama": _BASE,
    "gemma3_text": _BASE | {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2},
}


@pytest.fixture
def loaded(tmp_path):
    """Return a function that loads a tiny model of one type and records the logits of its passes."""

    def load(model_type, *, static_cache):
        path = tmp_path / "config.json"
        path.write_text(json.dumps((RECURRENT | ATTENTION_ALONE)[model_type] | {"model_type": model_type}))
        configuration = RunConfiguration(
            model=model_type,
            model_path=str(path),
            precision="fp32",
            batch_size=BATCH,
            prompt_tokens=PROMPT,
            output_tokens=STEPS + 1,
            static_cache=static_cache,
        )
        workload = TransformersWorkload(configuration, clock=None, device="cpu")
        workload.load()
        logits = []
        workload._model.register_forward_hook(
            lambda module, args, output: logits.append(output.logits[:, -1].clone())
        )
        return workload, logits

    return load


@pytest.mark.parametrize("static_cache", [False, True])
@pytest.mark.parametrize("model_type", RECURRENT)
def test_decodes_from_one_prefill_are_equal_bit_for_bit(loaded, model_type, static_cache):
    workload, logits = loaded(model_type, static_cache=static_cache)
    workload.prefill(1)
    workload.decode(3)
    prompt, first, *others = torch.stack(logits[:1]), *torch.stack(logits[1:]).split(STEPS)
    assert len(others) == 2
    assert all(torch.equal(first, other) for other in others)
    assert not torch.equal(first[0], first[1])
    logits.clear()
    workload.whole(2)  # a prompt behind another one leaves nothing of it either
    assert torch.equal(torch.stack(logits), torch.cat([prompt, first, prompt, first]))


@pytest.mark.parametrize("static_cache", [False, True])
@pytest.mark.parametrize("model_type", RECURRENT)
def test_copied_states_are_said_so_and_stay_where_they_were(loaded, model_type, static_cache):
    """A captured graph reads states at the addresses that it was captured with."""
    workload, _ = loaded(model_type, static_cache=static_cache)
    workload.prefill(1)
    assert "cache_copied" in workload.facts.flags
    before = {key: (state.data_ptr(), state.clone()) for key, state in states(workload._cache).items()}
    assert before
    workload.decode(1)
    after = states(workload._cache)
    assert any(not torch.equal(after[key], content) for key, (_, content) in before.items())
    with torch.inference_mode():
        workload._state.restore()
    for key, state in states(workload._cache).items():
        assert state.data_ptr() == before[key][0]
        assert torch.equal(state, before[key][1])


@pytest.mark.parametrize("model_type", ATTENTION_ALONE)
def test_keys_that_grow_are_never_copied(loaded, model_type):
    workload, logits = loaded(model_type, static_cache=False)
    workload.prefill(1)
    assert workload.facts.flags == ()
    workload.decode(2)
    first, again = torch.stack(logits[1:]).split(STEPS)
    assert torch.equal(first, again)


def test_a_layer_of_an_unknown_kind_is_copied_whole():
    """Whether it writes into its tensors or puts new ones in their place, it comes back as it was."""

    class Stranger:
        def __init__(self):
            self.written = torch.zeros(3)
            self.replaced = torch.ones(2)
            self.states = {0: torch.full((2,), 5.0), 1: None}
            self.started = {0: True, 1: False}
            self.steps = 4

    layer = Stranger()
    state = CacheState(type("Cache", (), {"layers": [layer]}))
    assert state.copies
    for _ in range(2):
        layer.written += 1
        layer.replaced = torch.cat([layer.replaced, torch.zeros(1)])
        layer.states[0].mul_(2)
        layer.states[1] = torch.zeros(1)
        layer.started[1] = True
        layer.steps += 1
        state.restore()
        assert layer.written.tolist() == [0, 0, 0]
        assert layer.replaced.tolist() == [1, 1]
        assert layer.states[0].tolist() == [5, 5]
        assert (layer.states[1], layer.started, layer.steps) == (None, {0: True, 1: False}, 4)


def test_emptying_leaves_the_tensors_of_static_layers_alone(loaded):
    """Zeroing a cache of many gigabytes would be part of every measured prompt."""
    workload, _ = loaded("nemotron_h", static_cache=True)
    workload.prefill(1)
    cache = workload._cache
    (attention,) = (layer for layer in cache.layers if type(layer).__name__ == "StaticLayer")
    keys = attention.keys.clone()
    with torch.inference_mode():
        empty(cache)
    assert torch.equal(attention.keys, keys)
    assert attention.get_seq_length() == 0
    assert all(not state.any() for state in states(cache).values())


def states(cache):
    """Return the convolution and recurrent states of a cache by layer, name and number."""
    return {
        (layer_number, name, number): state
        for layer_number, layer in enumerate(cache.layers)
        for name in ("conv_states", "recurrent_states")
        for number, state in getattr(layer, name, {}).items()
        if state is not None
    }
