"""What is known beforehand of an engine: eager frameworks launch from Python, unfused, and copy their cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmco2.networks.coefficients import CoefficientNetwork, Vocabulary
from llmco2.networks.engine_priors import (
    EAGER_ACTIVATION_PASSES,
    EAGER_KV_PASSES,
    EAGER_LAUNCH_S,
    engine_phase_mean,
    engine_slot_mean,
)
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, bounded, score_of
from llmco2.training.loss import Priors

RANGES = {**SLOT_COEFFICIENTS, **PHASE_COEFFICIENTS}
ENGINES = ("hf-eager", "vllm-0.11", "an-engine-nobody-lists")


@given(st.sampled_from(sorted(RANGES)), st.floats(0.02, 0.98))
def test_a_score_is_what_gives_its_value_back(name: str, share: float) -> None:
    low, high, initial = RANGES[name]
    value = low * (high / low) ** share
    score = score_of(value, low, high, initial)
    assert bounded(np, np.float64(score), low, high, initial) == pytest.approx(value, rel=1e-9)


def test_only_eager_engines_begin_with_python_launches() -> None:
    mean = engine_phase_mean(ENGINES)
    launch = list(PHASE_COEFFICIENTS).index("host_launch_s")
    seconds = bounded(torch, mean[1, :, launch], *PHASE_COEFFICIENTS["host_launch_s"])
    torch.testing.assert_close(seconds, torch.full((2,), EAGER_LAUNCH_S), rtol=1e-5, atol=0.0)
    others = mean.clone()
    others[1, :, launch] = 0.0
    assert not others.any()


def test_only_eager_engines_begin_unfused_and_with_a_copied_cache() -> None:
    mean = engine_slot_mean(ENGINES)
    names = list(SLOT_COEFFICIENTS)
    others = mean.clone()
    for name, passes in (("activation", EAGER_ACTIVATION_PASSES), ("kv", EAGER_KV_PASSES)):
        place = names.index(name)
        assert bounded(torch, mean[1, place], *SLOT_COEFFICIENTS[name]).item() == pytest.approx(
            passes, rel=1e-5
        )
        others[1, place] = 0.0
    assert not others.any()


def test_a_new_network_stands_at_its_priors() -> None:
    vocabulary = Vocabulary(engines=ENGINES, precisions=("bf16",), gpus=("A2",), families=(), groups=())
    network = CoefficientNetwork(vocabulary, hidden_dim=0)
    assert Priors().penalty(network, torch.zeros(1, 2)).item() == 0.0


@pytest.mark.parametrize(("coefficient", "sigma"), [("host_step_s", 1.5), ("idle_power", 0.7)])
def test_an_engine_moves_its_host_further_than_a_boards_power(coefficient: str, sigma: float) -> None:
    vocabulary = Vocabulary(engines=ENGINES, precisions=(), gpus=(), families=(), groups=())
    network = CoefficientNetwork(vocabulary, hidden_dim=0)
    with torch.no_grad():
        network.engine_phase[2, 0, list(PHASE_COEFFICIENTS).index(coefficient)] = 1.0
    assert Priors().penalty(network, torch.zeros(1, 2)).item() == pytest.approx(0.5 / sigma**2)
