"""Unknown inputs widen an interval by errors added in squares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import resolve_deployment
from llmco2.physics.groups import deployment_name
from llmco2.predictor.intervals import Newness, newness, widened


def test_a_known_deployment_is_widened_by_the_factor_itself() -> None:
    assert widened(-0.2, -0.2, (2.5,)) == pytest.approx(-0.5)


def test_errors_of_two_causes_add_in_squares_by_hand() -> None:
    # 0.5² + 0.3²·(2² − 1) = 0.25 + 0.27
    assert widened(0.5, 0.3, (2.0,)) == pytest.approx(0.52**0.5)


@given(st.floats(0.01, 2.0), st.floats(0.01, 2.0), st.floats(1.0, 5.0), st.floats(1.0, 5.0))
def test_more_unknowns_never_narrow(end: float, known: float, one: float, other: float) -> None:
    both = widened(end, known, (one, other))
    assert both >= widened(end, known, (one,)) >= end
    assert widened(-end, -known, (one, other)) == -both


def deployment(model: str = "Qwen/Qwen3-8B", gpu: str = "H100-SXM5-80GB", tp: int = 1) -> Deployment:
    return resolve_deployment(model, gpu, tp, 1, 1, "vllm", "bf16", "unknown")


@pytest.mark.parametrize(
    ("asked", "case"),
    [
        (deployment(), Newness.MEASURED),
        (deployment(tp=2), Newness.KNOWN),
        (deployment(model="Qwen/Qwen3-32B"), Newness.KNOWN),
        (deployment(model="google/gemma-2-9b"), Newness.NEW_MODEL),
        (deployment(gpu="A100-SXM4-80GB"), Newness.NEW_GPU),
        (deployment(model="google/gemma-2-9b", gpu="A100-SXM4-80GB"), Newness.NEW_BOTH),
    ],
)
def test_what_is_new_is_told_by_what_was_measured(asked: Deployment, case: Newness) -> None:
    domain = {
        "gpus": ["H100-SXM5-80GB"],
        "families": ["qwen"],
        "deployments": [deployment_name(deployment())],
    }
    assert newness(domain, asked) is case
