"""A calibration: factors of one GPU and engine, kept only where runs held back from the fit get better.

Invariant: without a factor that helps, nothing is calibrated; what was fitted to simulated runs says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmco2.calibration.runs import CalibrationRuns, calibration_runs, energies, log_ratios, primary, times
from llmco2.calibration.selection import select
from llmco2.calibration.widths import errors_in_ends, width_scale
from llmco2.errors import InputError, explain
from llmco2.predictor.calibration import FORMAT, FORMAT_VERSION
from llmco2.predictor.checkpoint import Checkpoint
from llmco2.records.run import MeasuredRun

Array = NDArray[np.float64]
LEAST_RUNS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Errors on held-back runs; mean absolute percentage errors, NaN where no run knows the label."""

    energy_before_percent: float
    energy_after_percent: float
    time_before_percent: float
    time_after_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCalibration:
    """The factors of one GPU and engine, and how they fared."""

    gpu_id: str
    engine: str
    n_runs: int
    simulated: bool  # whether any of the runs was
    scales: dict[str, float]  # by the predictor's FACTORS; those that do not help are absent
    width_scale: float
    held_out: HeldOut

    @property
    def helps(self) -> bool:
        """Whether any factor made held-back runs better."""
        return bool(self.scales)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationResult:
    """What was fitted, and the GPUs and engines with too few runs (name → number)."""

    fitted: tuple[FittedCalibration, ...]
    too_few: dict[tuple[str, str], int]
    unusable: int  # runs without sizes or labels

    @property
    def helpful(self) -> tuple[FittedCalibration, ...]:
        """Those that are worth writing."""
        return tuple(one for one in self.fitted if one.helps)


def fit_calibrations(runs: Sequence[MeasuredRun], checkpoint: Checkpoint) -> CalibrationResult:
    """Fit every (GPU, engine) that has at least three usable runs.

    Raises InputError for a run that cannot be (its name is in the text), or where no GPU has enough runs.
    """
    groups, unusable = calibration_runs(runs, checkpoint)
    enough = {key: group for key, group in groups.items() if len(group) >= LEAST_RUNS}
    too_few = {key: len(group) for key, group in groups.items() if key not in enough}
    if not enough:
        counts = ", ".join(f"{n} of {gpu} under {engine}" for (gpu, engine), n in too_few.items())
        raise InputError(
            explain(
                "too few runs to calibrate with",
                got=counts or f"none with sizes and labels among {len(runs)}",
                expected=f"at least {LEAST_RUNS} of one GPU and engine",
                remedy="measure more with llmco2 measure",
            )
        )
    fitted = tuple(calibrate_group(gpu_id, engine, group) for (gpu_id, engine), group in enough.items())
    return CalibrationResult(fitted=fitted, too_few=too_few, unusable=unusable)


def calibrate_group(gpu_id: str, engine: str, runs: CalibrationRuns) -> FittedCalibration:
    """Return the factors of one GPU and engine that at least three runs bear out."""
    fit, held_back = select(runs)
    before = log_ratios(runs)
    touched = {factor: scale for factor, scale in fit.scales.items() if scale != 1.0}
    widths = (
        width_scale(errors_in_ends(primary(energies(held_back)), runs.energy_ends)),
        width_scale(errors_in_ends(primary(times(held_back)), runs.time_ends)),
    )
    return FittedCalibration(
        gpu_id=gpu_id,
        engine=engine,
        n_runs=len(runs),
        simulated=runs.simulated,
        scales=touched,
        width_scale=max(widths) if touched else 1.0,
        held_out=HeldOut(
            energy_before_percent=mape_percent(primary(energies(before))),
            energy_after_percent=mape_percent(primary(energies(held_back))),
            time_before_percent=mape_percent(primary(times(before))),
            time_after_percent=mape_percent(primary(times(held_back))),
        ),
    )


def mape_percent(ratios: Array) -> float:
    """Return the mean of ``|predicted / measured − 1|`` in percent over known ``log(measured / predicted)``.

    NaN where nothing is known.
    """
    known = ratios[np.isfinite(ratios)]
    return float(np.mean(np.abs(np.expm1(-known))) * 100.0) if len(known) else float("nan")


def calibration_text(result: CalibrationResult, checkpoint: Checkpoint) -> str:
    """Return the JSON that ``llmco2 predict --calibration`` reads: an entry for each calibration that helps.

    ``checkpoint`` is the one that the factors were fitted on; its hash goes into the file.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": checkpoint.sha256,
        "entries": [_entry(fitted) for fitted in result.helpful],
    }
    return json.dumps(content, indent=1) + "\n"


def _entry(fitted: FittedCalibration) -> dict[str, Any]:
    percents = {name: getattr(fitted.held_out, name) for name in HeldOut.__dataclass_fields__}
    return {
        "gpu": fitted.gpu_id,
        "engine": fitted.engine,
        "n_runs": fitted.n_runs,
        "simulated": fitted.simulated,
        "scales": {name: round(value, 6) for name, value in fitted.scales.items()},
        "width_scale": round(fitted.width_scale, 4),
        "held_out": {
            name: round(value, 3) if np.isfinite(value) else None for name, value in percents.items()
        },
    }
