"""What was never measured widens an interval by errors added in squares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import resolve_deployment
from llmco2.predictor.intervals import Unmeasured, unmeasured, widened


def test_nothing_new_leaves_the_interval_as_it_is() -> None:
    assert widened((-0.2, 0.1), ()) == pytest.approx((-0.2, 0.1))


def test_errors_of_two_causes_add_in_squares_by_hand() -> None:
    # half-width 0.3, with 0.4 beside it: 0.5 about the middle of -0.1
    assert widened((-0.4, 0.2), (0.4,)) == pytest.approx((-0.6, 0.4))


@given(st.floats(-2.0, 2.0), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_more_unknowns_never_narrow(low: float, width: float, one: float, other: float) -> None:
    ends = (low, low + width)
    few, many = widened(ends, (one,)), widened(ends, (one, other))
    assert many[0] <= few[0] + 1e-12 <= ends[0] + 2e-12
    assert many[1] >= few[1] - 1e-12 >= ends[1] - 2e-12


def deployment(model: str = "Qwen/Qwen3-8B", gpu: str = "H100-SXM5-80GB", engine: str = "vllm") -> Deployment:
    return resolve_deployment(model, gpu, 1, 1, 1, engine, "bf16", "unknown")


@pytest.mark.parametrize(
    ("asked", "share", "found"),
    [
        (deployment(), 1.0, set()),
        (deployment(engine="unknown"), 1.0, {Unmeasured.ENGINE}),
        (deployment(engine="tgi"), 1.0, {Unmeasured.HOST}),
        (deployment(), 0.1, {Unmeasured.KERNELS}),
        (deployment(gpu="A40"), 1.0, {Unmeasured.BOARD}),
        (deployment(model="nvidia/NVIDIA-Nemotron-Nano-9B-v2"), 1.0, {Unmeasured.MECHANISM}),
    ],
)
def test_what_is_new_is_told_by_what_was_measured(
    asked: Deployment, share: float, found: set[Unmeasured]
) -> None:
    domain = {"gpus": ["H100-SXM5-80GB"], "mechanisms": {"vllm": ["tensor parallelism"]}}
    assert set(unmeasured({"vllm": {}}, domain, asked, share)) == found
