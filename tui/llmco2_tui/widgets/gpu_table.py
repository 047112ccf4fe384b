"""One row a GPU, by name: power and its limit, a spark, energy, load, memory, temperature, clocks, state.

Invariant: rows are told apart by the GPU's index, so sorting and scrolling never change which one is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rich.text import Text
from textual import on
from textual.message import Message
from textual.widgets import DataTable

from llmco2.report.quantities import energy_text
from llmco2.units import BYTES_PER_GIB
from llmco2_tui.grid import catalog_gpu_id
from llmco2_tui.ledger import Totals
from llmco2_tui.views import GpuRow, short_reason, sorted_rows, state_words
from llmco2_tui.widgets.bars import spark
from llmco2_tui.widgets.lines import Line, wrapped
from llmco2_tui.widgets.table_rows import TableRows, cell
from llmco2_tui.widgets.wording import NOTHING, gib, percent, watts

ALL: Final = "all"  # the key of the row of sums
_WIDE: Final = 100
_LEAST_STATE: Final = 10
_LEAST_SPARK: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its heading and its width in cells."""

    key: str
    heading: str
    width: int


COLUMNS: Final = (
    Column(key="gpu", heading="GPU", width=5),
    Column(key="name", heading="name", width=15),
    Column(key="power", heading="W/limit", width=12),
    Column(key="spark", heading="1 min", width=_LEAST_SPARK),
    Column(key="energy", heading="energy", width=9),
    Column(key="util", heading="util", width=6),
    Column(key="memory", heading="GiB", width=8),
    Column(key="temp", heading="temp", width=6),
    Column(key="clocks", heading="SM/mem MHz", width=11),
    Column(key="state", heading="state", width=_LEAST_STATE),
)
_LEFT: Final = ("name", "spark", "state")  # the others are figures


