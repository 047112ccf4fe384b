"""Where the time and the energy of an answer go, as a table that adds up to the answer."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmco2.records.footprint import Footprint, PhaseParts
from llmco2.report import quantities


def explanation(footprint: Footprint) -> RenderableType:
    """Return the parts of both phases: milliseconds and joules, parts that are nothing left out."""
    prefill, decode = footprint.prefill_parts, footprint.decode_parts
    if prefill is None or decode is None:
        return Text("This answer has no parts.")
    share = footprint.measured_kernel_share
    measured = (
        ""
        if share is None
        else f"{share:.0%} of a small step's kernel time is in kernels measured on such boards."
    )
    return Group(
        Text("Where the time goes, as far as kernels and their host are told apart", style="bold"),
        _table("time, ms", _pairs(prefill, decode, "time_s"), 1e3),
        Text(),
        Text(
            "Where the energy goes: what moves, what is computed, and what is drawn while waiting",
            style="bold",
        ),
        _table("energy, J", _pairs(prefill, decode, "energy_j"), 1.0),
        Text(),
        Text(measured),
    )


def _pairs(prefill: PhaseParts, decode: PhaseParts, what: str) -> dict[str, tuple[float, float]]:
    first: Mapping[str, float] = getattr(prefill, what)
    second: Mapping[str, float] = getattr(decode, what)
    return {name: (first[name], second[name]) for name in first}


def _table(unit: str, parts: Mapping[str, tuple[float, float]], scale: float) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column(unit)
    for name in ("prefill", "decode", "both", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    total = sum(first + second for first, second in parts.values())
    rows = [*parts.items(), ("sum", tuple(sum(column) for column in zip(*parts.values(), strict=True)))]
    for name, (first, second) in rows:
        both = first + second
        if both <= 0.0:
            continue
        figures = (quantities.three_digits(value * scale) for value in (first, second, both))
        style = "bold" if name == "sum" else ""
        table.add_row(name.replace("_", " "), *figures, f"{both / total:.0%}", style=style)
    return table
