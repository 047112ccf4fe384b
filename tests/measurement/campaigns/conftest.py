"""Tiny models, a meter whose joules follow from a formula, and campaigns on a machine of such meters."""

import importlib.util
import json
import logging
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmco2.errors import InputError, MeasurementError
from llmco2.measurement.campaigns.campaign import Tools, run_campaign
from llmco2.measurement.campaigns.campaign_file import Campaign
from llmco2.measurement.campaigns.plan import MeasurePlan
from llmco2.measurement.campaigns.run_log import RunLog
from llmco2.measurement.meters.meter import Device, GpuEnergy, MeterWarning, Sample, WindowReading
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import WorkloadFacts

_spec = importlib.util.spec_from_file_location("fake_server", Path(__file__).with_name("fake_server.py"))
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)  # tests are no package, so a sibling is not importable by name
FakeServer = _module.FakeServer

TOKEN_J, TOKEN_S = 0.01, 0.0005
STEP_J, STEP_S = 2.0, 0.02
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

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


@pytest.fixture
def quiet_transformers():
    """Keep transformers from advising on kernels that only a GPU has."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


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
        self.integrated_share = 1.01
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

    def look_again(self):
        return self.devices()

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
                integrated_energy_j=None if energy_j is None else self.integrated_share * energy_j / self._n,
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


class TokenWorkload:
    """Costs a fixed energy per prompt token and per decode step; fails as its configuration's seed says."""

    decodes_alone = True

    def __init__(self, configuration, meter, faults, loads):
        self.c, self.meter, self.fault = configuration, meter, faults.get(configuration.batch_size)
        loads.append(configuration)
        self.loads = loads
        self.closed = False
        self.facts = WorkloadFacts(
            engine_version="engine 1.0",
            attention_backend="sdpa",
            cuda_graphs=False,
            flags=("cache_copied",),
            notes=("n",),
        )

    def load(self):
        if isinstance(self.fault, BaseException):
            raise self.fault
        if self.fault == "lost":
            self.meter.lost = True

    def prefill(self, repeats):
        tokens = self.c.prompt_tokens * repeats
        self.meter.spend(TOKEN_J * tokens, TOKEN_S * tokens)
        return ()

    def decode(self, repeats):
        steps = (self.c.output_tokens - 1) * repeats
        self.meter.spend(STEP_J * steps, STEP_S * steps)

    def whole(self, repeats):
        self.prefill(repeats)
        self.decode(repeats)
        return ()

    def step_time_batch1_s(self):
        return STEP_S

    def close(self):
        self.closed = True


@pytest.fixture
def machine(formula_meter):
    """A machine whose workload costs a known energy, with faults on request."""

    class Machine:
        def __init__(self):
            self.meters, self.loads, self.faults = [], [], {}
            self.shared = False
            self.fits = lambda configuration, gpu, memory_bytes: None
            self.scores = None
            self.device_name = "NVIDIA H100 80GB HBM3"
            self.simulated = True

        def tools(self):
            return Tools(
                open_meter=self.open_meter,
                make_workload=lambda c, meter: TokenWorkload(c, meter, self.faults, self.loads),
                gpu_name=lambda name: "H100-SXM5-80GB" if "H100" in name else name,
                idle_power_w=lambda meter, bare: 70.0 if bare else 115.0,
                check_memory=self.fits,
                scores=self.scores,
                now=lambda: NOW,
            )

        def open_meter(self, gpus):
            if gpus > 2:
                raise InputError("too few GPUs: got 2")
            self.meters.append(formula_meter(devices=gpus, shared=self.shared, name=self.device_name))
            self.meters[-1].simulated = self.simulated
            return self.meters[-1]

    return Machine()


def campaign_of(*configurations, focus=None):
    return Campaign(name="test", configurations=configurations, focus=focus, plan=MeasurePlan())


def batches(*sizes):
    return [
        RunConfiguration(model="m", batch_size=size, prompt_tokens=100, output_tokens=11) for size in sizes
    ]


def run(path, campaign, machine, **options):
    with RunLog(path) as log:
        return run_campaign(campaign, log, machine.tools(), **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.jsonl"
