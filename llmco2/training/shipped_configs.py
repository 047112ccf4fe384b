"""Names of the shipped training configurations, turned into paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llmco2.errors import UnknownNameError
from llmco2.resources import configs_dir

_CONFIG_OPTIONS: Final = ("--config", "-c")


def shipped_configs() -> list[str]:
    """Return the names of the shipped configurations."""
    return sorted(path.stem for path in configs_dir().glob("*.yaml"))


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``--config NAME`` turned into the path of the shipped file of that name.

    A value that is a file, or has a folder in it, is left as it is.

    Raises UnknownNameError with the nearest names.
    """
    resolved: list[str] = []
    awaiting = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if awaiting:
            resolved.append(_config_path(argument))
        elif equals and option in _CONFIG_OPTIONS:
            resolved.append(f"{option}={_config_path(value)}")
        else:
            resolved.append(argument)
        awaiting = not awaiting and argument in _CONFIG_OPTIONS
    return resolved


def _config_path(value: str) -> str:
    path = Path(value)
    if path.exists() or path.name != value:
        return value
    shipped = configs_dir() / (value if path.suffix in {".yaml", ".yml"} else f"{value}.yaml")
    if shipped.is_file():
        return str(shipped)
    raise UnknownNameError(
        "configuration", value, shipped_configs(), remedy=f"there are: {', '.join(shipped_configs())}"
    )
