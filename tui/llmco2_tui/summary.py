"""What the screen knows, for people without one and for scripts: a text, a JSON object, a CSV table.

Invariant: every number carries its unit in its name, and whatever is simulated says so in every format.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from llmco2.measurement.meters.meter import Sample
from llmco2.report.quantities import energy_text, mass_text, watt_hours_text
from llmco2.units import kwh_from_joules
from llmco2_tui.comparison import Comparison, Quantity
from llmco2_tui.monitor_state import MonitorState
from llmco2_tui.views import state_words
from llmco2_tui.widgets.wording import (
    clock_time,
    count,
    counted,
    gib,
    percent,
    request_text,
    signed_percent,
    watts,
)

FORMAT: Final = "llmco2-monitor"
VERSION: Final = 1
_SAMPLE_COLUMNS: Final = tuple(field.name for field in fields(Sample) if field.name != "missing")


def summary(
    monitor_state: MonitorState, *, source: str, servers: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return the monitor state, and that of the serving engines beside it, as plain data."""
    view = monitor_state.totals_view()
    totals, grid = view.totals, monitor_state.account.view
    energy_kwh = None if totals.energy_j is None else kwh_from_joules(totals.energy_j)
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": source,
        "simulated": monitor_state.is_simulated(),
        "gpus": [_gpu(row) for row in monitor_state.gpu_rows(0)],
        "totals": {
            "n_gpus": totals.n_gpus,
            "n_gpus_with_power": totals.n_with_power,
            "n_gpus_with_energy": totals.n_with_energy,
            "energy_of": totals.energy_gpus_text,
            "power_w": totals.power_w,
            "energy_j": totals.energy_j,
            "energy_kwh": energy_kwh,
            "idle_energy_j": totals.idle_j,
            "elapsed_s": totals.elapsed_s,
            "energy_is_integrated": totals.integrated,
            "operational_gco2e": view.operational_g,
            "embodied_gco2e": view.embodied_g,
            "n_lost": totals.n_lost,
            "counter_restarts": totals.restarts,
            "refused_counter_steps": totals.refused,
        },
        "grid": {
            "zone": grid.zone.zone_id,
            "name": grid.zone.name,
            "carbon_intensity_gco2e_per_kwh": grid.zone.carbon_intensity_gco2e_per_kwh,
            "source": grid.zone.source,
            "date": grid.zone.date,
            "age_years": grid.age_years,
            "stale": grid.stale,
            "assumed": grid.assumed,
        },
        "comparison": _comparison(monitor_state.comparison),
        "servers": list(servers),
    }


