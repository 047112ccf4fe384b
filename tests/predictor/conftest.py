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
from llmco2.kernel_model.features import N_FEATURES
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from llmco2.predictor.columns import SizeColumns
from llmco2.predictor.intervals import Unmeasured
from llmco2.records.engines import engine_names
from llmco2.records.request import MAX_BATCH_SIZE, MAX_TOKENS

MODELS = tuple(load_models())
GPUS = tuple(load_gpus())


@dataclass(frozen=True)
class Requests:
    """Requests of several sizes for each of many deployments."""

    deployments: list[Deployment]
    sizes: SizeColumns


def random_metadata() -> dict[str, Any]:
    """Return the text half of a checkpoint, with lopsided intervals and a narrow domain."""
    offset = {"energy": [0.05, 0.3], "time": [-0.4, -0.1]}  # intervals that lie wholly above or below
    return {
        "lanes": {
            "kinds": {"gemm": [["vllm", "sm90", "16bit", "torch"], ["sglang", "sm90", "fp8", "deepgemm"]]},
            "experts": [["vllm", "sm90", "16bit", [4096.0, 14336.0, 8.0, 2.0], "triton"]],
        },
        "hosts": {
            "vllm": {"step_s": 1e-3, "sequence_s": 5e-5, "prefill_step_s": 2e-3},
            "hf-eager": {"launch_s": 7e-5, "cache_passes": 6.0, "kernel_factor": 1.5, "busy_factor": 0.6},
        },
        "boards": {"CDNA3": 1.7},
        "power": {"busy_factor": 1.3},
        "intervals": {
            "coverage": 0.9,
            "engines": {"vllm": {"energy": [-0.2, 0.1], "time": [-0.1, 0.2]}, "hf-eager": offset},
            "pooled": {"energy": [-2.5, -0.1], "time": [-0.3, 0.3]},
            "extra": {item: {"energy": 0.2, "time": 0.1} for item in Unmeasured},
            "phase_factor": 1.4,
        },
        "domain": {
            "gpus": ["A100-SXM4-80GB", "H100-SXM5-80GB"],
            "mechanisms": {"vllm": ["tensor parallelism"]},
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
    arrays: dict[str, Any] = {}
    for kind, width in N_FEATURES.items():
        prefix = f"kernel.{kind}."
        arrays[prefix + "mean"] = rng.normal(size=width)
        arrays[prefix + "scale"] = np.exp(rng.normal(size=width))
        arrays[prefix + "center"] = np.array(rng.normal())
        for i, (outputs, inputs) in enumerate(((8, width), (8, 8), (1, 8))):
            arrays[prefix + f"weight{i}"] = rng.normal(scale=scale, size=(outputs, inputs))
            arrays[prefix + f"bias{i}"] = rng.normal(scale=scale, size=outputs)
    return {name: np.asarray(values, dtype=np.float32) for name, values in arrays.items()}


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
    return Requests(deployments=random_deployments(1, 200), sizes=random_sizes(2, 200, 30))


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
