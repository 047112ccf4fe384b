"""A footprint as one flat row: the request's columns, then the answer's.

Invariant: the keys are exactly ``FRAME_COLUMNS``, in that order, so that one request and a table of requests
are read by the same code.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from llmco2.records.columns import FRAME_COLUMNS
from llmco2.records.footprint import Footprint, Interval

Cell = str | float | int | bool | None
NOTE_SEPARATOR: Final = "; "


def footprint_row(footprint: Footprint) -> dict[str, Cell]:
    """Return ``footprint`` as a row in J, s, W and gCO2e; ``error`` is None, for an answer is no error."""
    total, request = footprint.total, footprint.request
    row: dict[str, Cell] = {
        **asdict(request),
        "prefill_energy_j": footprint.prefill.energy_j,
        "decode_energy_j": footprint.decode.energy_j,
        "energy_j": total.energy_j,
        "energy_low_j": total.energy_interval_j.low,
        "energy_high_j": total.energy_interval_j.high,
        "energy_lower_bound_j": total.energy_bounds_j.low,
        "energy_upper_bound_j": total.energy_bounds_j.high,
        "energy_per_output_token_j": footprint.energy_per_output_token_j,
        "energy_per_total_token_j": footprint.energy_per_total_token_j,
        "ttft_s": footprint.ttft_s,
        "tpot_s": footprint.tpot_s,
        "latency_s": footprint.latency_s,
        **_ends("ttft", footprint.ttft_interval_s),
        **_ends("tpot", footprint.tpot_interval_s),
        **_ends("latency", footprint.latency_interval_s),
        "average_power_w": total.average_power_w,
        "operational_gco2e": footprint.carbon.operational_gco2e,
        "embodied_gco2e": footprint.carbon.embodied_gco2e,
        "in_domain": footprint.in_domain,
        "notes": NOTE_SEPARATOR.join(footprint.notes),
        "error": None,
        "resolved_model": request.model,
        "resolved_gpu": request.gpu,
        "resolved_n_gpus": footprint.n_gpus,
        "resolved_engine": request.engine,
        "resolved_precision": request.precision,
        "resolved_kv_precision": request.kv_precision,
        "precision_by_part": footprint.precision_by_part,
    }
    return {column: row[column] for column in FRAME_COLUMNS}


def _ends(name: str, interval: Interval | None) -> dict[str, Cell]:
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {f"{name}_low_s": low, f"{name}_high_s": high}
