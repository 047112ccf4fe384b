"""Several requests side by side, as a table that a person reads at a glance.

Invariant: a column for what differs and a line for what does not; no figure without its unit, no energy without
its interval, no combination left out: those without an answer are counted, with reasons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmco2.predictor.memory_check import IN_TURNS
from llmco2.records.request import UNKNOWN
from llmco2.report import quantities
from llmco2.report.table import MAX_WIDTH, MIN_WIDTH, bullet, print_fitting
from llmco2.units import KILOGRAMS_PER_TONNE, KWH_PER_MWH, kwh_from_joules

if TYPE_CHECKING:
    import pandas as pd

_REASONS_SHOWN: Final = 3
_FIGURES: Final = re.compile(r"[\d.,]+")
_TOKENS_PER_MILLION: Final = 1e6
_HEADINGS: Final = {
    "gpu": "GPU",
    "tensor_parallel": "TP",
    "pipeline_parallel": "PP",
    "expert_parallel": "EP",
    "kv_precision": "KV",
    "batch_size": "batch",
    "prompt_tokens": "prompt\ntokens",
    "output_tokens": "output\ntokens",
}
_NUMBERS: Final = (
    *("tensor_parallel", "pipeline_parallel", "expert_parallel"),
    *("batch_size", "prompt_tokens", "output_tokens"),
)
_ORDERS: Final = {
    "energy_per_output_token_j": "least energy per output token first",
    "energy_per_total_token_j": "least energy per token first",
    "operational_gco2e": "least operational carbon first",
    "latency_s": "lowest latency first",
    "ttft_s": "soonest first token first",
}


@dataclass(frozen=True, slots=True)
class _Column:
    """A figure of each row, made from a column of the answer."""

    heading: str
    answer: str
    text: Callable[[Mapping[Any, Any]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Answers to the combinations of several options, and what was asked of all of them."""

    answers: pd.DataFrame  # sorted; those without an answer last
    varied: Sequence[str]  # the columns that differ
    order: str  # the column that sorts
    descending: bool = False  # the most first
    zone: str | None = None  # of every row; none: a column, or the world's average
    carbon_intensity_gco2e_per_kwh: float | None = None  # in place of the zone's
    requests_per_s: float | None = None  # for the figures of a year


def print_comparison(comparison: Comparison, stream: TextIO) -> None:
    """Print ``comparison`` on ``stream`` as wide as it is, from 80 to 120 columns."""
    print_fitting(lambda width: comparison_table(comparison, width), stream)


def comparison_table(comparison: Comparison, width: int = MIN_WIDTH) -> RenderableType:
    """Return ``comparison`` as something Rich can print in ``width`` columns."""
    rows = comparison.answers.to_dict("records")
    good = [row for row in rows if not row["error"]]
    failed = [row for row in rows if row["error"]]
    table, left_out = _fitting_table(good, comparison, width)
    return Group(
        Text(_shared(rows[0], comparison.varied), style="bold"),
        Text(),
        table,
        Text(),
        *map(Text, _footnotes(good, comparison, left_out)),
        *_failures(failed, comparison.varied),
    )


def _shared(row: Mapping[Any, Any], varied: Sequence[str]) -> str:
    """Return what all requests have in common."""
    parts = [str(row[name]) for name in ("model", "gpu") if name not in varied]
    degrees = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
    parts += [f"{_HEADINGS[name]} {row[name]:g}" for name in degrees if name not in varied and row[name] != 1]
    if "batch_size" not in varied:
        parts.append(f"batch {row['batch_size']:,g}")
    tokens = [
        f"{row[f'{name}_tokens']:,g} {name}"
        for name in ("prompt", "output")
        if f"{name}_tokens" not in varied
    ]
    if tokens:
        parts.append(" + ".join(tokens) + " tokens")
    if "engine" not in varied:
        parts.append("engine unknown" if row["engine"] == UNKNOWN else str(row["engine"]))
    if "precision" not in varied and row["precision"] != UNKNOWN:
        parts.append(str(row["precision"]))
    if "kv_precision" not in varied and row["kv_precision"] != UNKNOWN:
        parts.append(f"KV {row['kv_precision']}")
    if "serving" not in varied:
        parts.append(str(row["serving"]))
    return " · ".join(parts)


