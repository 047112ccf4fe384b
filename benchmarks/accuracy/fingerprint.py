"""Which code and catalog a result came from, so that no result outlives the code that made it.

Invariant: the fingerprint of a method changes with every module of llmco2 and benchmarks that its fit can reach by
imports and with every shipped table of the catalog; comments, docstrings and formatting change nothing.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks.accuracy.method import MethodGroup
from llmco2.resources import datasets_dir

_PACKAGES: Final = ("llmco2", "benchmarks")
_LENGTH: Final = 16  # hexadecimal digits


def method_group_fingerprint(method_group: MethodGroup) -> str:
    """Return 16 hexadecimal digits that name the code and the catalog behind a method's results."""
    fold_errors: Any = method_group.fold_errors
    options = ""
    while isinstance(fold_errors, partial):
        options += f"{fold_errors.args!r}{sorted((fold_errors.keywords or {}).items())!r}"
        fold_errors = fold_errors.func
    digest = hashlib.sha256(f"{_catalog_digest()}{options}{fold_errors.__qualname__}".encode())
    for name in sorted(reachable_modules(fold_errors.__module__)):
        digest.update(f"{name} {_module_digest(name)}\n".encode())
    return digest.hexdigest()[:_LENGTH]


def reachable_modules(start: str) -> frozenset[str]:
    """Return the modules of both packages that ``start`` imports directly or through others, and ``start`` itself."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [other for other in _imported(name) if other not in found]
    return frozenset(found)


@cache
def _imported(name: str) -> tuple[str, ...]:
    named = {found for node in ast.walk(_tree(name)) for found in _names(node)}
    return tuple(sorted(found for found in named if _source(found) is not None))


def _names(node: ast.AST) -> Iterator[str]:
    """Yield modules of both packages that a statement may import; what is imported from one may be one itself."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] in _PACKAGES)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _PACKAGES:
        yield str(node.module)
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _source(name: str) -> Path | None:
    if name == "__main__" or name.split(".", maxsplit=1)[0] not in _PACKAGES:
        file = getattr(sys.modules.get(name), "__file__", None)
        return Path(file) if file else None
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # a function or class, not a module
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def _tree(name: str) -> ast.Module:
    path = _source(name)
    return ast.parse("" if path is None else path.read_text(encoding="utf-8"))


@cache
def _module_digest(name: str) -> str:
    tree = _tree(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@cache
def _catalog_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(datasets_dir().glob("*.csv")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
