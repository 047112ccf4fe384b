"""One line a GPU: power and its limit, a spark, energy since start, load, memory, temperature, clocks, state."""

from __future__ import annotations

from textual import events
from textual.message import Message

from llmco2.report.quantities import energy_text
from llmco2_tui.views import GpuRow, short_reason, state_words
from llmco2_tui.widgets.bars import spark
from llmco2_tui.widgets.lines import Line, Lines, fitted, right, wrapped
from llmco2_tui.widgets.wording import gib, percent, watts

_WIDE = 100


def _other_columns(width: int) -> int:
    """Return the cells of a row without its spark and its state."""
    return 54 if width < _WIDE else 59


def spark_width(width: int) -> int:
    """Return how many columns a row of ``width`` has for its spark."""
    return max(4, width - _other_columns(width) - (13 if width < _WIDE else 22))


def header_line(width: int) -> Line:
    """Return the line of column names."""
    clocks = fitted("SM/mem MHz", 10) if width >= _WIDE else right("MHz", 5)
    name = fitted("power, last min" if width >= _WIDE else "last min", spark_width(width))
    text = (
        f"GPU {right('W / limit', 10)} {name} {right('energy', 9)} {right('util', 5)} "
        f"{right('GiB used', 9)} {right('temp', 5)} {clocks} state"
    )
    return [(text, "muted")]


def gpu_line(row: GpuRow, width: int) -> Line:
    """Return one GPU's line; a lost one is grey to its end."""
    sample, ledger = row.ledger.shown, row.ledger
    limit_w = (sample.power_limit_w if sample else None) or row.device.power_limit_w
    power_w = sample.power_w if sample else None
    mark = "▸" if row.chosen else " "
    energy = "–" if ledger.energy_j is None else energy_text(ledger.energy_j)
    if ledger.integrated and ledger.energy_j is not None:
        energy = "∫" + energy
    memory = f"{gib(sample.memory_used_bytes)}/{_total_gib(sample.memory_total_bytes)}" if sample else "–"
    temp = "–" if sample is None or sample.temperature_c is None else f"{sample.temperature_c:.0f}°C"
    state, kind = state_words(row)
    grey = "muted" if ledger.lost else ""
    hot = power_w is not None and limit_w is not None and power_w >= 0.95 * limit_w
    top = limit_w or max([value for value in row.sparks if value is not None], default=1.0)
    room = max(0, width - spark_width(width) - _other_columns(width))
    return [
        (f"{mark}{row.device.index:>2} ", grey or ("strong" if row.chosen else "")),
        (right(f"{watts(power_w)}/{watts(limit_w)} ", 11), grey or ("warn" if hot else "strong")),
        (fitted(spark(row.sparks, top), spark_width(width)), grey or "accent"),
        (f" {right(energy, 9)}", grey or ("warn" if ledger.integrated else "strong")),
        (f" {right(percent(sample.utilization_percent if sample else None), 5)}", grey),
        (f" {right(memory, 9)} {right(temp, 5)} ", grey),
        (_clocks(row, width) + " ", grey),
        (fitted(state, room), kind),
    ]


def note_lines(rows: list[GpuRow], width: int, most: int) -> list[Line]:
    """Return a sentence on each special state, the worst first, ``most`` of them at most."""
    notes: list[tuple[str, str]] = []
    for row in rows:
        reasons = (
            (row.ledger.shown.throttle_reasons or ()) if row.ledger.shown and not row.ledger.lost else ()
        )
        if len(reasons) > 1:  # one has room in the GPU's own line
            notes.append(
                (f"GPU {row.device.index}: throttled by {', '.join(map(short_reason, reasons))}", "warn")
            )
        if row.ledger.lost and row.ledger.shown is not None:
            shown = row.ledger.shown
            ago_s = shown.t_s - (shown.stale_since_s or shown.t_s)
            notes.append(
                (
                    f"{row.ledger.why_lost}; its last values, of {ago_s:.0f} s ago, are grey; trying again",
                    "bad",
                )
            )
    for text, found in (
        (
            "MIG: slices share it; these are figures of the whole GPU, of no slice",
            _which(rows, "mig"),
        ),
        ("shared: other processes draw here too; not all of these joules are yours", _which(rows, "shared")),
        ("no energy counter: ∫ is power readings added up by llmco2 (integrated)", _integrated(rows)),
        ("the energy counter began again at zero: joules between were lost", _restarted(rows)),
    ):
        if found:
            notes.append((f"GPU {found}: {text}", "warn"))
    return [line for text, kind in notes[:most] for line in wrapped(text, width, kind, most=2)]


class GpuTable(Lines):
    """The GPUs of the machine."""

    class GpuChosen(Message):
        """Somebody clicked on a GPU's line."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self) -> None:
        super().__init__(id="gpu-table")
        self._indices: list[int] = []

    def show(self, rows: list[GpuRow], width: int) -> None:
        """Show every GPU and the notes on them."""
        self._indices = [row.device.index for row in rows]
        self.show_lines(
            [header_line(width), *(gpu_line(row, width) for row in rows), *note_lines(rows, width, most=3)]
        )

    def on_click(self, event: events.Click) -> None:
        """Choose the GPU under the mouse."""
        if 0 < event.y <= len(self._indices):
            self.post_message(self.GpuChosen(self._indices[event.y - 1]))


def _clocks(row: GpuRow, width: int) -> str:
    sample = row.ledger.shown
    clock = "–" if sample is None or sample.sm_clock_mhz is None else f"{sample.sm_clock_mhz:.0f}"
    if width < _WIDE:
        return right(clock, 5)
    memory = "–" if sample is None or sample.memory_clock_mhz is None else f"{sample.memory_clock_mhz:.0f}"
    return right(f"{clock}/{memory}", 10)


def _total_gib(size_bytes: float | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / 2**30:.0f}"


def _which(rows: list[GpuRow], name: str) -> str:
    return ", ".join(str(row.device.index) for row in rows if getattr(row.device, name))


def _integrated(rows: list[GpuRow]) -> str:
    return ", ".join(str(row.device.index) for row in rows if row.ledger.integrated)


def _restarted(rows: list[GpuRow]) -> str:
    return ", ".join(str(row.device.index) for row in rows if row.ledger.restarts)