def _fitting_table(
    rows: Sequence[Mapping[Any, Any]], comparison: Comparison, width: int
) -> tuple[Table, list[str]]:
    """Return the table with the gaps and columns that ``width`` has room for, and the headings left out."""
    columns = _FIRST + (_EACH if comparison.requests_per_s is None else _YEARLY)
    order = comparison.order
    if order not in {column.answer for column in columns} | set(comparison.varied):  # what sorts is shown
        columns += (_Column(order, order, lambda row: _cell_text(row[order])),)
    spared = [column for column in _SPARED if column in columns and column.answer != order]
    console = Console(width=10 * MAX_WIDTH)
    for n_out in range(len(spared) + 1):
        shown = [column for column in columns if column not in spared[:n_out]]
        for gap in (2, 1):
            table = _table(rows, comparison.varied, shown, gap)
            if console.measure(table).maximum <= width:
                return table, list(map(_heading, spared[:n_out]))
    return table, list(map(_heading, spared))


def _table(
    rows: Iterable[Mapping[Any, Any]], varied: Sequence[str], shown: Sequence[_Column], gap: int
) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0), show_edge=False)
    for name in varied:
        number = name in _NUMBERS
        table.add_column(
            _HEADINGS.get(name, name),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    for column in shown:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(_label(name, row) for name in varied), *(column.text(row) for column in shown))
    return table


def _cell_text(cell: object) -> str:
    return quantities.three_digits(float(cell)) if isinstance(cell, int | float) else str(cell)


def _heading(column: _Column) -> str:
    return column.heading.replace("\n", " ")


def _label(name: str, row: Mapping[Any, Any]) -> str:
    if name == "model" and not row["model"].endswith(".json"):
        return str(row["model"]).rsplit("/", 1)[-1]  # the organisation decides nothing
    return f"{row[name]:,g}" if isinstance(row[name], int | float) else str(row[name])


def _per_output_token(row: Mapping[Any, Any]) -> str:
    return quantities.three_digits(row["energy_per_output_token_j"])


def _interval(row: Mapping[Any, Any]) -> str:
    tokens = float(row["batch_size"]) * float(row["output_tokens"])
    mark = "†" if IN_TURNS in row["notes"] else " " if row["in_domain"] else "*"
    return quantities.range_text(row["energy_low_j"], row["energy_high_j"], tokens) + mark


def _energy_per_request(row: Mapping[Any, Any]) -> str:
    return quantities.three_digits(row["energy_j"] / float(row["batch_size"]))


def _carbon_per_request(row: Mapping[Any, Any]) -> str:
    mass_g = row["operational_gco2e"] + row["embodied_gco2e"]
    return quantities.three_digits(mass_g / float(row["batch_size"]))


def _energy_of_a_year(row: Mapping[Any, Any]) -> str:
    return quantities.three_digits(row["energy_per_year_kwh"] / KWH_PER_MWH)


def _carbon_of_a_year(row: Mapping[Any, Any]) -> str:
    mass_kg = row["operational_per_year_kgco2e"] + row["embodied_per_year_kgco2e"]
    return quantities.three_digits(mass_kg / KILOGRAMS_PER_TONNE)


def _tpot(row: Mapping[Any, Any]) -> str:
    return quantities.time_text(row["tpot_s"]) if row["tpot_s"] > 0.0 else "–"  # one token: none comes later


