"""Campaign files of kernels: YAML that says which shapes to measure, in which order, and how carefully.

Invariant: as for campaigns of whole runs, a file is data, every key is known, and every shape in it is valid
before the first is launched. An error is one line that names the key.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from llmco2.errors import InputError, explain
from llmco2.measurement.campaigns.plan import MeasurePlan
from llmco2.measurement.campaigns.strict_yaml import axis, known_keys, mapping, number, read_yaml, text
from llmco2.measurement.kernels.shapes import KernelShape, shape_from

MAX_SHAPES: Final = 100_000
TOGETHER: Final = "together"
_KEYS: Final = ("name", "description", "defaults", "kernels", "shuffle", "measure")
# Kernels settle within a second, and there are hundreds of them.
_PLAN_DEFAULTS: Final = {"warm_up_limit_s": 10.0, "temperature_span_s": 1.0}
_NOT_OF_KERNELS: Final = ("parts_tolerance_percent",)
_PLAN_KEYS: Final = tuple(f.name for f in fields(MeasurePlan) if f.name not in _NOT_OF_KERNELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCampaign:
    """What to measure: the shapes in order."""

    name: str
    description: str = ""
    shapes: tuple[KernelShape, ...]
    plan: MeasurePlan


def load_kernel_campaign(path: Path | str) -> KernelCampaign:
    """Return the campaign of kernels in a YAML file.

    Raises:
        FileFormatError: the file cannot be read or is not YAML.
        InputError: a key is unknown or missing, or a value is out of range; one line that names the key.
    """
    path = Path(path)
    content = read_yaml(path)
    try:
        return kernel_campaign_from(content, name=path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def kernel_campaign_from(content: object, *, name: str = "kernels") -> KernelCampaign:
    """Return the campaign that the parsed ``content`` of a file describes."""
    top = mapping(content, "the file")
    known_keys(top, _KEYS, "campaign of kernels")
    entries = top.get("kernels")
    if not isinstance(entries, list) or not entries:
        raise InputError(explain("kernels is empty", got=repr(entries), expected="a list of mappings"))
    defaults = mapping(top.get("defaults", {}), "defaults")
    shapes: dict[KernelShape, None] = {}
    for index, entry in enumerate(entries):
        where = f"kernels[{index}]"
        shapes |= dict.fromkeys(_entry(mapping(entry, where), defaults, where))
        if len(shapes) > MAX_SHAPES:
            raise InputError(explain("too many kernels", expected=f"at most {MAX_SHAPES:,}"))
    return KernelCampaign(
        name=text(top.get("name", name), "name"),
        description=text(top.get("description", ""), "description"),
        shapes=_ordered(tuple(shapes), top),
        plan=_plan(mapping(top.get("measure", {}), "measure")),
    )


def _entry(entry: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> list[KernelShape]:
    """Return every combination of one entry's values; fields under ``together`` go in step."""
    columns = {key: axis(values, f"{where}.{key}") for key, values in entry.items()}
    linked = columns.pop(TOGETHER, [{}])
    count = len(linked)
    for values in columns.values():
        count *= len(values)
    if count > MAX_SHAPES:
        raise InputError(
            explain(f"{where} is too large", got=f"{count:,}", expected=f"at most {MAX_SHAPES:,}")
        )
    found = []
    for group, *values in itertools.product(linked, *columns.values()):
        own = dict(zip(columns, values, strict=True))
        step = mapping(group, f"{where}.{TOGETHER}")
        twice = [key for key in step if key in own]
        if twice:
            raise InputError(explain(f"{where}.{TOGETHER}: given twice", got=twice[0]))
        found.append(shape_from({**defaults, **own, **step}, where))
    return found


def _ordered(shapes: tuple[KernelShape, ...], top: Mapping[str, Any]) -> tuple[KernelShape, ...]:
    """Return the shapes in the file's order, or drawn by the seed ``shuffle``."""
    if "shuffle" not in top:
        return shapes
    number(top["shuffle"], "shuffle", low=0, whole=True)
    drawn = list(shapes)
    random.Random(top["shuffle"]).shuffle(drawn)
    return tuple(drawn)


def _plan(values: Mapping[str, Any]) -> MeasurePlan:
    known_keys(values, _PLAN_KEYS, "measure")
    try:
        return MeasurePlan(**{**_PLAN_DEFAULTS, **values})
    except InputError as error:
        raise InputError(f"measure: {error}") from error
