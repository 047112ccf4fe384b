"""Groups of deployments that resemble each other: each has a small level of its own in the fitted formula.

What a serving stack makes of one board, one family or one model is more alike than its datasheets say. A level is
learnt only where its group was measured and is zero elsewhere, so what was never measured answers by what all share.

Invariant: a group's name begins with its kind, so that groups of different kinds never meet; no group depends on a
request's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llmco2.deployment.deployment import Deployment
from llmco2.records.request import UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupKind:
    """Which names the members of a group share; all groups share the engine."""

    name: str
    gpu: bool = False
    family: bool = False


GROUP_KINDS: Final = (
    GroupKind(name="engine and board", gpu=True),
    GroupKind(name="engine and family", family=True),
    GroupKind(name="engine and model", family=True),
    GroupKind(name="deployment", gpu=True, family=True),
)
N_GROUP_KINDS: Final = len(GROUP_KINDS)
BOARD_KIND: Final = 0  # its place among the kinds, and the deployment's
DEPLOYMENT_KIND: Final = N_GROUP_KINDS - 1


def deployment_groups(deployment: Deployment) -> tuple[str, ...]:
    """Return the deployment's group of each kind, in the order of GROUP_KINDS; empty where its engine is not told."""
    if deployment.engine == UNKNOWN:
        return ("",) * N_GROUP_KINDS
    engine, gpu = deployment.engine, deployment.gpu_id
    model = f"{deployment.architecture.model_id} {deployment.precision.name}"
    sharding = (
        f"tp{deployment.tensor_parallel} pp{deployment.pipeline_parallel} ep{deployment.expert_parallel}"
    )
    members = (
        f"{engine} {gpu}",
        f"{engine} {deployment.architecture.family}",
        f"{engine} {model}",
        f"{engine} {gpu} {model} {sharding}",
    )
    return tuple(f"{kind.name}: {member}" for kind, member in zip(GROUP_KINDS, members, strict=True))


def deployment_name(deployment: Deployment) -> str:
    """Return the name of the deployment as a group of its own; empty where its engine is not told."""
    return deployment_groups(deployment)[DEPLOYMENT_KIND]
