"""A calibration: physical factors fitted to a few runs of one's own, applied to one board and engine.

Invariant: a calibration multiplies coefficients and narrows or widens intervals; it never replaces the
model, and applies only to the board and engine it was fitted on. Factors belong to the checkpoint they were fitted
on, so a file names it and an answer from another says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmco2.bounded import MAX_JSON_BYTES, json_value, plain_file_bytes, shown
from llmco2.errors import FileFormatError, explain
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS
from llmco2.predictor.checkpoint import Checkpoint, FileVersion, file_version
from llmco2.predictor.residual import N_FEATURES, Residual

FORMAT: Final = "llmco2-calibration"
FORMAT_VERSION: Final = 1
_SCALE_RANGE: Final = (0.05, 20.0)
_MOST_POINTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factors on coefficients by name, a correction of energies, a factor on interval widths, and what to say."""

    scales: dict[str, float] = field(default_factory=dict)
    residual: Residual | None = None
    width_scale: float = 1.0
    notes: tuple[str, ...] = ()


_NONE: Final = Calibration()


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What a calibration file holds."""

    entries: dict[tuple[str, str], Calibration]  # by board and engine
    elsewhere: Calibration  # for all others: no effect, and a note that says so
    mismatch: str  # a warning where it was fitted on another checkpoint than the one that answers; else empty


def load_calibration(
    path: str | None, gpu_id: str, engine: str, checkpoint: Checkpoint | None = None
) -> Calibration:
    """Return the calibration for a board and engine; one without effect where there is none for them.

    Args:
        path: the file; none is no calibration.
        gpu_id: catalog name of the board.
        engine: catalog name of the engine.
        checkpoint: the one that answers; the notes say so where the factors were fitted on another.

    Raises FileFormatError, one line, for a missing, damaged or foreign file.
    """
    origin = () if checkpoint is None else simulated_origin(checkpoint)
    found = _calibration(path, gpu_id, engine, checkpoint)
    return replace(found, notes=(*found.notes, *origin)) if origin else found


def simulated_origin(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the note that every answer of a checkpoint carries that was trained on runs of no real GPU."""
    data = checkpoint.metadata.get("data")
    simulated = data.get("n_simulated") if isinstance(data, dict) else None
    if type(simulated) is not int or simulated <= 0:
        return ()
    runs = data.get("n_runs", "some") if isinstance(data, dict) else "some"
    return (
        f"SIMULATED: {checkpoint.name} was trained on {simulated} simulated runs of {runs}: no real GPU drew them",
    )


def _calibration(path: str | None, gpu_id: str, engine: str, checkpoint: Checkpoint | None) -> Calibration:
    if path is None:
        return _NONE
    answering = None if checkpoint is None else (checkpoint.name, checkpoint.sha256)
    file = _load(str(path), file_version(Path(path)), answering)
    return file.entries.get((gpu_id, engine), file.elsewhere)


def calibration_mismatch(path: str, checkpoint: Checkpoint) -> str:
    """Return a warning, one line, where the file was fitted on another checkpoint; else nothing.

    Raises FileFormatError, one line, for a missing, damaged or foreign file.
    """
    return _load(str(path), file_version(Path(path)), (checkpoint.name, checkpoint.sha256)).mismatch


def _mismatch(path: str, fitted_on: str | None, answering: tuple[str, str] | None) -> str:
    if fitted_on is None or answering is None or fitted_on == answering[1]:
        return ""
    return (
        f"{Path(path).name} was fitted on another checkpoint ({fitted_on[:12]}) than {answering[0]} "
        f"({answering[1][:12]}): calibrate again"
    )


