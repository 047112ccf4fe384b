"""What a class states of its attention is what loading it makes of it, and is told without building a model."""

from __future__ import annotations

import json

import pytest

from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import WorkloadError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'llmco2[measure]'")

from llmco2.measurement.workloads import attention_support, model_loading  # noqa: E402
from llmco2.measurement.workloads.attention_support import supported_attention  # noqa: E402

pytestmark = pytest.mark.usefixtures("quiet_transformers")
_BASE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 97,
}
CONFIGS = {
    "llama": _BASE,
    "gemma2": _BASE,
    "gemma3_text": _BASE,
    "bloom": {"hidden_size": 32, "n_layer": 1, "n_head": 4, "vocab_size": 97},
    "falcon": {key: value for key, value in _BASE.items() if key != "head_dim"},
    "gpt_neox": _BASE,
    "nemotron_h": _BASE | {"mamba_num_heads": 8, "mamba_head_dim": 8, "hybrid_override_pattern": "M*"},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 97, "state_size": 4},
}


@pytest.fixture
def configuration(tmp_path):
    """Return a function that makes the configuration of a tiny model of one type."""

    def make(model_type, **changes):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(CONFIGS[model_type] | {"model_type": model_type}))
        return RunConfiguration(model=model_type, model_path=str(path), precision="fp32", **changes)

    return make


def loads(configuration):
    found = model_loading.load_config(configuration)
    try:
        model_loading.load_model(configuration, found, torch.device("cpu"))
    except WorkloadError as error:
        return error.kind != "unsupported"
    return True


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
@pytest.mark.parametrize("model_type", [name for name in CONFIGS if name != "mamba"])
def test_what_is_stated_is_what_loads(configuration, model_type, attention):
    asked = configuration(model_type, attention=attention)
    assert (attention in supported_attention(asked)) == loads(asked)


def test_models_that_the_phases_campaign_must_not_ask_for_sdpa(configuration):
    refused = {name for name in CONFIGS if "sdpa" not in supported_attention(configuration(name))}
    # Gemma 2 states sdpa in some releases and not in others
    assert refused - {"gemma2"} == {"bloom", "mamba"}
    assert supported_attention(configuration("mamba")) == ()
    assert "flash_attention_2" in supported_attention(configuration("gemma2"))


def test_nothing_is_built_and_no_gpu_is_touched(configuration, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a model was built")

    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)
    assert "sdpa" in supported_attention(configuration("llama"))
    assert not torch.cuda.is_initialized()


def test_what_is_not_known_is_left_to_loading(configuration, monkeypatch):
    server = RunConfiguration(model="m", workload="server", server_url="http://127.0.0.1:1")
    assert supported_attention(server) is None
    assert supported_attention(RunConfiguration(model="nowhere/unknown")) is None
    asked = configuration("llama")

    def broken(configuration):
        raise TypeError("a bug in\na config class")

    monkeypatch.setattr(attention_support, "load_config", broken)
    assert supported_attention(asked) is None
