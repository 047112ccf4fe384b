"""What a checkpoint must contain for kernels, hosts, intervals and verdicts to read it.

Invariant: what passes here can be predicted with; every function returns the first thing that is wrong, in
words, or the empty text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from llmco2.kernel_model.features import KINDS, N_FEATURES
from llmco2.physics.hosts import HOST_CONSTANTS
from llmco2.predictor.intervals import Unmeasured

_DOMAIN_RANGES: Final = ("batch_size", "prompt_tokens", "output_tokens", "parameters", "n_gpus")
_LARGEST_DEPTH: Final = 8
_LARGEST_WIDTH: Final = 4096
_LARGEST_NUMBER: Final = 1e300
_LARGEST_TABLE: Final = 100_000
_QUANTITIES: Final = ("energy", "time")


def metadata_error(metadata: Mapping[str, Any]) -> str:
    """Return what is wrong with the text half of a checkpoint."""
    for key in ("lanes", "hosts", "boards", "power", "intervals", "domain"):
        if not isinstance(metadata[key], dict):
            return f"{key} that is no object"
    return (
        _lanes_error(metadata["lanes"])
        or _hosts_error(metadata["hosts"])
        or _numbers_error(metadata["boards"], "boards")
        or _power_error(metadata["power"])
        or _intervals_error(metadata["intervals"])
        or _domain_error(metadata["domain"])
    )


def arrays_error(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """Return what is wrong with the numbers of a checkpoint."""
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            return f"{name} with a number that is not finite"
    for kind in KINDS:
        reason = _network_error(arrays, kind)
        if reason:
            return reason
    return ""


def _network_error(arrays: Mapping[str, NDArray[np.float32]], kind: str) -> str:
    prefix = f"kernel.{kind}."
    width = N_FEATURES[kind]
    for name, shape in (("mean", (width,)), ("scale", (width,)), ("center", ())):
        if name == "center" or prefix + name in arrays:
            found = arrays.get(prefix + name)
            if found is not None and found.shape == shape:
                continue
        return f"{prefix}{name} that is not of shape {shape}"
    if not (arrays[prefix + "scale"] > 0).all():
        return f"{prefix}scale that is not positive"
    depth = 0
    while prefix + f"weight{depth}" in arrays and depth <= _LARGEST_DEPTH:
        weight, bias = arrays[prefix + f"weight{depth}"], arrays.get(prefix + f"bias{depth}")
        fits = weight.ndim == 2 and weight.shape[1] == width and weight.shape[0] <= _LARGEST_WIDTH
        if not fits or bias is None or bias.shape != weight.shape[:1]:
            return f"{prefix}weight{depth} that does not follow the layer before"
        width, depth = weight.shape[0], depth + 1
    return "" if depth and width == 1 else f"{prefix} that does not end in one number"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def _numbers_error(table: object, where: str) -> str:
    if not isinstance(table, dict):
        return f"{where} that is no object"
    for name, value in table.items():
        if not _is_number(value) or value < 0:
            return f"{where}.{name} {value!r}"
    return ""


def _lanes_error(lanes: Mapping[str, Any]) -> str:
    kinds, experts = lanes.get("kinds"), lanes.get("experts")
    if not isinstance(kinds, dict) or not isinstance(experts, list) or len(experts) > _LARGEST_TABLE:
        return "lanes without kinds and experts"
    for kind, rows in kinds.items():
        if not isinstance(rows, list) or not all(
            isinstance(row, list) and len(row) == 4 and all(map(_is_text, row)) for row in rows
        ):
            return f"lanes.kinds.{kind} that is no list of four names"
    for row in experts:
        sound = isinstance(row, list) and len(row) == 5 and all(map(_is_text, (*row[:3], row[4])))
        shape = row[3] if sound else None
        if not (isinstance(shape, list) and len(shape) == 4 and all(_is_number(s) and s > 0 for s in shape)):
            return f"lanes.experts with {row!r:.80}"
    return ""


def _hosts_error(hosts: Mapping[str, Any]) -> str:
    for engine, constants in hosts.items():
        reason = _numbers_error(constants, f"hosts.{engine}")
        if reason:
            return reason
        strange = sorted(set(constants) - set(HOST_CONSTANTS))
        if strange:
            return f"hosts.{engine}.{strange[0]}, which is no constant of a host"
    return ""


def _power_error(power: Mapping[str, Any]) -> str:
    value = power.get("busy_factor")
    return "" if _is_number(value) and value > 0 else f"power.busy_factor {value!r}"


def _intervals_error(intervals: Mapping[str, Any]) -> str:
    engines, extra = intervals.get("engines"), intervals.get("extra")
    if not isinstance(engines, dict) or not isinstance(extra, dict):
        return "intervals without engines and extra"
    for name, ends in {**engines, "pooled": intervals.get("pooled")}.items():
        for quantity in _QUANTITIES:
            pair = ends.get(quantity) if isinstance(ends, dict) else None
            if not (
                isinstance(pair, list)
                and len(pair) == 2
                and all(map(_is_number, pair))
                and pair[0] <= pair[1]
            ):
                return f"intervals of {name}: {quantity} {pair!r}"
    for item in Unmeasured:
        reason = _numbers_error(extra.get(item), f"intervals.extra.{item}")
        if reason or not set(_QUANTITIES) <= set(extra[item]):
            return reason or f"intervals.extra.{item} without {' and '.join(_QUANTITIES)}"
    factor = intervals.get("phase_factor")
    return "" if _is_number(factor) and factor > 0 else f"intervals.phase_factor {factor!r}"


def _domain_error(domain: Mapping[str, Any]) -> str:
    gpus, seen = domain.get("gpus"), domain.get("mechanisms")
    if not isinstance(gpus, list) or not all(map(_is_text, gpus)):
        return "domain.gpus that is no list of names"
    if not isinstance(seen, dict) or not all(
        isinstance(names, list) and all(map(_is_text, names)) for names in seen.values()
    ):
        return "domain.mechanisms that is no table of names"
    ranges = domain.get("ranges")
    for key in _DOMAIN_RANGES:
        ends = ranges.get(key) if isinstance(ranges, dict) else None
        sound = (
            isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends)) and ends[0] <= ends[1]
        )
        if not sound:
            return f"domain.ranges.{key} {ends!r}"
    return ""
