"""Fold the many spellings of a model name to one key, and read a checkpoint's precision off its name.

``meta-llama/Llama-3.1-8B-Instruct``, ``Meta-Llama-3.1-8B`` and ``llama3.1:8b`` fold to the same key;
``Qwen/Qwen3-32B-FP8`` and ``TheBloke/…-GPTQ`` fold to their base with "fp8" and "int4" beside it.
Organisation and tuning (instruct, chat, base) change no shape, so they never decide.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Final

_SPLIT: Final = re.compile(r"[-_:\s]+")
_NOT_KEY: Final = re.compile(r"(?<!\d)\.|\.(?!\d)|[^a-z0-9.]")
_DATE: Final = re.compile(r"\d{4}|\d{6}|\d{8}")
_TUNING: Final = frozenset(
    ("instruct", "chat", "it", "base", "pt", "hf", "thinking", "reasoning", "latest", "preview")
)
# How checkpoints spell their number format at the end of a name; the first pattern that fits decides.
_PRECISION_SUFFIXES: Final = tuple(
    (re.compile(rf"[-_.:](?:{pattern})$"), precision)
    for pattern, precision in (
        (r"fp8[-_.]block", "fp8-block"),
        (r"fp8(?:[-_.]fp8)*[-_.](?:dynamic|static|pertensor|tensor)(?:[-_.](?:kv|w8a8|fp8))*", "fp8-channel"),
        (r"fp8(?:[-_.](?:dynamic|static|kv|pertensor|tensor|w8a8|fp8))*|w8a8[-_]fp8|fp8e4m3", "fp8"),
        (r"nvfp4(?:[-_]\w+)?|fp4", "nvfp4"),
        (r"mxfp4(?:[-_]\w+)?", "mxfp4"),
        (r"(?:gptq|awq|autoround|quantized)?[-_.]?(?:int8|8bit|8-bit|w8a16)(?:[-_.]gptq)?", "int8-w8a16"),
        (r"(?:quantized[-_.])?(?:int8[-_.])?w8a8(?:[-_.]int8)?", "int8"),
        (r"(?:unsloth[-_])?bnb[-_]4bit|nf4|qlora", "nf4"),
        (r"(?:awq|gptq)(?:[-_.](?:int4|4bit|4-bit|4b|marlin|w4a16|g128|128g))*", "int4"),
        (r"(?:quantized[-_.])?w4a16(?:[-_.]g128)?|(?:\w+[-_.])?int4(?:[-_.](?:awq|gptq))?", "int4"),
        (r"(?:mlx[-_.])?(?:4bit|4-bit)", "int4"),
        (r"(?:qat[-_.])?(?:gguf[-_.:])?q4(?:_[01km]|_k_[sml])?(?:[-_.]gguf)?", "int4"),
        (r"(?:gguf[-_.:])?q8(?:_0)?(?:[-_.]gguf)?", "int8-w8a16"),
        (r"gguf", "int4"),  # of the files there, Q4_K_M is what tools fetch unless told otherwise
        (r"bf16|bfloat16", "bf16"),
        (r"fp16|float16", "fp16"),
    )
)


def candidate_keys(name: str) -> Iterator[tuple[str, str]]:
    """Yield (key, precision) pairs to look up for ``name``, the most literal first; precision "": its own."""
    bare = bare_name(name)
    base, precision = split_precision(bare)
    readings = [(bare, "")] if base == bare else [(bare, ""), (base, precision)]
    for text, found in readings:
        yield folded(text), found
        yield folded(text, drop_tuning=True), found
        yield folded(text, drop_tuning=True, drop_dates=True), found


def bare_name(name: str) -> str:
    """Return ``name`` without its organisation, in lower case."""
    return name.strip().rstrip("/").rsplit("/", 1)[-1].casefold()


def split_precision(bare: str) -> tuple[str, str]:
    """Return a lower-case name without its number-format suffix, and the precision ("" where none)."""
    for pattern, precision in _PRECISION_SUFFIXES:
        match = pattern.search(bare)
        if match and match.start() > 0:
            return bare[: match.start()], precision
    return bare, ""


def folded(name: str, *, drop_tuning: bool = False, drop_dates: bool = False) -> str:
    """Return the key of ``name``: no organisation, no "Meta-" and, if asked, no tuning words and dates.

    Separators go, except where they hold two digits apart: "OPT-1.3B" is not "OPT-13B".
    """
    first, *rest = _SPLIT.split(bare_name(name))
    key = _NOT_KEY.sub("", first)
    for word in rest:
        if (drop_tuning and word in _TUNING) or (drop_dates and _DATE.fullmatch(word)):
            continue
        part = _NOT_KEY.sub("", word)
        apart = key[-1:].isdigit() and part[:1].isdigit()
        key += f"-{part}" if apart else part
    return key.removeprefix("meta") if key.startswith("metallama") else key


_NARROW_CACHE: Final = re.compile(r"[-_.]fp8[-_.]kv(?:[-_.]|$)", re.IGNORECASE)
_LINEAGE: Final = re.compile(r"[a-z]{2,}")
_SIZE: Final = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
_LEAST_LIKENESS: Final = 0.6  # of two families' words, one of them misspelt
_MOST_APART: Final = 3.0  # times in size, beyond which no model is suggested for another


def has_narrow_cache(name: str) -> bool:
    """Return whether the name says that the checkpoint's KV cache is in FP8, as in "-FP8-KV"."""
    return _NARROW_CACHE.search(bare_name(name)) is not None


def same_lineage(name: str, known: Iterable[str]) -> list[str]:
    """Return those of ``known`` that ``name`` may mean: of a family's word like one of its, of about its size."""
    words, size = _LINEAGE.findall(bare_name(name)), _size_of(name)
    return [
        candidate
        for candidate in known
        if _near(size, _size_of(candidate)) and any(_alike(word, _family(candidate)) for word in words)
    ]


def _family(candidate: str) -> str:
    return next((word for word in _LINEAGE.findall(candidate.casefold()) if word != "meta"), "")


def _alike(one: str, other: str) -> bool:
    return one == other or difflib.SequenceMatcher(None, one, other).ratio() >= _LEAST_LIKENESS


def _size_of(name: str) -> float:
    found = _SIZE.search(bare_name(name))
    return float(found.group(1)) if found else 0.0


def _near(one: float, other: float) -> bool:
    return not one or not other or 1.0 / _MOST_APART <= one / other <= _MOST_APART
