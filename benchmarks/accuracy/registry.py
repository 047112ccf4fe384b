"""All methods, by the names that tables show.

Invariant: no two groups hold the same method. Baselines are imported only here and only when
asked for, because they need scikit-learn and matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from benchmarks.accuracy.method import MethodGroup
from benchmarks.accuracy.shipped import SHIPPED_METHODS
from llmco2.errors import InputError, LLMCO2Error, UnknownNameError, explain

BASELINES: Final = (
    "tdp_time",
    "llmcarbon",
    "ecologits",
    "nine_constants",
    "deepen",
    "nnlqp",
    "paper",
    "mlp",
    "ablations",
)
_PACKAGE: Final = "benchmarks.accuracy.baselines"
_EXTRA: Final = ("sklearn", "matplotlib")


def method_groups() -> tuple[MethodGroup, ...]:
    """Return every method: the project's own first.

    Raises:
        LLMCO2Error: scikit-learn or matplotlib is missing.
    """
    check_extra()
    found = [SHIPPED_METHODS]
    for name in BASELINES:
        module = import_module(f"{_PACKAGE}.{name}")
        found += module.METHOD_GROUPS if hasattr(module, "METHOD_GROUPS") else [module.METHOD_GROUP]
    return tuple(found)


def check_extra() -> None:
    """Raise LLMCO2Error naming what the baselines need and is not installed."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise LLMCO2Error(
            explain(
                "the baselines need more packages",
                got=f"no module {', '.join(missing)}",
                remedy="pip install 'llmco2[plots]' scikit-learn",
            )
        )


def method_names(among: Iterable[MethodGroup]) -> tuple[str, ...]:
    """Return the names of all methods, each once, in order."""
    return tuple(dict.fromkeys(name for method_group in among for name in method_group.names))


def chosen_methods(text: str | None, among: Sequence[MethodGroup]) -> tuple[str, ...]:
    """Return the methods that a comma-separated text names without regard to case; None names all.

    Raises:
        UnknownNameError: no such method.
        InputError: the text names nothing.
    """
    known = method_names(among)
    if text is None:
        return known
    by_key = {name.casefold(): name for name in known}
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted:
        raise InputError(explain("--methods names nothing", got=repr(text), expected=", ".join(known)))
    for name in wanted:
        if name.casefold() not in by_key:
            raise UnknownNameError("method", name, known, remedy=f"known: {', '.join(known)}")
    return tuple(name for name in known if name.casefold() in {one.casefold() for one in wanted})
