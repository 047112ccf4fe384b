"""A thousand malformed inputs of each format end in one line of ours: no traceback, no foreign exception, no answer."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.cli.requests_file import read_requests
from llmco2.errors import InputError
from llmco2.measurement.campaigns.campaign_file import load_campaign
from llmco2.measurement.meters.session_file import read_session
from llmco2.predictor.calibration import load_calibration
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.resources import checkpoint_dir
from tests.bounded.malformed import Example, Maker, byte_examples, cut, foreign_bytes, json_examples

SEEDS, PER_SEED = 100, 10  # a thousand inputs of each format
seeded = settings(
    max_examples=SEEDS,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
seeds = st.integers(0, 2**62)
ROW: dict[str, Any] = {"model": "Qwen/Qwen3-8B", "gpu": "H100", "batch_size": 8, "zone": "FRA", "mine": "x"}
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"}}},
        "ignore": ["lm_head"],
    },
}
DATASHEET: dict[str, Any] = {
    "gpu_id": "Mine",
    "vendor": "NVIDIA",
    "architecture": "Hopper",
    "fp32_tflops": 60,
    "fp16_tflops": 900,
    "bf16_tflops": 900,
    "memory_gib": 80,
    "memory_bandwidth_gb_per_s": 3000,
    "l2_mb": 50,
    "n_sms": 132,
    "tdp_w": 700,
    "idle_power_w": 70,
    "aliases": ["mine"],
}
CALIBRATION: dict[str, Any] = {
    "format": "llmco2-calibration",
    "format_version": 1,
    "checkpoint_sha256": "0" * 64,
    "entries": [
        {
            "gpu": "H100-SXM5-80GB",
            "engine": "vllm",
            "scales": {"weight": 1.3},
            "width_scale": 0.5,
            "n_runs": 5,
        }
    ],
}
CAMPAIGN = """\
name: mine
defaults: {model: Qwen/Qwen3-0.6B, weights: random}
grid:
  batch_size: [1, 2]
  prompt_tokens: [16]
