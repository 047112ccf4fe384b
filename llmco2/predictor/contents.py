"""What a checkpoint must contain for the numpy network, the intervals and the verdicts to read it.

Invariant: what passes here can be predicted with; every function returns the first thing that is wrong, in
words, or the empty text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from llmco2.operators.names import KINDS, PHASES
from llmco2.physics.descriptors import N_DEPLOYMENT_FEATURES, N_NODE_FEATURES
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS
from llmco2.predictor.intervals import Newness

_VOCABULARIES: Final = ("engines", "precisions", "gpus", "families", "groups")
_FACTORS: Final = ("unknown_engine_factor", "unknown_precision_factor", "phase_factor")
_DOMAIN_NAMES: Final = ("gpus", "families", "engines", "precisions", "mechanisms", "deployments")
_DOMAIN_RANGES: Final = ("batch_size", "prompt_tokens", "output_tokens", "parameters", "n_gpus")
_LARGEST_HIDDEN_DIM: Final = 4096
_LARGEST_NUMBER: Final = 1e300


def metadata_error(metadata: Mapping[str, Any]) -> str:
    """Return what is wrong with the text half of a checkpoint."""
    for key in ("network", "vocabulary", "intervals", "domain"):
        if not isinstance(metadata[key], dict):
            return f"{key} that is no object"
    return (
        _network_error(metadata["network"])
        or _names_error(metadata["vocabulary"], _VOCABULARIES, "vocabulary")
        or _intervals_error(metadata["intervals"])
        or _names_error(metadata["domain"], _DOMAIN_NAMES, "domain")
        or _ranges_error(metadata["domain"].get("ranges"))
    )


def arrays_error(arrays: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, Any]) -> str:
    """Return what is wrong with the numbers of a checkpoint whose text is sound."""
    for name, shape in array_shapes(metadata["network"], metadata["vocabulary"]).items():
        if name not in arrays:
            return f"no array {name}"
        if arrays[name].shape != shape:
            return f"{name} of shape {arrays[name].shape} in place of {shape}"
        if not np.isfinite(arrays[name]).all():
            return f"{name} with a number that is not finite"
    return ""


def array_shapes(
    network: Mapping[str, Any], vocabulary: Mapping[str, list[str]]
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array the network reads."""
    engines, precisions, gpus, families, groups = (len(vocabulary[kind]) + 1 for kind in _VOCABULARIES)
    n_slot, n_phase, hidden = len(SLOT_COEFFICIENTS), len(PHASE_COEFFICIENTS), network["hidden_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "kind_slot": (len(KINDS), n_slot),
        "base_slot": (n_slot,),
        "base_phase": (len(PHASES), n_phase),
        "engine_slot": (engines, n_slot),
        "engine_phase": (engines, len(PHASES), n_phase),
        "engine_kind": (engines, len(KINDS), n_slot),
        "feature_slot": (N_DEPLOYMENT_FEATURES, n_slot),
        "feature_phase": (N_DEPLOYMENT_FEATURES, n_phase),
        "engine_feature_slot": (engines, N_DEPLOYMENT_FEATURES, n_slot),
        "engine_feature_phase": (engines, N_DEPLOYMENT_FEATURES, n_phase),
        "precision_slot": (precisions, n_slot),
        "gpu_level": (gpus, 3),
        "family_level": (families, 3),
        "group_level": (groups, 3),
    }
    if not hidden:
        return shapes
    for i in range(network["n_rounds"]):
        for part, shape in (
            ("lin_l.weight", (hidden, hidden)),
            ("lin_l.bias", (hidden,)),
            ("lin_r.weight", (hidden, hidden)),
        ):
            shapes[f"convolutions.{i}.{part}"] = shape
    return shapes | {
        "engine_embedding": (engines, hidden),
        "encoder.weight": (hidden, N_NODE_FEATURES),
        "encoder.bias": (hidden,),
        "slot_head.weight": (n_slot, 2 * hidden),
        "slot_head.bias": (n_slot,),
        "phase_head.weight": (n_phase, hidden),
        "phase_head.bias": (n_phase,),
    }


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER


def _network_error(network: Mapping[str, Any]) -> str:
    for key in ("hidden_dim", "n_rounds"):
        value = network.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_HIDDEN_DIM:
            return f"network.{key} {value!r}"
    limit = network.get("correction_limit")
    return "" if _is_number(limit) and limit > 0 else f"network.correction_limit {limit!r}"


def _names_error(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> str:
    for key in keys:
        names = table.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return f"{where}.{key} that is no list of names"
    return ""


def _intervals_error(intervals: Mapping[str, Any]) -> str:
    cases = intervals.get("cases")
    for case in Newness:
        ends = cases.get(case) if isinstance(cases, dict) else None
        low, high = (ends.get("low"), ends.get("high")) if isinstance(ends, dict) else (None, None)
        if not (_is_number(low) and _is_number(high) and low <= high):
            return f"intervals.cases.{case} from {low!r} to {high!r}"
    for key in _FACTORS:
        if not _is_number(intervals.get(key)) or intervals[key] <= 0:
            return f"intervals.{key} {intervals.get(key)!r}"
    return ""


def _ranges_error(ranges: object) -> str:
    for key in _DOMAIN_RANGES:
        ends = ranges.get(key) if isinstance(ranges, dict) else None
        sound = (
            isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends)) and ends[0] <= ends[1]
        )
        if not sound:
            return f"domain.ranges.{key} {ends!r}"
    return ""
