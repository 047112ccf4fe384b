"""Random requests over the whole catalog, and checkpoints to answer them: the shipped one and random numbers.

What must hold for any trained checkpoint is tested on both: random numbers push coefficients to their limits,
which training seldom does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.models import load_models
from llmco2.catalog.precisions import PRECISIONS
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import resolve_deployment
from llmco2.errors import InputError
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint, network_description, save_checkpoint
from llmco2.predictor.columns import SizeColumns
from llmco2.predictor.contents import array_shapes
from llmco2.records.engines import engine_names
from llmco2.records.request import MAX_BATCH_SIZE, MAX_TOKENS

MODELS = tuple(load_models())
GPUS = tuple(load_gpus())
VOCABULARY = {
    "engines": ["hf-eager", "vllm", "vllm-0.11"],
    "precisions": ["bf16", "fp16", "fp8"],
    "gpus": ["A100-SXM4-80GB", "H100-SXM5-80GB"],
    "families": ["llama", "qwen"],
    "groups": ["engine and board: vllm H100-SXM5-80GB", "engine and family: vllm-0.11 qwen"],
}


@dataclass(frozen=True)
class Requests:
    """Requests of several sizes for each of many deployments."""

    deployments: list[Deployment]
    sizes: SizeColumns


def random_metadata() -> dict[str, Any]:
    """Return the text half of a checkpoint, with lopsided intervals and a narrow domain."""
    return {
        "network": network_description(8, 2, 1.0),
        "vocabulary": VOCABULARY,
        "intervals": {
            "coverage": 0.9,
            "cases": {
                "measured": {"low": -0.1, "high": 0.08},
                "known": {"low": -0.2, "high": 0.1},
                "new_model": {"low": -0.1, "high": 0.6},
                "new_gpu": {"low": 0.05, "high": 0.3},  # an offset: the interval lies wholly above
                "new_both": {"low": -2.5, "high": -0.1},  # … or wholly below
            },
            "unknown_engine_factor": 1.5,
            "unknown_precision_factor": 1.2,
            "phase_factor": 1.4,
        },
        "domain": {
            **{name: VOCABULARY[name] for name in ("gpus", "families", "engines", "precisions")},
            "mechanisms": ["tensor parallelism"],
            "deployments": [],
            "ranges": {
                "batch_size": [1.0, 64.0],
                "prompt_tokens": [16.0, 4096.0],
                "output_tokens": [1.0, 1024.0],
                "parameters": [1e9, 1e11],
                "n_gpus": [1.0, 8.0],
            },
        },
    }


def random_arrays(scale: float = 1.5) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Return numbers of the right shapes that no training chose."""
    rng = np.random.default_rng(11)
    shapes = array_shapes(network_description(8, 2, 1.0), VOCABULARY)
    return {name: rng.normal(scale=scale, size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def sound_checkpoint() -> tuple[dict[str, np.ndarray[Any, np.dtype[np.float32]]], dict[str, Any]]:
    """Return arrays and metadata that load, for a test to damage."""
    return random_arrays(), random_metadata()


@pytest.fixture(scope="session")
def random_checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "random.json"
    save_checkpoint(path, random_arrays(), random_metadata())
    return path


@pytest.fixture(params=["shipped", "random numbers"])
def checkpoint_path(request: pytest.FixtureRequest, random_checkpoint_path: Path) -> str | None:
    return None if request.param == "shipped" else str(random_checkpoint_path)


@pytest.fixture
def checkpoint(checkpoint_path: str | None) -> Checkpoint:
    return load_checkpoint(checkpoint_path)


def random_deployments(seed: int, number: int) -> list[Deployment]:
    """Return deployments that are allowed, over all models, GPUs, engines, precisions and parallelism."""
    rng = np.random.default_rng(seed)
    precisions = ("unknown", *(precision.name for precision in PRECISIONS))
    found: list[Deployment] = []
    while len(found) < number:
        row = (
            str(rng.choice(MODELS)),
            str(rng.choice(GPUS)),
            int(rng.choice([1, 1, 2, 4, 8, 16])),
            int(rng.choice([1, 1, 1, 2, 4])),
            int(rng.choice([1, 1, 1, 2, 8])),
            str(rng.choice(engine_names())),
            str(rng.choice(precisions)),
            str(rng.choice(["unknown", "unknown", "fp8", "bf16"])),
        )
        try:
            found.append(resolve_deployment(*row))
        except InputError:  # parts that do not go together
            continue
    return found


def random_sizes(seed: int, n_deployments: int, each: int) -> SizeColumns:
    """Return ``each`` sizes a deployment, spread evenly over their logarithms, ends included."""
    rng = np.random.default_rng(seed)
    n = n_deployments * each

    def size(most: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        values = np.floor(np.exp(rng.uniform(0.0, np.log(most), n)))
        return np.where(rng.random(n) < 0.1, rng.choice([1.0, most], n), values)

    return SizeColumns(
        deployment=np.repeat(np.arange(n_deployments), each),
        batch_size=size(MAX_BATCH_SIZE),
        prompt_tokens=size(MAX_TOKENS),
        output_tokens=size(MAX_TOKENS),
        continuous=rng.integers(0, 2, n).astype(np.float64),
    )


@pytest.fixture(scope="session")
def requests() -> Requests:
    """Six thousand requests, static and continuous."""
    return Requests(deployments=random_deployments(1, 600), sizes=random_sizes(2, 600, 10))


@pytest.fixture(scope="session")
def random_table() -> Callable[[int, int], pd.DataFrame]:
    """Return a maker of tables of plausible requests, of which some are in error."""

    def make(seed: int, n: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)

        def pick(*choices: Any) -> list[Any]:
            return [choices[i] for i in rng.integers(len(choices), size=n)]

        return pd.DataFrame(
            {
                "model": pick(*MODELS),
                "gpu": pick(*GPUS),
                "tensor_parallel": pick(1, 2, 4, 8),
                "pipeline_parallel": pick(1, 1, 1, 2),
                "expert_parallel": pick(1, 1, 1, 2),
                "engine": pick(*engine_names()),
                "precision": pick("unknown", "unknown", "unknown", "fp16", "int4", "fp8", "bf16"),
                "kv_precision": pick("unknown", "unknown", "fp8"),
                "batch_size": rng.integers(1, 65, n),
                "prompt_tokens": rng.integers(1, 8192, n),
                "output_tokens": rng.integers(1, 1024, n),
                "serving": pick("static", "continuous"),
            }
        )

    return make
