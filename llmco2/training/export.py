"""From a trained network to the numbers that predictions run from, without torch.

Invariant: what is written is arrays and text; names of arrays are those of the network's parameters, which
the predictor reads. A network that diverged is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import llmco2
from llmco2.errors import CheckpointError, explain
from llmco2.networks.coefficients import CoefficientNetwork
from llmco2.predictor.checkpoint import network_description, save_checkpoint
from llmco2.predictor.intervals import COVERAGE, Newness

_WIDENING: Final = {
    Newness.MEASURED: 1.0,
    Newness.KNOWN: 1.0,
    Newness.NEW_MODEL: 2.4,
    Newness.NEW_GPU: 2.4,
    Newness.NEW_BOTH: 3.2,
}
_FEWEST_ERRORS: Final = 20  # fewer say nothing of the tails
_GENERIC_LOG_ERROR: Final = 0.5


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
            kind: list(getattr(vocabulary, kind))
            for kind in ("engines", "precisions", "gpus", "families", "groups")
        },
    }


def validation_intervals(log_errors: Tensor) -> dict[str, Any]:
    """Return intervals in the predictor's form from the errors on a validation side, ``(n_rows,)``.

    Args:
        log_errors: ``log(predicted / measured)`` of rows that trained nothing; NaN where a row has no energy.

    What is new widens them by the factors that calibration by held-out groups was seen to need (2.4 to 3.2);
    a release calibrates each case by itself. Without a validation side the generic error stands.
    """
    known = -log_errors[torch.isfinite(log_errors)].double()
    if len(known) >= _FEWEST_ERRORS:
        tail = (1.0 - COVERAGE) / 2.0
        low, high = (float(known.quantile(share)) for share in (tail, 1.0 - tail))
    else:
        low, high = -_GENERIC_LOG_ERROR, _GENERIC_LOG_ERROR
    cases = {case.value: {"low": low * factor, "high": high * factor} for case, factor in _WIDENING.items()}
    return {
        "cases": cases,
        "unknown_engine_factor": 1.5,
        "unknown_precision_factor": 1.25,
        "phase_factor": 1.25,
        "method": f"{len(known)} validation errors, widened for what is new",
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
