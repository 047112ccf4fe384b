"""Predicted beside measured, over the same batches.

Invariant: a row only adds up batches for which both sides are known, of one configuration or of one named group.
Intervals of batches add up as they are: an error of the predictor is much the same for each of them, so it does not
average out. What no real GPU drew is shown and never judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from llmco2.records.footprint import Footprint, PhaseEnergy
from llmco2.records.request import InferenceRequest
from llmco2_tui.grid import GridAccount
from llmco2_tui.measured import DECODE, PHASES, PREFILL, WHOLE, MeasuredPhase

Answer = Footprint | str  # a footprint, or why there is none

INSIDE: Final = "inside"
ABOVE: Final = "above"
BELOW: Final = "below"
_PAIRED: Final = 0.02  # phases measured over numbers of batches that differ by less belong together


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One quantity (J or gCO2e) of one row; ``measured`` is ``None`` before anything was measured."""

    predicted: float
    low: float
    high: float
    measured: float | None = None
    simulated: bool = False  # what was measured was drawn by no real GPU: it judges nothing

    @property
    def error_percent(self) -> float | None:
        """Signed error of the prediction against the measurement: + is predicted too much."""
        if not self.measured or self.simulated:
            return None
        return 100.0 * (self.predicted - self.measured) / self.measured

    @property
    def place(self) -> str | None:
        """Where the measurement lies against the interval."""
        if self.measured is None or self.simulated:
            return None
        return BELOW if self.measured < self.low else ABOVE if self.measured > self.high else INSIDE

    def plus(self, other: Quantity) -> Quantity:
        """Return the sum; measured only where both are."""
        both = self.measured is not None and other.measured is not None
        return Quantity(
            predicted=self.predicted + other.predicted,
            low=self.low + other.low,
            high=self.high + other.high,
            measured=(self.measured or 0.0) + (other.measured or 0.0) if both else None,
            simulated=self.simulated or other.simulated,
        )

    def per(self, count: float) -> Quantity:
        """Return the quantity divided by ``count``."""
        measured = None if self.measured is None else self.measured / count
        return Quantity(
            predicted=self.predicted / count,
            low=self.low / count,
            high=self.high / count,
            measured=measured,
            simulated=self.simulated,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One phase, or both together."""

    phase: str
    energy: Quantity  # J
    carbon: Quantity | None  # operational gCO2e; None where the GPU has no factors
    energy_per_token: Quantity  # J per output token
    carbon_per_token: Quantity | None
    output_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Both cumulative energies at one moment, J."""

    t_s: float
    predicted_j: float
    measured_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredOnly:
    """What was measured of one phase without anything to hold it against."""

    phase: str
    energy_j: float
    operational_g: float | None
    batches: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that the screen says about the workload in view."""

    request: InferenceRequest | None = None
    rows: tuple[Row, ...] = ()
    points: tuple[Point, ...] = ()
    n_requests: int = 1  # that the rows add up
    batches: float = 0.0  # measured batches that the rows add up; 0: one predicted batch
    why_not: str | None = None  # why there is no prediction
    waiting: bool = False  # the prediction is being made
    in_domain: bool = True
    notes: tuple[str, ...] = ()
    predictor: str = ""
    unpredicted: int = 0  # measurements of the group left out because their request has no prediction
    others: int = 0  # other configurations that were measured, and stand in no sum here
    simulated: bool = False  # what was measured was drawn by no real GPU
    alone: tuple[MeasuredOnly, ...] = ()  # what was measured where nothing is predicted

    @property
    def total(self) -> Row | None:
        """The row of both phases."""
        return next((row for row in self.rows if row.phase == WHOLE), None)

    @property
    def verdict(self) -> str:
        """A plain sentence on how far apart prediction and measurement are."""
        row = self.total
        if row is None:
            return ""
        energy = row.energy
        if energy.measured is None:
            return "nothing measured yet"
        if self.simulated:
            return "SIMULATED measurement: it judges no prediction"
        if energy.error_percent is None:
            return "nothing measured yet"
        off = f"{abs(energy.error_percent):.0f} %"
        word = "predicted too much" if energy.error_percent > 0 else "predicted too little"
        if energy.place == INSIDE:
            return f"INSIDE the 90 % interval ({word} by {off})"
        side = "above" if energy.place == ABOVE else "below"
        return f"OUTSIDE the 90 % interval: measured {side} it ({word} by {off})"


def phase_of(footprint: Footprint, phase: str) -> PhaseEnergy:
    """Return the prediction of one phase of one batch."""
    return {PREFILL: footprint.prefill, DECODE: footprint.decode, WHOLE: footprint.total}[phase]


def compare(
    request: InferenceRequest | None,
    entries: Sequence[MeasuredPhase],
    answers: Mapping[InferenceRequest, Answer],
    account: GridAccount,
) -> Comparison:
    """Return predicted beside measured for the entries of ``request``, or of the group that it belongs to.

    Other configurations are counted and not summed. Without entries, one predicted batch of ``request`` stands alone.
    """
    if request is None:
        return Comparison()
    n_measured = len({_label(entry) for entry in entries})
    entries = _of_one_label(request, entries)
    others = n_measured - bool(entries)
    simulated = any(entry.simulated for entry in entries)
    answer = answers.get(request)
    known = [entry for entry in entries if isinstance(answers.get(entry.request), Footprint)]
    if not known and not isinstance(answer, Footprint):
        alone = tuple(_alone(phase, entries, account) for phase in PHASES)
        return Comparison(
            request=request,
            why_not=answer,
            waiting=answer is None,
            others=others,
            simulated=simulated,
            alone=tuple(part for part in alone if part.batches),
        )
    sums = _Sums(account, simulated=simulated)
    points = []
    for entry in known:
        footprint = answers[entry.request]
        assert isinstance(footprint, Footprint)
        sums.add(footprint, entry.phase, entry.batches, entry)
        points.append(Point(t_s=entry.t_s, predicted_j=sums.predicted_j, measured_j=sums.measured_j))
    if not known and isinstance(answer, Footprint):
        sums.add(answer, PREFILL, 1.0, None)
        sums.add(answer, DECODE, 1.0, None)
    shown = answer if isinstance(answer, Footprint) else None
    return Comparison(
        request=request,
        rows=sums.rows(),
        points=tuple(points),
        n_requests=len({entry.request for entry in known}) or 1,
        batches=sums.batches,
        in_domain=shown.in_domain if shown else True,
        notes=shown.notes if shown else (),
        predictor=shown.predictor if shown else "",
        why_not=answer if isinstance(answer, str) else None,
        unpredicted=len(entries) - len(known),
        others=others,
        simulated=simulated,
    )


def _label(entry: MeasuredPhase) -> InferenceRequest | str:
    """Return what an entry may be summed under: its group's name, or its request."""
    return entry.group or entry.request


def _of_one_label(request: InferenceRequest, entries: Sequence[MeasuredPhase]) -> list[MeasuredPhase]:
    """Return the entries that stand under the label of ``request``: those of its newest entry's group, or its own."""
    label = next((_label(entry) for entry in reversed(entries) if entry.request == request), request)
    return [entry for entry in entries if _label(entry) == label]


def _alone(phase: str, entries: Sequence[MeasuredPhase], account: GridAccount) -> MeasuredOnly:
    found = [entry for entry in entries if entry.phase == phase]
    grams = [
        account.operational_g(entry.request.gpu, entry.energy_j, entry.time_s, entry.request.n_gpus)
        for entry in found
    ]
    return MeasuredOnly(
        phase=phase,
        energy_j=sum(entry.energy_j for entry in found),
        operational_g=None if None in grams else sum(gram or 0.0 for gram in grams),
        batches=sum(entry.batches for entry in found),
    )


class _Sums:
    """What was measured per request and phase, and the rows that follow from it."""

    def __init__(self, account: GridAccount, *, simulated: bool) -> None:
        self._account, self._simulated = account, simulated
        self._by_request: dict[InferenceRequest, _OneRequest] = {}
        self._measured = False
        self.predicted_j = self.measured_j = 0.0

    @property
    def batches(self) -> float:
        """Measured batches: of each request, those of the phase that was measured most."""
        return sum(max(one.batches.values()) for one in self._by_request.values()) if self._measured else 0.0

    def add(self, footprint: Footprint, phase: str, batches: float, entry: MeasuredPhase | None) -> None:
        key = footprint.request if entry is None else entry.request
        one = self._by_request.setdefault(key, _OneRequest(footprint=footprint))
        one.batches[phase] += batches
        self.predicted_j += batches * phase_of(footprint, phase).energy_j
        if entry is not None and phase == WHOLE:
            extra = entry.prefilled_batches - batches
            one.extra_prefills += extra
            one.idle_j += entry.predicted_idle_j
            if (
                entry.prefill_batches is not None
            ):  # an interval of a server, whose host runs on whatever it does
                active_s = (
                    batches * footprint.decode.time_s + entry.prefill_batches * footprint.prefill.time_s
                )
                one.idle_s += max(0.0, entry.time_s - active_s)
            self.predicted_j += extra * footprint.prefill.energy_j + entry.predicted_idle_j
        if entry is not None:
            self._measured = True
            self.measured_j += entry.energy_j
            one.energy_j[phase] += entry.energy_j
            one.time_s[phase] += entry.time_s

    def rows(self) -> tuple[Row, ...]:
        """Return prefill and decode where they were measured apart, then the total."""
        known = [phase for phase in PHASES if any(one.batches[phase] for one in self._by_request.values())]
        parts = [self._row(phase) for phase in known if phase != WHOLE]
        total = self._total()
        apart = [row.output_tokens for row in parts]
        if len(apart) == 2 and abs(apart[0] - apart[1]) > _PAIRED * max(apart):
            # Over different numbers of batches only the phases' own figures per token add up.
            total = _with_sum_per_token(total, parts[0], parts[1])
        return (*parts, total)

    def _row(self, phase: str) -> Row:
        every = self._by_request.values()
        tokens = sum(one.tokens(phase) for one in every)
        parts = [(one, phase_of(one.footprint, phase), one.batches[phase]) for one in every]
        return self._made(phase, parts, (phase,), tokens)

    def _total(self) -> Row:
        parts = [(one, *part) for one in self._by_request.values() for part in one.whole_batches()]
        tokens = sum(
            max(one.tokens(PREFILL), one.tokens(DECODE)) + one.tokens(WHOLE)
            for one in self._by_request.values()
        )
        return self._made(WHOLE, parts, PHASES, tokens)

    def _made(
        self,
        name: str,
        parts: Sequence[tuple[_OneRequest, PhaseEnergy, float]],
        phases: Sequence[str],
        tokens: float,
    ) -> Row:
        energy = [0.0, 0.0, 0.0]
        grams: list[float | None] = [0.0, 0.0, 0.0]
        for one, predicted, batches in parts:
            interval = predicted.energy_interval_j
            for place, joules in enumerate((predicted.energy_j, interval.low, interval.high)):
                energy[place] += batches * joules
                more = self._grams(one, batches * joules, batches * predicted.time_s)
                before = grams[place]
                grams[place] = None if more is None or before is None else before + more
        if name == WHOLE:
            self._add_idle(energy, grams)
        measured = [
            (one, one.energy_j[phase], one.time_s[phase])
            for one in self._by_request.values()
            for phase in phases
        ]
        measured_g = [self._grams(*part) for part in measured]
        quantity = self._quantity(energy, sum(joules for _, joules, _ in measured))
        known = [gram for gram in (*grams, *measured_g) if gram is not None]
        carbon = None
        if len(known) == len(grams) + len(measured_g):
            carbon = self._quantity(known[: len(grams)], sum(known[len(grams) :]))
        return Row(
            phase=name,
            energy=quantity,
            carbon=carbon,
            energy_per_token=quantity.per(tokens),
            carbon_per_token=None if carbon is None else carbon.per(tokens),
            output_tokens=tokens,
        )

    def _add_idle(self, energy: list[float], grams: list[float | None]) -> None:
        """Add what is predicted for the time that phases do not fill: both sides' hosts run for the same seconds."""
        for one in self._by_request.values():
            more = self._grams(one, one.idle_j, one.idle_s)
            for place, before in enumerate(grams):
                energy[place] += one.idle_j
                grams[place] = None if more is None or before is None else before + more

    def _grams(self, one: _OneRequest, joules: float, seconds: float) -> float | None:
        footprint = one.footprint
        return self._account.operational_g(footprint.request.gpu, joules, seconds, footprint.n_gpus)

    def _quantity(self, values: Sequence[float], measured: float) -> Quantity:
        predicted, low, high = values
        return Quantity(
            predicted=predicted,
            low=low,
            high=high,
            measured=measured if self._measured else None,
            simulated=self._simulated,
        )


@dataclass(slots=True, kw_only=True)
class _OneRequest:
    """The batches, joules and seconds of one request, by phase."""

    footprint: Footprint
    batches: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    energy_j: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    time_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    extra_prefills: float = 0.0  # that wholes hold beyond their batches; negative where prompts were cached
    idle_j: float = 0.0  # predicted for time in wholes in which nothing ran
    idle_s: float = 0.0  # of wholes that the prediction does not fill

    def tokens(self, phase: str) -> float:
        """Output tokens of the batches of one phase."""
        request = self.footprint.request
        return self.batches[phase] * request.batch_size * request.output_tokens

    def whole_batches(self) -> list[tuple[PhaseEnergy, float]]:
        """Return predictions and how many of each make the total.

        Prefill and decode of one batch are that batch, whose interval the predictor knows on its own: it is
        narrower than the sum of both. What has no partner counts as the phase that it is.
        """
        both = min(self.batches[PREFILL], self.batches[DECODE])
        short = min(self.batches[WHOLE], max(0.0, -self.extra_prefills))  # wholes of which only decode ran
        return [
            (self.footprint.total, both + self.batches[WHOLE] - short),
            (self.footprint.prefill, self.batches[PREFILL] - both + max(0.0, self.extra_prefills)),
            (self.footprint.decode, self.batches[DECODE] - both + short),
        ]


def _with_sum_per_token(total: Row, one: Row, other: Row) -> Row:
    carbon = None
    if one.carbon_per_token is not None and other.carbon_per_token is not None:
        carbon = one.carbon_per_token.plus(other.carbon_per_token)
    energy = one.energy_per_token.plus(other.energy_per_token)
    return replace(total, energy_per_token=energy, carbon_per_token=carbon)
