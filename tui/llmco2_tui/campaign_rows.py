"""A campaign configuration by configuration: predicted beside measured, the error, grams, and the time to go.

Invariant: a row is one configuration and never a sum; a label that no real GPU drew gets no error and no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from llmco2.errors import LLMCO2Error
from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2.records.run import MeasuredRun
from llmco2.report.quantities import energy_text, mass_text
from llmco2_tui.campaign import CampaignView
from llmco2_tui.comparison import Answer, Quantity
from llmco2_tui.grid import GridAccount
from llmco2_tui.widgets.wording import NOTHING, clock_time, signed_percent

HEADINGS = ("configuration", "GPU", "measured", "predicted", "error", "CO2e", "90 % interval", "flags")


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRow:
    """One configuration that was measured; energies in J of one batch."""

    run: MeasuredRun
    request: InferenceRequest
    measured_j: float
    predicted: Quantity | None  # None: no prediction, and ``why_not`` says why
    why_not: str = ""
    operational_g: float | None = None  # of what was measured

    @property
    def name(self) -> str:
        """The configuration in a few words."""
        return configuration_name(self.run)


def configuration_name(run: MeasuredRun) -> str:
    """Return model, batch, tokens and engine of a row."""
    tokens = f"{run.prompt_tokens or 0:g}+{run.output_tokens or 0:g}"
    engine = "" if run.engine in (None, "unknown") else f" {run.engine}"
    return f"{run.model.rstrip('/').rsplit('/', 1)[-1]} b{run.batch_size:g} {tokens}{engine}"


def requests_of(view: CampaignView) -> list[InferenceRequest]:
    """Return what has to be predicted for the rows, each request once."""
    return list(dict.fromkeys(request for run in view.rows if (request := _request(run)) is not None))


def campaign_rows(
    view: CampaignView, answers: Mapping[InferenceRequest, Answer], account: GridAccount
) -> list[CampaignRow]:
    """Return the configurations that were measured, newest first."""
    found = (_row(run, answers, account) for run in reversed(view.rows))
    return [row for row in found if row is not None]


def seconds_to_go(view: CampaignView) -> float | None:
    """Return how long the rest takes at the pace so far; ``None`` where nobody can tell."""
    if view.total is None or view.n_done >= view.total:
        return None
    times = [time for run in view.rows if (time := _time(run.measured_at)) is not None]
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    each: timedelta = (times[-1] - times[0]) / (len(times) - 1)
    return each.total_seconds() * (view.total - view.n_done)


def progress_text(view: CampaignView) -> str:
    """Return how far a campaign is."""
    of = "" if view.total is None else f" of {view.total}"
    left = seconds_to_go(view)
    to_go = "" if left is None else f"; about {clock_time(left)} to go"
    return f"{view.n_done}{of} done: {view.n_ok} measured, {view.n_failed} failed{to_go}"


def row_texts(row: CampaignRow) -> tuple[str, ...]:
    """Return a row's cells, as ``HEADINGS`` names them."""
    found = row.predicted
    gpus = f"{row.request.n_gpus}× " if row.request.n_gpus > 1 else ""
    interval = "" if found is None else f"{energy_text(found.low)} – {energy_text(found.high)}"
    error = NOTHING if found is None else signed_percent(found.error_percent)
    return (
        row.name,
        f"{gpus}{row.run.gpu}",
        energy_text(row.measured_j),
        "none" if found is None else energy_text(found.predicted),
        "simulated" if row.run.simulated and found is not None else error,
        NOTHING if row.operational_g is None else mass_text(row.operational_g),
        row.why_not if found is None else interval,
        row.run.flags,
    )


def campaign_text(view: CampaignView, rows: Sequence[CampaignRow]) -> str:
    """Return a campaign as a table of plain text."""
    lines = [f"campaign {view.path}: {progress_text(view)}"]
    if view.simulated:
        lines.append("SIMULATED labels: no real GPU drew them, and none of them judges a prediction")
    table = [HEADINGS, *map(row_texts, rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(HEADINGS))]
    lines += [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    lines += [f"failed: {configuration_name(run)}: {run.failure_reason}" for run in view.failures]
    return "\n".join(lines)


def campaign_data(view: CampaignView, rows: Sequence[CampaignRow]) -> dict[str, Any]:
    """Return a campaign as plain data."""
    return {
        "path": view.path,
        "total": view.total,
        "measured": view.n_ok,
        "failed": view.n_failed,
        "simulated": view.simulated,
        "seconds_to_go": seconds_to_go(view),
        "rows": [_data(row) for row in rows],
        "failures": [
            {"configuration": configuration_name(run), "reason": run.failure_reason} for run in view.failures
        ],
    }


def _data(row: CampaignRow) -> dict[str, Any]:
    found = row.predicted
    return {
        "run_id": row.run.run_id,
        "model": row.run.model,
        "gpu": row.run.gpu,
        "n_gpus": row.request.n_gpus,
        "engine": row.run.engine,
        "precision": row.run.precision,
        "batch_size": row.run.batch_size,
        "prompt_tokens": row.run.prompt_tokens,
        "output_tokens": row.run.output_tokens,
        "simulated": row.run.simulated,
        "flags": row.run.flags,
        "measured_energy_j": row.measured_j,
        "predicted_energy_j": None if found is None else found.predicted,
        "predicted_energy_j_low": None if found is None else found.low,
        "predicted_energy_j_high": None if found is None else found.high,
        "error_percent": None if found is None else found.error_percent,
        "place": None if found is None else found.place,
        "why_no_prediction": row.why_not or None,
        "measured_operational_gco2e": row.operational_g,
    }


def _row(
    run: MeasuredRun, answers: Mapping[InferenceRequest, Answer], account: GridAccount
) -> CampaignRow | None:
    request, measured_j = _request(run), _measured_j(run)
    if run.status != "ok" or request is None or measured_j is None:
        return None
    answer = answers.get(request)
    predicted = None
    if isinstance(answer, Footprint):
        interval = answer.total.energy_interval_j
        predicted = Quantity(
            predicted=answer.total.energy_j,
            low=interval.low,
            high=interval.high,
            measured=measured_j,
            simulated=run.simulated,
        )
    grams = None
    if run.latency_s is not None:
        grams = account.operational_g(run.gpu, measured_j, run.latency_s, request.n_gpus)
    return CampaignRow(
        run=run,
        request=request,
        measured_j=measured_j,
        predicted=predicted,
        why_not="" if predicted is not None else "predicting …" if answer is None else str(answer),
        operational_g=grams,
    )


def _request(run: MeasuredRun) -> InferenceRequest | None:
    if run.status != "ok" or not run.prompt_tokens or not run.output_tokens:
        return None
    try:
        return run.request()
    except LLMCO2Error:  # a row whose numbers are none of a request has nothing to be predicted
        return None


def _measured_j(run: MeasuredRun) -> float | None:
    """Return the joules of the whole batch: of both phases' own window, or of the two phases."""
    if run.energy_j is not None:
        return run.energy_j
    parts = [joules for joules in (run.prefill_energy_j, run.decode_energy_j) if joules is not None]
    return sum(parts) if parts else None


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
