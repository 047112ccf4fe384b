"""The parts of the package that a plain install leaves out, and the error that names the one to add.

Invariant: a module that an extra brings is imported when something needs it, never before, so that predicting,
comparing and the monitor run from a plain install.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from llmco2.errors import MissingExtraError, explain

# Module → the extra that brings it; torch comes with two, and training says which it means.
_EXTRA_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pyarrow": "parquet",
        "zeus": "measure",
        "torch": "measure",
        "transformers": "measure",
        "accelerate": "measure",
        "lightning": "train",
        "torch_geometric": "train",
        "jsonargparse": "train",
        "tensorboard": "train",
        "matplotlib": "plots",
        "opentelemetry": "otel",
    }
)


def missing_extra(
    what: str, error: ModuleNotFoundError, extra: str | None = None
) -> MissingExtraError | None:
    """Return the error to raise for a module that is not installed; None where no extra brings it.

    Args:
        what: what needs the module, as the message begins.
        error: what the import raised.
        extra: the extra to name where several bring the module; by default that of the module.
    """
    module = (error.name or "").partition(".")[0]
    known = _EXTRA_OF.get(module)
    if known is None:
        return None
    return MissingExtraError(
        explain(
            f"{what} needs an extra",
            got=f"no module {module!r}",
            remedy=f"pip install 'llmco2[{extra or known}]'",
        )
    )


def imported(module: str, what: str) -> Any:
    """Return a module that an extra brings; ``what`` says what needs it, should it be missing.

    Raises MissingExtraError where it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = missing_extra(what, error)
        if missing is None:
            raise
        raise missing from error
