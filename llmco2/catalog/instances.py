"""Names that mean several boards at once: cloud instances, whole servers, Slurm's gres, "8xH100".

Invariant: a name says how many boards only where the number is written in it or in ``datasets/instances.csv``; a
name of boards without a kind ("gpu:4") and a slice of a board (MIG, vGPU) mean no board at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from llmco2.catalog import tables

_FILE: Final = "instances.csv"
_COLUMNS: Final = ("name", "provider", "gpu_id", "n_gpus", "source", "retrieved", "confidence")
MAX_COUNT: Final = 1024
_GRES: Final = re.compile(r"^(?:gres[/:])?gpu:(?P<board>[^:=]+)[:=](?P<count>\d{1,4})(?:\(.*\))?$")
_BARE_GRES: Final = re.compile(r"^(?:gres[/:])?gpu(?:[:=]\d+)?$")
_BEFORE: Final = re.compile(r"^(?P<count>\d{1,4})\s*[x×*]\s*(?P<board>\D.*)$")
_BEHIND: Final = re.compile(r"^(?P<board>.*?)(?:\s*[x×*]\s*|:)(?P<count>\d{1,4})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBoards:
    """Boards of one kind that one name means together."""

    board: str  # the name of the board, to be resolved as any other
    n_gpus: int
    said_by: str  # what says the number: "p5.48xlarge (aws)", "gpu:h100:4"


def named_boards(name: str) -> NamedBoards | None:
    """Return the boards that ``name`` counts, or None where it counts none; the board itself may be unknown.

    Read are the instances and servers of ``datasets/instances.csv``, Slurm's ``gpu:h100:4``, and a number before or
    behind a board's name ("8xH100", "A100 x 4", "H100:8").
    """
    text = name.strip()
    instance = _instances().get(_key(text))
    if instance is not None:
        return instance
    spelled = text.casefold()
    for pattern in (_GRES, _BEFORE, _BEHIND):
        match = pattern.match(spelled)
        if match and match["board"].strip() and 1 <= int(match["count"]) <= MAX_COUNT:
            return NamedBoards(board=match["board"].strip(), n_gpus=int(match["count"]), said_by=text)
    return None


def names_no_kind(name: str) -> bool:
    """Return whether ``name`` asks for GPUs without saying of which kind ("gpu:4", "gres/gpu=8")."""
    return _BARE_GRES.match(name.strip().casefold()) is not None


def instance_names() -> tuple[str, ...]:
    """Return the names of instances and servers, as their makers spell them."""
    return tuple(boards.said_by.partition(" (")[0] for boards in _instances().values())


def _key(name: str) -> str:
    """Return ``name`` folded for comparison, without Azure's "Standard_"; dots part digits and stay."""
    return name.casefold().removeprefix("standard_").replace("_", "-").replace(" ", "-")


@cache
@tables.shipped(_FILE)
def _instances() -> Mapping[str, NamedBoards]:
    """Return the instances and servers of the table by their folded names."""
    found = {}
    for row in tables.read_table(_FILE, _COLUMNS):
        where = f"{_FILE}, {row['name']}"
        found[_key(row["name"])] = NamedBoards(
            board=tables.text(row, "gpu_id", where),
            n_gpus=tables.whole(row, "n_gpus", where, low=1),
            said_by=f"{row['name']} ({row['provider']})",
        )
    return MappingProxyType(found)
