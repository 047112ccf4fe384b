"""What lies at a path: a checkpoint with its configuration, a LoRA adapter, or a file of another tool.

Invariant: what cannot be read is refused in plain words, with what to give instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final

from llmco2.catalog import tables
from llmco2.catalog.architecture import Architecture
from llmco2.errors import FileFormatError, explain

_CONFIG: Final = "config.json"
_ADAPTER: Final = "adapter_config.json"
_GGUF: Final = ".gguf"


def holds_checkpoint(path: Path) -> bool:
    """Return whether ``path`` is there and is a configuration, a GGUF file, or a folder with one of them."""
    try:
        if path.is_file():
            return path.suffix.casefold() in {".json", _GGUF}
        return path.is_dir() and (
            (path / _CONFIG).is_file() or (path / _ADAPTER).is_file() or bool(_gguf_files(path))
        )
    except (OSError, ValueError):  # no such path can be: too long, or with a NUL
        return False


def read_checkpoint(path: Path, resolve: Callable[[str], Architecture]) -> Architecture:
    """Return the architecture at ``path``; ``resolve`` answers for the base model that an adapter names.

    Raises FileFormatError, one line, for what is missing, damaged or of another tool.
    """
    folder = path if _is_folder(path) else path.parent
    if path.suffix.casefold() == _GGUF or (
        path == folder and not (path / _CONFIG).is_file() and _gguf_files(path)
    ):
        raise FileFormatError(
            explain(
                f"{path} holds GGUF weights, whose metadata is not read",
                expected="the folder of the checkpoint that they were made from, or its name",
                remedy="give that, with --precision int4 for Q4 and int8-w8a16 for Q8",
            )
        )
    named = path.name == _ADAPTER
    if named or (path == folder and not (path / _CONFIG).is_file() and (path / _ADAPTER).is_file()):
        return _adapted(folder / _ADAPTER, resolve)
    from llmco2.catalog.hf_config import read_hf_config  # noqa: PLC0415 - its readers, which catalog names do without

    return read_hf_config(path)


def _adapted(file: Path, resolve: Callable[[str], Architecture]) -> Architecture:
    values = tables.read_json_object(file, "the adapter_config.json of a LoRA")
    base = values.get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise FileFormatError(
            explain(f"{file} names no base model", got=repr(base)[:60], expected="base_model_name_or_path")
        )
    if Path(base).expanduser().resolve() == file.parent.resolve():
        raise FileFormatError(explain(f"{file} names its own folder as its base model"))
    model = resolve(base)
    line = f"{file.parent.name} is a LoRA adapter: its base {base} is counted, the adapter is not"
    return dataclasses.replace(model, assumptions=(line, *model.assumptions))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _gguf_files(folder: Path) -> list[Path]:
    try:
        return (
            [file for file in folder.iterdir() if file.suffix.casefold() == _GGUF] if folder.is_dir() else []
        )
    except OSError:
        return []
