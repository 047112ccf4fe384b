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

from llmco2.bounded import MAX_JSON_BYTES, json_value, plain_file_bytes, shown
from llmco2.errors import FileFormatError, explain
from llmco2.predictor.checkpoint import Checkpoint, FileVersion, file_version
from llmco2.predictor.columns import FACTORS

FORMAT: Final = "llmco2-calibration"
FORMAT_VERSION: Final = 1
_SCALE_RANGE: Final = (0.05, 20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factors of llmco2.predictor.columns.FACTORS by name, a factor on interval widths, and what to say."""

    scales: dict[str, float] = field(default_factory=dict)
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
        text: Any = json_value(plain_file_bytes(Path(path), limit_bytes=MAX_JSON_BYTES))
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
    for key in ("gpu", "engine"):
        if not isinstance(entry.get(key), str):
            raise FileFormatError(
                explain(what, got=f"{key} {shown(entry.get(key))}", expected="a name", remedy=remedy)
            )
    scales = entry.get("scales")
    if not isinstance(scales, dict) or not set(scales) <= set(FACTORS):
        raise FileFormatError(explain(what, expected="scales named " + ", ".join(FACTORS), remedy=remedy))
    for name, value in {**scales, "width_scale": entry.get("width_scale", 1.0)}.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not _SCALE_RANGE[0] <= value <= _SCALE_RANGE[1]:
            expected = f"{_SCALE_RANGE[0]} to {_SCALE_RANGE[1]}"
            raise FileFormatError(
                explain(what, got=f"{name} {shown(value)}", expected=expected, remedy=remedy)
            )
    simulated = entry.get("simulated", False)
    if not isinstance(simulated, bool):
        raise FileFormatError(
            explain(what, got=f"simulated {shown(simulated)}", expected="true or false", remedy=remedy)
        )
    runs = entry["n_runs"] if isinstance(entry.get("n_runs"), int) else "some"
    origin = " that hold simulated ones: no GPU drew this energy" if simulated else ""
    return Calibration(
        scales={name: float(value) for name, value in scales.items()},
        width_scale=float(entry.get("width_scale", 1.0)),
        notes=(f"calibrated with {runs} runs of this board and engine{origin}", *filter(None, [mismatch])),
    )
