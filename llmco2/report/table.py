"""A footprint as a table that a person reads at a glance.

Invariant: no figure without its unit, no energy without its interval and bounds, no gram without the factors,
their sources and dates. Fits 80 columns; colour repeats what the words say, so nothing is lost without it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Final, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmco2.predictor.remarks import ASSUMED
from llmco2.records.footprint import Carbon, Factor, Footprint
from llmco2.records.request import UNKNOWN, InferenceRequest
from llmco2.report import quantities
from llmco2.units import joules_from_kwh

MIN_WIDTH: Final = 80  # a narrower terminal folds lines; eliding figures would be worse
MAX_WIDTH: Final = 120  # lines longer than this are hard to read back
_INDENT: Final = 2
_ASCII: Final = str.maketrans({"–": "-", "·": "|", "×": "x", "µ": "u", "─": "-", "…": "...", "∞": "inf"})
_FACTOR_NAMES: Final = {
    "carbon_intensity": "grid intensity",
    "pue": "PUE",
    "host_power": "host power",
    "gpu_embodied": "GPU, embodied",
    "server_embodied": "server, embodied",
}


def footprint_table(footprint: Footprint) -> RenderableType:
    """Return ``footprint`` as something Rich can print."""
    return Group(
        *(Text(note, style="bold yellow") for note in footprint.notes if note.startswith(ASSUMED)),
        _title(footprint),
        Text(),
        _phases(footprint),
        Text(),
        _figures(footprint),
        Text(),
        _carbon(footprint.carbon),
        Text(),
        *_verdict(footprint),
        Text(),
        Text("Carbon factors, with their ranges, sources and dates", style="bold"),
        *_factor_lines(footprint.carbon.factors),
    )


def print_footprint(footprint: Footprint, stream: TextIO) -> None:
    """Print ``footprint`` on ``stream``: coloured on a terminal, plain text into a file or pipe."""
    print_fitting(lambda _: footprint_table(footprint), stream)


def print_fitting(shown: Callable[[int], RenderableType], stream: TextIO) -> None:
    """Print what ``shown`` makes of 80 to 120 columns: coloured on a terminal, plain text into a file or pipe."""
    console = Console(file=stream, highlight=False)
    console.width = min(max(console.width, MIN_WIDTH), MAX_WIDTH)
    if console.is_terminal and console.encoding.lower().startswith("utf"):
        console.print(shown(console.width))
        return
    text = plain_text(shown(console.width), console.width)
    stream.write(text if console.encoding.lower().startswith("utf") else text.translate(_ASCII))


def footprint_text(footprint: Footprint, width: int = 80) -> str:
    """Return ``footprint`` as plain text of at most ``width`` columns, without colour."""
    return plain_text(footprint_table(footprint), width)


def plain_text(shown: RenderableType, width: int) -> str:
    """Return ``shown`` as plain text of at most ``width`` columns, without colour."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False)
    console.print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _title(footprint: Footprint) -> Text:
    request = footprint.request
    gpus = f"{footprint.n_gpus} × {request.gpu}"
    return Text.assemble((request.model, "bold"), " on ", (gpus, "bold"), "\n", _workload(request))


def _workload(request: InferenceRequest) -> str:
    precision = request.precision
    if request.kv_precision != precision:
        precision += f" (KV {request.kv_precision})"
    parts = [
        f"batch {request.batch_size:,g}",
        f"{request.prompt_tokens:,g} prompt + {request.output_tokens:,g} output tokens",
        request.serving,
        "engine unknown" if request.engine == UNKNOWN else request.engine,
        precision,
    ]
    parallel = (
        ("TP", request.tensor_parallel),
        ("PP", request.pipeline_parallel),
        ("EP", request.expert_parallel),
    )
    parts += [f"{name} {degree}" for name, degree in parallel if degree > 1]
    return " · ".join(parts)


