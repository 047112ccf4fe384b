"""From parsed JSON to frozen records: every field checked against its annotation, every number finite.

Invariant: what comes out is what the record promises; anything else raises ``ValueError`` or ``TypeError`` with
one line, never later and somewhere else.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeVar

_R = TypeVar("_R")
_Check = Callable[[Any], Any]
_LONGEST_SHOWN: Final = 60


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)  # made once: a file has many lines


def strict_json(text: str) -> Any:
    """Return what ``text`` says; ``ValueError`` for what is no JSON, NaN and infinities among it."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def check_finite(value: Any) -> None:
    """Raise ``ValueError`` where a number anywhere in ``value`` is not finite (``1e999`` reads as infinity)."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
    elif isinstance(value, Mapping):
        for item in value.values():
            check_finite(item)
    elif isinstance(value, list):
        for item in value:
            check_finite(item)


def record_from(kind: type[_R], entry: Mapping[str, Any]) -> _R:
    """Return a record of ``kind``; ``TypeError`` or ``ValueError`` names the field that does not fit."""
    checks = _checks(typing.cast(Any, kind))
    values = dict(entry)
    for name, value in values.items():
        check = checks.get(name)
        if check is None:
            raise TypeError(f"unknown field {name[:_LONGEST_SHOWN]}")
        if type(value) is float and check in _FLOAT_CHECKS and value - value == 0.0:
            continue  # finite, and right as it is: most fields of most lines
        try:
            values[name] = check(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return kind(**values)


@lru_cache(maxsize=32)
def _checks(kind: type) -> dict[str, _Check]:
    return {name: _check_for(hint) for name, hint in typing.get_type_hints(kind).items()}


def _check_for(hint: Any) -> _Check:
    if isinstance(hint, types.UnionType):
        inner = _check_for(next(part for part in typing.get_args(hint) if part is not types.NoneType))
        if inner is _finite:
            return _finite_or_none
        return lambda value: None if value is None else inner(value)
    origin = typing.get_origin(hint)
    if origin is tuple:
        item = _check_for(typing.get_args(hint)[0])
        return lambda value: tuple(item(part) for part in _of_kind(list, value))
    if origin is not None:
        return _finite_mapping
    if is_dataclass(hint):
        kind = typing.cast(type, hint)
        return lambda value: record_from(kind, _of_kind(dict, value))
    return {float: _finite, bool: _plain(bool), int: _whole}.get(hint) or _plain(hint)


def _finite_or_none(value: Any) -> float | None:
    return None if value is None else _finite(value)


def _finite(value: Any) -> float:
    if type(value) is float:
        if math.isfinite(value):
            return value
        raise ValueError(f"{value} is not a finite number")
    if type(value) is int:
        return float(value)
    raise TypeError(f"{_shown(value)} is not float")


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{_shown(value)} is not int")
    return value


def _finite_mapping(value: Any) -> Any:
    check_finite(_of_kind(dict, value))
    return value


def _plain(kind: type) -> _Check:
    return lambda value: _of_kind(kind, value)


def _of_kind(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{_shown(value)} is not {kind.__name__}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


_FLOAT_CHECKS: Final = frozenset((_finite, _finite_or_none))
