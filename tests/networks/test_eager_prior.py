"""What is known beforehand of a host: eager frameworks launch every operator from Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmco2.features.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, bounded, score_of
from llmco2.networks.coefficients import EAGER_LAUNCH_S, CoefficientNetwork, Vocabulary, engine_phase_mean
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
    names = list(PHASE_COEFFICIENTS)
    launch = names.index("host_launch_s")
    seconds = bounded(torch, mean[1, :, launch], *PHASE_COEFFICIENTS["host_launch_s"])
    torch.testing.assert_close(seconds, torch.full((2,), EAGER_LAUNCH_S), rtol=1e-5, atol=0.0)
    others = mean.clone()
    others[1, :, launch] = 0.0
    assert not others.any()


def test_a_new_network_stands_at_its_priors() -> None:
    vocabulary = Vocabulary(engines=ENGINES, precisions=("bf16",), gpus=("A2",), families=(), groups=())
    network = CoefficientNetwork(vocabulary, hidden_dim=0)
    assert Priors().penalty(network, torch.zeros(1, 2)).item() == 0.0
