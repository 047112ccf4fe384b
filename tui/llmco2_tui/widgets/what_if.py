"""A form whose answer appears as one types, beside the workload in view.

Invariant: the form knows names and numbers only; it posts the request that they make and shows the answer that
it is given. What cannot be a request says so under the form, in one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from textual import on
from textual.app import ComposeResult
from textual.containers import Grid, Vertical
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Label

from llmco2.errors import InputError, explain
from llmco2.records.footprint import Footprint
from llmco2.records.request import UNKNOWN, InferenceRequest
from llmco2.report.quantities import (
    energy_scale,
    energy_text,
    mass_text,
    memory_text,
    power_text,
    three_digits,
    time_text,
)
from llmco2_tui.comparison import Answer
from llmco2_tui.grid import GridAccount
from llmco2_tui.views import Names
from llmco2_tui.widgets.lines import Line, Lines, fitted, right, wrapped
from llmco2_tui.widgets.wording import request_text, signed_percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One line of the form."""

    name: str
    label: str
    whole: bool = False
    number: bool = False


FIELDS: Final = (
    Field(name="model", label="model"),
    Field(name="gpu", label="GPU"),
    Field(name="tensor_parallel", label="TP", whole=True, number=True),
    Field(name="batch_size", label="batch", number=True),
    Field(name="prompt_tokens", label="prompt tokens", number=True),
    Field(name="output_tokens", label="output tokens", number=True),
    Field(name="precision", label="precision"),
    Field(name="zone", label="grid zone"),
)
START: Final = InferenceRequest(
    model="meta-llama/Llama-3.1-8B-Instruct",
    gpu="H100-SXM5-80GB",
    batch_size=8,
    prompt_tokens=512,
    output_tokens=256,
)


def request_of(texts: dict[str, str], base: InferenceRequest) -> InferenceRequest:
    """Return the request that the form's texts make, all else being ``base``'s; ``InputError`` says why not."""
    values: dict[str, Any] = {}
    for field in FIELDS:
        if field.name == "zone":
            continue
        text = texts[field.name].strip()
        if field.number:
            values[field.name] = _number(field, text)
        elif field.name == "precision":
            values["precision"] = text or UNKNOWN
        elif not text:
            raise InputError(explain(f"{field.label} is empty", expected="a name; type a few letters"))
        else:
            values[field.name] = text
    return replace(base, **values)


def _number(field: Field, text: str) -> float:
    try:
        value = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        raise InputError(explain(f"{field.label} is not a number", got=repr(text))) from None
    return int(value) if value.is_integer() else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One column of the answer."""

    title: str
    request: InferenceRequest | None
    answer: Answer | None
    account: GridAccount


def answer_lines(now: Side, other: Side, width: int) -> list[Line]:
    """Return the answers beside each other, with the change from the one to the other."""
    lines: list[Line] = []
    for side in (now, other):
        if side.request is not None:
            lines.append([(fitted(side.title, 9), "muted"), (request_text(side.request), "strong")])
        if isinstance(side.answer, str):
            reason = wrapped(f"NO PREDICTION: {side.answer}", width - 12, "bad", most=3)
            lines += [[(fitted("", 9), ""), *line] for line in reason]
        elif side.request is not None and side.answer is None:
            lines.append([("         predicting …", "muted")])
        elif isinstance(side.answer, Footprint) and not side.answer.in_domain:
            lines.append(
                [("          OUT OF DOMAIN ", "notice"), (" " + "; ".join(side.answer.notes), "warn")]
            )
    column = 19 if width < 100 else 26
    header = fitted("", 18) + right("now", column) + right("what if", column) + right("change", 10)
    lines.append([(header, "title")])
    before = _figures(now)
    after = _figures(other)
    for name in dict.fromkeys([*after, *before]):
        old, new = before.get(name), after.get(name)
        change = 100.0 * (new[1] / old[1] - 1.0) if old and new and old[1] > 0 else None
        kind = "" if change is None or abs(change) < 0.05 else "good" if change < 0 else "bad"
        lines.append(
            [
                (fitted(name, 18), "muted"),
                (right(old[0] if old else "–", column), ""),
                (right(new[0] if new else "–", column), "strong"),
                (right("" if change is None or abs(change) < 0.05 else signed_percent(change), 10), kind),
            ]
        )
    return lines


def _figures(side: Side) -> dict[str, tuple[str, float]]:
    """Return what a footprint says, each with its text and the number behind it."""
    answer, account = side.answer, side.account
    if not isinstance(answer, Footprint):
        return {}
    gpu = answer.request.gpu
    grams = account.operational_g(gpu, answer.total.energy_j, answer.total.time_s, answer.n_gpus)
    embodied = account.embodied_g(gpu, answer.total.time_s, answer.n_gpus)
    size, unit = energy_scale(answer.total.energy_j)
    interval = answer.total.energy_interval_j
    figures = {
        "prefill": (energy_text(answer.prefill.energy_j), answer.prefill.energy_j),
        "decode": (energy_text(answer.decode.energy_j), answer.decode.energy_j),
        "total": (energy_text(answer.total.energy_j), answer.total.energy_j),
        "90 % interval": (
            f"{three_digits(interval.low / size)} – {three_digits(interval.high / size)} {unit}",
            0.0,  # a range has no change
        ),
        "per output token": (energy_text(answer.energy_per_output_token_j), answer.energy_per_output_token_j),
    }
    if grams is not None and embodied is not None:
        figures["CO2e operational"] = (mass_text(grams), grams)
        figures["CO2e embodied"] = (mass_text(embodied), embodied)
    zone = account.view.zone
    intensity = zone.carbon_intensity_gco2e_per_kwh
    figures["grid"] = (f"{zone.zone_id} {three_digits(intensity, trim=True)} g/kWh", intensity)
    figures["first token"] = (time_text(answer.ttft_s), answer.ttft_s)
    figures["per token"] = (time_text(answer.tpot_s), answer.tpot_s)
    figures["latency"] = (time_text(answer.latency_s), answer.latency_s)
    figures["mean power"] = (power_text(answer.total.average_power_w), answer.total.average_power_w)
    figures["memory per GPU"] = (memory_text(answer.memory_needed_bytes), answer.memory_needed_bytes)
    return figures


class AnswerTable(Lines):
    """Both answers."""


class WhatIf(Vertical):
    """The form and its answer."""

    DEFAULT_CSS = """
    WhatIf { padding: 0 1; }
    WhatIf #fields { grid-size: 4; grid-columns: 13 3fr 13 2fr; grid-rows: 1; height: 4; grid-gutter: 0 1; }
    WhatIf Label { color: $foreground 60%; }
    WhatIf Input { height: 1; border: none; padding: 0 1; background: $panel; }
    WhatIf Input:focus { border: none; background: $primary 30%; }
    WhatIf AnswerTable { height: 1fr; }
    WhatIf #form-error { height: auto; max-height: 2; }
    """

    class Asked(Message):
        """The form makes this request at this zone, or ``problem`` says why it makes none."""

        def __init__(self, request: InferenceRequest | None, zone: str, problem: str | None) -> None:
            super().__init__()
            self.request, self.zone, self.problem = request, zone, problem

    def __init__(self, names: Names) -> None:
        super().__init__(id="what-if")
        self._names = names
        self.start = START
        self._base = START

    def compose(self) -> ComposeResult:
        """Lay the form out in two columns of four."""
        known: dict[str, Sequence[str]] = {
            "model": self._names.models,
            "gpu": self._names.gpus,
            "zone": self._names.zones,
            "precision": self._names.precisions,
        }
        with Grid(id="fields"):
            for field in FIELDS:
                names = known.get(field.name)
                yield Label(field.label)
                yield Input(
                    id=f"field-{field.name.replace('_', '-')}",
                    suggester=SuggestFromList(names, case_sensitive=False) if names else None,
                    compact=True,
                )
        yield Lines(id="form-error")
        yield AnswerTable()

    def fill(self, request: InferenceRequest, zone: str) -> None:
        """Start from a request; what the form does not show stays as it is there."""
        self._base = request
        with self.prevent(Input.Changed):
            for field in FIELDS:
                value = zone if field.name == "zone" else getattr(request, field.name)
                text = "" if value == UNKNOWN else f"{value:g}" if isinstance(value, float) else str(value)
                self._input(field.name).value = text
        self._post()

    def focus_first(self) -> None:
        """Put the cursor into the form."""
        self._input("model").focus()

    def show(self, now: Side, other: Side, problem: str | None) -> None:
        """Show both answers, and what is wrong with the form."""
        error = self.query_one("#form-error", Lines)
        error.show_lines([[(problem, "bad")]] if problem else [])
        self.query_one(AnswerTable).show_lines(answer_lines(now, other, self.app.size.width))

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._post()

    def _post(self) -> None:
        texts = {field.name: self._input(field.name).value for field in FIELDS}
        zone = texts["zone"].strip()
        try:
            self.post_message(self.Asked(request_of(texts, self._base), zone, None))
        except InputError as error:
            self.post_message(self.Asked(None, zone, str(error)))

    def _input(self, name: str) -> Input:
        return self.query_one(f"#field-{name.replace('_', '-')}", Input)
