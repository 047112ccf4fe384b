"""The model that was built last, kept for the next configuration that runs the same one.

Invariant: at most one model is held, and the old one is gone before the next is built. A model is only used
again for the weights, precision, seed and device that it was built with; attention is switched where its class
can, and else the model is built anew.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.model_loading import FoundConfig, load_config, load_model

if TYPE_CHECKING:
    import torch

_Key = tuple[str, str | None, str, str, int, int, str]


class KeptModel:
    """Builds models, and keeps the last."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._key: _Key | None = None
        self._held: tuple[FoundConfig, Any] | None = None

    def get(self, configuration: RunConfiguration, device: torch.device) -> tuple[FoundConfig, Any]:
        """Return config and model of ``configuration``, in evaluation mode on ``device``.

        Raises:
            WorkloadError: it cannot be built as asked; nothing is kept then.
        """
        key = _key(configuration, device)
        if self._held is not None and key == self._key and _attends(self._held[1], configuration.attention):
            return self._held
        self.drop()
        found = load_config(configuration)
        self._held = found, load_model(configuration, found, device)
        self._key = key
        return self._held

    def drop(self) -> None:
        """Let go of the model and give its memory back to the device; twice without harm."""
        self._key = self._held = None
        free_memory()


def free_memory() -> None:
    """Give what torch holds of the device's memory without need back; nothing where CUDA was never started.

    A campaign of servers needs no torch, so it is not imported to find out.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _key(c: RunConfiguration, device: torch.device) -> _Key:
    return (c.model, c.model_path, c.weights, c.precision, c.tensor_parallel, c.seed, str(device))


def _attends(model: Any, attention: str) -> bool:
    """Switch ``model`` to ``attention``; return whether it runs that now."""
    if getattr(model.config, "_attn_implementation", None) == attention:
        return True
    try:
        model.set_attn_implementation(attention)
    except (AttributeError, ImportError, ValueError):  # no such method, package or attention
        return False
    return bool(model.config._attn_implementation == attention)