def columns_for(width: int) -> tuple[Column, ...]:
    """Return the columns of a table of ``width`` cells; what is too wide for it scrolls sideways."""
    shown = [column for column in COLUMNS if width >= _WIDE or column.key != "clocks"]
    left = width - sum(column.width for column in shown)
    spark_more = max(0, min(18, left * 2 // 3))
    more = {"spark": spark_more, "state": max(0, left - spark_more)}
    return tuple(replace(column, width=column.width + more.get(column.key, 0)) for column in shown)


def spark_width(width: int) -> int:
    """Return how many samples a row's spark shows."""
    return next(column.width for column in columns_for(width) if column.key == "spark") - 1


def gpu_cells(row: GpuRow, columns: Sequence[Column]) -> list[Text]:
    """Return one GPU's cells; a lost one is grey throughout."""
    sample, ledger = row.ledger.shown, row.ledger
    limit_w = (sample.power_limit_w if sample else None) or row.device.power_limit_w
    power_w = sample.power_w if sample else None
    hot = power_w is not None and limit_w is not None and power_w >= 0.95 * limit_w
    top = limit_w or max([value for value in row.sparks if value is not None], default=1.0)
    energy = NOTHING if ledger.energy_j is None else energy_text(ledger.energy_j)
    used = sample.memory_used_bytes if sample else None
    total = sample.memory_total_bytes if sample else None
    temp = sample.temperature_c if sample else None
    state, kind = state_words(row)
    texts = {
        "gpu": (str(row.device.index), "strong"),
        "name": (catalog_gpu_id(row.device.name), ""),
        "power": (f"{watts(power_w)}/{watts(limit_w)}", "warn" if hot else "strong"),
        "spark": (spark(row.sparks, top), "accent"),
        "energy": (("∫" if ledger.integrated and ledger.energy_j is not None else "") + energy, "strong"),
        "util": (percent(sample.utilization_percent if sample else None), ""),
        "memory": (f"{gib(used)}/{NOTHING if total is None else f'{total / BYTES_PER_GIB:.0f}'}", ""),
        "temp": (NOTHING if temp is None else f"{temp:.0f}°C", ""),
        "clocks": (_clocks(row), ""),
        "state": (state, kind),
    }
    return [
        cell(
            texts[column.key][0],
            column.width,
            texts[column.key][1] if not ledger.lost or column.key == "state" else "muted",
            right=column.key not in _LEFT,
        )
        for column in columns
    ]


def all_cells(totals: Totals, columns: Sequence[Column]) -> list[Text]:
    """Return the cells of the row of sums."""
    energy = NOTHING if totals.energy_j is None else energy_text(totals.energy_j)
    of = totals.power_gpus_text if totals.n_with_power < totals.n_gpus else totals.energy_gpus_text
    texts = {
        "gpu": "Σ",
        "name": of,
        "power": f"{watts(totals.power_w)}/{watts(totals.power_limit_w)}",
        "energy": ("∫" if totals.integrated and totals.energy_j is not None else "") + energy,
    }
    return [
        cell(texts.get(column.key, ""), column.width, "strong", right=column.key not in _LEFT)
        for column in columns
    ]


def note_lines(rows: Sequence[GpuRow], width: int, most: int) -> list[Line]:
    """Return a sentence on each special state, the worst first, ``most`` of them at most."""
    notes: list[tuple[str, str]] = []
    for row in rows:
        lost = row.ledger.lost
        reasons = (row.ledger.shown.throttle_reasons or ()) if row.ledger.shown and not lost else ()
        if len(reasons) > 1:  # one has room in the GPU's own row
            words = ", ".join(map(short_reason, reasons))
            notes.append((f"GPU {row.device.index}: throttled by {words}", "warn"))
        if lost and row.ledger.shown is not None:
            shown = row.ledger.shown
            ago_s = shown.t_s - (shown.stale_since_s or shown.t_s)
            words = f"{row.ledger.why_lost}; its last values, of {ago_s:.0f} s ago, are grey; trying again"
            notes.append((words, "bad"))
    mig, shared = _which(rows, lambda row: row.device.mig), _which(rows, lambda row: row.device.shared)
    integrated = _which(rows, lambda row: row.ledger.integrated)
    restarted = _which(rows, lambda row: row.ledger.restarts)
    refused = _which(rows, lambda row: row.ledger.refused)
    unknown = _which(rows, lambda row: row.device.shared is None)
    for text, found in (
        ("MIG: slices share it; these are figures of the whole GPU, of no slice", mig),
        ("shared: other processes draw here too; not all of these joules are yours", shared),
        ("the driver does not say who else computes here", unknown),
        ("no energy counter: ∫ is power readings added up by llmco2 (integrated)", integrated),
        ("the energy counter began again at zero: joules between were lost", restarted),
        ("readings of the energy counter that no GPU can have reached were left out", refused),
    ):
        if found:
            notes.append((f"GPU {found}: {text}", "warn"))
    return [line for text, kind in notes[:most] for line in wrapped(text, width, kind, most=2)]


class GpuTable(TableRows):
    """The GPUs of the machine; the row under the cursor is charted."""

    class GpuChosen(Message):
        """Somebody went to a GPU's row, or to that of the sums."""

        def __init__(self, index: int | None) -> None:
            super().__init__()
            self.index = index

    class SortChosen(Message):
        """Somebody clicked on a heading."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        super().__init__(id="gpu-table")

    def show(
        self, rows: Sequence[GpuRow], totals: Totals, width: int, *, sort: str, descending: bool
    ) -> None:
        """Show every GPU, and their sums where there are several."""
        columns = columns_for(width)
        arrow = "▼" if descending else "▲"
        headings = [
            (column.key, _heading(column, arrow if column.key == sort else ""), column.width)
            for column in columns
        ]
        ordered = sorted_rows(rows, sort, descending=descending)
        cells = {str(row.device.index): gpu_cells(row, columns) for row in ordered}
        if totals.n_gpus > 1:
            cells = {ALL: all_cells(totals, columns), **cells}
        chosen = next((str(row.device.index) for row in rows if row.chosen), ALL)
        self.show_rows(headings, cells, chosen)

    @on(DataTable.RowHighlighted)
    def _highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        key = event.row_key.value
        if key is not None and self.has_focus:
            self.post_message(self.GpuChosen(None if key == ALL else int(key)))

    @on(DataTable.HeaderSelected)
    def _heading_chosen(self, event: DataTable.HeaderSelected) -> None:
        event.stop()
        if event.column_key.value is not None:
            self.post_message(self.SortChosen(event.column_key.value))


def _heading(column: Column, arrow: str) -> Text:
    text = arrow + column.heading
    return cell(text, column.width, "muted", right=column.key not in _LEFT)


def _clocks(row: GpuRow) -> str:
    sample = row.ledger.shown
    sm = NOTHING if sample is None or sample.sm_clock_mhz is None else f"{sample.sm_clock_mhz:.0f}"
    memory = (
        NOTHING if sample is None or sample.memory_clock_mhz is None else f"{sample.memory_clock_mhz:.0f}"
    )
    return f"{sm}/{memory}"


def _which(rows: Sequence[GpuRow], holds: Callable[[GpuRow], Any]) -> str:
    return ", ".join(str(row.device.index) for row in rows if holds(row))
