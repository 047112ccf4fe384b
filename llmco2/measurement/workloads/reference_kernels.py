"""Which kernels a loaded transformers model does without, so that a row can say whose energy it carries.

State-space and linear-attention layers have fast kernels in packages of their own (mamba_ssm, causal_conv1d,
fla). Where one is missing, transformers runs a reference in plain torch, token by token in the worst case: the
numbers are right, the energy is another.

Invariant: only functions that the methods of the model's own layers name are counted, so a hybrid built without
such a layer does without nothing.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final

_FAST_PATH: Final = "is_fast_path_available"  # of a modeling file, in releases before 5.16
_IS_KERNEL: Final = "is_new_implementation"  # what a function's decorator closes over since then
_PACKAGE: Final = "package"
_ANY_PACKAGE: Final = "the packages of its fast path"
_MAX_DEPTH: Final = 4  # decorators around one function


def missing_kernels(model: Any) -> tuple[str, ...]:
    """Return the packages whose kernels ``model`` replaces by reference code, by name; none: empty."""
    layers = {type(module) for module in model.modules()}
    return tuple(sorted({package for layer in layers for package in _missing_of(layer)}))


def reference_note(packages: tuple[str, ...]) -> str:
    """Return the sentence that a row carries."""
    names = ", ".join(packages)
    return (
        f"reference code of transformers in place of kernels of {names}: time and energy are the fallback's"
    )


def _missing_of(layer: type) -> Iterator[str]:
    module = sys.modules.get(layer.__module__)
    if module is None:
        return
    for name in _names_used(layer):
        if name == _FAST_PATH and getattr(module, name, True) is False:
            yield _ANY_PACKAGE
        elif package := _falls_back_on(module, name):
            yield package


def _names_used(layer: type) -> set[str]:
    """Return every global or attribute that the methods of a class name."""
    methods = (inspect.unwrap(value) for value in vars(layer).values() if isinstance(value, FunctionType))
    return {name for method in methods for name in method.__code__.co_names}


def _falls_back_on(module: ModuleType, name: str) -> str | None:
    """Return the missing package of a function that stands for a kernel; ``None``: it is there, or is none."""
    level = [getattr(module, name, None)]
    for _ in range(_MAX_DEPTH):
        closures = [_closure(thing) for thing in level]
        for closure in closures:
            if _IS_KERNEL in closure:
                return None if closure[_IS_KERNEL] else str(closure.get(_PACKAGE, _ANY_PACKAGE))
        level = [value for closure in closures for value in closure.values() if callable(value)]
    return None


def _closure(thing: Any) -> dict[str, Any]:
    """Return what a function closes over; of an object that stands for one, what its forward does."""
    function = thing if isinstance(thing, FunctionType) else getattr(type(thing), "forward", None)
    if not isinstance(function, FunctionType) or function.__closure__ is None:
        return {}
    return dict(_filled(function))


def _filled(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a cell that nothing was put into yet
            continue
