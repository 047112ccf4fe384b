"""A model that runs without its fast kernels is told from one that has them, and its rows say so."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import FunctionType, ModuleType

import pytest

from llmco2.measurement.campaigns.data_card import write_card
from llmco2.measurement.campaigns.run_log import read_runs
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.reference_kernels import missing_kernels
from llmco2.measurement.workloads.workload import WorkloadFacts
from tests.measurement.campaigns.conftest import TokenWorkload, batches, campaign_of, run

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'llmco2[measure]'")

from llmco2.measurement.workloads.transformers_workload import TransformersWorkload  # noqa: E402

pytestmark = pytest.mark.usefixtures("quiet_transformers")
MAMBA = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 97, "state_size": 4, "time_step_rank": 2}
HYBRID = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "layer_types": ["conv", "full_attention"],
}


def built(model_type, **keys):
    config = transformers.AutoConfig.for_model(model_type, **keys)
    return transformers.AutoModelForCausalLM.from_config(config)


def cell(function, name):
    return function.__closure__[function.__code__.co_freevars.index(name)]


@pytest.fixture
def installed():
    """Return a function that says whether the kernels of a package are there, as transformers found them."""
    changed = []

    def say(module, package, present):
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, FunctionType) and "is_new_implementation" in value.__code__.co_freevars
        ]
        if not found:
            pytest.skip("this release of transformers chooses kernels in another way")
        for function in found:
            if cell(function, "package").cell_contents == package:
                flag = cell(function, "is_new_implementation")
                changed.append((flag, flag.cell_contents))
                flag.cell_contents = present

    yield say
    for flag, value in reversed(changed):
        flag.cell_contents = value


def test_only_packages_that_are_missing_are_named(installed):
    model = built("mamba", **MAMBA)
    module = sys.modules[type(model).__module__]
    expected = {
        (False, False): ("causal_conv1d", "mamba_ssm"),
        (True, False): ("mamba_ssm",),
        (False, True): ("causal_conv1d",),
        (True, True): (),
    }
    for (conv, scan), names in expected.items():
        installed(module, "causal_conv1d", conv)
        installed(module, "mamba_ssm", scan)
        assert missing_kernels(model) == names


def test_a_model_without_such_layers_misses_nothing(installed):
    hybrid = built("lfm2", **HYBRID)
    module = sys.modules[type(hybrid).__module__]
    installed(module, "causal_conv1d", False)
    assert missing_kernels(hybrid) == ("causal_conv1d",)
    attention_alone = built("lfm2", **HYBRID | {"layer_types": ["full_attention"] * 2})
    assert sys.modules[type(attention_alone).__module__] is module
    assert missing_kernels(attention_alone) == ()


@pytest.mark.parametrize(("available", "missing"), [(False, ("the packages of its fast path",)), (True, ())])
def test_the_single_switch_of_older_releases_is_read_too(monkeypatch, available, missing):
    module = ModuleType("modeling_of_old")
    module.is_fast_path_available = available
    source = (
        "import torch\n"
        "class Mixer(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x if is_fast_path_available else -x\n"
        "class Other(torch.nn.Module):\n"
        "    pass\n"
    )
    exec(source, vars(module))  # noqa: S102 - a modeling file of three lines
    monkeypatch.setitem(sys.modules, "modeling_of_old", module)
    assert missing_kernels(torch.nn.Sequential(module.Mixer())) == missing
    assert missing_kernels(torch.nn.Sequential(module.Other())) == ()


def test_the_row_says_so_and_names_the_packages(tmp_path, installed):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MAMBA | {"model_type": "mamba"}))
    configuration = RunConfiguration(
        model="mamba", model_path=str(path), precision="fp32", prompt_tokens=4, output_tokens=3
    )
    module = sys.modules[type(built("mamba", **MAMBA)).__module__]
    for present in (False, True):
        installed(module, "causal_conv1d", True)
        installed(module, "mamba_ssm", present)
        workload = TransformersWorkload(configuration, clock=None, device="cpu")
        workload.load()
        assert ("reference_kernels" in workload.facts.flags) is not present
        note = "reference code of transformers in place of kernels of mamba_ssm: time and energy are the fallback's"
        assert (note in workload.facts.notes) is not present


def test_the_card_warns_of_such_rows_and_of_no_others(path, machine, monkeypatch):
    run(path, campaign_of(*batches(1, 2)), machine)
    assert "Reference code" not in write_card(path, read_runs(path)).read_text()
    monkeypatch.setattr(
        TokenWorkload,
        "load",
        lambda self: setattr(self, "facts", WorkloadFacts(flags=("cache_copied", "reference_kernels"))),
    )
    run(path, campaign_of(replace(batches(4)[0], model="slow")), machine)
    text = write_card(path, read_runs(path)).read_text()
    assert "**Reference code.** 1 rows (slow) were measured" in text
    assert "reference_kernels (1)" in text
