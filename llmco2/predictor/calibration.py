"""A calibration: physical factors fitted to a few runs of one's own, applied to one board and engine.

Invariant: a calibration multiplies coefficients and narrows or widens intervals; it never replaces the model, and
applies only to the board and engine it was fitted on.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from llmco2.errors import FileFormatError, explain
from llmco2.features.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS

FORMAT: Final = "llmco2-calibration"
FORMAT_VERSION: Final = 1
_SCALE_RANGE: Final = (0.05, 20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factors on coefficients by name, a factor on interval widths, and what to say about them."""

    scales: dict[str, float] = field(default_factory=dict)
    width_scale: float = 1.0
    notes: tuple[str, ...] = ()


def load_calibration(path: str | None, gpu_id: str, engine: str) -> Calibration:
    """Return the calibration for a board and engine; one without effect where there is none for them.

    Raises FileFormatError, one line, for a missing, damaged or foreign file.
    """
    if path is None:
        return Calibration()
    table = _read(str(path))
    entry = table.get(f"{gpu_id}|{engine}")
    if entry is None:
        fitted = ", ".join(key.replace("|", " under ") for key in table)
        return Calibration(notes=(f"the calibration is for {fitted}, so it was not used",))
    return entry


@lru_cache(maxsize=8)
def _read(path: str) -> dict[str, Calibration]:
    what = f"{path} is no calibration"
    remedy = "write one with llmco2 calibrate"
    try:
        text: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileFormatError(explain(what, got=str(error), remedy=remedy)) from error
    if not isinstance(text, dict) or text.get("format") != FORMAT or text.get("format_version") != FORMAT_VERSION:
        raise FileFormatError(explain(what, expected=f"format {FORMAT!r} {FORMAT_VERSION}", remedy=remedy))
    entries = text.get("entries")
    if not isinstance(entries, list) or not entries:
        raise FileFormatError(explain(what, expected="a list of entries", remedy=remedy))
    return {f"{entry.get('gpu')}|{entry.get('engine')}": _entry(entry, what, remedy) for entry in entries}


def _entry(entry: dict[str, Any], what: str, remedy: str) -> Calibration:
    known = {*SLOT_COEFFICIENTS, *PHASE_COEFFICIENTS}
    scales = entry.get("scales")
    if not isinstance(scales, dict) or not set(scales) <= known:
        raise FileFormatError(explain(what, expected="scales of known coefficients", remedy=remedy))
    for name, value in {**scales, "width_scale": entry.get("width_scale", 1.0)}.items():
        good = isinstance(value, int | float) and math.isfinite(value) and _SCALE_RANGE[0] <= value <= _SCALE_RANGE[1]
        if not good:
            expected = f"{_SCALE_RANGE[0]} to {_SCALE_RANGE[1]}"
            raise FileFormatError(explain(what, got=f"{name} {value!r}", expected=expected, remedy=remedy))
    runs = entry.get("n_runs", "some")
    return Calibration(
        scales={name: float(value) for name, value in scales.items()},
        width_scale=float(entry.get("width_scale", 1.0)),
        notes=(f"calibrated with {runs} runs of this board and engine",),
    )
