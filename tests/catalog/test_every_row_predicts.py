"""Whatever row of the tables a request names, it is answered, and more of a model costs more energy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pandas as pd
import pytest

import llmco2
from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpu import Gpu
from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.models import load_models
from llmco2.catalog.params import parameter_count, weight_bytes
from llmco2.catalog.stored import served_parts

BOARD = "H200-SXM-141GB"
SPARE = 1.15  # memory for cache and activations over that of the weights
SIZES = {"prompt_tokens": 256, "output_tokens": 32, "batch_size": 1}


def fewest_gpus(model: Architecture, gpu: Gpu) -> int | None:
    """Return the least tensor-parallel degree, a power of two up to 16, at which ``model`` fits ``gpu``."""
    needed_bytes = SPARE * weight_bytes(model, served_parts(model, gpu))
    degrees = (2**power for power in range(5))
    fits = (d for d in degrees if model.n_heads % d == 0 and needed_bytes / d < gpu.memory_bytes)
    return next(fits, None)


def answered(requests: pd.DataFrame) -> pd.DataFrame:
    answers = llmco2.predict_frame(requests)
    assert answers["error"].eq("").all(), answers.loc[answers["error"].ne(""), ["model", "gpu", "error"]]
    energy_j = answers["energy_j"]
    assert energy_j.between(answers["energy_low_j"], answers["energy_high_j"]).all()
    assert energy_j.between(answers["energy_lower_bound_j"], answers["energy_upper_bound_j"]).all()
    assert energy_j.between(0.05, 1e6).all()
    return answers


@pytest.fixture(scope="module")
def every_model() -> pd.DataFrame:
    gpu = load_gpus()[BOARD]
    degrees = {name: fewest_gpus(model, gpu) for name, model in load_models().items()}
    assert [name for name, degree in degrees.items() if degree is None] == []
    requests = [
        {"model": name, "gpu": BOARD, "tensor_parallel": degree} | SIZES for name, degree in degrees.items()
    ]
    return answered(pd.DataFrame(requests))


def test_every_model_is_answered_on_the_fewest_boards_that_hold_it(every_model):
    assert len(every_model) == len(load_models())


def test_every_board_answers_for_a_small_and_for_the_largest_model_that_fits():
    dense = [model for model in load_models().values() if model.confidence != "low"]
    requests = []
    for gpu_id, gpu in load_gpus().items():
        fitting = [model for model in dense if fewest_gpus(model, gpu) == 1]
        largest = max(fitting, key=parameter_count)
        names = ("HuggingFaceTB/SmolLM2-360M", largest.model_id)
        requests += [{"model": name, "gpu": gpu_id} | SIZES for name in names]
    answers = answered(pd.DataFrame(requests))
    by_board = answers["energy_j"].to_numpy().reshape(-1, 2)
    assert (by_board[:, 1] > by_board[:, 0]).all()


def plain(model: Architecture) -> bool:
    """Whether every parameter is read for every token: no experts, no recurrence, one reach of attention."""
    return not (model.n_moe_layers or model.n_recurrent_layers or model.n_sliding_attention_layers)


def larger_and_smaller() -> Iterator[tuple[str, str]]:
    """Yield pairs of plain models of one lineage and number format, the first at least half as large again."""
    models = [model for model in load_models().values() if plain(model)]
    for one, two in itertools.permutations(models, 2):
        kin = one.family == two.family and one.checkpoint_precision == two.checkpoint_precision
        if (
            kin
            and parameter_count(one) > 1.5 * parameter_count(two)
            and one.n_attention_layers >= two.n_attention_layers
        ):
            yield one.model_id, two.model_id


def test_a_larger_model_of_a_lineage_takes_more_energy(every_model):
    energy_j = every_model.set_index("model")["energy_j"]
    pairs = list(larger_and_smaller())
    assert len(pairs) > 500
    wrong = [pair for pair in pairs if energy_j[pair[0]] <= energy_j[pair[1]]]
    assert wrong == []
