"""The rows of the fleet's tables, and the fleet in a few lines of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from llmco2.report.quantities import energy_text, mass_text
from llmco2.serving.fleet import Fleet, FleetHost
from llmco2_tui.widgets.wording import NOTHING, signed_percent, watts


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table of hosts: its title, the text of a host, and what it is sorted by."""

    title: str
    text: Callable[[FleetHost], str]
    order: Callable[[FleetHost], float | str | None]


def _rate(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}"


def _energy(value: float | None) -> str:
    return NOTHING if value is None else energy_text(value)


def _mass(value: float | None) -> str:
    return NOTHING if value is None else mass_text(value)


def _engines(host: FleetHost) -> str:
    found = dict.fromkeys(engine.engine or "?" for engine in host.engines.values())
    return ", ".join(found) or NOTHING


def _models(host: FleetHost) -> str:
    found = dict.fromkeys((engine.model or "?").rsplit("/", 1)[-1] for engine in host.engines.values())
    return ", ".join(found) or NOTHING


COLUMNS: Final = (
    Column(title="host", text=lambda h: h.name, order=lambda h: h.name),
    Column(
        title="GPUs",
        text=lambda h: str(len(h.gpus)) if h.gpus else NOTHING,
        order=lambda h: float(len(h.gpus)),
    ),
    Column(title="W", text=lambda h: watts(h.power_w), order=lambda h: h.power_w),
    Column(title="CO2e/h", text=lambda h: _mass(h.gco2e_per_hour), order=lambda h: h.gco2e_per_hour),
    Column(title="tok/s", text=lambda h: _rate(h.output_tokens_per_s), order=lambda h: h.output_tokens_per_s),
    Column(
        title="J/token",
        text=lambda h: _energy(h.joules_per_output_token),
        order=lambda h: h.joules_per_output_token,
    ),
    Column(
        title="predicted", text=lambda h: signed_percent(h.error_percent), order=lambda h: h.error_percent
    ),
    Column(title="engine", text=_engines, order=_engines),
    Column(title="model", text=_models, order=_models),
    Column(
        title="down", text=lambda h: str(len(h.down)) if h.down else "", order=lambda h: float(len(h.down))
    ),
)


def sorted_hosts(
    hosts: Sequence[FleetHost], column: int, *, descending: bool, part: str = ""
) -> list[FleetHost]:
    """Return the hosts whose row holds ``part``, sorted by a column; what a host lacks comes last either way."""
    wanted = part.casefold()
    shown = [h for h in hosts if wanted in " ".join(c.text(h) for c in COLUMNS).casefold()]
    order = COLUMNS[column].order
    known = [host for host in shown if order(host) is not None]
    lacking = [host for host in shown if order(host) is None]
    known.sort(key=lambda host: (_key(order(host)), host.name), reverse=descending)
    return known + lacking


def _key(value: float | str | None) -> tuple[float, str]:
    return (0.0, value) if isinstance(value, str) else (float(value or 0.0), "")


def host_rows(hosts: Sequence[FleetHost]) -> list[tuple[str, ...]]:
    """Return one row of texts a host."""
    return [tuple(column.text(host) for column in COLUMNS) for host in hosts]


def host_lines(host: FleetHost) -> list[str]:
    """Return all that is known of one host, a line each."""
    lines = [f"{host.name}: {watts(host.power_w)} W, {_mass(host.gco2e_per_hour)} CO2e an hour"]
    for gpu in sorted(host.gpus.values(), key=lambda one: (len(one.index), one.index)):
        drawn = "" if gpu.energy_j is None else f", {energy_text(gpu.energy_j)} in 5 min"
        lines.append(
            f"  GPU {gpu.index} {gpu.name or 'of unknown kind'}: {watts(gpu.power_w)} W{drawn} ({gpu.source})"
        )
    for engine in host.engines.values():
        running = NOTHING if engine.running is None else f"{engine.running:g}"
        lines.append(
            f"  {engine.engine or 'engine'} at {engine.instance}: {engine.model or 'model not named'}, "
            f"{_rate(engine.output_tokens_per_s)} tok/s, running {running}"
        )
    if host.error_percent is not None:
        lines.append(
            f"  predicted {watts(host.predicted_w)} W, measured {watts(host.compared_w)} W: "
            f"{signed_percent(host.error_percent)}"
        )
    lines += [f"  NOT SCRAPED: {target}" for target in host.down]
    return lines


def fleet_line(fleet: Fleet) -> str:
    """Return the answer first: what all hosts draw, emit and make."""
    return (
        f"{len(fleet.hosts)} hosts, {fleet.n_gpus} GPUs: {watts(fleet.power_w)} W, "
        f"{_mass(fleet.gco2e_per_hour)} CO2e an hour, {_rate(fleet.output_tokens_per_s)} tok/s"
    )


def fleet_text(fleet: Fleet) -> str:
    """Return the fleet as a table of text, with its sum above and what could not be asked below."""
    rows = [
        tuple(column.title for column in COLUMNS),
        *host_rows(sorted_hosts(fleet.hosts, 0, descending=False)),
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([fleet_line(fleet), *table, *(f"NOT KNOWN: {trouble}" for trouble in fleet.troubles)])
