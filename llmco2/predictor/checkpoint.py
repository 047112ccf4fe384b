"""A checkpoint: arrays in an ``.npz`` and everything else in the ``.json`` beside it.

Invariant: a checkpoint holds numbers and text only and nothing in it is ever executed (arrays load with
``allow_pickle=False``). Both files must agree by SHA-256, name the features they were trained on, and be of this
format version, or they are refused.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmco2.errors import CheckpointError, explain
from llmco2.features.descriptors import NODE_FEATURES
from llmco2.features.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS
from llmco2.kernels.slots import SLOTS
from llmco2.resources import checkpoint_dir

FORMAT: Final = "llmco2-checkpoint"
FORMAT_VERSION: Final = 1
_REQUIRED: Final = ("format", "format_version", "name", "sha256", "network", "vocabulary", "intervals", "domain")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Arrays of the coefficient network with their metadata."""

    name: str
    arrays: dict[str, NDArray[np.float32]]
    network: dict[str, Any]  # hidden_dim, n_rounds, correction_limit, feature and coefficient names
    vocabulary: dict[str, list[str]]  # engines, precisions, gpus, families
    intervals: dict[str, Any]
    domain: dict[str, Any]
    metadata: dict[str, Any]  # recipe, data hashes, metrics


def save_checkpoint(path: Path, arrays: dict[str, NDArray[np.float32]], metadata: dict[str, Any]) -> None:
    """Write ``path`` (``.json``) and the arrays beside it (``.npz``); ``metadata`` needs the required keys."""
    numbers = path.with_suffix(".npz")
    numbers.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(numbers, allow_pickle=False, **arrays)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "name": path.stem, "sha256": _sha256(numbers)}
    path.write_text(json.dumps({**head, **metadata}, indent=1, sort_keys=False) + "\n", encoding="utf-8")


@lru_cache(maxsize=8)
def load_checkpoint(path: str | None = None) -> Checkpoint:
    """Return the checkpoint at ``path`` (its ``.json``), or the one that ships.

    Raises CheckpointError for a missing, damaged or foreign file, or one of another version or feature set.
    """
    head = Path(path) if path else checkpoint_dir() / "default.json"
    metadata = _read_metadata(head)
    numbers = head.with_suffix(".npz")
    try:
        digest = _sha256(numbers)
        if digest != metadata["sha256"]:
            raise CheckpointError(
                explain(f"{numbers} is damaged", got=f"SHA-256 {digest[:12]}…",
                        expected=f"{str(metadata['sha256'])[:12]}…", remedy="restore the file or train again")
            )  # fmt: skip
        with np.load(numbers, allow_pickle=False) as archive:
            arrays = {name: archive[name].astype(np.float32) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(explain(f"{numbers} cannot be read", got=str(error))) from error
    return Checkpoint(
        name=str(metadata["name"]),
        arrays=arrays,
        network=metadata["network"],
        vocabulary=metadata["vocabulary"],
        intervals=metadata["intervals"],
        domain=metadata["domain"],
        metadata=metadata,
    )


def network_description(hidden_dim: int, n_rounds: int, correction_limit: float) -> dict[str, Any]:
    """Return the ``network`` entry that this version of the package writes and accepts."""
    return {
        "hidden_dim": hidden_dim,
        "n_rounds": n_rounds,
        "correction_limit": correction_limit,
        "node_features": list(NODE_FEATURES),
        "slots": list(SLOTS),
        "slot_coefficients": {name: list(limits) for name, limits in SLOT_COEFFICIENTS.items()},
        "phase_coefficients": {name: list(limits) for name, limits in PHASE_COEFFICIENTS.items()},
    }


def _read_metadata(head: Path) -> dict[str, Any]:
    remedy = "give the .json of a checkpoint that llmco2 train wrote"
    try:
        metadata = json.loads(head.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(explain("no such checkpoint", got=str(head), remedy=remedy)) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(explain(f"{head} is no checkpoint", got=str(error), remedy=remedy)) from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise CheckpointError(explain(f"{head} is no checkpoint", expected=f"format {FORMAT!r}", remedy=remedy))
    missing = [key for key in _REQUIRED if key not in metadata]
    if missing:
        raise CheckpointError(explain(f"{head} is incomplete", expected=", ".join(missing), remedy=remedy))
    if metadata["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            explain(f"{head} is of another format", got=metadata["format_version"], expected=FORMAT_VERSION,
                    remedy="train again with this version of llmco2")
        )  # fmt: skip
    found = metadata["network"]
    expected = network_description(found.get("hidden_dim"), found.get("n_rounds"), found.get("correction_limit"))
    differing = [key for key, value in expected.items() if found.get(key) != value]
    if differing:
        raise CheckpointError(
            explain(f"{head} was trained on other inputs", got=differing[0], remedy="train again with this version")
        )
    return metadata


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
