"""The three lines on top, at any size: what is drawn and cost, what runs on what, predicted against measured.

Invariant: a line too long for the screen loses its least important pieces as a whole; no figure is ever cut in half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len

from llmco2.records.request import UNKNOWN, InferenceRequest
from llmco2.report.quantities import (
    energy_text,
    energy_unit,
    mass_text,
    mass_unit,
    three_digits,
    watt_hours_text,
)
from llmco2_tui.comparison import ABOVE, BELOW, INSIDE, Comparison, Quantity
from llmco2_tui.grid import catalog_gpu_id
from llmco2_tui.views import TotalsView
from llmco2_tui.widgets.lines import Line, Lines
from llmco2_tui.widgets.wording import NOTHING, clock_time, signed_percent, watts

_SHORT: Final = 60  # columns below which words are shorter


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerView:
    """What the three lines say."""

    totals: TotalsView
    grams_per_hour: float | None  # at the power of this moment
    gpu_names: Sequence[str]
    comparison: Comparison
    simulated: bool = False
    trouble: str = ""  # why nothing is read; takes the first line


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a line, and how soon it goes where there is no room: the highest first, 0 never."""

    text: str
    kind: str = ""
    goes: int = 0


def fit_parts(parts: Sequence[Part], width: int) -> Line:
    """Return as many of ``parts`` as fit into ``width``, a blank between two, in their order."""
    kept = [part for part in parts if part.text]
    while len(kept) > 1 and sum(cell_len(part.text) for part in kept) + len(kept) - 1 > width:
        last = max(range(len(kept)), key=lambda place: (kept[place].goes, place))
        if kept[last].goes == 0:
            break
        del kept[last]
    line: Line = []
    for part in kept:
        line += [(" ", ""), (part.text, part.kind)] if line else [(part.text, part.kind)]
    return line


def answer_lines(view: AnswerView, width: int) -> list[Line]:
    """Return the three lines."""
    return [
        fit_parts(_cost(view, short=width < _SHORT), width),
        fit_parts(_workload(view), width),
        fit_parts(_verdict(view.comparison, short=width < _SHORT), width),
    ]


def _cost(view: AnswerView, *, short: bool) -> list[Part]:
    mark = Part(("SIMULATED" if short else " SIMULATED ") if view.simulated else "", "notice")
    if view.trouble:
        return [mark, Part(view.trouble, "bad")]
    totals = view.totals.totals
    energy = NOTHING if totals.energy_j is None else energy_text(totals.energy_j)
    sign = "∫" if totals.integrated else ""
    power_of = totals.power_gpus_text if totals.n_with_power < totals.n_gpus else ""
    energy_of = totals.energy_gpus_text if totals.incomplete else ""
    hours = "" if totals.energy_j is None else watt_hours_text(totals.energy_j)
    grams, embodied = view.totals.operational_g, view.totals.embodied_g
    limit = "" if totals.power_limit_w is None else f"of {watts(totals.power_limit_w)}"
    return [
        mark,
        Part(f"{watts(totals.power_w)} W", "strong"),
        Part(limit, "muted", 6),
        Part(f"({power_of})" if power_of else "", "warn", 1),
        Part("·", "muted", 5),
        Part(f"{sign}{energy}", "strong"),
        Part(f"= {hours}" if hours not in ("", energy) else "", "", 7),
        Part(f"({energy_of})" if energy_of and energy_of != power_of else "", "warn", 1),
        Part("·", "muted", 5),
        Part(NOTHING if grams is None else mass_text(grams), "strong"),
        Part("CO2e", "", 4),
        Part("" if embodied is None else f"+ {mass_text(embodied)} embodied", "muted", 8),
        Part("·", "muted", 5),
        Part("" if view.grams_per_hour is None else f"{mass_text(view.grams_per_hour)}/h", "", 2),
        Part(f"in {clock_time(totals.elapsed_s)}", "muted", 3),
    ]


