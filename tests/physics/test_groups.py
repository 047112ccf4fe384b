"""Groups name what deployments share, and nothing that a request's size changes."""

from __future__ import annotations

import pytest

from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import resolve_deployment
from llmco2.physics.groups import GROUP_KINDS, deployment_groups


def deployment(model: str = "Qwen/Qwen3-8B", gpu: str = "H100-SXM5-80GB", tp: int = 1,
               engine: str = "vllm", precision: str = "bf16") -> Deployment:  # fmt: skip
    return resolve_deployment(model, gpu, tp, 1, 1, engine, precision, "unknown")


def shared(one: Deployment, other: Deployment) -> list[str]:
    """Return the kinds of the groups that two deployments share."""
    pairs = zip(GROUP_KINDS, deployment_groups(one), deployment_groups(other), strict=True)
    return [kind.name for kind, a, b in pairs if a == b]


@pytest.mark.parametrize(
    ("other", "kinds"),
    [
        (deployment(tp=2), ["engine and board", "engine and family", "engine and model"]),
        (deployment(gpu="A100-SXM4-80GB"), ["engine and family", "engine and model"]),
        (deployment(model="Qwen/Qwen3-32B"), ["engine and board", "engine and family"]),
        (deployment(precision="fp8"), ["engine and board", "engine and family"]),
        (deployment(model="meta-llama/Llama-3.1-8B"), ["engine and board"]),
        (deployment(engine="hf-eager"), []),
    ],
)
def test_deployments_share_the_groups_they_should(other: Deployment, kinds: list[str]) -> None:
    assert shared(deployment(), other) == kinds


def test_groups_of_different_kinds_never_meet() -> None:
    names = deployment_groups(deployment())
    assert len(set(names)) == len(GROUP_KINDS)
    assert all(name.startswith(kind.name + ": ") for kind, name in zip(GROUP_KINDS, names, strict=True))


def test_without_an_engine_there_is_no_group() -> None:
    assert set(deployment_groups(deployment(engine="unknown"))) == {""}
