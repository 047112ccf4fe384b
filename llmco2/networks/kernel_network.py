"""Node functions of the kernel graph: one small network a kernel kind, from physical features to time over roofline.

Shapes: features ``(n_kernels, n_features)``; the answer ``(n_kernels,)`` is ``log(latency / (roofline + launch))``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmco2.kernel_model.device import FAMILIES
from llmco2.kernel_model.features import LIBRARIES, N_CONTEXT_FEATURES
from llmco2.kernel_model.node_functions import FEATURE_LIMIT


class NodeFunction(nn.Module):
    """One kind's network; standardises its features itself, so that a checkpoint is complete.

    Args:
        n_features: width of the kind's features; the last ``N_CONTEXT_FEATURES`` are words (family, stack, library).
        width: neurons of each hidden layer.
        depth: hidden layers.
        family_dropout: share of training rows whose board family is hidden, so that unseen families are answered.
        library_dropout: the same of the kernel library.
    """

    mean: Tensor
    scale: Tensor
    center: Tensor
    is_fitted: Tensor

    def __init__(
        self,
        n_features: int,
        *,
        width: int = 96,
        depth: int = 3,
        family_dropout: float = 0.3,
        library_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.family_dropout, self.library_dropout = family_dropout, library_dropout
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))
        widths = [n_features, *([width] * depth)]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def fit_scales(self, features: Tensor, target: Tensor) -> None:
        """Take mean and spread of ``features`` and the median of ``target`` from training rows; words keep theirs."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0).clamp_min(1e-3))
        self.mean[-N_CONTEXT_FEATURES:] = 0.0
        self.scale[-N_CONTEXT_FEATURES:] = 1.0
        self.center.copy_(target.median())
        self.is_fitted.fill_(True)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``log(latency / (roofline + launch))``, ``(n_kernels,)``."""
        if self.training:
            features = self._hide(features)
        x = ((features - self.mean) / self.scale).clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
        log_ratio: Tensor = self.layers(x)[:, 0] + self.center
        return log_ratio

    def _hide(self, features: Tensor) -> Tensor:
        hidden = features.clone()
        first = features.shape[1] - N_CONTEXT_FEATURES
        rows = torch.rand(len(features), device=features.device)
        hidden[rows < self.family_dropout, first : first + len(FAMILIES)] = 0.0
        rows = torch.rand(len(features), device=features.device)
        hidden[rows < self.library_dropout, -len(LIBRARIES) :] = 0.0
        return hidden


class KernelNetwork(nn.Module):
    """The node functions of all kinds.

    Args:
        n_features: kernel kind → width of its features.
        width: neurons of each hidden layer.
        depth: hidden layers.
        family_dropout: share of training rows whose board family is hidden.
        library_dropout: the same of the kernel library.
    """

    def __init__(
        self,
        n_features: Mapping[str, int],
        *,
        width: int = 96,
        depth: int = 3,
        family_dropout: float = 0.3,
        library_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.nodes = nn.ModuleDict(
            {
                kind: NodeFunction(
                    n,
                    width=width,
                    depth=depth,
                    family_dropout=family_dropout,
                    library_dropout=library_dropout,
                )
                for kind, n in n_features.items()
            }
        )

    def node(self, kind: str) -> NodeFunction:
        """Return the node function of a kind."""
        node = self.nodes[kind]
        assert isinstance(node, NodeFunction)
        return node

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each kind's log ratios for its features."""
        return {kind: self.nodes[kind](x) for kind, x in features.items()}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the numbers of every node function, named as ``llmco2.kernel_model.node_functions`` reads them."""
        found: dict[str, Tensor] = {}
        for kind in self.nodes:
            node, prefix = self.node(kind), f"kernel.{kind}"
            found |= {f"{prefix}.{name}": getattr(node, name) for name in ("mean", "scale", "center")}
            linear = [layer for layer in node.layers if isinstance(layer, nn.Linear)]
            for i, layer in enumerate(linear):
                found |= {f"{prefix}.weight{i}": layer.weight, f"{prefix}.bias{i}": layer.bias}
        return {name: values.detach().cpu().numpy().astype(np.float32) for name, values in found.items()}
