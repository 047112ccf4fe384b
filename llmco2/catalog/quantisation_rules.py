"""Rules of a quantisation record: which modules have which format, by name or by pattern."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from llmco2.bounded import shown
from llmco2.catalog.quantisation_schemes import Scheme, unknown
from llmco2.errors import FileFormatError, explain

MAX_PATTERN: Final = 400  # characters; none of a published record is longer
# A repetition of something that repeats: matching it may take for ever.
_NESTED_REPEAT: Final = re.compile(r"[*+}]\)?[*+{]|[*+}][^()]*\)[*+{]")
_KV_KEYS: Final = ("kv_cache_scheme", "kv_cache_quant_algo", "kv_cache_quant_method", "kv_cache_dtype")
_KV_NAMES: Final = {
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "float8_e4m3fn": "fp8",
    "int8": "int8",
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",
    "int4": "int4",
}
_KV_BITS: Final = {(8, "float"): "fp8", (8, "int"): "int8", (4, "float"): "nvfp4", (4, "int"): "int4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A format for the modules that ``pattern`` names; a scheme of None is 16 bit."""

    pattern: str  # a module's name or the end of one, with "*", or a regular expression behind "re:"
    scheme: Scheme | None

    @classmethod
    def of(cls, pattern: str, scheme: Scheme | None) -> Rule:
        """Return the rule; raises FileFormatError for a pattern that cannot be matched in bounded time."""
        if len(pattern) > MAX_PATTERN:
            raise FileFormatError(
                explain("a quantisation pattern is too long", got=f"{len(pattern)} characters")
            )
        text = regex_of(pattern)
        if text is not None:
            compiled(text)
        return cls(pattern=pattern, scheme=scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a record says: a base format for linear layers, narrower rules, exclusions, the cache."""

    base: Scheme | None = None
    experts_only: bool = False  # the base holds for routed experts, where there are any
    rules: tuple[Rule, ...] = ()
    excluded: tuple[str, ...] = ()
    kv_cache: str = ""


def regex_of(pattern: str) -> str | None:
    """Return the regular expression that a pattern is, marked as one or written like one; None for a name or glob."""
    regular = pattern.startswith(("re:", ".*", "^")) or any(mark in pattern for mark in "\\(|$")
    return pattern.removeprefix("re:") if regular else None


def names_of(record: Mapping[str, Any], keys: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return the module names and patterns under ``keys``, sorted; an entry that is no text is refused."""
    found: set[str] = set()
    for key in keys:
        value = record.get(key)
        entries = value if isinstance(value, list | tuple) else [] if value is None else [value]
        for entry in entries:
            if not isinstance(entry, str):
                raise FileFormatError(
                    explain(f"{where}: {key} is no list of modules", got=shown(entry), expected="names")
                )
            found.add(Rule.of(entry, None).pattern)
    return tuple(sorted(found))


def kv_of(record: Mapping[str, Any], where: str) -> str:
    """Return the canonical precision of the KV cache, "" where the record leaves it to the engine."""
    value = next((record[key] for key in _KV_KEYS if record.get(key) is not None), None)
    if isinstance(value, Mapping):
        key = (value.get("num_bits"), str(value.get("type") or "float").casefold())
        if not isinstance(key[0], int) or key not in _KV_BITS:
            raise unknown(where, f"a cache of {key[0]!r} bits, {key[1]}")
        return _KV_BITS[key]
    name = str(value or "").casefold()
    if name in {"", "none", "auto", "bf16", "bfloat16", "fp16", "float16"}:
        return ""
    if name not in _KV_NAMES:
        raise unknown(where, f"a cache in {name}")
    return _KV_NAMES[name]


def kv_of_type(name: Any) -> str:
    """Return the canonical precision of a cache that is written as the type ``name``, or ""."""
    return _KV_NAMES.get(str(name).casefold(), "")


@lru_cache(maxsize=4096)
def compiled(text: str) -> re.Pattern[str]:
    """Return the pattern of a regular expression; raises FileFormatError where it is none or may match for ever."""
    if _NESTED_REPEAT.search(text):
        raise FileFormatError(explain("a quantisation pattern repeats a repetition", got=repr(text)[:60]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python will read otherwise
            return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise FileFormatError(
            explain("a quantisation pattern is no regular expression", got=repr(text)[:60])
        ) from error