def summary_json(
    monitor_state: MonitorState, *, source: str, servers: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the summary as indented JSON."""
    return json.dumps(summary(monitor_state, source=source, servers=servers), indent=2, allow_nan=False)


def _gpu(row: Any) -> dict[str, Any]:
    sample, ledger = row.ledger.shown, row.ledger
    found = {name: getattr(sample, name) for name in _SAMPLE_COLUMNS}
    return {
        "index": row.device.index,
        "name": row.device.name,
        "uuid": row.device.uuid,
        "mig": row.device.mig,
        "shared": row.device.shared,
        "lost": ledger.lost,
        "why_lost": ledger.why_lost if ledger.lost else None,
        "energy_since_start_j": ledger.energy_j,
        "refused_counter_steps": ledger.refused,
        **{name: value for name, value in found.items() if name != "gpu_index"},
        "missing": {entry.field: entry.reason for entry in sample.missing},
    }


def _comparison(view: Comparison) -> dict[str, Any] | None:
    if view.request is None:
        return None
    return {
        "request": asdict(view.request),
        "measured_batches": view.batches,
        "in_domain": view.in_domain,
        "notes": list(view.notes),
        "why_no_prediction": view.why_not,
        "measured_is_simulated": view.simulated,
        "requests_summed": view.n_requests,
        "other_configurations": view.others,
        "predictor": view.predictor,
        "verdict": view.verdict,
        "phases": {
            row.phase: {
                "output_tokens": row.output_tokens,
                **_quantity(row.energy, "energy_j"),
                **_quantity(row.energy_per_token, "energy_per_output_token_j"),
                **(_quantity(row.carbon, "operational_gco2e") if row.carbon else {}),
            }
            for row in view.rows
        },
    }


def _quantity(quantity: Quantity, name: str) -> dict[str, Any]:
    return {
        f"predicted_{name}": quantity.predicted,
        f"predicted_{name}_low": quantity.low,
        f"predicted_{name}_high": quantity.high,
        f"measured_{name}": quantity.measured,
        f"{name}_error_percent": quantity.error_percent,
    }


def summary_text(monitor_state: MonitorState, *, source: str) -> str:
    """Return the summary as a few lines."""
    lines = []
    if monitor_state.is_simulated():
        lines.append("SIMULATED: no real GPU drew this, and no figure here is a measurement")
    lines.append(source)
    lines += [_gpu_text(row) for row in monitor_state.gpu_rows(0)]
    lines += [*_totals_text(monitor_state), _grid_text(monitor_state)]
    return "\n".join([*lines, *_comparison_text(monitor_state.comparison)])


def session_text(monitor_state: MonitorState, *, recording: str = "") -> str:
    """Return what is left on the terminal when the screen closes: the session's totals."""
    totals = _totals_text(monitor_state)
    if not totals:
        return "nothing was measured"
    lines = ["SIMULATED: no real GPU drew this, and no figure here is a measurement"]
    lines = lines if monitor_state.is_simulated() else []
    lines += [*totals, _grid_text(monitor_state), *_comparison_text(monitor_state.comparison)]
    return "\n".join([*lines, *([f"recorded in {recording}"] if recording else [])])


def _totals_text(monitor_state: MonitorState) -> list[str]:
    view = monitor_state.totals_view()
    totals = view.totals
    if totals.energy_j is None or totals.elapsed_s <= 0:
        return []
    grams = "" if view.operational_g is None else f", {mass_text(view.operational_g)} CO2e operational"
    both = dict.fromkeys(
        (energy_text(totals.energy_j), watt_hours_text(totals.energy_j))
    )  # alike from 1 kWh on
    energy = " = ".join(both)
    which = totals.energy_gpus_text if totals.incomplete else "all GPUs"
    refused = f"; {counted(totals.refused, 'impossible counter step')} left out" if totals.refused else ""
    return [f"{which}: {energy}{grams} over {clock_time(totals.elapsed_s)}{refused}"]


def _grid_text(monitor_state: MonitorState) -> str:
    grid = monitor_state.account.view
    zone = grid.zone
    dated = "" if grid.age_years is None else f", {zone.date}"  # without a year, the source says the rest
    return (
        f"grid: {zone.zone_id} {zone.name}, {zone.carbon_intensity_gco2e_per_kwh:g} gCO2e/kWh{dated} "
        f"({grid.age_text}{', STALE' if grid.stale else ''}), {zone.source}"
    )


def _gpu_text(row: Any) -> str:
    sample = row.ledger.shown
    state, _ = state_words(row)
    limit_w = sample.power_limit_w or row.device.power_limit_w
    return (
        f"GPU {row.device.index} {row.device.name}: {watts(sample.power_w)} of {watts(limit_w)} W, "
        f"{percent(sample.utilization_percent)}, {gib(sample.memory_used_bytes)} of "
        f"{gib(sample.memory_total_bytes)} GiB, "
        + ("–" if sample.temperature_c is None else f"{sample.temperature_c:.0f} °C")
        + f", {state}"
    )


def _comparison_text(view: Comparison) -> list[str]:
    if view.request is None:
        return []
    lines = [f"workload: {request_text(view.request)}, {count(view.batches)} batches measured"]
    if view.why_not is not None:
        lines.append(f"no prediction: {view.why_not}")
    for row in view.rows:
        energy = row.energy
        measured = "nothing" if energy.measured is None else energy_text(energy.measured)
        interval = f"{energy_text(energy.low)} to {energy_text(energy.high)}"
        error = f", error {signed_percent(energy.error_percent)}" if energy.error_percent is not None else ""
        lines.append(
            f"  {row.phase}: predicted {energy_text(energy.predicted)} ({interval}), measured {measured}{error}"
        )
    if view.rows:
        lines.append(f"  {view.verdict}")
    if view.others:
        lines.append(f"  {counted(view.others, 'other configuration')} measured, and not summed here")
    if not view.in_domain:
        lines.append(f"  out of domain: {'; '.join(view.notes)}")
    return lines


def samples_csv(samples: Iterable[Sample]) -> str:
    """Return samples as CSV, one a row; what could not be read is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_SAMPLE_COLUMNS)
    for sample in samples:
        values = (getattr(sample, name) for name in _SAMPLE_COLUMNS)
        writer.writerow([";".join(value) if isinstance(value, tuple) else value for value in values])
    return text.getvalue()


def power_csv(rows: Sequence[tuple[float, int, float | None]], *, simulated: bool) -> str:
    """Return the chart in view as CSV; steps without a reading are left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("seconds_ago", "gpu_index", "power_w", "simulated"))
    for ago_s, index, power_w in rows:
        if power_w is not None:
            writer.writerow((f"{ago_s:g}", index, f"{power_w:.3f}", simulated))
    return text.getvalue()
