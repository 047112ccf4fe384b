"""YAML that people write: read as data only, every key known, every complaint one line that names its place.

Invariant: nothing in a file is ever run, and a key written twice is an error instead of a silent override.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from llmco2.errors import FileFormatError, InputError, explain, nearest_names

MAX_FILE_BYTES: Final = 4_000_000


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, and a key written twice is an error instead of a silent override."""


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, Hashable):
            raise InputError(explain("a key is not a name", got=repr(key)))
        if key in seen:
            line = key_node.start_mark.line + 1
            raise InputError(explain(f"line {line}: the key is written twice", got=repr(key)))
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def read_yaml(path: Path) -> object:
    """Return what a YAML file holds.

    Raises:
        FileFormatError: the file cannot be read, is too large or is not YAML.
        InputError: a key is written twice; the message names the file and the line.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FileFormatError(
                explain(f"{path} is too large", expected=f"at most {MAX_FILE_BYTES:,} bytes")
            )
        content: object = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise FileFormatError(explain(f"cannot read {path}", got=error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileFormatError(explain(f"{path} is not YAML", got=_where_in_yaml(error))) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return content


def axis(values: object, where: str) -> list[Any]:
    """Return the values of one key: a list, or one value as a list of one."""
    if not isinstance(values, list):
        return [values]
    if not values:
        raise InputError(explain(f"{where} is empty", expected="at least one value"))
    return values


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """Return ``value``, which must be a mapping."""
    if not isinstance(value, dict):
        got = "nothing" if value is None else type(value).__name__
        raise InputError(explain(f"{where} is not a mapping", got=got, expected="key: value lines"))
    return value


def known_keys(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse a key that is not among ``known``, with the nearest that is."""
    for key in values:
        if key not in known:
            near = ", ".join(nearest_names(str(key), known)) or ", ".join(known)
            raise InputError(explain(f"{where}: unknown key", got=repr(key), remedy=f"did you mean {near}?"))


def text(value: object, where: str) -> str:
    """Return ``value``, which must be text."""
    if not isinstance(value, str):
        raise InputError(explain(f"{where} is not text", got=repr(value)))
    return value


def number(value: object, where: str, *, low: float, high: float = float("inf"), whole: bool = False) -> None:
    """Refuse anything but a number from ``low`` to ``high``."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not low <= value <= high
        or (whole and not isinstance(value, int))
    ):
        kind = "a whole number" if whole else "a number"
        expected = f"{kind} from {low:g}" + (f" to {high:g}" if high < float("inf") else "")
        raise InputError(explain(f"{where} is out of range", got=repr(value), expected=expected))


def _where_in_yaml(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem
