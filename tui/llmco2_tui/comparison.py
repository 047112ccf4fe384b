"""Predicted beside measured, over the same batches.

Invariant: a row only adds up batches for which both sides are known. Intervals of batches of one request add up
as they are: an error of the predictor is the same for each of them, so it does not average out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from llmco2.records.footprint import Footprint, PhaseEnergy
from llmco2.records.request import InferenceRequest
from llmco2_tui.grid import GridAccount
from llmco2_tui.measured import DECODE, PHASES, PREFILL, WHOLE, MeasuredPhase

Answer = Footprint | str  # a footprint, or why there is none

INSIDE: Final = "inside"
ABOVE: Final = "above"
BELOW: Final = "below"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One quantity (J or gCO2e) of one row; ``measured`` is ``None`` before anything was measured."""

    predicted: float
    low: float
    high: float
    measured: float | None = None

    @property
    def error_percent(self) -> float | None:
        """Signed error of the prediction against the measurement: + is predicted too much."""
        if not self.measured:
            return None
        return 100.0 * (self.predicted - self.measured) / self.measured

    @property
    def place(self) -> str | None:
        """Where the measurement lies against the interval."""
        if self.measured is None:
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
        )

    def per(self, count: float) -> Quantity:
        """Return the quantity divided by ``count``."""
        measured = None if self.measured is None else self.measured / count
        return Quantity(
            predicted=self.predicted / count,
            low=self.low / count,
            high=self.high / count,
            measured=measured,
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
class Alone:
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
    batches: float = 0.0  # measured batches that the rows add up; 0: one predicted batch
    why_not: str | None = None  # why there is no prediction
    waiting: bool = False  # the prediction is being made
    in_domain: bool = True
    notes: tuple[str, ...] = ()
    predictor: str = ""
    unpredicted: int = 0  # measurements left out because their request has no prediction
    alone: tuple[Alone, ...] = ()  # what was measured where nothing is predicted

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
        if energy.measured is None or energy.error_percent is None:
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
    """Return predicted beside measured for every entry whose request has an answer.

    Without entries, one predicted batch of ``request`` stands alone.
    """
    if request is None:
        return Comparison()
    answer = answers.get(request)
    known = [entry for entry in entries if isinstance(answers.get(entry.request), Footprint)]
    if not known and not isinstance(answer, Footprint):
        alone = tuple(_alone(phase, entries, account) for phase in PHASES)
        return Comparison(
            request=request,
            why_not=answer,
            waiting=answer is None,
            alone=tuple(part for part in alone if part.batches),
        )
    sums = _Sums(account)
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
        batches=sums.batches,
        in_domain=shown.in_domain if shown else True,
        notes=shown.notes if shown else (),
        predictor=shown.predictor if shown else "",
        why_not=answer if isinstance(answer, str) else None,
        unpredicted=len(entries) - len(known),
    )


def _alone(phase: str, entries: Sequence[MeasuredPhase], account: GridAccount) -> Alone:
    found = [entry for entry in entries if entry.phase == phase]
    grams = [
        account.operational_g(entry.request.gpu, entry.energy_j, entry.time_s, entry.request.n_gpus)
        for entry in found
    ]
    return Alone(
        phase=phase,
        energy_j=sum(entry.energy_j for entry in found),
        operational_g=None if None in grams else sum(gram or 0.0 for gram in grams),
        batches=sum(entry.batches for entry in found),
    )


class _Sums:
    """Sums per phase: predicted, low, high, measured, in J and in gCO2e."""

    def __init__(self, account: GridAccount) -> None:
        self._account = account
        self._energy = {phase: [0.0] * 4 for phase in PHASES}
        self._carbon = {phase: [0.0] * 4 for phase in PHASES}
        self._tokens = dict.fromkeys(PHASES, 0.0)
        self._batches = dict.fromkeys(PHASES, 0.0)
        self._no_factors = False
        self._measured = False
        self.predicted_j = self.measured_j = 0.0

    @property
    def batches(self) -> float:
        return max(self._batches.values()) if self._measured else 0.0

    def add(self, footprint: Footprint, phase: str, batches: float, entry: MeasuredPhase | None) -> None:
        predicted = phase_of(footprint, phase)
        interval = predicted.energy_interval_j
        joules = [batches * x for x in (predicted.energy_j, interval.low, interval.high)]
        seconds = [batches * predicted.time_s] * 3
        if entry is not None:
            self._measured = True
            joules.append(entry.energy_j)
            seconds.append(entry.time_s)
            self.measured_j += entry.energy_j
        self.predicted_j += joules[0]
        request = footprint.request
        for place, (joule, second) in enumerate(zip(joules, seconds, strict=True)):
            self._energy[phase][place] += joule
            grams = self._account.operational_g(request.gpu, joule, second, footprint.n_gpus)
            self._no_factors = self._no_factors or grams is None
            self._carbon[phase][place] += grams or 0.0
        self._tokens[phase] += batches * request.batch_size * request.output_tokens
        self._batches[phase] += batches

    def rows(self) -> tuple[Row, ...]:
        rows = [self._row(phase) for phase in PHASES if self._batches[phase]]
        if len(rows) == 1 and rows[0].phase == WHOLE:
            return tuple(rows)
        total = rows[0]
        for row in rows[1:]:
            total = _sum_of(total, row)
        # Prefill and decode of one batch make the same tokens, so the longer of both counts them once.
        tokens = max(self._tokens[PREFILL], self._tokens[DECODE]) + self._tokens[WHOLE]
        parts = [row for row in rows if row.phase != WHOLE]
        return (*parts, replace(total, phase=WHOLE, output_tokens=tokens))

    def _row(self, phase: str) -> Row:
        tokens = self._tokens[phase]
        energy = self._quantity(self._energy[phase])
        carbon = None if self._no_factors else self._quantity(self._carbon[phase])
        return Row(
            phase=phase,
            energy=energy,
            carbon=carbon,
            energy_per_token=energy.per(tokens),
            carbon_per_token=None if carbon is None else carbon.per(tokens),
            output_tokens=tokens,
        )

    def _quantity(self, values: Sequence[float]) -> Quantity:
        predicted, low, high, measured = values
        return Quantity(
            predicted=predicted, low=low, high=high, measured=measured if self._measured else None
        )


def _sum_of(one: Row, other: Row) -> Row:
    """Return two phases together; per token they add up, whatever number of batches each was measured over."""

    def plus(a: Quantity | None, b: Quantity | None) -> Quantity | None:
        return None if a is None or b is None else a.plus(b)

    return Row(
        phase=WHOLE,
        energy=one.energy.plus(other.energy),
        carbon=plus(one.carbon, other.carbon),
        energy_per_token=one.energy_per_token.plus(other.energy_per_token),
        carbon_per_token=plus(one.carbon_per_token, other.carbon_per_token),
        output_tokens=max(one.output_tokens, other.output_tokens),
    )
