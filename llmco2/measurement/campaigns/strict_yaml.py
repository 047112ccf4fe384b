"""YAML that people write: read as data only, every key known, every complaint one line that names its place.

Invariant: nothing in a file is ever run, and a key written twice is an error instead of a silent override.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from llmco2.bounded import MAX_DEPTH, check_json, read_plain_file, shown
from llmco2.errors import FileFormatError, InputError, explain, nearest_names

MAX_FILE_BYTES: Final = 1_000_000
_MAX_FLOW_DEPTH: Final = 256  # the reader's time grows with the square of it
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_TOO_DEEP: Final = f"lists or mappings nested deeper than {MAX_DEPTH}"
MAX_ITEMS: Final = 50_000  # values of a file, by its commas and lines; reading them takes seconds


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, and a key written twice is an error instead of a silent override."""


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, Hashable):
            raise InputError(explain("a key is not a name", got=shown(key)))
        if key in seen:
            line = key_node.start_mark.line + 1
            raise InputError(explain(f"line {line}: the key is written twice", got=shown(key)))
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def read_yaml(path: Path) -> object:
    """Return what a YAML file holds.

    Raises:
        FileFormatError: the file cannot be read, is too large, nests too deep or is not YAML.
        InputError: a key is written twice; the message names the file and the line.
    """
    content = read_plain_file(path, limit_bytes=MAX_FILE_BYTES)
    n_items = content.count(b",") + content.count(b"\n")
    if n_items > MAX_ITEMS:
        raise FileFormatError(
            explain(f"{path} is too large", got=f"{n_items:,} values", expected=f"at most {MAX_ITEMS:,}")
        )
    if _flow_depth(content) > _MAX_FLOW_DEPTH:
        raise FileFormatError(explain(f"{path} is not YAML", got=_TOO_DEEP))
    try:
        value: object = yaml.load(content.decode(), Loader=_StrictLoader)
        check_json(value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise FileFormatError(explain(f"{path} is not YAML", got=_where_in_yaml(error))) from error
    return value


def _flow_depth(content: bytes) -> int:
    """Return how many brackets of ``content`` are open at once, those in texts and comments among them."""
    depth = deepest = 0
    for character in content.translate(None, _NOT_BRACKETS):
        depth = max(0, depth + (1 if character in b"[{" else -1))
        deepest = max(deepest, depth)
    return deepest


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
            raise InputError(explain(f"{where}: unknown key", got=shown(key), remedy=f"did you mean {near}?"))


def text(value: object, where: str) -> str:
    """Return ``value``, which must be text."""
    if not isinstance(value, str):
        raise InputError(explain(f"{where} is not text", got=shown(value)))
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
        raise InputError(explain(f"{where} is out of range", got=shown(value), expected=expected))


def _where_in_yaml(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem
