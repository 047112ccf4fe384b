"""Campaign files: YAML that says which configurations to measure, and how carefully.

Invariant: a file is data. It is read with the safe loader, every key is known, and every configuration in it
is valid before the first one runs. An error is one line that names the key.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from llmco2.bounded import shown
from llmco2.errors import InputError, explain
from llmco2.measurement.campaigns.plan import MeasurePlan
from llmco2.measurement.campaigns.strict_yaml import axis, known_keys, mapping, number, read_yaml, text
from llmco2.measurement.workloads.configuration import RunConfiguration, configuration_from

MAX_CONFIGURATIONS: Final = 100_000
_KEYS: Final = ("name", "description", "defaults", "grid", "list", "focused", "measure")
_ACQUISITIONS: Final = ("grid", "list", "focused")
_FOCUSED_KEYS: Final = (
    *("grid", "runs", "exploration_share", "workload_prior", "seed", "spare_failures"),
    *("runs_per_visit", "by_time"),
)
_PLAN_KEYS: Final = tuple(field.name for field in fields(MeasurePlan))


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """How a focused campaign chooses: how many runs, how much of it blindly, and for which workload."""

    runs: int
    exploration_share: float = 0.2  # share of the runs drawn uniformly; never zero
    workload_prior: str = "all"  # shipped trace (conv, code, all) or a CSV of prompt_tokens, output_tokens
    seed: int = 0
    spare_failures: int | None = None  # failed configurations that take no run's place; None: as many as runs
    runs_per_visit: int | None = None  # runs of one model before the next is loaded; None: any model any time
    by_time: bool = False  # whether a draw goes by what a second of measuring is worth

    @property
    def spared(self) -> int:
        """How many failed configurations take no run's place."""
        return self.runs if self.spare_failures is None else self.spare_failures


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


def load_campaign(path: Path | str) -> Campaign:
    """Return the campaign in a YAML file.

    Raises:
        FileFormatError: the file cannot be read or is not YAML.
        InputError: a key is unknown or missing, or a value is out of range; one line that names the key.
    """
    path = Path(path)
    content = read_yaml(path)
    try:
        return campaign_from(content, name=path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def campaign_from(content: object, *, name: str = "campaign") -> Campaign:
    """Return the campaign that the parsed ``content`` of a file describes; see :func:`load_campaign`."""
    top = mapping(content, "the file")
    if "kernels" in top:
        raise InputError(explain("this is a campaign of kernels", remedy="give it to --kernels"))
    known_keys(top, _KEYS, "campaign")
    chosen = [key for key in _ACQUISITIONS if key in top]
    if len(chosen) != 1:
        raise InputError(
            explain(
                "which configurations?",
                got=" and ".join(chosen) or "none",
                expected="one of grid, list, focused",
            )
        )
    defaults = mapping(top.get("defaults", {}), "defaults")
    focus = None
    if chosen[0] == "list":
        configurations = _listed(top["list"], defaults)
    elif chosen[0] == "grid":
        configurations = _grid(top["grid"], defaults, "grid")
    else:
        focused = mapping(top["focused"], "focused")
        known_keys(focused, _FOCUSED_KEYS, "focused")
        configurations = _grid(focused.get("grid"), defaults, "focused.grid")
        focus = _focus(focused)
    return Campaign(
        name=text(top.get("name", name), "name"),
        description=text(top.get("description", ""), "description"),
        configurations=tuple(dict.fromkeys(configurations)),
        focus=focus,
        plan=_plan(mapping(top.get("measure", {}), "measure")),
    )


def _listed(entries: object, defaults: Mapping[str, Any]) -> list[RunConfiguration]:
    if not isinstance(entries, list) or not entries:
        raise InputError(explain("list is empty", got=shown(entries), expected="one mapping a configuration"))
    return [
        configuration_from({**defaults, **mapping(entry, f"list[{index}]")}, f"list[{index}]")
        for index, entry in enumerate(entries)
    ]


def _grid(axes: object, defaults: Mapping[str, Any], where: str) -> list[RunConfiguration]:
    columns = {key: axis(values, f"{where}.{key}") for key, values in mapping(axes, where).items()}
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


def _focus(values: Mapping[str, Any]) -> Focus:
    if "runs" not in values:
        raise InputError(explain("focused.runs is missing", expected="how many configurations to measure"))
    settings = {key: value for key, value in values.items() if key != "grid"}
    for key, low in (("runs", 1), ("seed", 0), ("spare_failures", 0), ("runs_per_visit", 1)):
        number(settings.get(key, 1), f"focused.{key}", low=low, whole=True)
    share = settings.get("exploration_share", 0.2)
    number(share, "focused.exploration_share", low=0.0, high=1.0)
    if share == 0:
        raise InputError(
            explain(
                "focused.exploration_share is zero", expected="above 0 to 1", remedy="some runs must explore"
            )
        )
    text(settings.get("workload_prior", ""), "focused.workload_prior")
    if not isinstance(settings.get("by_time", False), bool):
        raise InputError(
            explain(
                "focused.by_time has the wrong type", got=shown(settings["by_time"]), expected="true or false"
            )
        )
    return Focus(**settings)


def _plan(values: Mapping[str, Any]) -> MeasurePlan:
    known_keys(values, _PLAN_KEYS, "measure")
    try:
        return MeasurePlan(**values)
    except InputError as error:
        raise InputError(f"measure: {error}") from error
