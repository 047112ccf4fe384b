"""Who computes on the GPUs: process, user, the GPU's memory that it holds, command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from llmco2.measurement.meters.processes import GpuProcess
from llmco2_tui.widgets.table_rows import TableRows, cell
from llmco2_tui.widgets.wording import NOTHING, gib

_COLUMNS: Final = (("gpu", "GPU", 4), ("pid", "process", 9), ("user", "user", 13), ("memory", "GiB", 7))
_LEAST_COMMAND: Final = 30
NOT_RECORDED: Final = "a recording holds no processes"
NOT_KNOWN: Final = "the driver does not say who computes here"
NONE: Final = "nobody computes on these GPUs"


def process_cells(process: GpuProcess, command_width: int) -> list[Text]:
    """Return one process's cells."""
    texts = (
        str(process.gpu_index),
        str(process.pid),
        process.user or NOTHING,
        gib(process.memory_bytes),
    )
    right = (True, True, False, True)
    cells = [
        cell(text, width, right=at_right)
        for text, (_, _, width), at_right in zip(texts, _COLUMNS, right, strict=True)
    ]
    if process.command is None:
        return [*cells, cell("not to be seen from here", command_width, "muted")]
    return [*cells, cell(process.command, command_width)]


class ProcessTable(TableRows):
    """The processes on the GPUs, those with the most memory first."""

    DEFAULT_CSS = "ProcessTable { max-height: 6; }"

    def __init__(self) -> None:
        super().__init__(id="process-table")

    def show(self, processes: Sequence[GpuProcess] | None, why_none: str, width: int) -> None:
        """Show them, or ``why_none`` are known."""
        command_width = max(_LEAST_COMMAND, width - sum(column[2] for column in _COLUMNS))
        headings = [
            (key, cell(text, size, "muted", right=key != "user"), size) for key, text, size in _COLUMNS
        ]
        headings.append(("command", cell("command", command_width, "muted"), command_width))
        if not processes:
            blank = [cell("", size) for _, _, size in _COLUMNS]
            words = NONE if processes is not None else why_none
            self.show_rows(headings, {"none": [*blank, cell(words, command_width, "muted")]}, None)
            return
        ordered = sorted(processes, key=lambda one: (-(one.memory_bytes or 0), one.gpu_index, one.pid))
        rows = {f"{one.gpu_index}-{one.pid}": process_cells(one, command_width) for one in ordered}
        self.show_rows(headings, rows, None)
