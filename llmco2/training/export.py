"""From a trained network to the numbers that predictions run from, without torch.

Invariant: what is written is arrays and text; names of arrays are those of the network's parameters, which the
predictor reads. A network that the predictor cannot run is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import llmco2
from llmco2.errors import CheckpointError, explain
from llmco2.features.deployment import Deployment
from llmco2.networks.coefficients import CoefficientNetwork
from llmco2.predictor.checkpoint import network_description, save_checkpoint

NO_INTERVALS: Final[dict[str, Any]] = {}


def network_arrays(network: CoefficientNetwork) -> dict[str, NDArray[np.float32]]:
    """Return the parameters of a network by name, as float32.

    Raises CheckpointError naming the first that is not finite.
    """
    arrays = {name: p.detach().cpu().numpy().astype(np.float32) for name, p in network.named_parameters()}
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise CheckpointError(
                explain(f"the network diverged: {name}", got="a value that is not finite",
                        remedy="train with a lower learning rate")
            )  # fmt: skip
    return arrays


def network_metadata(network: CoefficientNetwork) -> dict[str, Any]:
    """Return the entries ``network`` and ``vocabulary`` of a checkpoint."""
    n_rounds = len(network.convolutions) if network.hidden_dim else 0
    vocabulary = network.vocabulary
    return {
        "network": network_description(network.hidden_dim, n_rounds, network.correction_limit),
        "vocabulary": {
            kind: list(getattr(vocabulary, kind)) for kind in ("engines", "precisions", "gpus", "families")
        },
    }


def training_domain(deployments: list[Deployment]) -> dict[str, Any]:
    """Return which names a network was trained on, in the form a checkpoint keeps them."""
    return {
        "engines": sorted({d.engine for d in deployments}),
        "precisions": sorted({d.precision.name for d in deployments}),
        "gpus": sorted({d.gpu_id for d in deployments}),
        "families": sorted({d.architecture.family for d in deployments}),
    }


def export_checkpoint(network: CoefficientNetwork, path: Path, *, intervals: dict[str, Any],
                      domain: dict[str, Any], metadata: dict[str, Any]) -> Path:  # fmt: skip
    """Write ``path`` (``.json``) and the arrays beside it (``.npz``); returns ``path``.

    Args:
        network: the trained network.
        path: the ``.json`` file.
        intervals: how wide predictions are, in the predictor's form.
        domain: what the network was trained on, in the predictor's form.
        metadata: recipe, data hashes and metrics: anything JSON can hold.

    Raises:
        CheckpointError: the network diverged.
    """
    head = {
        **network_metadata(network),
        "intervals": intervals,
        "domain": domain,
        "written_by": f"llmco2 {llmco2.__version__}",
        **metadata,
    }
    save_checkpoint(path, network_arrays(network), head)
    return path
