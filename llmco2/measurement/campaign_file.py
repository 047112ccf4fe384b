"""Campaign files: YAML that says which configurations to measure, and how carefully.

Invariant: a file is data. It is read with the safe loader, every key is known, and every configuration in it
is valid before the first one runs. An error is one line that names the key.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

from llmco2.errors import FileFormatError, InputError, explain, nearest_names
from llmco2.measurement.configuration import RunConfiguration, configuration_from
from llmco2.measurement.phases import MeasurePlan

MAX_CONFIGURATIONS: Final = 100_000
MAX_FILE_BYTES: Final = 4_000_000
_KEYS: Final = ("name", "description", "defaults", "grid", "list", "focused", "measure")
_ACQUISITIONS: Final = ("grid", "list", "focused")
_FOCUSED_KEYS: Final = ("grid", "runs", "exploration_share", "workload_prior", "seed")
_PLAN_KEYS: Final = tuple(field.name for field in fields(MeasurePlan))


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """How a focused campaign chooses: how many runs, how much of it blindly, and for which workload."""

    runs: int
    exploration_share: float = 0.2  # share of the runs drawn uniformly; never zero
    workload_prior: str = "all"  # shipped trace (conv, code, all) or a CSV of prompt_tokens, output_tokens
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What to measure: the configurations in order, or the pool that a focused campaign draws from."""

    name: str
    description: str = ""
    configurations: tuple[RunConfiguration, ...]
    focus: Focus | None = None
    plan: MeasurePlan

    @property
    def n_runs(self) -> int:
        """How many configurations will be measured."""
        return min(self.focus.runs, len(self.configurations)) if self.focus else len(self.configurations)


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


def load_campaign(path: Path | str) -> Campaign:
    """Return the campaign in a YAML file.

    Raises:
        FileFormatError: the file cannot be read or is not YAML.
        InputError: a key is unknown or missing, or a value is out of range; one line that names the key.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FileFormatError(
                explain(f"{path} is too large", expected=f"at most {MAX_FILE_BYTES:,} bytes")
            )
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise FileFormatError(explain(f"cannot read {path}", got=error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileFormatError(explain(f"{path} is not YAML", got=_where_in_yaml(error))) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    try:
        return campaign_from(content, name=path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def campaign_from(content: object, *, name: str = "campaign") -> Campaign:
    """Return the campaign that the parsed ``content`` of a file describes; see :func:`load_campaign`."""
    top = _mapping(content, "the file")
    _known(top, _KEYS, "campaign")
    chosen = [key for key in _ACQUISITIONS if key in top]
    if len(chosen) != 1:
        raise InputError(
            explain(
                "which configurations?",
                got=" and ".join(chosen) or "none",
                expected="one of grid, list, focused",
            )
        )
    defaults = _mapping(top.get("defaults", {}), "defaults")
    focus = None
    if chosen[0] == "list":
        configurations = _listed(top["list"], defaults)
    elif chosen[0] == "grid":
        configurations = _grid(top["grid"], defaults, "grid")
    else:
        focused = _mapping(top["focused"], "focused")
        _known(focused, _FOCUSED_KEYS, "focused")
        configurations = _grid(focused.get("grid"), defaults, "focused.grid")
        focus = _focus(focused)
    return Campaign(
        name=_text(top.get("name", name), "name"),
        description=_text(top.get("description", ""), "description"),
        configurations=tuple(dict.fromkeys(configurations)),
        focus=focus,
        plan=_plan(_mapping(top.get("measure", {}), "measure")),
    )


def _listed(entries: object, defaults: Mapping[str, Any]) -> list[RunConfiguration]:
    if not isinstance(entries, list) or not entries:
        raise InputError(explain("list is empty", got=repr(entries), expected="one mapping a configuration"))
    return [
        configuration_from({**defaults, **_mapping(entry, f"list[{index}]")}, f"list[{index}]")
        for index, entry in enumerate(entries)
    ]


def _grid(axes: object, defaults: Mapping[str, Any], where: str) -> list[RunConfiguration]:
    columns = {key: _axis(values, f"{where}.{key}") for key, values in _mapping(axes, where).items()}
    count = 1
    for values in columns.values():
        count *= len(values)
    if count > MAX_CONFIGURATIONS:
        raise InputError(
            explain(f"{where} is too large", got=f"{count:,}", expected=f"at most {MAX_CONFIGURATIONS:,}")
        )
    return [
        configuration_from({**defaults, **dict(zip(columns, values, strict=True))}, where)
        for values in itertools.product(*columns.values())
    ]


def _axis(values: object, where: str) -> list[Any]:
    if not isinstance(values, list):
        return [values]
    if not values:
        raise InputError(explain(f"{where} is empty", expected="at least one value"))
    return values


def _focus(values: Mapping[str, Any]) -> Focus:
    if "runs" not in values:
        raise InputError(explain("focused.runs is missing", expected="how many configurations to measure"))
    settings = {key: value for key, value in values.items() if key != "grid"}
    for key in ("runs", "seed"):
        _number(settings.get(key, 1), f"focused.{key}", low=0 if key == "seed" else 1, whole=True)
    share = settings.get("exploration_share", 0.2)
    _number(share, "focused.exploration_share", low=0.0, high=1.0)
    if share == 0:
        raise InputError(
            explain(
                "focused.exploration_share is zero", expected="above 0 to 1", remedy="some runs must explore"
            )
        )
    _text(settings.get("workload_prior", ""), "focused.workload_prior")
    return Focus(**settings)


def _plan(values: Mapping[str, Any]) -> MeasurePlan:
    _known(values, _PLAN_KEYS, "measure")
    try:
        return MeasurePlan(**values)
    except InputError as error:
        raise InputError(f"measure: {error}") from error


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        got = "nothing" if value is None else type(value).__name__
        raise InputError(explain(f"{where} is not a mapping", got=got, expected="key: value lines"))
    return value


def _known(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            near = ", ".join(nearest_names(str(key), known)) or ", ".join(known)
            raise InputError(explain(f"{where}: unknown key", got=repr(key), remedy=f"did you mean {near}?"))


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(explain(f"{where} is not text", got=repr(value)))
    return value


def _number(
    value: object, where: str, *, low: float, high: float = float("inf"), whole: bool = False
) -> None:
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
