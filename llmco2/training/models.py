"""The two things that can be trained, behind one face: predict a batch's labels, and say what to minimise.

Invariant: predictions never use a source's own offset; it is fitted beside the network and left behind.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from llmco2.data.devices import on_device
from llmco2.data.tensors import LABELS, N_LABELS, RunBatch
from llmco2.errors import InputError, explain
from llmco2.features.groups import GROUP_KINDS
from llmco2.networks.batch import DeploymentBatch
from llmco2.networks.coefficients import CoefficientNetwork, Vocabulary
from llmco2.networks.paper import PaperInputs, PaperNetwork
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


class PaperModel(EnergyModel):
    """The paper's two networks, which know energies alone."""

    def __init__(self, *, network: NetworkOptions) -> None:
        super().__init__()
        self.network = PaperNetwork(hidden_dim=network.hidden_dim, dropout=network.dropout)
        self.inputs: PaperInputs | None = None  # of the deployments in hand; weights do not depend on them

    def predicted(self, batch: RunBatch) -> Tensor:
        """Return predicted energies; NaN for times."""
        energies = self._energies(batch)
        unknown = torch.full_like(energies["energy_j"], torch.nan)
        return torch.stack([energies.get(name, unknown) for name in LABELS], dim=1)

    def loss(self, batch: RunBatch, generator: torch.Generator, *, formula_alone: bool = False) -> Tensor:  # noqa: ARG002 - it has neither names to hide nor a formula
        """Return the weighted error of log energies."""
        energies = self._energies(batch)
        columns = [LABELS.index(name) for name in energies]
        predicted = torch.ones(len(batch.index), N_LABELS, device=batch.labels.device)
        predicted = predicted.index_copy(
            1, torch.tensor(columns, device=predicted.device), torch.stack([*energies.values()], 1)
        )
        labels = torch.full_like(batch.labels, torch.nan)
        labels[:, columns] = batch.labels[:, columns]
        return robust_loss(log_errors(predicted, labels), labels, batch.weight)

    def parameter_groups(self, options: OptimizerOptions) -> list[dict[str, Any]]:
        """Return all weights as one group."""
        return [
            {
                "params": list(self.network.parameters()),
                "lr": options.graph_lr,
                "weight_decay": options.weight_decay,
            }
        ]

    def _energies(self, batch: RunBatch) -> dict[str, Tensor]:
        if self.inputs is None:
            raise InputError(
                explain("the paper's networks have no deployments to read", remedy="set up the data first")
            )
        inputs = on_device(self.inputs, batch.labels.device)
        prefill, decode = self.network(inputs, batch.bases, batch.deployment)
        # A phase without steps (one output token: no decode) draws nothing.
        some = (batch.bases[1].steps > 0).float()
        energies = {"prefill_energy_j": prefill.exp(), "decode_energy_j": decode.exp() * some}
        return {**energies, "energy_j": energies["prefill_energy_j"] + energies["decode_energy_j"]}


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
