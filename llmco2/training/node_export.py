"""From a trained network to the arrays that predictions run from, without torch."""

from __future__ import annotations

import logging
from pathlib import Path

import lightning.pytorch as pl
import numpy as np

from llmco2.errors import CheckpointError, explain
from llmco2.networks.kernel_network import KernelNetwork
from llmco2.training.log_folder import log_folder

_LOG = logging.getLogger(__name__)


class ExportNodeFunctions(pl.Callback):
    """Writes the node functions' arrays (``kernel.KIND.mean`` …) when a fit ends; a development run writes nothing.

    Args:
        path: of the ``.npz``; one without a root lies in the log folder.
    """

    def __init__(self, path: str = "node_functions.npz") -> None:
        super().__init__()
        self.path = path

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Export, once."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = log_folder(trainer)  # every process takes part in agreeing on it
        network = getattr(pl_module, "network", None)
        if trainer.is_global_zero and isinstance(network, KernelNetwork):
            _LOG.info("exported %s", export_node_functions(network, folder / self.path))


def export_node_functions(network: KernelNetwork, path: Path) -> Path:
    """Write the arrays of ``network`` to ``path``; returns it.

    Raises CheckpointError naming the first array that is not finite.
    """
    arrays = network.arrays()
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise CheckpointError(
                explain(f"the network diverged: {name}", got="a value that is not finite",
                        remedy="train with a lower learning rate")
            )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path
