"""Predicted beside measured: phases × (predicted, interval, measured, signed error), in energy and in gCO2e."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmco2.report.quantities import energy_scale, energy_text, mass_scale, mass_text, three_digits
from llmco2_tui.comparison import INSIDE, Comparison, MeasuredOnly, Quantity
from llmco2_tui.widgets.lines import Line, Lines, fitted, right, wrapped
from llmco2_tui.widgets.wording import NOTHING, count, counted, request_text, signed_percent

CUMULATIVE = "cumulative"
PER_TOKEN = "per output token"
_LABEL = 16
_COLUMNS = (11, 21, 11, 9, 10)


def comparison_lines(view: Comparison, blocks: Sequence[str], width: int) -> list[Line]:
    """Return the request, the verdict and one block of rows for each of ``blocks``."""
    if view.request is None:
        return [
            [("No workload in view.", "strong")],
            [("Type a request under 3 What if and press F6, follow a campaign (--campaign FILE),", "muted")],
            [("replay a recording (--replay), or simulate one (--simulate).", "muted")],
        ]
    lines: list[Line] = [_request_line(view)]
    if view.why_not is not None:
        lines += [[("NO PREDICTION", "bad")], *wrapped(view.why_not, width)]
        lines += [_alone_line(part) for part in view.alone]
    if view.waiting:
        return [*lines, [("predicting …", "muted")]]
    if not view.rows:
        return lines
    lines.append(verdict_line(view))
    if not view.in_domain:
        notes = "OUT OF DOMAIN: " + ("; ".join(view.notes) or "not measured")
        lines += wrapped(notes, width, "warn", most=2)
    for block in blocks:
        lines += _block(view, block)
    return lines


def verdict_line(view: Comparison) -> Line:
    """Return the plain word on how far apart the two are."""
    total = view.total
    place = total.energy.place if total else None
    kind = "good" if place == INSIDE else "muted" if place is None else "bad"
    if view.batches:
        batches = f"{count(view.batches)} batch{'es' if view.batches != 1 else ''} measured: "
    else:
        batches = "one batch predicted, "
    left_out = f"; {view.unpredicted} without a prediction left out" if view.unpredicted else ""
    left_out += f"; {counted(view.others, 'other configuration')} not summed" if view.others else ""
    return [(batches, "muted"), (view.verdict, kind), (left_out, "warn")]


def _alone_line(part: MeasuredOnly) -> Line:
    grams = "" if part.operational_g is None else f" = {mass_text(part.operational_g)} CO2e"
    return [
        (fitted(f"  {part.phase}", _LABEL), ""),
        (f"measured {energy_text(part.energy_j)}{grams}", "strong"),
        (f" over {count(part.batches)} batches", "muted"),
    ]


def _request_line(view: Comparison) -> Line:
    assert view.request is not None
    several = f"{view.n_requests} requests, newest: " if view.n_requests > 1 else ""
    return [(several, "muted"), (request_text(view.request), "strong")]


def _block(view: Comparison, block: str) -> list[Line]:
    if block == CUMULATIVE:
        energy = [(row.phase, row.energy) for row in view.rows]
        carbon = [(row.phase, row.carbon) for row in view.rows]
        per = ""
    else:
        energy = [(row.phase, row.energy_per_token) for row in view.rows]
        carbon = [(row.phase, row.carbon_per_token) for row in view.rows]
        per = "/token"
    return [
        *_quantity_block("energy", energy, energy_scale, per),
        *_quantity_block("CO2e", carbon, mass_scale, per),
    ]


def _quantity_block(
    name: str,
    rows: Sequence[tuple[str, Quantity | None]],
    scale: Callable[[float], tuple[float, str]],
    per: str,
) -> list[Line]:
    total = rows[-1][1]
    if total is None:
        return [[(f"{name}: no carbon factors are known for this GPU", "muted")]]
    size, unit = scale(total.predicted)
    names = ("predicted", "90 % interval", "measured", "error", "interval")
    cells = "".join(right(name, width) for name, width in zip(names, _COLUMNS, strict=True))
    return [
        [(fitted(f"{name}, {unit}{per}", _LABEL) + cells, "title")],
        *(_row(phase, quantity, size) for phase, quantity in rows if quantity is not None),
    ]


def _row(phase: str, quantity: Quantity, size: float) -> Line:
    place = quantity.place
    kind = "" if place is None else "good" if place == INSIDE else "bad"
    interval = f"{three_digits(quantity.low / size)} – {three_digits(quantity.high / size)}"
    measured = NOTHING if quantity.measured is None else three_digits(quantity.measured / size)
    strong = "strong" if phase == "total" else ""
    predicted_width, interval_width, measured_width, error_width, place_width = _COLUMNS
    return [
        (fitted(f"  {phase}", _LABEL), strong),
        (right(three_digits(quantity.predicted / size), predicted_width), "strong" if strong else ""),
        (right(interval, interval_width), "muted"),
        (right(measured, measured_width), "strong"),
        (right(signed_percent(quantity.error_percent), error_width), kind),
        (right({None: "", INSIDE: "inside"}.get(place, f"{place}!"), place_width), kind),
    ]


class ComparisonTable(Lines):
    """The rows of the workload in view."""

    def show(self, view: Comparison, blocks: Sequence[str]) -> None:
        """Show one block of rows for each of ``blocks``."""
        self.show_lines(comparison_lines(view, blocks, self.app.size.width - 2))
