"""Which kernels a stack runs: its library for a format on a family of boards, and what stands in where none is known.

Invariant: what was not measured borrows from its nearest relative, in this order: the same stack on another family,
another stack on the same family, and last no library at all, which the node functions were trained to answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np

from llmco2.kernel_model.features import LIBRARIES, STACKS

NONE: Final = -1
_ROUTED: Final = 2e6  # bytes of a message above which NCCL may beat a stack's own exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The kernels to ask for: indices into STACKS and LIBRARIES (-1: none), and whether they were measured so."""

    stack: int
    library: int
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lanes:
    """What was measured, by kind: rows of (stack, family, variant, library), and expert shapes with their library."""

    rows: Mapping[str, Mapping[tuple[str, str, str], str]]
    experts: Mapping[tuple[str, str, str], tuple[tuple[tuple[float, ...], str], ...]]
    _cache: dict[Any, Lane] = field(default_factory=dict, compare=False)

    def find(self, kind: str, stack: str, family: str, variant: str) -> Lane:
        """Return the lane of a kind; ``variant`` is its format or its cache's bytes."""
        key = (kind, stack, family, variant)
        if key not in self._cache:
            self._cache[key] = self._find(*key)
        return self._cache[key]

    def _find(self, kind: str, stack: str, family: str, variant: str) -> Lane:
        rows = self.rows.get(kind, {})
        for other, known in _relatives(stack, family, STACKS):
            library = rows.get((other, known, variant))
            if library is not None:
                return _lane(other, library, measured=(other, known) == (stack, family))
        # The format was measured on other families only: take the stack's own kernels there.
        for other in (stack, *STACKS):
            found = [lib for (s, _, v), lib in rows.items() if s == other and v == variant]
            if found:
                return _lane(other, found[0], measured=False)
        return Lane(stack=STACKS.index(stack), library=NONE, measured=False)

    def find_experts(self, stack: str, family: str, form: str, shape: Sequence[float]) -> Lane:
        """Return the lane of routed experts: the library of the nearest measured (hidden, width, experts, top k)."""
        key = ("experts", stack, family, form, *shape)
        if key not in self._cache:
            self._cache[key] = self._find_experts(stack, family, form, shape)
        return self._cache[key]

    def _find_experts(self, stack: str, family: str, form: str, shape: Sequence[float]) -> Lane:
        for other, known in _relatives(stack, family, STACKS):
            measured = self.experts.get((other, known, form))
            if measured:
                shapes = np.log(np.array([s for s, _ in measured]))
                distance = ((shapes - np.log(np.array(shape))) ** 2).sum(axis=1)
                library = measured[int(np.argmin(distance))][1]
                return _lane(other, library, measured=(other, known) == (stack, family))
        return Lane(stack=STACKS.index(stack), library=NONE, measured=False)


def _lane(stack: str, library: str, *, measured: bool) -> Lane:
    return Lane(
        stack=STACKS.index(stack) if stack in STACKS else NONE,
        library=LIBRARIES.index(library) if library in LIBRARIES else NONE,
        measured=measured,
    )


@lru_cache(maxsize=256)
def _relatives(stack: str, family: str, stacks: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return (stack, family) pairs from the nearest on; families of one generation stand in for each other."""
    kin = {
        "sm100": ("sm103", "sm90"),
        "sm103": ("sm100", "sm90"),
        "sm120": ("sm89", "sm100"),
        "sm89": ("sm120", "sm80"),
        "sm80": ("sm89", "sm90"),
        "sm90": ("sm100",),
    }
    others = [name for name in stacks if name != stack]
    order = [(stack, family), *((other, family) for other in others)]
    for relative in kin.get(family, ("sm80", "sm89", "sm90")):
        order += [(stack, relative), *((other, relative) for other in others)]
    return tuple(order)


def read_lanes(lanes: Mapping[str, Any]) -> Lanes:
    """Return the lanes of a checkpoint's metadata (lists of text and numbers)."""
    rows = {
        kind: {(stack, family, variant): library for stack, family, variant, library in entries}
        for kind, entries in lanes["kinds"].items()
    }
    experts: dict[tuple[str, str, str], list[tuple[tuple[float, ...], str]]] = {}
    for stack, family, form, shape, library in lanes["experts"]:
        experts.setdefault((stack, family, form), []).append((tuple(shape), library))
    return Lanes(rows=rows, experts={key: tuple(value) for key, value in experts.items()})