measure: {idle_s: 1.0}
"""
HEADER: dict[str, Any] = {
    "kind": "session",
    "format": "llmco2-session",
    "version": 1,
    "started_at": "2026-01-01T12:00:00+00:00",
    "simulated": True,
    "devices": [
        {"index": 0, "nvml_index": 0, "uuid": "GPU-1", "name": "NVIDIA H100 80GB HBM3", "mig": False}
    ],
}
SAMPLE: dict[str, Any] = {
    "kind": "sample",
    "t_s": 1.0,
    "gpu_index": 0,
    "energy_counter_j": 10.0,
    "power_w": 300.0,
}

JSON_LINES, JSON_ARRAY = json_examples(ROW, free="mine"), json_examples([ROW, ROW], free="mine")
CONFIGS, DATASHEETS, CALIBRATIONS = map(json_examples, (CONFIG, DATASHEET, CALIBRATION))
HEADERS, SAMPLES = json_examples(HEADER), json_examples(SAMPLE)
numbers = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("malformed")


def all_refused_or_read(
    read: Callable[[Path], object], new: Callable[[], Path], make: Maker, seed: int
) -> None:
    """Read the examples of ``seed``: a refusal is one line of ours, and what is broken is refused."""
    for example in (make(Random(PER_SEED * seed + n)) for n in range(PER_SEED)):
        path = new()
        path.write_bytes(example.content)
        try:
            read(path)
        except InputError as error:  # which the command line turns into exit code 2
            line = str(error)
            assert len(line.splitlines()) == 1, line
            assert len(line) < 2_000, line[:500]
        else:
            assert not example.must_be_refused, f"read as if it were sound: {example.content[:300]!r}"
        finally:
            path.unlink()


def new(folder: Path, suffix: str) -> Callable[[], Path]:
    """Return what makes names that no example had: what is read once is kept by name and time."""
    return lambda: folder / f"{next(numbers)}{suffix}"


@seeded
@given(seed=seeds)
def test_requests_as_json_lines(folder: Path, seed: int) -> None:
    all_refused_or_read(read_requests, new(folder, ".jsonl"), JSON_LINES, seed)


@seeded
@given(seed=seeds)
def test_requests_as_json(folder: Path, seed: int) -> None:
    all_refused_or_read(read_requests, new(folder, ".json"), JSON_ARRAY, seed)


CSV = "model,gpu,batch_size,mine\nQwen/Qwen3-8B,H100,8,a\nQwen/Qwen3-8B,A100,1,b\n"
WRONG_HEADS = (
    *("", "\n\n", "model\nx\n", "gpu,model,model\na,b,c\n", "Model,gpu\na,b\n", "model,gpus\na,b\n", "{}"),
    *("model gpu\na b\n", "model,gpu,batchsize\na,b,1\n", "a,b,c\n1,2,3\n", "\x00", "<html>\n"),
    "model,gpu," + ",".join(f"c{i}" for i in range(20_000)) + "\n",
)


def broken_csv(random: Random) -> bytes:
    kind = random.randrange(3)
    if kind == 0:
        return foreign_bytes(random, CSV.encode())
    if kind == 1:
        return random.choice(WRONG_HEADS).encode()
    lines = CSV.splitlines()
    lines[random.choice([1, 2])] += random.choice([",", ",,x", ",1,2,3", ',"', ',"x"y', "\r\r,"])
    return "\n".join(lines).encode()


@seeded
@given(seed=seeds)
def test_requests_as_csv(folder: Path, seed: int) -> None:
    all_refused_or_read(read_requests, new(folder, ".csv"), byte_examples(CSV.encode(), broken_csv), seed)


def parquet() -> bytes:
    stream = io.BytesIO()
    pd.DataFrame([ROW, ROW | {"gpu": "A100"}]).to_parquet(stream, index=False)
    return stream.getvalue()


SOUND = parquet()


def broken_parquet(random: Random) -> bytes:
    others = (b"", b"PAR1", b"PAR1PAR1", b"PK\x03\x04", SOUND[4:], SOUND[:-4] + b"PAR2", SOUND[::-1])
    return random.choice((*others, cut(random, SOUND), cut(random, SOUND), cut(random, SOUND)))


@seeded
@given(seed=seeds)
def test_requests_as_parquet(folder: Path, seed: int) -> None:
    all_refused_or_read(read_requests, new(folder, ".parquet"), byte_examples(SOUND, broken_parquet), seed)


@seeded
@given(seed=seeds)
def test_a_models_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setitem(
        sys.modules, "transformers", None
    )  # which takes seconds to import, and here nothing needs
    all_refused_or_read(lambda path: resolve_model(str(path)), new(folder, ".json"), CONFIGS, seed)


@seeded
@given(seed=seeds)
def test_a_gpus_datasheet(folder: Path, seed: int) -> None:
    all_refused_or_read(lambda path: resolve_gpu(str(path)), new(folder, ".json"), DATASHEETS, seed)


@seeded
@given(seed=seeds)
def test_a_calibration(folder: Path, seed: int) -> None:
    def read(path: Path) -> object:
        return load_calibration(str(path), "H100-SXM5-80GB", "vllm")

    all_refused_or_read(read, new(folder, ".json"), CALIBRATIONS, seed)


HEADS = json_examples(json.loads((checkpoint_dir() / "default.json").read_text("utf-8")))


@seeded
@given(seed=seeds)
def test_the_head_of_a_checkpoint(folder: Path, seed: int) -> None:
    def path_beside_arrays() -> Path:
        path = new(folder, ".json")()
        path.with_suffix(".npz").symlink_to(checkpoint_dir() / "default.npz")
        return path

    all_refused_or_read(lambda head: load_checkpoint(str(head)), path_beside_arrays, HEADS, seed)


WRONG_YAML = (
    *(
        "",
        "[]",
        "3",
        "text",
        "- a",
        "? [a]\n: b",
        "a: b: c",
        "\t",
        "{",
        "[",
        "&a [*a]",
        "*b",
        "!!python/none x",
    ),
    *("grid: {batch_size: [2024-13-45]}", "grid: {batch_size: [.nan]}", "grid: 5", "grid: []", "list: []"),
    *("[" * 5_000, "{a: " * 2_000, "- " * 3_000 + "x", "name: 1", "name: [x]", "focused: {}", "kernels: {}"),
    *("grid: {batch_size: [0x" + "f" * 400 + "]}", "grid: {batch_size: [1e999]}", "x: 1\n" * 30),
    "grid: {batch_size: [" + "9" * 5_000 + "]}",
    "grid: {batch_size: [" + "1," * 400_000 + "1]}",
    "a: &a [x, x, x]\n"
    + "\n".join(f"{b}: &{b} [*{a}, *{a}, *{a}]" for a, b in itertools.pairwise("abcdefghijklm")),
)
WRONG_VALUES = ("-1", "x", "1.5", "null", "[[1]]", "{}", "2024-01-01", "1e999", ".inf", "9" * 400, "''", "~")
WRONG_ADDRESSES = (
    "http://",
    "ftp://h",
    "http://h:99999",
    "http://h:x",
    "http://:80",
    "h:80",
    "http://[::1",
    "1",
)


def broken_campaign(random: Random) -> bytes:
    counts = ("batch_size", "prompt_tokens", "output_tokens", "tensor_parallel", "seed", "static_cache")
    lines = ("grid", "list: [{model: x}]", "surprise: 1", "Defaults: {}", "name: a", "grid: {}")
    address = random.choice(WRONG_ADDRESSES)
    return random.choice(
        (
            random.choice(WRONG_YAML).encode(),
            (CAMPAIGN + random.choice(lines)).encode(),
            f"grid: {{model: [m], {random.choice(counts)}: [{random.choice(WRONG_VALUES)}]}}".encode(),
            f'grid: {{model: [m], workload: [server], server_url: ["{address}"]}}'.encode(),
            foreign_bytes(random, CAMPAIGN.encode()),
        )
    )


@seeded
@given(seed=seeds)
def test_a_campaign(folder: Path, seed: int) -> None:
    all_refused_or_read(
        load_campaign, new(folder, ".yaml"), byte_examples(CAMPAIGN.encode(), broken_campaign), seed
    )


def damaged_session(random: Random) -> Example:
    """Return a recording whose header or first sample is an example; the last line is whole: a torn one is passed."""
    header, sample = json.dumps(HEADER).encode(), json.dumps(SAMPLE).encode()
    if random.randrange(2):
        example = HEADERS(random)
        lines = (example.content, sample)
    else:
        example = SAMPLES(random)
        lines = (header, example.content, sample)
    return Example(b"".join(line + b"\n" for line in lines), example.must_be_refused)


@seeded
@given(seed=seeds)
def test_a_recording(folder: Path, seed: int) -> None:
    all_refused_or_read(read_session, new(folder, ".jsonl"), damaged_session, seed)
