"""A choice as a person reads it: the verdict, the first options, and the front of CO2e against time; or as JSON.

Invariant: a figure has its unit and an energy its interval; options that are left out are counted, with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmco2.decision.choice import Choice
from llmco2.decision.describing import HEADINGS, load_line, rounded_up, verdict_lines, year_line
from llmco2.decision.targets import VERDICTS
from llmco2.errors import shortened
from llmco2.report.json_format import json_cells
from llmco2.report.quantities import three_digits, time_text
from llmco2.report.scatter import Point, scatter_lines
from llmco2.report.table import MAX_WIDTH, print_fitting

CHOICE_SCHEMA_VERSION: Final = 1
_MANY_GPUS: Final = 10
_LEAST_LABEL: Final = 4  # columns
_TOKENS_PER_1000: Final = 1e3 / 1e6
Row = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    text: Callable[[Row], str]


_WH_MILLION: Final = "energy_per_million_output_tokens_wh"


def _interval(row: Row) -> str:
    less, more = 1.0 - row["energy_relative_low"], row["energy_relative_high"] - 1.0
    return f"-{100 * less:.0f} +{100 * more:.0f}%"


def _tpot(row: Row) -> str:
    return time_text(row["tpot_s"]) if row["tpot_s"] > 0.0 else "–"  # one token: none comes later


def _mark(row: Row) -> str:
    if row["verdict"] == VERDICTS[1]:
        return "!"
    return ("=" if row["equal_to_best"] else "") + ("" if row["surely_meets"] else "?")


_WH_REQUEST = _Column("Wh per\nrequest", lambda row: three_digits(row["energy_per_request_wh"]))
_G_REQUEST = _Column("gCO2e per\nrequest", lambda row: three_digits(row["gco2e_per_request"]))
_TTFT = _Column("TTFT", lambda row: time_text(row["ttft_s"]))
_LATENCY = _Column("latency", lambda row: time_text(row["latency_s"]))
_SATURATION = _Column("saturates\nrequests/s", lambda row: three_digits(row["saturation_requests_per_s"]))
_RUNNING = _Column("running", lambda row: three_digits(row["running_requests"], trim=True))
_REPLICAS = _Column("replicas", lambda row: f"{row['replicas']:,.0f}")
_LOAD: Final = (_RUNNING, _REPLICAS, _SATURATION)
_COLUMNS: Final = (
    _Column("GPUs", lambda row: f"{row['gpus_needed']:,.0f}"),
    _WH_REQUEST,
    _Column("Wh per\nM tokens", lambda row: three_digits(row[_WH_MILLION])),
    _Column("90%\ninterval", _interval),
    _G_REQUEST,
    _Column("gCO2e per\nM tokens", lambda row: three_digits(row["gco2e_per_million_output_tokens"])),
    _TTFT,
    _Column("TPOT", _tpot),
    _LATENCY,
    _Column("", _mark),
)
# Left out in this order for want of width.
_SPARED: Final = (_SATURATION, _G_REQUEST, _WH_REQUEST, _TTFT, _LATENCY, _REPLICAS, _RUNNING)


def print_choice(choice: Choice, top: int, stream: TextIO) -> None:
    """Print ``choice`` with its first ``top`` options on ``stream``, from 80 to 120 columns wide."""
    print_fitting(lambda width: choice_table(choice, top, width), stream)


def choice_table(choice: Choice, top: int, width: int) -> RenderableType:
    """Return ``choice`` with its first ``top`` options as something Rich can print in ``width`` columns."""
    parts: list[RenderableType] = [Text(_shared(choice), style="bold"), Text()]
    first, *others = verdict_lines(choice)
    parts += [Text(first, style="bold"), *map(Text, others)]
    if choice.requests_per_s is not None:
        parts += [Text(load_line(choice)), Text(year_line(choice))]
    answered = choice.frame[choice.frame["verdict"].isin(VERDICTS[:2])]
    parts += [Text(), _fitting_table(choice, answered.head(top).to_dict("records"), width), Text()]
    if _pictured(choice):
        parts += [Text(line, no_wrap=True) for line in front_lines(choice, width)] + [Text()]
    return Group(*parts, *map(Text, _footnotes(choice, len(answered), top)))


def _shared(choice: Choice) -> str:
    """Return what all options have in common."""
    row, varied = choice.closest, choice.varied
    parts = [str(row[name]) for name in ("model", "gpu", "engine") if name not in varied]
    tokens = [
        f"{row[f'{kind}_tokens']:,g} {kind}"
        for kind in ("prompt", "output")
        if f"{kind}_tokens" not in varied
    ]
    parts += [" + ".join(tokens) + " tokens"] if tokens else []
    return " · ".join([*parts, "served continuously"])


def _fitting_table(choice: Choice, rows: Sequence[Row], width: int) -> Table:
    names = [name for name in choice.varied if name != "batch_size"]
    columns = [*(_LOAD if choice.requests_per_s is not None else (_RUNNING,)), *_COLUMNS]
    console = Console(width=10 * MAX_WIDTH)
    for spared in range(len(_SPARED) + 1):
        table = _table(names, [column for column in columns if column not in _SPARED[:spared]], rows)
        if console.measure(table).maximum <= width:
            break
    return table


def _table(names: Sequence[str], columns: Sequence[_Column], rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in names:
        table.add_column(HEADINGS.get(name, name), overflow="fold", min_width=_LEAST_LABEL)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for row in rows:
        labels = [
            f"{row[name]:g}" if isinstance(row[name], int | float) else str(row[name]) for name in names
        ]
        table.add_row(*labels, *(column.text(row) for column in columns))
    return table


def _pictured(choice: Choice) -> bool:
    """Return whether there is anything to compare in a picture."""
    return int(choice.frame["verdict"].eq(VERDICTS[0]).sum()) > 1


def front_lines(choice: Choice, width: int) -> list[str]:
    """Return the options within the targets by time and CO2e per 1,000 output tokens, the front marked by its GPUs."""
    grams, time, gpus = choice.front_columns
    met = choice.frame[choice.frame["verdict"] == VERDICTS[0]]
    best = met.index[0]
    # The winner is drawn last, the front over the rest; a cell shows the last.
    rows = [*met[~met["on_front"]].index, *met[met["on_front"]].index, best]
    points = []
    for row in rows:
        n_gpus = int(met.loc[row, gpus])
        mark = (
            "*"
            if row == best
            else "."
            if not met.loc[row, "on_front"]
            else str(n_gpus)
            if n_gpus < _MANY_GPUS
            else "+"
        )
        points.append(Point(float(met.loc[row, time]), float(met.loc[row, grams]) * _TOKENS_PER_1000, mark))
    what = {"tpot_s": "TPOT, s", "latency_s": "latency, s"}[time]
    return scatter_lines(
        points, x_title=what, y_title="gCO2e per 1,000 output tokens; both axes logarithmic", width=width
    )


def _footnotes(choice: Choice, n_answered: int, top: int) -> Iterator[str]:
    met = choice.frame["verdict"].eq(VERDICTS[0])
    if _pictured(choice):
        yield (
            "* the choice; digits: options that none beats in CO2e, time and GPUs at once, by their GPUs, + for 10 or "
            "more; . the others within the targets."
        )
    yield f"{n_answered:,} options, {int(met.sum()):,} within the targets; {min(top, n_answered):,} shown."
    yield (
        "M tokens: a million output tokens, their prompts included. Energy is that of the GPUs; CO2e is operational "
        "and embodied. TTFT has its prefill and no wait in a queue. --format json has every figure."
    )
    if choice.requests_per_s is not None:
        yield (
            "At the rate, idle GPUs and a whole year of their hosts and their making are in every figure; arrivals are "
            "even, so leave room below saturation."
        )
    if (met & choice.frame["equal_to_best"]).sum() > 1:
        yield "= as good as the choice: the middle of one lies within the interval of the other."
    if choice.shortfall is not None:
        yield "! misses a target."
    if (met & ~choice.frame["surely_meets"]).any():
        yield "? meets the targets by its middle, not at the slow end of its 90% interval."
    memory = int((choice.frame["verdict"] == VERDICTS[2]).sum())
    if memory:
        yield f"{memory:,} left out: the GPUs cannot hold the cache of that many requests at once."
    failed = choice.frame[choice.frame["verdict"] == VERDICTS[3]]
    if len(failed):
        yield f"{len(failed):,} without an answer, the first: {shortened(failed['error'].iloc[0])}"


def choice_json(choice: Choice, top: int, *, ascii_only: bool = False) -> str:
    """Return ``choice`` as an indented JSON object, ended by a newline, with its first ``top`` options.

    ``best`` is null where no option meets the targets; ``shortfall`` then has the closest one and what binds.
    ``ascii_only`` escapes other characters, for a stream that could not encode them.
    """
    found = choice.shortfall
    content = {
        "schema_version": CHOICE_SCHEMA_VERSION,
        "objective": str(choice.objective),
        "targets": asdict(choice.targets),
        "requests_per_s": choice.requests_per_s,
        "verdict": verdict_lines(choice),
        "best": None if found else _cells(choice.closest.to_dict()),
        "equal_to_best": [_cells(row) for row in choice.equal.to_dict("records")],
        "pareto": {
            "columns": choice.front_columns,
            "options": [_cells(row) for row in choice.pareto.to_dict("records")],
        },
        "shortfall": None
        if found is None
        else {
            "binding": [
                {"target": item.target, "asked": item.asked, "nearest": rounded_up(item)}
                for item in found.binding
            ],
            "each_alone_would_do": found.alone,
            "closest": _cells(choice.closest.to_dict()),
        },
        "n_options": {name: int((choice.frame["verdict"] == name).sum()) for name in VERDICTS},
        "options": [_cells(row) for row in choice.frame.head(top).to_dict("records")],
    }
    return json.dumps(content, indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n"


def _cells(row: Mapping[Any, Any]) -> dict[str, Any]:
    return dict(zip(map(str, row), json_cells([*row.values()]), strict=True))
