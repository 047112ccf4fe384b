"""A checkpoint: arrays in an ``.npz`` and everything else in the ``.json`` beside it.

Invariant: a checkpoint holds numbers and text only and nothing in it is ever executed (arrays load with
``allow_pickle=False``). Both files must agree by SHA-256, name the features they were trained on, and be of
this format version, or they are refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmco2.bounded import MAX_JSON_BYTES, json_value, plain_file_bytes, shown
from llmco2.errors import CheckpointError, InstallationError, explain
from llmco2.kernel_model.lanes import Lanes, read_lanes
from llmco2.kernel_model.node_functions import NodeFunctions, node_functions
from llmco2.predictor.contents import arrays_error, metadata_error
from llmco2.resources import REINSTALL, checkpoint_dir

FORMAT: Final = "llmco2-checkpoint"
FORMAT_VERSION: Final = 2
_LARGEST_BYTES: Final = 64_000_000  # unpacked; shipped ones have under a hundredth of it
_REMEDY: Final = "give the .json of a checkpoint that llmco2 train wrote"
_TRAIN_AGAIN: Final = "train again with this version of llmco2"
_REQUIRED: Final = (
    "format",
    "format_version",
    "name",
    "sha256",
    "lanes",
    "hosts",
    "boards",
    "power",
    "intervals",
    "domain",
)


class _UnusableError(Exception):
    """What is wrong with a checkpoint, and what mends it where it is somebody's own."""

    def __init__(
        self, what: str, *, got: object = None, expected: object = None, remedy: str = _REMEDY
    ) -> None:
        super().__init__(what)
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy

    def explained(self, remedy: str) -> str:
        """Return the one-line message with ``remedy``."""
        return explain(self.what, got=self.got, expected=self.expected, remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Node functions of kernels with the constants of hosts and power around them."""

    name: str
    nodes: NodeFunctions
    lanes: Lanes
    hosts: dict[str, dict[str, float]]  # engine → constant of llmco2.physics.hosts.HOST_CONSTANTS → value
    boards: dict[
        str, float
    ]  # GPU architecture → factor on the time of kernels, where none of its own was measured
    busy_factor: float  # on the power that running kernels draw
    intervals: dict[str, Any]
    domain: dict[str, Any]
    metadata: dict[str, Any]  # recipe, data hashes, metrics

    @property
    def sha256(self) -> str:
        """Hash of the arrays: what tells one fit from another of the same name."""
        return str(self.metadata["sha256"])


def save_checkpoint(path: Path, arrays: dict[str, NDArray[np.float32]], metadata: dict[str, Any]) -> None:
    """Write ``path`` (``.json``) and the arrays beside it (``.npz``); ``metadata`` has the required keys."""
    numbers = path.with_suffix(".npz")
    numbers.parent.mkdir(parents=True, exist_ok=True)
    floats: dict[str, Any] = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
    np.savez_compressed(numbers, **floats)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "name": path.stem, "sha256": _sha256(numbers)}
    entries = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in {**head, **metadata}.items()]
    path.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")


FileVersion = tuple[int, int]  # modification time (ns) and size (bytes)


def file_version(path: Path) -> FileVersion:
    """Return what changes when a file is written anew, so that what was read of it is not kept too long."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # reading it will say why
        return 0, 0
    return found.st_mtime_ns, found.st_size


def load_checkpoint(path: str | None = None) -> Checkpoint:
    """Return the checkpoint at ``path`` (its ``.json``), or the one that ships.

    Raises CheckpointError for a missing, damaged or foreign file, or one of another version or feature set;
    InstallationError where it is the one that ships.
    """
    head = checkpoint_dir() / "default.json" if path is None else Path(path)
    try:
        return _load(head, file_version(head), file_version(_beside(head)))
    except _UnusableError as error:
        if path is None:
            raise InstallationError(error.explained(REINSTALL)) from error
        raise CheckpointError(error.explained(error.remedy)) from error


def _beside(head: Path) -> Path:
    """Return the path of the arrays; unlike ``Path.with_suffix``, for names such as ``.`` too."""
    return head.parent / f"{head.stem}.npz"


@lru_cache(maxsize=8)
def _load(head: Path, _head_version: FileVersion, _numbers_version: FileVersion) -> Checkpoint:
    metadata = _read_metadata(head)
    numbers = _beside(head)
    arrays = _read_arrays(numbers, str(metadata["sha256"]))
    reason = arrays_error(arrays)
    if reason:
        raise _UnusableError(f"{numbers} does not belong to {head.name}", got=reason)
    return Checkpoint(
        name=str(metadata["name"]),
        nodes=node_functions(arrays),
        lanes=read_lanes(metadata["lanes"]),
        hosts=metadata["hosts"],
        boards=metadata["boards"],
        busy_factor=float(metadata["power"]["busy_factor"]),
        intervals=metadata["intervals"],
        domain=metadata["domain"],
        metadata=metadata,
    )


def _read_arrays(numbers: Path, sha256: str) -> dict[str, NDArray[np.float32]]:
    try:
        content = plain_file_bytes(numbers, limit_bytes=_LARGEST_BYTES)
        digest = hashlib.sha256(content).hexdigest()
        if digest != sha256:
            raise _UnusableError(
                f"{numbers} is damaged",
                got=f"SHA-256 {digest[:12]}…",
                expected=f"{sha256[:12]}…",
                remedy="restore the file or train again",
            )
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > _LARGEST_BYTES:
                raise ValueError(f"{unpacked:,} bytes unpacked, more than any checkpoint has")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: _floats(arrays[name]) for name in arrays.files}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise _UnusableError(f"{numbers} cannot be read", got=str(error)) from error


def _floats(values: object) -> NDArray[np.float32]:
    if not isinstance(values, np.ndarray):  # numpy hands out a member that is no array as bytes
        raise ValueError("a member that is no array")
    if values.dtype.kind != "f":
        raise ValueError(f"an array of {values.dtype} where numbers are due")
    return values.astype(np.float32)


def _read_metadata(head: Path) -> dict[str, Any]:
    try:
        metadata = json_value(plain_file_bytes(head, limit_bytes=MAX_JSON_BYTES), constants=float)
    except FileNotFoundError as error:
        raise _UnusableError("no such checkpoint", got=str(head)) from error
    except (OSError, ValueError) as error:
        raise _UnusableError(f"{head} is no checkpoint", got=str(error)) from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise _UnusableError(f"{head} is no checkpoint", expected=f"format {FORMAT!r}")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise _UnusableError(
            f"{head} is of another format",
            got=shown(metadata.get("format_version")),
            expected=FORMAT_VERSION,
            remedy=_TRAIN_AGAIN,
        )
    missing = [key for key in _REQUIRED if key not in metadata]
    if missing:
        raise _UnusableError(f"{head} is incomplete", expected=", ".join(missing))
    reason = metadata_error(metadata)
    if reason:
        raise _UnusableError(f"{head} is damaged", got=reason)
    return metadata


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