_FIRST: Final = (
    _Column("J/output\ntoken", "energy_per_output_token_j", _per_output_token),
    _Column("90% interval ", "energy_low_j", _interval),
)
_REQUEST: Final = _Column("J per\nrequest", "energy_j", _energy_per_request)
_TTFT: Final = _Column("TTFT", "ttft_s", lambda row: quantities.time_text(row["ttft_s"]))
_TPOT: Final = _Column("TPOT", "tpot_s", _tpot)
_LATENCY: Final = _Column("latency", "latency_s", lambda row: quantities.time_text(row["latency_s"]))
_CARBON: Final = _Column("gCO2e per\nrequest", "operational_gco2e", _carbon_per_request)
_EACH: Final = (_REQUEST, _TTFT, _TPOT, _LATENCY, _CARBON)
_YEARLY: Final = (
    _LATENCY,
    _Column("GPUs", "gpus_needed", lambda row: f"{row['gpus_needed']:,.0f}"),
    _Column("MWh\na year", "energy_per_year_kwh", _energy_of_a_year),
    _Column("tCO2e\na year", "operational_per_year_kgco2e", _carbon_of_a_year),
)
_SPARED: Final = (_TTFT, _LATENCY, _TPOT, _CARBON, _REQUEST)  # left out in this order for want of width


def _footnotes(
    rows: Sequence[Mapping[Any, Any]], comparison: Comparison, left_out: Sequence[str]
) -> Iterable[str]:
    if len(rows) > 1:
        yield f"{len(rows):,} combinations, {_order_text(comparison)}."
    kwh = quantities.three_digits(kwh_from_joules(_TOKENS_PER_MILLION))
    yield f"1 J per token is {kwh} kWh per million tokens. Energy is that of the GPUs."
    if _heading(_CARBON) not in left_out:
        yield f"CO2e is operational, {_grid(comparison)}, plus embodied."
    if comparison.requests_per_s is not None:
        yield (
            f"For {comparison.requests_per_s:,g} requests/s all year: the GPUs of whole deployments; energy and CO2e "
            "of the requests, without idle time."
        )
    if left_out:
        yield f"For want of width without {', '.join(left_out)}; --format csv has all."
    if any(IN_TURNS in row["notes"] for row in rows):
        yield "† the cache of the whole batch does not fit: it would run in turns and cost more than shown."
    if any(not row["in_domain"] and IN_TURNS not in row["notes"] for row in rows):
        yield "* outside the domain the predictor was trained on; --format csv says why, in notes."


def _order_text(comparison: Comparison) -> str:
    if comparison.descending:
        return f"most {comparison.order} first"
    return _ORDERS.get(comparison.order, f"least {comparison.order} first")


def _grid(comparison: Comparison) -> str:
    if comparison.carbon_intensity_gco2e_per_kwh is not None:
        return f"on a grid of {comparison.carbon_intensity_gco2e_per_kwh:g} gCO2e/kWh"
    if "zone" in comparison.varied:
        return "in each row's zone"
    return f"in zone {comparison.zone}" if comparison.zone else "on the world's average grid"


def _failures(rows: Sequence[Mapping[Any, Any]], varied: Sequence[str]) -> Iterable[RenderableType]:
    """Yield one reason of each kind: those that differ in figures alone are alike."""
    if not rows:
        return
    yield Text(f"{len(rows):,} without an answer:", style="bold yellow")
    kinds: dict[str, list[Mapping[Any, Any]]] = {}
    for row in rows:
        kinds.setdefault(_FIGURES.sub("", row["error"]), []).append(row)
    for first, *others in list(kinds.values())[:_REASONS_SHOWN]:
        label = ", ".join(f"{_HEADINGS.get(name, name)} {_label(name, first)}" for name in varied)
        more = f" ({len(others):,} more like it)" if others else ""
        yield bullet(f"{label.replace(chr(10), ' ')}: {first['error']}{more}")
    left_out = sum(map(len, list(kinds.values())[_REASONS_SHOWN:]))
    if left_out:
        yield bullet(f"{left_out:,} of other kinds; --format csv says why, in the column error")