@lru_cache(maxsize=8)
def _load(path: str, _version: FileVersion, answering: tuple[str, str] | None) -> _File:
    """Return what the file holds for the checkpoint that answers (name, hash); one object an entry."""
    what, remedy = f"{path} is no calibration", "write one with llmco2 calibrate"
    try:
        text: Any = json_value(plain_file_bytes(Path(path), limit_bytes=MAX_JSON_BYTES), constants=float)
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or error  # the path is in ``what`` already
        raise FileFormatError(explain(what, got=got, remedy=remedy)) from error
    if (
        not isinstance(text, dict)
        or text.get("format") != FORMAT
        or text.get("format_version") != FORMAT_VERSION
    ):
        raise FileFormatError(explain(what, expected=f"format {FORMAT!r} {FORMAT_VERSION}", remedy=remedy))
    entries = text.get("entries")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise FileFormatError(explain(what, expected="a list of entries", remedy=remedy))
    fitted_on = text.get("checkpoint_sha256")
    if not isinstance(fitted_on, str | None):
        raise FileFormatError(explain(what, expected="a hash as checkpoint_sha256", remedy=remedy))
    mismatch = _mismatch(path, fitted_on, answering)
    table = {
        (str(entry.get("gpu")), str(entry.get("engine"))): _entry(entry, mismatch, what, remedy)
        for entry in entries
    }
    fitted = ", ".join(f"{gpu} under {engine}" for gpu, engine in table)
    elsewhere = Calibration(notes=(f"the calibration is for {fitted}, so it was not used",))
    return _File(entries=table, elsewhere=elsewhere, mismatch=mismatch)


def _entry(entry: dict[str, Any], mismatch: str, what: str, remedy: str) -> Calibration:
    known = {*SLOT_COEFFICIENTS, *PHASE_COEFFICIENTS}
    for key in ("gpu", "engine"):
        if not isinstance(entry.get(key), str):
            raise FileFormatError(
                explain(what, got=f"{key} {shown(entry.get(key))}", expected="a name", remedy=remedy)
            )
    scales = entry.get("scales")
    if not isinstance(scales, dict) or not set(scales) <= known:
        raise FileFormatError(explain(what, expected="scales of known coefficients", remedy=remedy))
    for name, value in {**scales, "width_scale": entry.get("width_scale", 1.0)}.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not _SCALE_RANGE[0] <= value <= _SCALE_RANGE[1]:
            expected = f"{_SCALE_RANGE[0]} to {_SCALE_RANGE[1]}"
            raise FileFormatError(
                explain(what, got=f"{name} {shown(value)}", expected=expected, remedy=remedy)
            )
    runs = entry["n_runs"] if isinstance(entry.get("n_runs"), int) else "some"
    simulated = entry.get("n_simulated", 0)
    if type(simulated) is not int or simulated < 0:
        got = f"n_simulated {shown(simulated)}"
        raise FileFormatError(explain(what, got=got, expected="a count of runs", remedy=remedy))
    origin = f"SIMULATED: {simulated} of those runs were drawn by no real GPU" if simulated else ""
    return Calibration(
        scales={name: float(value) for name, value in scales.items()},
        residual=_residual(entry.get("residual"), what, remedy),
        width_scale=float(entry.get("width_scale", 1.0)),
        notes=(f"calibrated with {runs} runs of this board and engine", *filter(None, [origin, mismatch])),
    )


def _residual(value: Any, what: str, remedy: str) -> Residual | None:
    if value is None:
        return None
    expected = f"a residual of points with {N_FEATURES} numbers and one weight each"
    if not isinstance(value, dict):
        raise FileFormatError(explain(what, got=f"residual {shown(value)}", expected=expected, remedy=remedy))
    try:
        points = np.array(value.get("points"), dtype=np.float64)
        weights = np.array(value.get("weights"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(explain(what, got=str(error), expected=expected, remedy=remedy)) from error
    shaped = points.ndim == 2 and points.shape == (weights.size, N_FEATURES) and weights.ndim == 1
    if (
        not shaped
        or len(weights) > _MOST_POINTS
        or not (np.isfinite(points).all() and np.isfinite(weights).all())
    ):
        got = f"shapes {points.shape} and {weights.shape}"
        raise FileFormatError(explain(what, got=got, expected=expected, remedy=remedy))
    return Residual(points=points, weights=weights)
