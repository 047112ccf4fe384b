"""What can be trained: it predicts a batch's labels, and says what to minimise.

Invariant: predictions never use a source's own offset; it is fitted beside the network and left behind.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from llmco2.data.tensors import RunBatch
from llmco2.networks.batch import DeploymentBatch
from llmco2.networks.coefficients import CoefficientNetwork, Vocabulary
from llmco2.physics.groups import GROUP_KINDS
from llmco2.training.loss import Priors, SourceLevels, log_errors, predicted_labels, robust_loss
from llmco2.training.options import NetworkOptions, OptimizerOptions, UnknownShare

_GRAPH_PARTS: Final = ("encoder", "convolutions", "slot_head", "phase_head", "engine_embedding")


class EnergyModel(nn.Module):
    """A network with its loss."""

    @abstractmethod
    def predicted(self, batch: RunBatch) -> Tensor:
        """Return predictions ``(n_rows, N_LABELS)``; NaN where the network has nothing to say."""

    @abstractmethod
    def loss(self, batch: RunBatch, generator: torch.Generator, *, formula_alone: bool = False) -> Tensor:
        """Return what training minimises, a scalar; ``formula_alone`` leaves a graph correction out."""

    @abstractmethod
    def parameter_groups(self, options: OptimizerOptions) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups with their peak rates as ``lr``."""


class PhysicsModel(EnergyModel):
    """The coefficient network under the physical readout, with priors and source levels.

    Args:
        effective_rows: how many independent rows the data weigh against the priors.
    """

    def __init__(self, vocabulary: Vocabulary, n_sources: int, *, network: NetworkOptions, priors: Priors,
                 unknown_share: UnknownShare, effective_rows: float) -> None:  # fmt: skip
        super().__init__()
        self.network = CoefficientNetwork(
            vocabulary,
            hidden_dim=network.hidden_dim,
            n_rounds=network.n_rounds,
            correction_limit=network.correction_limit,
        )
        self.levels = SourceLevels(n_sources)
        self.priors = priors
        self.unknown_share = unknown_share
        self.effective_rows = effective_rows

    def predicted(self, batch: RunBatch) -> Tensor:
        """Return predictions of every label."""
        return predicted_labels(self.network(batch.graphs), batch)

    def loss(self, batch: RunBatch, generator: torch.Generator, *, formula_alone: bool = False) -> Tensor:
        """Return the negative log posterior of the batch, per row."""
        graphs = hide_names(batch.graphs, self.unknown_share, generator)
        coefficients = self.network(graphs, corrected=not formula_alone)
        errors = log_errors(predicted_labels(coefficients, batch), batch.labels)
        errors = torch.where(batch.labels.isnan(), errors, errors + self.levels(batch.source))
        loss = robust_loss(errors, batch.labels, batch.weight) / self.priors.noise**2 + self.penalty()
        # Weights that took no part still have gradients, zeros, which training on several devices counts on.
        return loss + 0.0 * sum(w.sum() for w in self._graph_weights()) if formula_alone else loss

    def penalty(self) -> Tensor:
        """Return the negative log prior, per effective row."""
        return self.priors.penalty(self.network, self.levels.level) / self.effective_rows

    def parameter_groups(self, options: OptimizerOptions) -> list[dict[str, Any]]:
        """Return the formula's constants, which priors hold, and graph weights, which decay holds."""
        weights = self._graph_weights()
        held = {id(weight) for weight in weights}
        constants = [p for p in self.network.parameters() if id(p) not in held]
        groups = [
            {"params": [*constants, *self.levels.parameters()], "lr": options.formula_lr, "weight_decay": 0.0}
        ]
        if weights:
            groups.append({"params": weights, "lr": options.graph_lr, "weight_decay": options.weight_decay})
        return groups

    def _graph_weights(self) -> list[nn.Parameter]:
        return [p for name, p in self.network.named_parameters() if name.split(".")[0] in _GRAPH_PARTS]


def hide_names(batch: DeploymentBatch, share: UnknownShare, generator: torch.Generator) -> DeploymentBatch:
    """Return the batch with some names replaced by "unknown" (index 0), drawn by ``generator``."""

    def hidden(index: Tensor, chance: float) -> Tensor:
        draw = torch.rand(index.shape, generator=generator).to(index.device)
        return torch.where(draw < chance, torch.zeros_like(index), index)

    engine = hidden(batch.engine, share.engine)
    gpu, family = hidden(batch.gpu, share.gpu), hidden(batch.family, share.family)
    return replace(
        batch,
        engine=engine,
        gpu=gpu,
        family=family,
        precision=hidden(batch.precision, share.precision),
        groups=batch.groups * groups_named(engine > 0, gpu > 0, family > 0),
    )


def groups_named(engine: Tensor, gpu: Tensor, family: Tensor) -> Tensor:
    """Return which groups' names are all told, ``(n_deployments, N_GROUP_KINDS)``; arguments ``(n_deployments,)``."""
    told = [
        engine & (gpu if kind.gpu else engine) & (family if kind.family else engine) for kind in GROUP_KINDS
    ]
    return torch.stack(told, dim=1)
