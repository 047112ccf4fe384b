"""Tiny models, and a meter whose joules follow from a formula."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from llmco2.errors import MeasurementError
from llmco2.measurement.meter import Device, GpuEnergy, MeterWarning, Sample, WindowReading

_spec = importlib.util.spec_from_file_location("fake_server", Path(__file__).with_name("fake_server.py"))
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)  # tests are no package, so a sibling is not importable by name
FakeServer = _module.FakeServer

_BASE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 97,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
CONFIGS = {
    "llama": _BASE | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "qwen2-gqa": _BASE
    | {"model_type": "qwen2", "num_key_value_heads": 2, "architectures": ["Qwen2ForCausalLM"]},
    "mixtral-moe": _BASE | _EXPERTS | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]},
    "mistral-sliding": _BASE
    | {"model_type": "mistral", "sliding_window": 8, "architectures": ["MistralForCausalLM"]},
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Return a function that writes the config of a tiny model of one kind and returns its file."""
    root = tmp_path_factory.mktemp("models")

    def write(kind):
        path = root / kind / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(CONFIGS[kind]))
        return path

    return write


class ManualClock:
    """Time that moves only when it is told to."""

    def __init__(self):
        self.t_s = 0.0

    def now_s(self):
        return self.t_s

    def sleep(self, seconds):
        self.t_s += seconds


class FormulaMeter:
    """A meter over a manual clock: joules are what the workload says it spent; faults on request."""

    def __init__(self, *, counter_period_s=0.02, devices=1, name="NVIDIA H100 80GB HBM3", shared=False):
        self.clock = ManualClock()
        self.spent_j = 0.0
        self.temperature_c = 50.0
        self.counter_period_s = counter_period_s
        self.warnings = ()
        self.method = "counter_slope"
        self.no_reading = None
        self.lost = False
        self.simulated = True
        self.windows = []
        self.closed = False
        self._open = {}
        self._name, self._shared, self._n = name, shared, devices

    def spend(self, energy_j, time_s):
        self.spent_j += energy_j
        self.clock.t_s += time_s

    def devices(self):
        return tuple(
            Device(
                index=index,
                nvml_index=index,
                uuid=f"GPU-{index}",
                name=self._name,
                mig=False,
                total_memory_bytes=80 * 2**30,
                power_limit_w=700.0,
                has_energy_counter=True,
                counter_period_s=self.counter_period_s,
                driver_version="570.1",
                shared=self._shared,
                simulated=True,
            )
            for index in range(self._n)
        )

    def begin_window(self, name):
        self._check()
        assert name not in self._open
        self._open[name] = (self.clock.t_s, self.spent_j)

    def end_window(self, name):
        self._check()
        start_s, start_j = self._open.pop(name)
        energy_j = None if self.no_reading else self.spent_j - start_j
        gpus = tuple(
            GpuEnergy(
                gpu_index=index,
                energy_j=None if energy_j is None else energy_j / self._n,
                method=None if energy_j is None else self.method,
                reason=self.no_reading,
                counter_period_s=self.counter_period_s,
                n_ticks=math.floor((self.clock.t_s - start_s) / (self.counter_period_s or math.inf)),
                integrated_energy_j=None if energy_j is None else 1.01 * energy_j / self._n,
                sm_clock_mhz=1980.0 - index,
                memory_clock_mhz=2619.0,
                temperature_c=self.temperature_c + index,
                utilization_percent=99.0,
                throttle_reasons=(),
                power_limit_w=700.0,
            )
            for index in range(self._n)
        )
        reading = WindowReading(
            name=name,
            start_s=start_s,
            duration_s=self.clock.t_s - start_s,
            gpus=gpus,
            cpu_energy_j=None if energy_j is None else 0.1 * energy_j,
            warnings=self.warnings,
            simulated=True,
        )
        self.windows.append(reading)
        return reading

    def cancel_window(self, name):
        self._open.pop(name, None)

    def sample(self):
        self._check()
        return (Sample(t_s=self.clock.t_s, gpu_index=0, temperature_c=self.temperature_c),)

    def close(self):
        self.closed = True

    def warn(self, code):
        self.warnings = (MeterWarning(code=code, text=code),)

    def _check(self):
        if self.lost:
            raise MeasurementError("GPU 0 is lost: got NVML error 15; reboot the machine")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


@pytest.fixture
def formula_meter():
    """Return the meter class, to be made with the faults that a test wants."""
    return FormulaMeter


@pytest.fixture
def fake_server():
    """Return a function that starts fake servers, which end with the test."""
    started = []

    def start(**options):
        started.append(FakeServer(**options))
        return started[-1]

    yield start
    for server in started:
        server.close()


def _write_checkpoint(folder, words=400):
    """Write a tiny Llama with random weights and a tokenizer whose every token is one word."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"word{i}": i for i in range(3, words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    fast.save_pretrained(folder)
    config = LlamaConfig(
        hidden_size=256,  # heads of 64: a server's CPU kernels know no narrower ones
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=words,
        max_position_embeddings=512,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def write_checkpoint():
    """Return the function that writes a tiny checkpoint with a word-level tokenizer into a folder."""
    return _write_checkpoint