def _phases(footprint: Footprint) -> Table:
    size, unit = quantities.energy_scale(footprint.total.energy_j)
    coverage = footprint.total.energy_interval_j.coverage
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("")
    table.add_column(f"energy, {unit}", justify="right", no_wrap=True)
    table.add_column(f"{coverage:.0%} interval", justify="right", no_wrap=True)
    table.add_column("physical bounds", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("power", justify="right", no_wrap=True)
    for name in ("prefill", "decode", "total"):
        phase = getattr(footprint, name)
        interval, bounds = phase.energy_interval_j, phase.energy_bounds_j
        table.add_row(
            name,
            quantities.three_digits(phase.energy_j / size),
            quantities.range_text(interval.low, interval.high, size),
            quantities.range_text(bounds.low, bounds.high, size),
            quantities.time_text(phase.time_s),
            quantities.power_text(phase.average_power_w),
            style="bold" if name == "total" else "",
        )
    return table


def _figures(footprint: Footprint) -> Table:
    memory = quantities.memory_text(footprint.memory_needed_bytes)
    available = quantities.memory_text(footprint.memory_available_bytes)
    per_output = quantities.three_digits(footprint.energy_per_output_token_j)
    per_token = quantities.three_digits(footprint.energy_per_total_token_j)
    left = (
        ("first token (TTFT)", quantities.time_text(footprint.ttft_s)),
        ("per token (TPOT)", quantities.time_text(footprint.tpot_s)),
        ("latency", quantities.time_text(footprint.latency_s)),
        ("mean power, all GPUs", quantities.power_text(footprint.total.average_power_w)),
    )
    right = (
        ("per output token", f"{per_output} J"),
        ("per total token", f"{per_token} J"),
        ("GPU energy", quantities.watt_hours_text(footprint.total.energy_j)),
        ("memory per GPU", f"{memory} of {available}"),
    )
    grid = Table.grid(padding=(0, 1))
    for justify in ("left", "right", "left", "left", "right"):
        grid.add_column(justify=justify, no_wrap=True)
    for (left_name, left_value), (right_name, right_value) in zip(left, right, strict=True):
        grid.add_row(left_name, left_value, "   ", right_name, right_value)
    return grid


def _carbon(carbon: Carbon) -> Group:
    size, unit = quantities.mass_scale(carbon.total_gco2e)
    operational, embodied = carbon.operational_interval_gco2e, carbon.embodied_interval_gco2e
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    rows = (
        ("operational", carbon.operational_gco2e, operational.low, operational.high),
        ("embodied", carbon.embodied_gco2e, embodied.low, embodied.high),
        (
            "total",
            carbon.total_gco2e,
            operational.low + embodied.low,
            operational.high + embodied.high,
        ),
    )
    for name, mass_g, low, high in rows:
        figure = f"{quantities.three_digits(mass_g / size)} {unit}CO2e"
        span = f"range {quantities.range_text(low, high, size)}"
        grid.add_row(name, figure, span, style="bold" if name == "total" else "")
    facility = quantities.watt_hours_text(joules_from_kwh(carbon.facility_energy_kwh))
    heading = Text(f"Carbon, for {facility} drawn by the facility: GPUs and host, times PUE", style="bold")
    return Group(heading, Padding(grid, (0, 0, 0, _INDENT)))


def _factor_lines(factors: Iterable[Factor]) -> Iterable[RenderableType]:
    for factor in factors:
        unit = "" if factor.unit == "1" else f" {factor.unit}"
        line = Text.assemble(
            f"{_FACTOR_NAMES.get(factor.name, factor.name.replace('_', ' '))} ",
            (f"{quantities.three_digits(factor.value, trim=True)}{unit}", "bold"),
        )
        if factor.low is not None and factor.high is not None:
            line.append(f" ({quantities.range_text(factor.low, factor.high, trim=True)})")
        provenance = ", ".join(part for part in (factor.source, factor.date) if part)
        yield Padding(line, (0, 0, 0, _INDENT))
        yield Padding(Text(provenance, style="dim"), (0, 0, 0, 2 * _INDENT))


def _verdict(footprint: Footprint) -> Iterable[RenderableType]:
    if footprint.in_domain:
        yield Text("Inside the domain the predictor was trained on.", style="green")
    else:
        yield Text("OUTSIDE the domain the predictor was trained on.", style="bold yellow")
    yield from (bullet(note) for note in footprint.notes if not note.startswith(ASSUMED))
    if footprint.predictor:
        yield Text(f"Predicted by the checkpoint {footprint.predictor!r}.", style="dim")


def bullet(note: str) -> Table:
    """Return ``note`` as an item of a list, its further lines indented."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row("  -", Text(note))
    return grid