def _workload(view: AnswerView) -> list[Part]:
    request = view.comparison.request
    if request is None:
        return [
            Part("no workload in view", "muted"),
            Part("(3 types one in)", "muted", 2),
            Part("on", "muted", 1),
            Part(gpus_text(view.gpu_names), "", 1),
        ]
    return [*_request_parts(request), Part("on", "muted", 1), Part(_request_gpus(request), "strong", 1)]


def _request_parts(request: InferenceRequest) -> list[Part]:
    return [
        Part(request.model.rstrip("/").rsplit("/", 1)[-1], "strong"),
        Part(f"batch {request.batch_size:,.4g}", "", 2),
        Part(f"{request.prompt_tokens:,.5g}+{request.output_tokens:,.5g} tokens", "", 3),
        Part("" if request.precision == UNKNOWN else request.precision, "", 4),
        Part("" if request.engine == UNKNOWN else request.engine, "", 5),
    ]


def _request_gpus(request: InferenceRequest) -> str:
    count = f"{request.n_gpus}× " if request.n_gpus > 1 else ""
    return f"{count}{request.gpu}"


def gpus_text(names: Sequence[str]) -> str:
    """Return the GPUs by name, each kind once: ``8× H100-SXM5-80GB``."""
    kinds = Counter(catalog_gpu_id(name) for name in names)
    return ", ".join(name if count == 1 else f"{count}× {name}" for name, count in kinds.items()) or "no GPU"


def _verdict(view: Comparison, *, short: bool) -> list[Part]:
    if view.request is None:
        return [Part("predicted: nothing; measured: nothing", "muted")]
    if view.waiting:
        return [Part("predicting …", "muted")]
    total = view.total
    if total is None:
        return [Part("NO PREDICTION", "bad"), Part(view.why_not or "", "")]
    quantity = total.energy if total.carbon is None else total.carbon
    unit_of = energy_text if total.carbon is None else mass_text
    low, high = _interval(quantity, is_mass=total.carbon is not None)
    measured = NOTHING if quantity.measured is None else unit_of(quantity.measured)
    return [
        Part("predicted", "muted", 4),
        Part(unit_of(quantity.predicted), "strong"),
        Part(f"[{low}–{high}]"),
        Part("vs" if short else "measured", "muted", 1 if short else 3),
        Part(measured, "strong"),
        Part("CO2e" if total.carbon is not None else "", "", 6),
        _error(quantity),
        _word(view, quantity, short=short),
        Part("" if view.in_domain else "OUT OF DOMAIN", "warn", 1),
        Part(f"(+{view.others} not summed)" if view.others else "", "warn", 5),
    ]


def _interval(quantity: Quantity, *, is_mass: bool) -> tuple[str, str]:
    """Return the ends of the interval in the unit of the prediction."""
    unit = mass_unit if is_mass else energy_unit
    size, _ = unit(quantity.predicted)
    return three_digits(quantity.low / size), three_digits(quantity.high / size)


def _error(quantity: Quantity) -> Part:
    error = quantity.error_percent
    return Part("" if error is None else signed_percent(error), _kind(quantity), 2)


def _word(view: Comparison, quantity: Quantity, *, short: bool) -> Part:
    if quantity.measured is None:
        return Part("", "muted")
    if view.simulated:
        return Part("simulated" if short else "not judged: simulated", "muted", 1)
    word = {INSIDE: "INSIDE", ABOVE: "ABOVE", BELOW: "BELOW"}.get(quantity.place or "", "")
    return Part(word if short or not word else f"{word} the interval", _kind(quantity))


def _kind(quantity: Quantity) -> str:
    return "good" if quantity.place == INSIDE else "bad" if quantity.place else "muted"


class AnswerLines(Lines):
    """Three lines that stay whatever is shown below them."""

    DEFAULT_CSS = "AnswerLines { height: 3; }"

    def __init__(self) -> None:
        super().__init__(id="answer")

    def show(self, view: AnswerView) -> None:
        """Show them."""
        self.show_lines(answer_lines(view, self.app.size.width))
