"""llmco2: the energy and carbon of an LLM inference, predicted before it runs and measured when it does.

Invariant: importing this package imports nothing heavy. The names below load their modules on first use,
so ``import llmco2`` is instant and only what needs torch loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmco2.predictor.api import predict, predict_frame

__version__ = "0.1.0"
__all__ = ["__version__", "predict", "predict_frame"]


def __getattr__(name: str) -> Any:
    """Load the front door on first use (PEP 562)."""
    if name in ("predict", "predict_frame"):
        from llmco2.predictor import api  # noqa: PLC0415

        return getattr(api, name)
    raise AttributeError(f"module 'llmco2' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
