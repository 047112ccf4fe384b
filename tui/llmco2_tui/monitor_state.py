"""Everything the screen knows, apart from how it is shown.

Invariant: state changes by readings, measurements, answers and the zone, each by one method; what is shown is
computed from it and never kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from llmco2.measurement.meters.meter import Device, Sample
from llmco2.measurement.meters.processes import GpuProcess
from llmco2.records.request import InferenceRequest
from llmco2_tui.campaign import CampaignView
from llmco2_tui.campaign_rows import requests_of
from llmco2_tui.comparison import Answer, Comparison, compare
from llmco2_tui.grid import GridAccount
from llmco2_tui.history import SPANS, History
from llmco2_tui.ledger import Ledger, Totals
from llmco2_tui.marks import OpenMark, close_mark, open_mark
from llmco2_tui.measured import MeasuredPhase, compacted
from llmco2_tui.views import SORT_STEPS, GpuRow, PowerView, TotalsView, sorted_rows

_MOST_ANSWERS = 2048
_HOUR_S = 3600.0


class MonitorState:
    """Everything that the screen knows of one source since it was opened."""

    def __init__(self, account: GridAccount, request: InferenceRequest | None = None) -> None:
        """``request`` is one that a person typed in; it stays in view whatever else is measured."""
        self.account = account
        self.answers: dict[InferenceRequest, Answer] = {}
        self.devices: tuple[Device, ...] = ()
        self.span = 0
        self.chosen: int | None = None  # a GPU's index, or all of them
        self.campaign: CampaignView | None = None
        self.typed = request
        self.processes: tuple[GpuProcess, ...] | None = None  # None: not known
        self.sort, self.descending = "gpu", False  # of the GPU table
        self._fed: InferenceRequest | None = None
        self._comparison: Comparison | None = None
        self._open_mark: OpenMark | None = None
        self.begin(())

    def begin(self, devices: Sequence[Device]) -> None:
        """Forget every reading and measurement; the answers stay."""
        self.devices = tuple(devices)
        self.chosen = devices[0].index if len(devices) == 1 else None
        self._fed = None
        self.processes = None
        self.ledger = Ledger()
        self.zero()

    def rewind(self, *, keep_request: bool) -> None:
        """Forget what a recording showed so far: it is shown again from its start; the answers stay."""
        if not keep_request:
            self.typed = None
        chosen = self.chosen
        self.begin(self.devices)
        self.chosen = chosen

    def zero(self) -> None:
        """Begin anew: energy, grams, charts, marks and measurements all count from the next reading on.

        What is measured across this moment belongs to neither side and is left out; a campaign's file stays.
        """
        ends = [gpu.last_s for gpu in self.ledger.gpus.values() if gpu.last_s is not None]
        self._zero_s = max(ends, default=-math.inf)
        self._entries: list[MeasuredPhase] = []
        self._marks: list[MeasuredPhase] = []
        self.ledger = Ledger()
        self._histories = {device.index: History() for device in self.devices}
        self._all = History()
        self._open_mark = None
        self._comparison = None

    def read(self, samples: Sequence[Sample]) -> None:
        """Take one sampling."""
        self.ledger.add(samples)
        for sample in samples:
            if sample.power_w is not None and sample.stale_since_s is None:
                history = self._histories.get(sample.gpu_index)
                if history is None:
                    history = self._histories[sample.gpu_index] = History()
                history.add(sample.t_s, sample.power_w)
        powers = [s.power_w for s in samples if s.power_w is not None and s.stale_since_s is None]
        if powers:
            self._all.add(max(sample.t_s for sample in samples), sum(powers))

    def measured(self, request: InferenceRequest | None, entries: Sequence[MeasuredPhase]) -> None:
        """Take what the source says of its workload."""
        self._fed = request
        since = [entry for entry in entries if entry.start_s >= self._zero_s]
        if self.devices_simulated():
            since = [replace(entry, simulated=True) for entry in since]
        self._entries = compacted([*self._entries, *since])
        self._comparison = None

    def type_in(self, request: InferenceRequest) -> None:
        """Bring a typed request into view; what is measured for it from now on is what ``mark`` encloses."""
        self.typed = request
        self._open_mark = None
        self._comparison = None

    def mark(self) -> str:
        """Start or end the measurement of one batch of the request in view; return what happened."""
        if self._open_mark is not None:
            return self._close_mark(self._open_mark)
        request = self.request
        if request is None:
            return "nothing to mark: no request in view; 3 types one in"
        if self.typed is None and self._measured_by_itself():
            return "nothing to mark: this workload is measured already"
        found = open_mark(request, self.devices, self.chosen, self.ledger)
        if isinstance(found, str):
            return f"nothing was marked: {found}"
        self._open_mark = found
        return f"marked the start of one batch on {_gpus_text(found.gpus)}; m marks its end, u takes it back"

    def _close_mark(self, mark: OpenMark) -> str:
        found = close_mark(mark, self.ledger, simulated=self.devices_simulated())
        if isinstance(found, str):
            return f"the batch is still open: {found}"
        self._open_mark = None
        self.add_mark(found)
        return f"marked the end of one batch: measured on {_gpus_text(mark.gpus)}; u takes it back"

    def add_mark(self, entry: MeasuredPhase) -> None:
        """Take a batch that was marked, now or in a recording."""
        self._marks = compacted([*self._marks, entry])
        self._comparison = None

    def undo_mark(self) -> str:
        """Take back the open mark, or else the last batch that was marked; return what happened."""
        if self._open_mark is not None:
            self._open_mark = None
            return "took back the start of the batch"
        if not self._marks:
            return "nothing was marked"
        self._marks.pop()
        self._comparison = None
        return "took back the last batch that was marked"

    @property
    def marks(self) -> Sequence[MeasuredPhase]:
        """The batches that were marked, oldest first."""
        return self._marks

    def _measured_by_itself(self) -> bool:
        """Whether the workload in view has measurements that no mark made."""
        return any(entry not in self._marks for entry in self.entries)

    def follow(self, view: CampaignView) -> None:
        """Take the campaign as it is now."""
        self.campaign = view
        self._comparison = None

    def answer(self, request: InferenceRequest, answer: Answer) -> None:
        """Take the predictor's answer; the oldest are forgotten where there are very many."""
        while len(self.answers) >= _MOST_ANSWERS:
            del self.answers[next(iter(self.answers))]
        self.answers[request] = answer
        self._comparison = None

    def set_account(self, account: GridAccount) -> None:
        """Change the grid zone."""
        self.account = account
        self._comparison = None

    @property
    def entries(self) -> Sequence[MeasuredPhase]:
        """What was measured of the workload in view."""
        marked = [entry for entry in self._marks if entry.request == self.request]
        if self.typed is not None:
            return marked
        if self._fed is None and self.campaign is not None and self.campaign.entries:
            return self.campaign.entries
        return [*self._entries, *marked]

    @property
    def request(self) -> InferenceRequest | None:
        """The request in view: typed, of the source's workload, or the campaign's newest."""
        if self.typed is not None:
            return self.typed
        if self._fed is None and self.campaign is not None and self.campaign.entries:
            return self.campaign.entries[-1].request
        return self._fed

    def unanswered(self) -> list[InferenceRequest]:
        """Return the requests in view that have no prediction yet, the one in view first."""
        campaign = [] if self.campaign is None else requests_of(self.campaign)
        wanted = [self.request, *(entry.request for entry in self.entries), *reversed(campaign)]
        return list(dict.fromkeys(r for r in wanted if r is not None and r not in self.answers))

    @property
    def comparison(self) -> Comparison:
        """Predicted beside measured, for the workload in view."""
        if self._comparison is None:
            self._comparison = compare(self.request, self.entries, self.answers, self.account)
        return self._comparison

    def grams_per_hour(self) -> float | None:
        """Return the operational gCO2e of an hour at the power of this moment; ``None`` where a GPU lacks it."""
        grams = []
        for device in self.devices:
            ledger = self.ledger.gpus.get(device.index)
            power_w = ledger.shown.power_w if ledger is not None and ledger.shown is not None else None
            if power_w is None or (ledger is not None and ledger.lost):
                return None
            grams.append(self.account.operational_g(device.name, power_w * _HOUR_S, _HOUR_S, 1))
        return _sum_or_none(grams)

    def sort_by(self, column: str) -> None:
        """Sort the GPUs by another column, the largest first; by the same one again, the other way round."""
        if column == self.sort:
            self.descending = not self.descending
        else:
            self.sort, self.descending = column, column not in ("gpu", "name", "state")

    def sort_next(self) -> None:
        """Sort the GPUs by the next column."""
        place = SORT_STEPS.index(self.sort) + 1 if self.sort in SORT_STEPS else 0
        self.sort_by(SORT_STEPS[place % len(SORT_STEPS)])

    def totals(self) -> Totals:
        """Return the sums over the GPUs of the source."""
        return self.ledger.totals(len(self.devices))

    def gpu_rows(self, sparks: int) -> list[GpuRow]:
        """Return the rows of the GPU table with ``sparks`` columns of history."""
        ledgers = self.ledger.gpus
        return [
            GpuRow(
                device=device,
                ledger=ledgers[device.index],
                sparks=self._histories[device.index].columns(0, sparks),
                chosen=device.index == self.chosen,
            )
            for device in self.devices
            if device.index in ledgers
        ]

    def totals_view(self) -> TotalsView:
        """Return the sums, with the grams at the zone in view."""
        totals = self.totals()
        grams: list[float | None] = []
        embodied: list[float | None] = []
        for device in self.devices:
            ledger = self.ledger.gpus.get(device.index)
            if ledger is not None and ledger.energy_j is not None:
                elapsed_s = totals.elapsed_s
                grams.append(self.account.operational_g(device.name, ledger.energy_j, elapsed_s, 1))
                embodied.append(self.account.embodied_g(device.name, elapsed_s, 1))
        return TotalsView(
            totals=totals,
            operational_g=_sum_or_none(grams),
            embodied_g=_sum_or_none(embodied),
        )

    def power_view(self) -> PowerView:
        """Return the chart of the chosen GPU, or of all."""
        totals = self.totals()
        ledger = self.ledger.gpus.get(self.chosen) if self.chosen is not None else None
        if self.chosen is None or ledger is None or ledger.shown is None:
            return PowerView(
                title=_power_title(totals),
                history=self._all,
                span=self.span,
                power_w=totals.power_w,
                limit_w=totals.power_limit_w,
            )
        return PowerView(
            title=f"power of GPU {self.chosen}",
            history=self._histories[self.chosen],
            span=self.span,
            power_w=ledger.shown.power_w,
            limit_w=ledger.shown.power_limit_w,
            lost=ledger.lost,
        )

    def power_table(self, n: int) -> list[tuple[float, int, float | None]]:
        """Return (seconds before now, GPU, mean W) over the span in view, ``n`` steps a GPU, oldest first."""
        step_s = SPANS[self.span].seconds / n
        return [
            ((n - 1 - place) * step_s, index, value)
            for index, history in self._histories.items()
            for place, value in enumerate(history.columns(self.span, n))
        ]

    def choose(self, step: int) -> None:
        """Go to the next GPU, or to all of them, which stand before the first."""
        order = [
            row.device.index for row in sorted_rows(self.gpu_rows(0), self.sort, descending=self.descending)
        ]
        order = order or [device.index for device in self.devices]
        stops = [None, *order] if len(self.devices) > 1 else [self.chosen]
        self.chosen = stops[(stops.index(self.chosen) + step) % len(stops)]

    def widen(self, step: int) -> None:
        """Look further back, or less far."""
        self.span = max(0, min(len(SPANS) - 1, self.span + step))

    def alarms(self) -> tuple[str, ...]:
        """Return what must not be missed about the readings."""
        lost = [
            device.index
            for device in self.devices
            if device.index in self.ledger.gpus and self.ledger.gpus[device.index].lost
        ]
        if not lost:
            return ()
        which = ", ".join(map(str, lost))
        return (f"LOST GPU {which}: its last values are grey; trying again at every sample",)

    def devices_simulated(self) -> bool:
        """Whether the GPUs in view are simulated."""
        return any(device.simulated for device in self.devices)

    def is_simulated(self) -> bool:
        """Whether anything on the screen is simulated."""
        return self.devices_simulated() or bool(
            self.campaign is not None and self.campaign.simulated and self._fed is None
        )


def _power_title(totals: Totals) -> str:
    if totals.n_with_power < totals.n_gpus:
        return f"power of {totals.power_gpus_text}"
    return f"power of all {totals.n_gpus} GPUs"


def _gpus_text(gpus: Sequence[int]) -> str:
    return f"GPU {gpus[0]}" if len(gpus) == 1 else f"GPUs {', '.join(map(str, gpus))}"


def _sum_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
