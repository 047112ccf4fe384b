"""Sound documents made unsound, by a seed: what no reader may accept, and freer damage that may by chance be sound.

Every example follows from one number, so that a thousand of them cost little beside reading them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

_MARK = "@@here@@"
# JSON text that is no JSON, or that no file of ours may hold anywhere.
NEVER = (
    *("1e999", "-1e999", "9" * 400, "9" * 5000, "[" * 200 + "]" * 200, '{"a":' * 200 + "1" + "}" * 200),
    *("nul", "'x'", "{", "]", "01", "+1", "0x10", '"', "1 2", "\\", "\x00", ",", '"\x01"', '"\\ud800"'),
)
# JSON text that is sound, and seldom what a key wants.
ODD = (
    *("null", "true", "false", "-1", "0", "1.5", "1e300", "-1e300", "1e-300", '""', '"x"', '"1"', "[]", "{}"),
    *("[null]", "[[]]", '{"x":null}', "123456789012345678901234567890", '"' + "x" * 3000 + '"', '"\\u0000"'),
    *('"é\\n"', "[1,2,3]", '{"a":{"b":1}}', "2e9", "4294967296", '"NaN"', '"inf"', "[true]", "7"),
)
ROOTS = (
    "",
    " ",
    "[]",
    "3",
    "null",
    '"text"',
    "true",
    "[1]",
    "[[]]",
    "{}",
    "\x00",
    "\ufeff",
    "<html>",
    "PK\x03\x04",
)


@dataclass(frozen=True)
class Example:
    """The bytes of a file, and whether a reader must refuse them."""

    content: bytes
    must_be_refused: bool


Maker = Callable[[Random], Example]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))[:20]
    found = []
    for key, each in items:
        found += [(*path, key), *_paths(each, (*path, key))]
    return found


def _changed(document: Any, path: tuple[Any, ...], text: str | None) -> str:
    """Return ``document`` as JSON with the raw ``text`` in place of the value at ``path``; None: without it."""
    place = document
    for key in path[:-1]:
        place = place[key]
    kept = copy.copy(place)
    try:
        if text is None:
            del place[path[-1]]
            return json.dumps(document)
        place[path[-1]] = _MARK
        return json.dumps(document).replace(json.dumps(_MARK), text)
    finally:  # a copy of the whole would cost more than reading it
        place.clear()
        place.update(kept) if isinstance(place, dict) else place.extend(kept)


def json_examples(document: Any, free: str = "") -> Maker:
    """Return what makes examples of ``document``, a sound object: four must be refused for one that need not.

    What stands under the key ``free`` may be anything that is JSON.
    """
    whole, paths = json.dumps(document), [path for path in _paths(document) if free not in path]

    def make(random: Random) -> Example:
        kind = random.randrange(10)
        if kind < 2:
            return Example(whole[: random.randrange(1, len(whole))].encode(), must_be_refused=True)
        if kind < 4:
            text = _changed(document, random.choice(paths), random.choice(NEVER))
            return Example(text.encode("utf-8", "replace"), must_be_refused=True)
        if kind == 4:
            ending = random.choice(["}", "]", "{}", "x", ",", "\x00"])
            broken = random.choice([whole + ending, *ROOTS])
            return Example(broken.encode(), must_be_refused=True)
        if kind in {5, 8, 9}:
            return Example(foreign_bytes(random, whole.encode()), must_be_refused=True)
        if kind == 6:
            text = _changed(document, random.choice(paths), random.choice((*ODD, None)))
            return Example(text.encode(), must_be_refused=False)
        return Example(flipped(random, whole.encode()), must_be_refused=False)

    return make


def byte_examples(sound: bytes, broken: Callable[[Random], bytes]) -> Maker:
    """Return what makes examples of a format of one's own: ``broken`` ones, and ``sound`` cut short or flipped."""

    def make(random: Random) -> Example:
        if random.randrange(4):
            return Example(broken(random), must_be_refused=True)
        damage = random.choice([flipped, cut])
        return Example(damage(random, sound), must_be_refused=False)

    return make


def foreign_bytes(random: Random, sound: bytes) -> bytes:
    """Return ``sound`` with a byte in it that no UTF-8 text has."""
    place = random.randrange(len(sound))
    return sound[:place] + b"\xff" + sound[place:]


def flipped(random: Random, sound: bytes) -> bytes:
    """Return ``sound`` with one byte another."""
    changed = bytearray(sound)
    changed[random.randrange(len(sound))] ^= random.randrange(1, 256)
    return bytes(changed)


def cut(random: Random, sound: bytes) -> bytes:
    """Return the beginning of ``sound``."""
    return sound[: random.randrange(len(sound))]
