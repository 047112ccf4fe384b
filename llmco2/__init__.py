"""llmco2: the energy and carbon of an LLM inference, predicted before it runs and measured when it does.

::

    import llmco2

    footprint = llmco2.predict(model="Qwen/Qwen3-8B", gpu="H100-SXM5-80GB", engine="vllm", batch_size=8)
    footprint.total.energy_j           # joules of the whole batch over all its GPUs
    footprint.total.energy_interval_j  # its 90 % interval: .low and .high
    footprint.decode.time_s            # seconds; prefill, decode and total have the same fields
    footprint.carbon.total_gco2e       # grams, operational and embodied
    footprint.notes                    # what lies outside the domain that the predictor was trained on

    answers = llmco2.predict_frame(requests)  # a pandas DataFrame in, one row a request; and out

    choice = llmco2.choose(model="Qwen/Qwen3-8B", gpu=["H100", "L40S"], engine="vllm", max_tpot_s=0.02)
    choice.best, choice.equal, choice.pareto, choice.frame  # the least energy within the target, and the others

What is wrong with an argument raises ``llmco2.InputError``, a ValueError, in one line with the remedy. Answers are the
same every time, footprints compare, hash and pickle, and calls from several threads are safe.
``llmco2.report.table.footprint_text(footprint)`` is the table that the command line prints.

Invariant: importing this package imports nothing heavy. The names below load their modules on first use,
so ``import llmco2`` is instant and only what needs torch loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmco2.decision.choice import Choice, choose
    from llmco2.errors import InputError, LLMCO2Error
    from llmco2.predictor.api import predict, predict_frame
    from llmco2.records.footprint import Footprint

__version__ = "0.1.0"
__all__ = [
    "Choice",
    "Footprint",
    "InputError",
    "LLMCO2Error",
    "__version__",
    "choose",
    "predict",
    "predict_frame",
]
_MODULES = {
    "Choice": "llmco2.decision.choice",
    "Footprint": "llmco2.records.footprint",
    "InputError": "llmco2.errors",
    "LLMCO2Error": "llmco2.errors",
    "choose": "llmco2.decision.choice",
    "predict": "llmco2.predictor.api",
    "predict_frame": "llmco2.predictor.api",
}


def __getattr__(name: str) -> Any:
    """Load the front door on first use (PEP 562)."""
    if name in _MODULES:
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'llmco2' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
